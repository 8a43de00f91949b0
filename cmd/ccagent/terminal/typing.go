package terminal

import (
	"context"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const ctrlD = 0x04

// Typed reads a terminal until ctx ends or the person ends the input with Ctrl-D. A read alone can't be interrupted, and would
// take the answer to the next question.
func Typed(ctx context.Context, tty *os.File) io.Reader { return typing{ctx, tty} }

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
			n, err := t.tty.Read(p)
			if n == 1 && p[0] == ctrlD { // which the terminal passes on like any other key: see Unbuffered
				return 0, io.EOF
			}
			return n, err
		case err != nil && err != unix.EINTR:
			return 0, err
		}
	}
	return 0, t.ctx.Err()
}

// Edited applies the backspaces and line erasures of a line that was typed without the terminal's own editing, and drops what
// a terminal puts around a paste.
func Edited(line []byte) string {
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

// unechoed has a terminal show nothing of what is typed.
func unechoed(fd int) error {
	mode, err := unix.IoctlGetTermios(fd, getTermios)
	if err != nil {
		return err
	}
	mode.Lflag &^= unix.ECHO
	mode.Lflag |= unix.ICANON | unix.ISIG
	mode.Iflag |= unix.ICRNL
	return unix.IoctlSetTermios(fd, setTermios, mode)
}

// Unbuffered lets a terminal pass on what is typed as it comes and unseen: a line may then be longer than the 4096 (macOS: 1024)
// characters of its own editing, and does not get in the way of the spinner. Ctrl-C still interrupts.
func Unbuffered(fd int) (restore func(), err error) {
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
