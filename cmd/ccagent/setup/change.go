package setup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/ccagent/ccagent/agent"
	"github.com/ccagent/ccagent/cmd/ccagent/files"
	"github.com/ccagent/ccagent/cmd/ccagent/terminal"
	"github.com/ccagent/ccagent/cmd/ccagent/undo"
	"github.com/ccagent/ccagent/disk"
	"github.com/ccagent/ccagent/protocol"
)

// change is one thing that setup does or takes back. All are shown before the first is made.
type change interface {
	show(w io.Writer)
	make() error
	// back is the change that takes it back.
	back() change
}

func (s *Session) show(changes []change) {
	for _, ch := range changes {
		ch.show(s.Err)
	}
}

// makeAll makes all changes, or none.
func (s *Session) makeAll(done *undo.Steps, changes []change, again string) error {
	for _, ch := range changes {
		back := ch.back() // before: it may have to know what is there now
		if err := ch.make(); err != nil {
			if coded := (*protocol.Error)(nil); !errors.As(err, &coded) {
				err = files.StorageError(err)
			}
			return err
		}
		done.Did(undo.Step{Back: func(context.Context) error { return back.make() }, Left: "some of it is done", Mend: again})
	}
	return nil
}

// fileChange is what becomes of a file; nil is none.
type fileChange struct {
	path          string
	mode          fs.FileMode // of a file that is made
	before, after []byte
}

func (ch fileChange) show(w io.Writer) {
	if ch.after == nil {
		fmt.Fprintf(w, "remove %s\n", terminal.Sanitize(ch.path))
		return
	}
	terminal.ShowDiff(w, ch.path, ch.before, ch.after)
}

func (ch fileChange) make() error {
	now, err := readSettings(ch.path)
	switch {
	case err != nil:
		return err
	case !sameFile(now, ch.before):
		return errors.New(ch.path + " has changed since it was shown, and is left alone")
	case ch.after == nil:
		return os.Remove(ch.path)
	}
	mode := ch.mode
	if info, err := os.Stat(ch.path); err == nil {
		mode = info.Mode().Perm()
	}
	if err := os.MkdirAll(filepath.Dir(ch.path), 0o700); err != nil {
		return err
	}
	if err := files.Replace(ch.path, ch.after, mode); err != nil {
		return fmt.Errorf("%s can't be written: %w", ch.path, disk.Reason(err))
	}
	return nil
}

func (ch fileChange) back() change {
	back := fileChange{path: ch.path, before: ch.after, after: ch.before}
	if info, err := os.Stat(ch.path); err == nil {
		back.mode = info.Mode().Perm()
	}
	return back
}

// sameFile reports whether two contents are the same. An empty file is not the same as none.
func sameFile(a, b []byte) bool { return bytes.Equal(a, b) && (a == nil) == (b == nil) }

// linkChange is where a link leads before and after; "" is none.
type linkChange struct{ path, from, to string }

func (ch linkChange) show(w io.Writer) {
	if ch.to == "" {
		fmt.Fprintf(w, "remove %s\n", terminal.Sanitize(ch.path))
		return
	}
	fmt.Fprintf(w, "link %s to %s\n", terminal.Sanitize(ch.path), terminal.Sanitize(ch.to))
}

func (ch linkChange) make() error {
	if ch.to == "" {
		return os.Remove(ch.path)
	}
	if err := os.MkdirAll(filepath.Dir(ch.path), 0o755); err != nil {
		return err
	}
	if ch.from == "" {
		return os.Symlink(ch.to, ch.path)
	}
	next := ch.path + ".ccagent-new"
	os.Remove(next) // of a setup that was killed
	if err := os.Symlink(ch.to, next); err != nil {
		return err
	}
	return os.Rename(next, ch.path)
}

func (ch linkChange) back() change { return linkChange{ch.path, ch.to, ch.from} }

// viewChange gives a profile the view anthropic-sdk, or takes it.
type viewChange struct {
	agent   Agent
	profile agent.Profile
	gives   bool
}

func (ch viewChange) show(w io.Writer) {
	verb := "loses"
	if ch.gives {
		verb = "gets"
	}
	fmt.Fprintf(w, "config.toml: profile %s %s the view anthropic-sdk\n", ch.profile.Name, verb)
}

func (ch viewChange) make() error { return ch.agent.View(ch.profile, ch.gives) }

func (ch viewChange) back() change { return viewChange{ch.agent, ch.profile, !ch.gives} }

// guardChange is `ccagent guard claude-code`, or its --undo.
type guardChange struct {
	agent   Agent
	profile string
	guards  bool
}

func (ch guardChange) show(w io.Writer) {
	does := ": the sign-in moves into a store of the agent, its file keeps the access token"
	if !ch.guards {
		does = " --undo: the sign-in goes back into Claude Code's file"
	}
	fmt.Fprintf(w, "ccagent guard claude-code -p %s%s\n", ch.profile, does)
}

func (ch guardChange) make() error { return ch.agent.Guard(ch.profile, ch.guards) }

func (ch guardChange) back() change { return guardChange{ch.agent, ch.profile, !ch.guards} }

// maxSettings bounds a file that a person is said to edit, in bytes.
const maxSettings = 16 << 20

// readSettings reads a tool's file, nil where there is none.
func readSettings(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0) // a FIFO must not hang us
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		return nil, &protocol.Error{
			Code:    protocol.CodeStorage,
			Message: path + " is a link that leads nowhere",
			Hint:    "make the file that it leads to, or remove it",
		}
	}
	if err != nil {
		return nil, files.StorageError(err)
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, files.StorageError(err)
	case !info.Mode().IsRegular():
		return nil, files.StorageError(errors.New(path + " is no file, and is left alone"))
	case info.Size() > maxSettings:
		return nil, files.StorageError(errors.New(path + " is larger than 16 MiB, and is left alone"))
	}
	src := []byte{} // of an empty file, which is not the same as none
	if read, err := io.ReadAll(io.LimitReader(f, maxSettings)); err != nil {
		return nil, files.StorageError(err)
	} else if len(read) > 0 {
		src = read
	}
	return src, nil
}

// linkThere is where the link at path leads, "" if nothing is there. Only one that leads to a cchelper is ours.
func linkThere(path, helper string) (string, error) {
	there, err := os.Readlink(path)
	switch {
	case err == nil && filepath.Base(there) == filepath.Base(helper):
		return there, nil
	case errors.Is(err, fs.ErrNotExist):
		return "", nil
	}
	return "", &protocol.Error{
		Code:    protocol.CodeConfig,
		Message: path + " is there already, and is not ours",
		Hint:    "move it away",
	}
}
