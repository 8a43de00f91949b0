package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/ccagent/ccagent/agent/oauth"
	"github.com/ccagent/ccagent/protocol"
)

// prompter is what a person sees of a sign-in, on standard error.
type prompter struct {
	mu     sync.Mutex
	out    io.Writer
	width  int  // of the terminal; 0: not one
	moves  bool // it understands cursor movement
	colour bool
	blocks bool // it can show block characters
	line   bool // the spinner's line is up
}

func newPrompter(c *cli.Context) *prompter {
	p := &prompter{out: c.App.ErrWriter}
	if f := terminal(c.App.ErrWriter); f != nil {
		if width, _, err := term.GetSize(int(f.Fd())); err == nil {
			p.width = width
		}
		p.moves, p.colour = capable(getenv), coloured(c.App.ErrWriter, getenv)
		p.blocks = p.moves && utf8Locale(getenv)
	}
	return p
}

// say writes lines, above the spinner's.
func (p *prompter) say(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
	fmt.Fprintln(p.out, text)
}

func (p *prompter) clear() {
	if p.line {
		io.WriteString(p.out, "\r\x1b[K")
		p.line = false
	}
}

func (p *prompter) bold(text string) string {
	if !p.colour {
		return text
	}
	return "\x1b[1m" + text + "\x1b[0m"
}

// showSites says where else than at its issuer a sign-in leads. The first site is the issuer's, which the person knows.
func (p *prompter) showSites(sites []oauth.Site) {
	if len(sites) < 2 {
		return
	}
	text := sanitize(sites[0].Origin) + " leads to other places too, and this sign-in is bound to them:\n"
	for _, s := range sites[1:] {
		text += "\n  " + sanitize(s.Origin) + " (" + strings.Join(s.Endpoints, ", ") + ")"
	}
	p.say(text + "\n")
}

// showAddress says where to sign in.
func (p *prompter) showAddress(address string, opens, listens, pastes bool) {
	text := "sign in at:\n\n"
	if opens {
		text = "opening your browser; if it does not show, sign in at:\n\n"
	}
	text += sanitize(address) + "\n"
	if pastes {
		text += "\nthen paste here the code that is shown, or the address that the browser ends at"
		if listens {
			text += "\n(a page that can't be shown is fine: its address holds the code)"
		}
		text += ", and press Enter"
	}
	p.say(text)
}

// showDevice says what to enter, and where.
func (p *prompter) showDevice(d *oauth.Device) {
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
	fmt.Fprintf(&b, "on any device, open\n\n  %s\n\nand enter the code\n\n", sanitize(d.VerificationURI))
	if p.blocks {
		if large := largeText(d.UserCode, p.width-2); large != "" {
			for line := range strings.Lines(large) {
				b.WriteString("  " + line)
			}
			b.WriteByte('\n')
		}
	}
	fmt.Fprintf(&b, "  %s\n", p.bold(sanitize(d.UserCode)))
	p.say(b.String())
}

// wait shows a spinner with the time that is left, on a terminal that can. It is gone when stop returns.
func (p *prompter) wait(ctx context.Context, what string) (stop func()) {
	deadline, _ := ctx.Deadline()
	if !p.moves || p.width == 0 {
		p.say(what + " (" + span(time.Until(deadline)) + " at most)")
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
			fmt.Fprint(p.out, "\r\x1b[K"+cut(frames[i%len(frames)]+" "+span(time.Until(deadline))+" left, "+what, p.width-1))
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

// pasting is what came of a paste.
type pasting struct {
	callback oauth.Callback
	err      error
}

// maxPaste bounds one pasted line.
const maxPaste = 16 << 10

// readPasted reads lines until one is an answer to the attempt. A terminal is asked in any case, another standard input only
// with pipe; otherwise the channel is nil. It is closed when there is nothing more to read. restore ends the reading of a
// terminal, and gives it back as it was.
func (p *prompter) readPasted(
	ctx context.Context,
	in io.Reader,
	attempt *oauth.Authorization,
	pipe bool,
) (_ <-chan pasting, restore func()) {
	restore = func() {}
	tty := terminal(in)
	if tty == nil && !pipe {
		return nil, restore
	}
	ended := make(chan struct{})
	if tty != nil {
		giveBack, err := unbuffered(int(tty.Fd()))
		if err != nil {
			return nil, restore
		}
		reading, cancel := context.WithCancel(ctx)
		ctx, in = reading, typing{reading, tty}
		restore = sync.OnceFunc(func() { cancel(); <-ended; giveBack() })
	}
	results := make(chan pasting, 1)
	go func() {
		defer close(ended)
		defer close(results)
		lines := bufio.NewReaderSize(in, maxPaste)
		for {
			line, err := lines.ReadSlice('\n')
			if text := strings.TrimSpace(edited(line)); text != "" && ctx.Err() == nil {
				cb, bad := attempt.ParsePasted(text)
				if bad == nil {
					results <- pasting{callback: cb}
					return
				}
				if tty == nil {
					results <- pasting{err: bad}
					return
				}
				p.say("ccagent: " + sanitize(bad.Error()) + "\nhint: " + sanitize(protocol.HintOf(bad)))
			}
			if errors.Is(err, bufio.ErrBufferFull) {
				continue
			}
			if err != nil {
				return
			}
		}
	}()
	return results, restore
}

// typing reads a terminal until ctx ends. A read alone can't be interrupted, and would take the answer to the next question.
type typing struct {
	ctx context.Context
	tty *os.File
}

// typingTick is how long ctx may have ended before that is noticed.
const typingTick = 100 * time.Millisecond

func (t typing) Read(p []byte) (int, error) {
	for t.ctx.Err() == nil {
		var ready unix.FdSet
		ready.Set(int(t.tty.Fd()))
		wait := unix.NsecToTimeval(typingTick.Nanoseconds())
		switch n, err := unix.Select(int(t.tty.Fd())+1, &ready, nil, nil, &wait); { // poll(2) knows no terminals on macOS
		case n > 0:
			return t.tty.Read(p)
		case err != nil && err != unix.EINTR:
			return 0, err
		}
	}
	return 0, t.ctx.Err()
}

// edited applies the backspaces and line erasures of a line that was typed without the terminal's own editing, and drops what
// a terminal puts around a paste.
func edited(line []byte) string {
	text := strings.NewReplacer("\x1b[200~", "", "\x1b[201~", "").Replace(string(line))
	var out []rune
	for _, r := range text {
		switch {
		case r == 0x7f || r == '\b':
			out = out[:max(0, len(out)-1)]
		case r == 0x15:
			out = out[:0]
		default:
			out = append(out, r)
		}
	}
	return string(out)
}

// unbuffered lets a terminal pass on what is typed as it comes and unseen: a line may then be longer than the 4096 (macOS: 1024)
// characters of its own editing, and does not get in the way of the spinner. Ctrl-C still interrupts.
func unbuffered(fd int) (restore func(), err error) {
	before, err := unix.IoctlGetTermios(fd, getTermios)
	if err != nil {
		return nil, err
	}
	raw := *before
	raw.Lflag &^= unix.ICANON | unix.ECHO
	raw.Iflag |= unix.ICRNL
	raw.Cc[unix.VMIN], raw.Cc[unix.VTIME] = 1, 0
	if err := unix.IoctlSetTermios(fd, setTermios, &raw); err != nil {
		return nil, err
	}
	return sync.OnceFunc(func() { unix.IoctlSetTermios(fd, setTermios, before) }), nil
}
