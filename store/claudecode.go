package store

import (
	"context"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/ccagent/ccagent/protocol"
)

// ClaudeCode is the record that Claude Code itself uses: `<config dir>/.credentials.json`. The file is shared with a program
// that we can't ask to change: its locks are taken as it takes them, its other keys stay byte for byte as they are, and
// what its form has no room for is kept in our lock file.
//
// Claude Code on macOS keeps its record in the Keychain, which this store does not read; there it serves a file that exists.
type ClaudeCode struct {
	dir   string
	guard guard
	pace  pace
}

var _ Store = (*ClaudeCode)(nil)

// NewClaudeCode returns the store of that Claude Code directory, an absolute path; see CLAUDE_CONFIG_DIR.
func NewClaudeCode(configDir string) *ClaudeCode {
	return &ClaudeCode{dir: filepath.Clean(configDir), pace: claudePace}
}

func (s *ClaudeCode) path() string { return filepath.Join(s.dir, ".credentials.json") }

// paths returns where the file really is and our lock beside it: the same for every name that leads there.
func (s *ClaudeCode) paths() (file, lock string, err error) {
	file, err = target(s.path())
	if errors.Is(err, fs.ErrNotExist) {
		return "", "", &protocol.Error{
			Code:    protocol.CodeNotFound,
			Message: "nothing is stored: there is no folder for " + s.path(),
		}
	}
	if err != nil {
		return "", "", storageError("finding", s.path(), err)
	}
	return file, filepath.Join(filepath.Dir(file), ".ccagent.lock"), nil
}

func (s *ClaudeCode) Place() Place {
	watch := []string{s.path()}
	if file, _, err := s.paths(); err == nil && file != s.path() {
		watch = append(watch, file)
	}
	return Place{Kind: "claude-code", Location: s.path(), Watch: watch}
}

func (s *ClaudeCode) Load(ctx context.Context) (Record, Version, error) {
	src, err := readFile(s.path())
	if err != nil {
		return Record{}, Version{}, err
	}
	r, err := readClaude(s.path(), src)
	if err != nil && !r.isClaudeStub(err) {
		return Record{}, Version{}, err
	}
	v := r.version()
	if _, lock, err := s.paths(); err == nil {
		n := readNote(lock)
		r.TokenOrigin, r.SignIn = n.TokenOrigin, n.SignIn
		if n.Issued > 0 && n.Version == hex.EncodeToString(v[:]) {
			r.Issued = time.UnixMilli(n.Issued)
		}
	}
	return r, v, err
}

// isClaudeStub reports whether err is readClaude's verdict on the stub r, which has a version like any record.
func (r Record) isClaudeStub(err error) bool { return errors.Is(err, protocol.ErrLoginRequired) }

func (s *ClaudeCode) Save(ctx context.Context, r Record, base Version) (Version, error) {
	var saved Version
	if base == (Version{}) {
		if err := os.MkdirAll(s.dir, 0o700); err != nil {
			return saved, storageError("making", s.dir, err)
		}
	}
	err := s.change(ctx, func(file string, l *flock, src []byte, stored Version, check func() error) error {
		data, err := spliceClaude(s.path(), src, r)
		if err != nil {
			return err
		}
		merged, err := readClaude(s.path(), data)
		if err != nil {
			return err
		}
		saved = merged.version()
		if stored != base && stored != saved {
			return ErrConflict
		}
		if err := writeFile(file, data, check); err != nil {
			return err
		}
		// After the file: a note about a record that is not there yet would be about nothing.
		n := note{Version: hex.EncodeToString(saved[:]), TokenOrigin: r.TokenOrigin, SignIn: r.SignIn}
		if !r.Issued.IsZero() {
			n.Issued = r.Issued.UnixMilli()
		}
		if err := l.writeNote(n); err != nil {
			return storageError("writing", l.f.Name(), err)
		}
		return confirm(s, ctx, saved)
	})
	if err != nil {
		return Version{}, err
	}
	return saved, nil
}

func (s *ClaudeCode) Delete(ctx context.Context, base Version) error {
	return s.change(ctx, func(file string, l *flock, src []byte, stored Version, check func() error) error {
		switch {
		case stored == Version{}:
			_, _, err := s.Load(ctx)
			return err // not found, and it says what is not there
		case stored != base:
			return ErrConflict
		}
		data, left, err := removeMembers(src, claudeKey)
		if err != nil {
			return invalid(s.path(), "is not valid JSON")
		}
		if left > 0 {
			err = writeFile(file, data, check)
		} else if err = check(); err == nil {
			err = removeFile(file)
		}
		if err != nil {
			return err
		}
		// What the note says was about this sign-in. The next one is bound anew.
		if err := l.writeNote(note{}); err != nil {
			return storageError("writing", l.f.Name(), err)
		}
		return nil
	})
}

// change runs do on the file's bytes (nil when there is no file) under our flock and Claude Code's write lock. check, asked
// right before the change is made, fails if the write lock was lost. Where stored is zero, nothing is stored.
func (s *ClaudeCode) change(ctx context.Context, do func(file string, l *flock, src []byte, stored Version, check func() error) error) error {
	file, lock, err := s.paths()
	if err != nil {
		return err
	}
	return s.guard.write(ctx, lock, func(l *flock) error {
		w := &dirLock{path: filepath.Join(s.dir, ".storage-write.lock"), stale: s.pace.writeStale}
		if err := w.take(ctx, s.pace, nil); err != nil {
			return err
		}
		defer w.release()
		src, err := readFile(file)
		if err != nil && !errors.Is(err, protocol.ErrNotFound) {
			return err
		}
		var stored Version
		if src != nil {
			switch r, err := readClaude(s.path(), src); {
			case err == nil, r.isClaudeStub(err):
				stored = r.version()
			case !errors.Is(err, protocol.ErrNotFound):
				return err
			}
		}
		return do(file, l, src, stored, w.check)
	})
}

func (s *ClaudeCode) Lock(ctx context.Context) (Lock, error) {
	_, path, err := s.paths()
	if err != nil {
		return nil, err
	}
	l, err := s.guard.lock(ctx, path)
	if err != nil {
		return nil, err
	}
	c, err := lockClaude(ctx, s.dir, s.pace)
	if err != nil {
		s.guard.unlock(l)
		return nil, err
	}
	return &claudeCodeLock{store: s, flock: l, flockPath: path, claude: c}, nil
}

// claudeCodeLock is our flock and, inside it, Claude Code's lock.
type claudeCodeLock struct {
	store     *ClaudeCode
	flock     *flock
	flockPath string
	claude    *claudeLock
}

func (l *claudeCodeLock) Check() error {
	if !l.flock.stillThere(l.flockPath) {
		return lost(l.flockPath)
	}
	return l.claude.check()
}

func (l *claudeCodeLock) Release() error {
	return errors.Join(l.claude.release(), l.store.guard.unlock(l.flock))
}
