// Package terminal is how ccagent talks to a person: text, tables, differences, questions and secrets. Its rules:
//
//   - stdout is for the answer: all of it, or nothing. Everything else goes to stderr.
//   - An error is one line, `ccagent: what happened`, lower-case and without a full stop, then `hint: what to do` lines.
//   - A warning is one line, `ccagent: warning: ...`. Success is one line on stdout, or none.
//   - A question is asked on the terminal itself, never on a pipe. Without a terminal, a flag answers it. It is asked before
//     anything is changed, so that a person who declines can be told that nothing was.
//   - Colour, bars and redrawing are only for terminals that support them (NO_COLOR, TERM=dumb). Nothing is said by colour alone.
//   - Text from outside (a provider, a file, the agent) passes through Sanitize before it is shown. Only a command whose purpose
//     it is prints a token.
package terminal

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/ccagent/ccagent/protocol"
)

// Sanitize makes text safe for one line of a terminal. It replaces characters that are not printable by an escape in ASCII, among
// them the invisible ones that change the direction of writing.
func Sanitize(text string) string {
	if Printable(text) {
		return text
	}
	var b strings.Builder
	for i := 0; i < len(text); {
		r, n := utf8.DecodeRuneInString(text[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, text[i])
		case !unicode.IsPrint(r):
			quoted := fmt.Sprintf("%q", r)
			b.WriteString(quoted[1 : len(quoted)-1])
		default:
			b.WriteRune(r)
		}
		i += n
	}
	return b.String()
}

// Printable reports whether text is valid UTF-8 without control or formatting characters.
func Printable(text string) bool {
	return utf8.ValidString(text) && !strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) })
}

// PrintError prints an error and its hints.
func PrintError(w io.Writer, err error) {
	fmt.Fprintf(w, "ccagent: %s\n", Sanitize(protocol.Says(err)))
	for hint := range strings.Lines(protocol.HintOf(err)) {
		fmt.Fprintf(w, "hint: %s\n", Sanitize(strings.TrimSuffix(hint, "\n")))
	}
}

// Warn prints a warning in one line.
func Warn(w io.Writer, format string, args ...any) {
	fmt.Fprintf(w, "ccagent: warning: %s\n", Sanitize(fmt.Sprintf(format, args...)))
}

// Notice prints a message from the agent, unless it is empty.
func Notice(w io.Writer, text string) {
	if text != "" {
		fmt.Fprintf(w, "ccagent: %s\n", Sanitize(text))
	}
}

// Output is stdout. It records the first error of a write, because not every caller of Write checks for one.
type Output struct {
	io.Writer
	Err error
}

func (o *Output) Write(p []byte) (int, error) {
	n, err := o.Writer.Write(p)
	if err != nil && o.Err == nil {
		o.Err = err
	}
	return n, err
}

// Of returns the stream as a file if it is a terminal, or else nil.
func Of(stream any) *os.File {
	if o, ok := stream.(*Output); ok {
		stream = o.Writer
	}
	if f, ok := stream.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return f
	}
	return nil
}

// Capable reports whether the terminal supports moving the cursor.
func Capable(getenv func(string) string) bool {
	return getenv("TERM") != "dumb" && getenv("TERM") != ""
}

// Coloured reports whether colours may be used on w (no-color.org).
func Coloured(w any, getenv func(string) string) bool {
	return Of(w) != nil && Capable(getenv) && getenv("NO_COLOR") == ""
}

// UTF8 reports whether the locale says that the terminal uses UTF-8. The order of the variables is that of setlocale(3).
func UTF8(env func(string) string) bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if value := env(name); value != "" {
			value = strings.ToLower(value)
			return strings.Contains(value, "utf-8") || strings.Contains(value, "utf8")
		}
	}
	return false
}

// ErrNone means that there is no terminal to ask on.
var ErrNone = errors.New("no terminal")

// A command asks before it changes anything. So nothing was changed if the person declines, or interrupts it while it asks.
var (
	ErrDeclined    = errors.New("nothing was changed")
	ErrInterrupted = errors.New("interrupted; nothing was changed")
)

// Ask asks a question on the controlling terminal and returns the line that is typed. With hidden the terminal does not show it.
// Ask returns ErrNone if there is no terminal, ErrDeclined if the input ends, and ErrInterrupted if ctx ends first. It restores
// the settings of the terminal.
func Ask(ctx context.Context, question string, hidden bool) (string, error) {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", ErrNone
	}
	fd := int(tty.Fd())
	before, err := term.GetState(fd)
	if err != nil {
		tty.Close()
		return "", ErrNone
	}
	if hidden {
		if err := unechoed(fd); err != nil {
			tty.Close()
			return "", ErrNone
		}
	}
	fmt.Fprintf(tty, "%s ", question)
	type answer struct {
		line []byte
		err  error
	}
	answered := make(chan answer, 1)
	go func() { // a read of a terminal can't be interrupted: after Ctrl-C it goes on until the process ends
		var a answer
		a.line, a.err = bufio.NewReader(io.LimitReader(tty, MaxSecret)).ReadBytes('\n')
		answered <- a
	}()
	select {
	case a := <-answered:
		term.Restore(fd, before)
		if hidden || a.err != nil { // the terminal has not moved to the next line
			fmt.Fprintln(tty)
		}
		tty.Close()
		if a.err != nil && len(a.line) == 0 { // Ctrl-D, or the terminal is gone
			return "", ErrDeclined
		}
		return string(bytes.TrimSpace(a.line)), nil
	case <-ctx.Done():
		term.Restore(fd, before)
		fmt.Fprintln(tty)
		return "", ErrInterrupted
	}
}

// CanAsk reports whether there is a terminal to ask on.
func CanAsk() bool {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer tty.Close()
	return term.IsTerminal(int(tty.Fd()))
}

// Confirm asks a yes-or-no question, and returns ErrDeclined if the answer is not yes. flag is the option that answers it if
// there is no terminal.
func Confirm(ctx context.Context, question, flag string) error {
	answer, err := Ask(ctx, question+" [y/N]", false)
	switch {
	case errors.Is(err, ErrNone):
		return &protocol.Error{
			Code:    protocol.CodeConfig,
			Message: "this needs your consent, and there is no terminal to ask on: " + question,
			Hint:    "to consent, add " + flag,
		}
	case err != nil:
		return err
	case strings.EqualFold(answer, "y"), strings.EqualFold(answer, "yes"):
		return nil
	}
	return ErrDeclined
}

// Span formats a duration with its two largest units: 7h12m, 3d4h, 42s. It ignores the sign.
func Span(d time.Duration) string {
	d = d.Round(time.Second)
	if d < 0 {
		d = -d
	}
	days, hours := int64(d/(24*time.Hour)), int64(d/time.Hour)%24
	minutes, seconds := int64(d/time.Minute)%60, int64(d/time.Second)%60
	switch {
	case days > 100*365: // the maximum of time.Duration is 292 years
		return "over 100 years"
	case days > 0:
		return fmt.Sprintf("%dd%dh", days, hours)
	case hours > 0:
		return fmt.Sprintf("%dh%02dm", hours, minutes)
	case minutes > 0:
		return fmt.Sprintf("%dm%02ds", minutes, seconds)
	}
	return fmt.Sprintf("%ds", seconds)
}

// LocalTime formats a time in this machine's time zone. The zero time is "never".
func LocalTime(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.Local().Format("2006-01-02 15:04:05 MST")
}

// Expires says when a token expires or has expired, and how long it is until or since then.
func Expires(now, expiry time.Time) string {
	if expiry.IsZero() {
		return "never expires"
	}
	if !expiry.After(now) {
		return fmt.Sprintf("expired %s (%s ago)", LocalTime(expiry), Span(now.Sub(expiry)))
	}
	return fmt.Sprintf("expires %s (in %s)", LocalTime(expiry), Span(expiry.Sub(now)))
}

// Declined returns an error that counts as ErrDeclined, with the message and hint of told.
func Declined(told *protocol.Error) error { return declined{told} }

type declined struct{ told *protocol.Error }

func (d declined) Error() string        { return d.told.Error() }
func (d declined) Unwrap() error        { return d.told }
func (d declined) Is(target error) bool { return target == ErrDeclined }

// Size returns the columns and lines of a terminal.
func Size(tty *os.File) (width, height int, err error) { return term.GetSize(int(tty.Fd())) }
