package main

// The rules of the terminal UI:
//
//   - stdout belongs to the answer, and holds all of it or nothing. Everything else goes to stderr.
//   - An error is one line, `ccagent: what happened`, lower-case and without a full stop, then `hint: what to do` lines.
//   - A warning is one line, `ccagent: warning: ...`. What went well is said in one line on stdout, or not at all.
//   - A question is asked on the terminal itself, never on a pipe: without a terminal there is a flag that answers it.
//   - Colour, bars and redrawing are for terminals that can, and never carry meaning alone (NO_COLOR, TERM=dumb).
//   - Text from outside (a provider, a file, the agent) passes through sanitize before it is shown. A token is printed by
//     the commands whose purpose that is.

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

// sanitize makes text fit for one line of a terminal: what is not printable is shown as its escape, invisible controls of
// the writing direction among it.
func sanitize(text string) string {
	if printable(text) {
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

// printable reports whether text is valid UTF-8 without control or formatting characters.
func printable(text string) bool {
	return utf8.ValidString(text) && !strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) })
}

// printError tells a person what happened, and what to do.
func printError(w io.Writer, err error) {
	fmt.Fprintf(w, "ccagent: %s\n", sanitize(protocol.Says(err)))
	for hint := range strings.Lines(protocol.HintOf(err)) {
		fmt.Fprintf(w, "hint: %s\n", sanitize(strings.TrimSuffix(hint, "\n")))
	}
}

func warn(w io.Writer, format string, args ...any) {
	fmt.Fprintf(w, "ccagent: warning: %s\n", sanitize(fmt.Sprintf(format, args...)))
}

// notice passes on what the agent wants a person to know; "" is nothing.
func notice(w io.Writer, text string) {
	if text != "" {
		fmt.Fprintf(w, "ccagent: %s\n", sanitize(text))
	}
}

// output is stdout. It keeps the first failure to write, because not everything that writes looks.
type output struct {
	io.Writer
	err error
}

func (o *output) Write(p []byte) (int, error) {
	n, err := o.Writer.Write(p)
	if err != nil && o.err == nil {
		o.err = err
	}
	return n, err
}

// terminal returns the file that a stream is if that is a terminal, else nil.
func terminal(stream any) *os.File {
	if o, ok := stream.(*output); ok {
		stream = o.Writer
	}
	if f, ok := stream.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return f
	}
	return nil
}

// capable reports whether the terminal understands cursor movement.
func capable(getenv environ) bool { return getenv("TERM") != "dumb" && getenv("TERM") != "" }

// coloured reports whether colours may be used on w (no-color.org).
func coloured(w any, getenv environ) bool {
	return terminal(w) != nil && capable(getenv) && getenv("NO_COLOR") == ""
}

// utf8Locale reports whether the terminal is told to expect UTF-8, by the order of setlocale(3).
func utf8Locale(env environ) bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if value := env(name); value != "" {
			value = strings.ToLower(value)
			return strings.Contains(value, "utf-8") || strings.Contains(value, "utf8")
		}
	}
	return false
}

var errNoTerminal = errors.New("no terminal")

// ask puts a question on the controlling terminal and returns the line that is typed, hidden for a secret. Without a
// terminal it returns errNoTerminal. The terminal is as it was afterwards, also when ctx ends first.
func ask(ctx context.Context, question string, hidden bool) (string, error) {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", errNoTerminal
	}
	fd := int(tty.Fd())
	before, err := term.GetState(fd)
	if err != nil {
		tty.Close()
		return "", errNoTerminal
	}
	fmt.Fprintf(tty, "%s ", question)
	type answer struct {
		line []byte
		err  error
	}
	answered := make(chan answer, 1)
	go func() { // a read of a terminal can't be interrupted: on Ctrl-C it is left behind, and the process ends
		var a answer
		if hidden {
			a.line, a.err = term.ReadPassword(fd)
			fmt.Fprintln(tty)
		} else {
			a.line, a.err = bufio.NewReader(io.LimitReader(tty, 1024)).ReadBytes('\n')
			if errors.Is(a.err, io.EOF) {
				a.err = nil
			}
		}
		answered <- a
	}()
	select {
	case a := <-answered:
		tty.Close()
		return string(bytes.TrimSpace(a.line)), a.err
	case <-ctx.Done():
		term.Restore(fd, before)
		fmt.Fprintln(tty)
		return "", ctx.Err()
	}
}

// canAsk reports whether there is a terminal to ask on.
func canAsk() bool {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer tty.Close()
	return term.IsTerminal(int(tty.Fd()))
}

// confirm asks a yes-or-no question. flag is what answers it where there is no terminal.
func confirm(ctx context.Context, question, flag string) error {
	answer, err := ask(ctx, question+" [y/N]", false)
	switch {
	case errors.Is(err, errNoTerminal):
		return &protocol.Error{
			Code:    protocol.CodeConfig,
			Message: "this needs a yes, and there is no terminal to ask on: " + question,
			Hint:    "say it with " + flag,
		}
	case err != nil:
		return err
	case strings.EqualFold(answer, "y"), strings.EqualFold(answer, "yes"):
		return nil
	}
	return &protocol.Error{Code: protocol.CodeInternal, Message: "nothing was changed"}
}

// span shows a duration to its two largest units: 7h12m, 3d4h, 42s.
func span(d time.Duration) string {
	d = d.Round(time.Second)
	if d < 0 {
		d = -d
	}
	days, hours, minutes, seconds := int64(
		d/(24*time.Hour),
	), int64(
		d/time.Hour,
	)%24, int64(
		d/time.Minute,
	)%60, int64(
		d/time.Second,
	)%60
	switch {
	case days > 100*365: // a time.Duration ends at 292 years
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

// localTime shows a time the way people at this machine read it.
func localTime(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.Local().Format("2006-01-02 15:04:05 MST")
}

// expires says when, and how long that is.
func expires(now, expiry time.Time) string {
	if expiry.IsZero() {
		return "never expires"
	}
	if !expiry.After(now) {
		return fmt.Sprintf("expired %s (%s ago)", localTime(expiry), span(now.Sub(expiry)))
	}
	return fmt.Sprintf("expires %s (in %s)", localTime(expiry), span(expiry.Sub(now)))
}
