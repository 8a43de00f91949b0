package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/ccagent/ccagent/disk"
	"github.com/ccagent/ccagent/protocol"
)

// plainView is the view that is a file of its own, 0600, with the token and little else in it. An empty file counts as a missing
// one: whoever mounts a single file into a container makes it first.
type plainView struct {
	path    string // as it is configured; it may be a link
	lock    string
	inPlace bool                         // the file is never replaced, nor removed, because somebody has mounted it elsewhere
	form    func(Record) ([]byte, error) // what the file holds
}

// NewTokenView returns the view that is a file with the token and nothing else, not even the end of a line. A program that trims
// what it reads takes that, and so does one that does not. The folder of the file is made when it is first written. With inPlace
// a file that is there is never replaced.
func NewTokenView(stateDir, path string, inPlace bool) *View {
	return newPlainView(stateDir, ViewToken, path, inPlace, func(r Record) ([]byte, error) {
		return []byte(r.AccessToken.Reveal()), nil
	})
}

// NewEnvView returns the view that is a file with one line, name=token. A shell, docker's --env-file and systemd's
// EnvironmentFile read the same in it. There is no way to quote that all of them understand, so a token that would need one is
// refused (ErrConfig). For the rest see [NewTokenView].
func NewEnvView(stateDir, path, name string, inPlace bool) *View {
	return newPlainView(stateDir, ViewEnv, path, inPlace, func(r Record) ([]byte, error) {
		if !needsNoQuotes(r.AccessToken.Reveal()) {
			return nil, &protocol.Error{
				Code:    protocol.CodeConfig,
				Message: "the token has characters that a shell, docker and systemd read differently, so no line " + name + "= can hold it",
				Hint:    `show it in a file of its own: { kind = "token", path = "..." } in config.toml`,
			}
		}
		return []byte(name + "=" + r.AccessToken.Reveal() + "\n"), nil
	})
}

func newPlainView(stateDir string, kind ViewKind, path string, inPlace bool, form func(Record) ([]byte, error)) *View {
	v := newView(stateDir, kind, path, []string{path}, nil)
	v.file = plainView{path: path, lock: v.written + ".lock", inPlace: inPlace, form: form}
	return v
}

// needsNoQuotes reports whether a shell takes the value as it is after NAME=. A tilde would be a home directory at the beginning
// and after a colon.
func needsNoQuotes(value string) bool {
	return strings.Trim(value, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~+/=:@%,") == "" &&
		!strings.HasPrefix(value, "~") && !strings.Contains(value, ":~")
}

// look is what is there, by its digest.
func (s plainView) look(context.Context) (string, error) {
	src, err := s.read()
	if err != nil || len(src) == 0 {
		return "", err
	}
	return digestBytes(src), nil
}

// read returns what is in the file, nil if it is missing.
func (s plainView) read() ([]byte, error) {
	target, err := CheckViewFile(s.path)
	if err != nil {
		return nil, err
	}
	src, err := readFile(target)
	var e *protocol.Error
	switch {
	case errors.Is(err, protocol.ErrNotFound):
		return nil, nil
	case errors.Is(err, protocol.ErrInvalid) && errors.As(err, &e): // too large: readFile takes it for a record
		return nil, &protocol.Error{Code: e.Code, Message: e.Message,
			Hint: "nothing was changed; move it away, and the view is written: " + protocol.ShellLine("mv", target, target+".old")}
	}
	return src, err
}

// closed takes from everybody else what somebody has let them do with a file that we wrote 0600.
func closed(path string) error {
	info, err := os.Lstat(path)
	if err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0 {
		err = os.Chmod(path, 0o600)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return fileError("writing", path, err)
}

// keep makes a copy of what is there, unless it is the sign-in of another program.
func (s plainView) keep(c *Copy) error {
	src, err := s.read()
	if err != nil {
		return err
	}
	if o, err := readObject(s.path, src); err == nil {
		err = o.known()
		if o.has(claudeKey) {
			err = notOurs(s.path, "is a sign-in of Claude Code's", "name another file for the view")
		}
		if err != nil {
			return err
		}
	} else if err := knownText(s.path, src); err != nil {
		return err
	}
	return c.keep(src)
}

func (s plainView) write(ctx context.Context, r Record, over *Copy, do func(there, next string) error) error {
	data, err := s.form(r)
	if err != nil {
		return err
	}
	return whileLocked(ctx, s.lock, func() error {
		there, err := s.look(ctx)
		if err != nil {
			return err
		}
		next := digestBytes(data)
		if err := do(there, next); err != nil {
			return err
		}
		target, err := CheckViewFile(s.path)
		switch {
		case err != nil:
			return err
		case there == next:
			return closed(target)
		case s.inPlace:
			if err := disk.MakeFolder(filepath.Dir(target)); err != nil {
				return err
			}
			return fileError("writing", target, disk.Overwrite(target, data, disk.Always))
		}
		return file(target).write(ctx, data, nil)
	})
}

func (s plainView) remove(ctx context.Context, do func(there string) error) error {
	return whileLocked(ctx, s.lock, func() error {
		there, err := s.look(ctx)
		if err != nil {
			return err
		}
		if err := do(there); err != nil {
			return err
		}
		target, err := CheckViewFile(s.path)
		switch {
		case err != nil:
			return err
		case s.inPlace && there != "":
			return fileError("emptying", target, disk.Overwrite(target, nil, disk.Always))
		}
		return removeFile(target)
	})
}

func digestBytes(src []byte) string {
	sum := sha256.Sum256(src)
	return hex.EncodeToString(sum[:])
}

// CheckViewFile returns the file that a view at path is, with links followed. It fails (ErrStorage) if a token does not belong
// there, as far as can be seen now: if others may put something else in the place of the file, or make a link lead elsewhere, or
// if what is there is no file. What does not exist yet passes.
func CheckViewFile(path string) (string, error) {
	refuse := func(hint, format string, args ...any) (string, error) {
		return "", &protocol.Error{Code: protocol.CodeStorage, Message: fmt.Sprintf(format, args...), Hint: hint}
	}
	const elsewhere = "name a file in a folder of your own"
	rest := strings.Split(strings.Trim(filepath.Clean(path), "/"), "/")
	at, links := "/", 0
	reached := true // others can look into the folders so far
	for len(rest) > 0 {
		next, last := filepath.Join(at, rest[0]), len(rest) == 1
		info, err := os.Lstat(next)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return filepath.Join(append([]string{at}, rest...)...), nil
		case err != nil:
			return refuse(disk.Hint(err), "%s can't be looked at: %v", next, disk.Reason(err))
		}
		switch mode := info.Mode(); {
		case mode&fs.ModeSymlink != 0:
			link, err := os.Readlink(next)
			if links++; err != nil || links > disk.MaxLinks {
				return refuse(elsewhere, "%s is a link that leads nowhere", next)
			}
			if !ownOrRoot(info) {
				return refuse(elsewhere, "%s is another user's link to %s", next, link)
			}
			if filepath.IsAbs(link) {
				at = "/"
			}
			rest = append(strings.Split(strings.Trim(filepath.Clean(filepath.Join(at, link)), "/"), "/"), rest[1:]...)
			at, reached = "/", true
			continue
		case last && mode.IsDir():
			return refuse("name the file in it", "%s is a folder", path)
		case last && !mode.IsRegular():
			return refuse(elsewhere, "%s is not a regular file", path)
		case last && !ownOrRoot(info) && os.Geteuid() != 0:
			return refuse(elsewhere, "%s is another user's file", next)
		case !last && !mode.IsDir():
			return refuse(elsewhere, "%s is not a folder", next)
		case len(rest) == 2 && !ownOrRoot(info) && os.Geteuid() != 0:
			return refuse(elsewhere, "%s is another user's folder", next)
		case len(rest) == 2 && mode.Perm()&0o002 != 0, !last && reached && mode.Perm()&0o002 != 0 && mode&fs.ModeSticky == 0:
			hint := elsewhere
			if mode&fs.ModeSticky == 0 { // /tmp is meant to be written by everybody
				hint += ", or: " + protocol.ShellLine("chmod", "o-w", next)
			}
			return refuse(hint, "%s is a folder that everybody may write in", next)
		}
		reached = reached && info.Mode().Perm()&0o001 != 0
		at, rest = next, rest[1:]
	}
	return at, nil
}

// ownOrRoot reports whether a file belongs to this user or to root.
func ownOrRoot(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && (int(stat.Uid) == os.Geteuid() || stat.Uid == 0)
}
