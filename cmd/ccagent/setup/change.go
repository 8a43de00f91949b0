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
	"github.com/ccagent/ccagent/cmd/ccagent/config"
	"github.com/ccagent/ccagent/cmd/ccagent/files"
	"github.com/ccagent/ccagent/cmd/ccagent/terminal"
	"github.com/ccagent/ccagent/cmd/ccagent/undo"
	"github.com/ccagent/ccagent/disk"
	"github.com/ccagent/ccagent/protocol"
)

// change is one thing that setup does or undoes. All changes are shown before the first is made.
type change interface {
	show(w io.Writer)
	make() error
	// back returns the change that undoes this one.
	back() change
}

// show shows the changes to the person.
func (s *Session) show(changes []change) {
	for _, ch := range changes {
		ch.show(s.Err)
	}
}

// makeAll makes the changes in turn, and adds the undoing of each to done. It stops at the first that fails. again is the command
// that the person is told to run if the undoing fails too.
func (s *Session) makeAll(done *undo.Steps, changes []change, again string) error {
	for _, ch := range changes {
		back := ch.back() // before make, because it may look at what is there now
		if err := ch.make(); err != nil {
			if coded := (*protocol.Error)(nil); !errors.As(err, &coded) {
				err = files.StorageError(err)
			}
			return err
		}
		done.Did(undo.Step{Back: func(context.Context) error { return back.make() }, Left: "some of the changes are made", Mend: again})
	}
	return nil
}

// fileChange replaces, creates or removes a file. A content of nil means that there is no file.
type fileChange struct {
	path          string
	mode          fs.FileMode // for a file that is created
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
		return errors.New(ch.path + " has changed since it was shown, so it was not edited")
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

// sameFile reports whether two contents are the same. An empty file differs from no file.
func sameFile(a, b []byte) bool { return bytes.Equal(a, b) && (a == nil) == (b == nil) }

// linkChange creates, redirects or removes a link. A target of "" means that there is no link.
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
	os.Remove(next) // a setup that was killed may have left it
	if err := os.Symlink(ch.to, next); err != nil {
		return err
	}
	return os.Rename(next, ch.path)
}

func (ch linkChange) back() change { return linkChange{ch.path, ch.to, ch.from} }

// viewChange adds a view to a profile, or removes it.
type viewChange struct {
	agent   Agent
	profile agent.Profile
	view    config.View
	gives   bool
}

func (ch viewChange) show(w io.Writer) {
	does, where := "remove the view %s%s from", ""
	if ch.gives {
		does = "add the view %s%s to"
	}
	if ch.view.Path != "" {
		where = " in " + terminal.Sanitize(ch.view.Path)
	}
	fmt.Fprintf(w, "config.toml: "+does+" profile %s\n", ch.view.Kind, where, ch.profile.Name)
}

func (ch viewChange) make() error { return ch.agent.View(ch.profile, ch.view, ch.gives) }

func (ch viewChange) back() change { return viewChange{ch.agent, ch.profile, ch.view, !ch.gives} }

// guardChange runs `ccagent guard claude-code`, or undoes it.
type guardChange struct {
	agent   Agent
	profile string
	guards  bool
}

func (ch guardChange) show(w io.Writer) {
	does := ": move the sign-in into a store of ccagent, and leave only the access token in Claude Code's file"
	if !ch.guards {
		does = " --undo: move the sign-in back into Claude Code's file"
	}
	fmt.Fprintf(w, "ccagent guard claude-code -p %s%s\n", ch.profile, does)
}

func (ch guardChange) make() error { return ch.agent.Guard(ch.profile, ch.guards) }

func (ch guardChange) back() change { return guardChange{ch.agent, ch.profile, !ch.guards} }

// maxSettings limits the size of a file of settings, in bytes.
const maxSettings = 16 << 20

// readSettings reads a tool's file. It returns nil if there is no file.
func readSettings(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0) // opening a FIFO must not hang
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		return nil, &protocol.Error{
			Code:    protocol.CodeStorage,
			Message: path + " is a link to a file that does not exist",
			Hint:    "create that file, or remove the link",
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
		return nil, files.StorageError(errors.New(path + " is not a regular file, so it was not edited"))
	case info.Size() > maxSettings:
		return nil, files.StorageError(errors.New(path + " is larger than 16 MiB, so it was not edited"))
	}
	src := []byte{} // not nil: an empty file differs from no file
	if read, err := io.ReadAll(io.LimitReader(f, maxSettings)); err != nil {
		return nil, files.StorageError(err)
	} else if len(read) > 0 {
		src = read
	}
	return src, nil
}

// linkThere returns the target of the link at path, or "" if there is nothing. Anything but a link to a cchelper is an error,
// because setup has not created it.
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
		Message: path + " exists already, and ccagent did not create it",
		Hint:    "move it away",
	}
}
