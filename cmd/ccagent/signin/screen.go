package signin

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/ccagent/ccagent/agent/oauth"
	"github.com/ccagent/ccagent/cmd/ccagent/environ"
	"github.com/ccagent/ccagent/cmd/ccagent/terminal"
	"github.com/ccagent/ccagent/protocol"
)

// Screen shows a sign-in to a person, on standard error.
type Screen struct {
	mu     sync.Mutex
	out    io.Writer
	width  int  // of the terminal; 0: it is not a terminal
	moves  bool // it understands cursor movement
	colour bool
	blocks bool // it can show block characters
	line   bool // the spinner's line is shown
}

// NewScreen returns a Screen that writes to out.
func NewScreen(out io.Writer, env environ.Vars) *Screen {
	p := &Screen{out: out}
	if f := terminal.Of(out); f != nil {
		if width, _, err := terminal.Size(f); err == nil {
			p.width = width
		}
		p.moves, p.colour = terminal.Capable(env), terminal.Coloured(out, env)
		p.blocks = p.moves && terminal.UTF8(env)
	}
	return p
}

// Say writes lines, above the spinner's.
func (p *Screen) Say(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
	fmt.Fprintln(p.out, text)
}

// endLine begins a new line, because a terminal shows ^C at the end of the last one. If there is a spinner, its line is cleared,
// and the ^C with it.
func (p *Screen) endLine() {
	if p.width > 0 && !p.moves {
		p.Say("")
	}
}

func (p *Screen) clear() {
	if p.line {
		io.WriteString(p.out, "\r\x1b[K")
		p.line = false
	}
}

func (p *Screen) bold(text string) string {
	if !p.colour {
		return text
	}
	return "\x1b[1m" + text + "\x1b[0m"
}

// showSites names the other sites to which the sign-in leads. The first site is that of the issuer, which the person knows.
func (p *Screen) showSites(sites []oauth.Site) {
	if len(sites) < 2 {
		return
	}
	text := terminal.Sanitize(sites[0].Origin) + " also uses these other sites, and the sign-in will be sent to them:\n"
	for _, s := range sites[1:] {
		text += "\n  " + terminal.Sanitize(s.Origin) + " (" + strings.Join(s.Endpoints, ", ") + ")"
	}
	p.Say(text + "\n")
}

// showAddress says where to sign in.
func (p *Screen) showAddress(address string, opens, listens, pastes bool) {
	text := "sign in at:\n\n"
	if opens {
		text = "opening your browser; if it does not show, sign in at:\n\n"
	}
	text += terminal.Sanitize(address) + "\n"
	if pastes {
		text += "\nthen paste here the code that is shown, or the address that the browser ends at"
		if listens {
			text += "\n(a page that can't be shown is fine: its address holds the code)"
		}
		text += ", and press Enter"
	}
	p.Say(text)
}

// showDevice shows the code to enter, and the address.
func (p *Screen) showDevice(d *oauth.Device) {
	var b strings.Builder
	address := d.VerificationURI
	if d.VerificationURIComplete != "" {
		address = d.VerificationURIComplete
	}
	if p.blocks {
		if code := qrCode(address, p.width, p.colour); code != "" {
			b.WriteString(code + "\n")
		}
	}
	fmt.Fprintf(&b, "on any device, open\n\n  %s\n\nand enter the code\n\n", terminal.Sanitize(d.VerificationURI))
	if p.blocks {
		if large := largeText(d.UserCode, p.width-2); large != "" {
			for line := range strings.Lines(large) {
				b.WriteString("  " + line)
			}
			b.WriteByte('\n')
		}
	}
	fmt.Fprintf(&b, "  %s\n", p.bold(terminal.Sanitize(d.UserCode)))
	p.Say(b.String())
}

// wait shows a spinner with the time that is left, if the terminal can do that. The spinner is gone when stop returns.
func (p *Screen) wait(ctx context.Context, what string) (stop func()) {
	deadline, _ := ctx.Deadline()
	if !p.moves || p.width == 0 {
		p.Say(what + " (" + terminal.Span(time.Until(deadline)) + " at most)")
		return func() {}
	}
	frames := []string{"|", "/", "-", `\`}
	if p.blocks {
		frames = []string{"⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"}
	}
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(120 * time.Millisecond)
		defer tick.Stop()
		for i := 0; ; i++ {
			p.mu.Lock()
			fmt.Fprint(p.out, "\r\x1b[K"+terminal.Cut(frames[i%len(frames)]+" "+terminal.Span(time.Until(deadline))+" left, "+what,
				p.width-1))
			p.line = true
			p.mu.Unlock()
			select {
			case <-tick.C:
			case <-done:
				p.mu.Lock()
				p.clear()
				p.mu.Unlock()
				return
			}
		}
	}()
	return sync.OnceFunc(func() { close(done); <-ended })
}

// pasting is the result of a paste.
type pasting struct {
	callback oauth.Callback
	err      error
}

// maxPaste is the maximum length of a pasted line, in bytes.
const maxPaste = 16 << 10

// readPasted reads lines until one is an answer to the attempt. It reads from a terminal in any case, and from another standard
// input only with pipe; otherwise the channel is nil. The channel is closed when there is nothing more to read. restore ends the
// reading of a terminal, and puts its settings back.
func (p *Screen) readPasted(
	ctx context.Context,
	in io.Reader,
	attempt *oauth.Authorization,
	pipe bool,
) (_ <-chan pasting, restore func()) {
	restore = func() {}
	tty := terminal.Of(in)
	if tty == nil && !pipe {
		return nil, restore
	}
	ended := make(chan struct{})
	if tty != nil {
		giveBack, err := terminal.Unbuffered(int(tty.Fd()))
		if err != nil {
			return nil, restore
		}
		reading, cancel := context.WithCancel(ctx)
		ctx, in = reading, terminal.Typed(reading, tty)
		restore = sync.OnceFunc(func() { cancel(); <-ended; giveBack() })
	}
	results := make(chan pasting, 1)
	go func() {
		defer close(ended)
		defer close(results)
		lines := bufio.NewReaderSize(in, maxPaste)
		for {
			line, err := lines.ReadSlice('\n')
			if text := strings.TrimSpace(terminal.Edited(line)); text != "" && ctx.Err() == nil {
				cb, bad := attempt.ParsePasted(text)
				if bad == nil {
					results <- pasting{callback: cb}
					return
				}
				if tty == nil {
					results <- pasting{err: bad}
					return
				}
				p.Say("ccagent: " + terminal.Sanitize(bad.Error()) + "\nhint: " + terminal.Sanitize(protocol.HintOf(bad)))
			}
			if errors.Is(err, bufio.ErrBufferFull) {
				continue
			}
			if err != nil {
				if tty != nil && ctx.Err() == nil { // Ctrl-D, or the terminal is gone
					results <- pasting{err: terminal.ErrDeclined}
				}
				return
			}
		}
	}()
	return results, restore
}
