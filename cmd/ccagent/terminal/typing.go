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

// Typed returns a reader of a terminal that ends when ctx ends or the person types Ctrl-D. A plain read can't be interrupted. It
// would go on, and take the answer to the next question.
func Typed(ctx context.Context, tty *os.File) io.Reader { return typing{ctx, tty} }

type typing struct {
	ctx context.Context
	tty *os.File
}

// typingTick is the longest time until the end of ctx is noticed.
const typingTick = 100 * time.Millisecond

func (t typing) Read(p []byte) (int, error) {
	for t.ctx.Err() == nil {
		var ready unix.FdSet
		ready.Set(int(t.tty.Fd()))
		wait := unix.NsecToTimeval(typingTick.Nanoseconds())
		switch n, err := unix.Select(int(t.tty.Fd())+1, &ready, nil, nil, &wait); { // on macOS, poll(2) does not support terminals
		case n > 0:
			n, err := t.tty.Read(p)
			if n == 1 && p[0] == ctrlD { // Unbuffered makes the terminal pass it on like any other key
				return 0, io.EOF
			}
			return n, err
		case err != nil && err != unix.EINTR:
			return 0, err
		}
	}
	return 0, t.ctx.Err()
}

// Edited applies the backspaces and line erasures in a line that was typed without the terminal's own editing. It removes the
// marks that a terminal puts around pasted text.
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

// unechoed makes a terminal show nothing of what is typed.
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

// Unbuffered makes a terminal pass on each character as it is typed, and not show it. So a line may be longer than the 4096
// characters (macOS: 1024) that the terminal's own editing allows, and it does not disturb the spinner. Ctrl-C still interrupts.
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
