package store

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ccagent/ccagent/disk"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store/keyring"
	"github.com/ccagent/ccagent/store/splice"
)

// ClaudeCode is the record that Claude Code itself uses: `<config dir>/.credentials.json`. We share the file with a program that
// we can't ask to change. So we take its locks as it takes them and leave its other keys as they are, byte for byte. What its
// form has no room for is in our lock file.
//
// On macOS the record is an item of the Keychain, or the file if there is a file and no item. Claude Code does the same.
type ClaudeCode struct {
	dir   string
	lock  recordLock
	copy  *Copy // see Overwrite; nil: what can't be read stays
	pace  pace
	chain func() (*keyring.ClaudeItem, error) // nil: there is no Keychain
}

var _ Store = (*ClaudeCode)(nil)

// NewClaudeCode returns the store of the directory with Claude Code's credentials, an absolute path (see [protocol.ClaudeDir]).
// With any other path all of its methods fail with ErrConfig. On macOS the spelling counts, because the item of the Keychain is
// named after it.
func NewClaudeCode(configDir string) *ClaudeCode {
	return &ClaudeCode{dir: filepath.Clean(configDir), pace: claudePace, chain: keyring.Claude(configDir)}
}

func (s *ClaudeCode) path() string { return filepath.Join(s.dir, ".credentials.json") }

// placed fails if the directory is not an absolute path.
func (s *ClaudeCode) placed() error {
	if filepath.IsAbs(s.dir) {
		return nil
	}
	return &protocol.Error{
		Code:    protocol.CodeConfig,
		Message: fmt.Sprintf("the Claude Code directory is not an absolute path: %q", s.dir),
		Hint:    "give its whole path: ~ is not expanded here",
	}
}

// paths returns where the file really is, and our lock file beside it. They are the same for every name of the file.
func (s *ClaudeCode) paths() (file, lock string, err error) {
	if err := s.placed(); err != nil {
		return "", "", err
	}
	file, err = disk.Target(s.path())
	if errors.Is(err, fs.ErrNotExist) {
		return "", "", &protocol.Error{
			Code:    protocol.CodeNotFound,
			Message: "nothing is stored: there is no folder for " + s.path(),
		}
	}
	if err != nil {
		return "", "", disk.Error("finding", s.path(), err)
	}
	return file, filepath.Join(filepath.Dir(file), ".ccagent.lock"), nil
}

func (s *ClaudeCode) Place() Place {
	watch := []string{s.path()}
	if file, _, err := s.paths(); err == nil && file != s.path() {
		watch = append(watch, file)
	}
	location := s.path()
	if s.chain != nil {
		location += ", or its item in the Keychain"
		// The Keychain reports no changes. Its file changes with each, of whatever item, which is seldom enough.
		if chain, err := s.chain(); err == nil && chain.Database != "" {
			watch = append(watch, chain.Database)
		}
	}
	return Place{Kind: KindClaudeCode, Location: location, Watch: watch}
}

// spot is where Claude Code's JSON is: the file, or the item of the Keychain.
type spot struct {
	file    string
	draft   *disk.Draft         // of the file; nil: none was made ready
	chain   *keyring.ClaudeItem // nil: the file
	service string              // the name of the item
}

// read returns the JSON and where it is. With ErrNotFound that is where to write a new one.
func (s *ClaudeCode) read(ctx context.Context, file string) ([]byte, spot, error) {
	if s.chain == nil {
		src, err := readFile(file)
		return src, spot{file: file}, err
	}
	chain, err := s.chain()
	if err != nil {
		return nil, spot{}, err
	}
	src, service, err := chain.Find(ctx)
	at := spot{file: file, chain: chain, service: service}
	if errors.Is(err, protocol.ErrNotFound) {
		if src, err := readFile(file); !errors.Is(err, protocol.ErrNotFound) {
			return src, spot{file: file}, err
		}
	}
	return src, at, err
}

func (at spot) write(ctx context.Context, data []byte, check func() error) error {
	switch {
	case at.chain == nil && at.draft != nil && at.draft.Path() == at.file:
		return fileError("writing", at.file, at.draft.Write(data, check))
	case at.chain == nil:
		return writeFile(at.file, data, check)
	}
	if err := check(); err != nil {
		return err
	}
	return at.chain.Write(ctx, at.service, data)
}

func (at spot) remove(ctx context.Context, check func() error) error {
	if at.chain == nil && disk.IsMount(at.file) {
		return at.write(ctx, []byte("{}\n"), check) // it can't be removed, and Claude Code takes an empty file for broken
	}
	if err := check(); err != nil {
		return err
	}
	if at.chain == nil {
		return removeFile(at.file)
	}
	return at.chain.Remove(ctx, at.service)
}

// growth is how much longer a renewal may make the JSON in the Keychain, in bytes.
const growth = 64

// note is what we know of a record and Claude Code's file has no room for. It is the content of our lock file: it is written
// under that lock, and so there is one file less in a folder that is not ours.
type note struct {
	Version     string `json:"version"`           // of the record that the note is about, in hexadecimal
	Refresh     string `json:"refresh,omitempty"` // digest of that record's refresh token
	Issued      int64  `json:"issued,omitempty"`  // see Record.Issued, for the record with Version; in milliseconds, 0: unknown
	SignIn      string `json:"sign_in,omitempty"` // see Record.SignIn, for a record with Version or Refresh: others are new sign-ins
	TokenOrigin string `json:"token_origin"`      // see Record.TokenOrigin, for every record that is written there
}

// readNote returns the note in the lock file, the zero note if there is none or it can't be read.
func readNote(path string) (n note) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return note{}
	}
	defer f.Close()
	// A decoder reads one value and stops: a write that was cut off can only have left bytes after that.
	if json.NewDecoder(io.LimitReader(f, 4096)).Decode(&n) != nil {
		return note{}
	}
	return n
}

// writeNote replaces the note in the locked file.
func writeNote(l *disk.Lock, n note) error { return l.Write(append(splice.Encode(n), '\n')) }

func (s *ClaudeCode) Load(ctx context.Context) (Record, Version, error) {
	if err := s.placed(); err != nil {
		return Record{}, Version{}, err
	}
	src, _, err := s.read(ctx, s.path())
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
		r.TokenOrigin = n.TokenOrigin
		ours := n.Version == hex.EncodeToString(v[:])
		if ours || r.IsStub() || n.Refresh != "" && n.Refresh == Digest(r.RefreshToken) {
			r.SignIn = n.SignIn
		}
		if n.Issued > 0 && ours {
			r.Issued = time.UnixMilli(n.Issued)
		}
	}
	return r, v, err
}

// isClaudeStub reports whether err is the error with which readClaude returns a stub. A stub has a version, like any record.
func (r Record) isClaudeStub(err error) bool { return errors.Is(err, protocol.ErrLoginRequired) }

func (s *ClaudeCode) Save(ctx context.Context, r Record, base Version) (Version, error) {
	var saved Version
	if err := s.placed(); err != nil {
		return saved, err
	}
	if base == (Version{}) {
		if err := disk.MakeFolder(s.dir); err != nil {
			return saved, err
		}
	}
	err := s.change(ctx, s.copy, func(at spot, l *disk.Lock, src []byte, stored Version, check func() error) error {
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
		if err := at.write(ctx, data, check); err != nil {
			return err
		}
		// The note comes after the file, because it is about the record there.
		n := note{
			Version:     hex.EncodeToString(saved[:]),
			TokenOrigin: r.TokenOrigin,
			SignIn:      r.SignIn,
			Refresh:     Digest(r.RefreshToken),
		}
		if !r.Issued.IsZero() {
			n.Issued = r.Issued.UnixMilli()
		}
		if err := writeNote(l, n); err != nil {
			return disk.Error("writing", l.Name(), err)
		}
		return confirm(s, ctx, saved)
	})
	if err != nil {
		return Version{}, err
	}
	return saved, nil
}

func (s *ClaudeCode) Delete(ctx context.Context, base Version) error {
	return s.change(ctx, nil, func(at spot, l *disk.Lock, src []byte, stored Version, check func() error) error {
		switch {
		case stored == Version{}:
			_, _, err := s.Load(ctx)
			return err // ErrNotFound, with the file that is missing
		case stored != base:
			return ErrConflict
		}
		data, left, err := splice.Remove(src, claudeKey)
		if err != nil {
			return invalid(s.path(), "is not valid JSON")
		}
		if left > 0 {
			err = at.write(ctx, data, check)
		} else {
			err = at.remove(ctx, check)
		}
		if err != nil {
			return err
		}
		// The note was about this sign-in.
		if err := writeNote(l, note{}); err != nil {
			return disk.Error("writing", l.Name(), err)
		}
		return nil
	})
}

// change takes our lock and Claude Code's write lock, and calls do with the JSON (nil if there is none) and the version of its
// record (zero if nothing is stored). do calls check right before it writes: it fails if the write lock was lost. With copy, JSON
// that can't be read counts as none once there is a copy of it.
func (s *ClaudeCode) change(
	ctx context.Context,
	copy *Copy,
	do func(at spot, l *disk.Lock, src []byte, stored Version, check func() error) error,
) error {
	file, lock, err := s.paths()
	if err != nil {
		return err
	}
	return s.lock.write(ctx, lock, func(l *disk.Lock, ready reserved) error {
		w := ready.write
		if !w.hold() {
			if w, err = s.lockWrite(ctx); err != nil {
				return err
			}
			defer w.release()
		}
		src, at, err := s.read(ctx, file)
		at.draft = ready.draft
		if copy != nil && at.chain == nil && Broken(err) { // it may be larger than a record can be
			if large, largeErr := readUpTo(file, maxCopy); largeErr == nil {
				err = copy.keep(large)
			}
		}
		if err != nil && !errors.Is(err, protocol.ErrNotFound) {
			return err
		}
		var stored Version
		if src != nil {
			switch r, err := readClaude(s.path(), src); {
			case err == nil, r.isClaudeStub(err):
				stored = r.version()
			case copy != nil && Broken(err):
				if err := copy.keep(src); err != nil {
					return err
				}
				src = withoutBroken(src)
			case !errors.Is(err, protocol.ErrNotFound):
				return err
			}
		}
		return do(at, l, src, stored, w.check)
	})
}

func (s *ClaudeCode) writeLock() string { return filepath.Join(s.dir, ".storage-write.lock") }

// lockWrite takes Claude Code's write lock.
func (s *ClaudeCode) lockWrite(ctx context.Context) (*claudeWrite, error) {
	ctx, cancel := context.WithTimeout(ctx, WriteWait)
	defer cancel()
	return lockClaudeWrite(ctx, s.writeLock(), s.pace)
}

func (s *ClaudeCode) Lock(ctx context.Context) (Lock, error) {
	_, path, err := s.paths()
	if err != nil {
		return nil, err
	}
	l, err := s.lock.take(ctx, path)
	if err != nil {
		return nil, err
	}
	c, err := lockClaude(ctx, s.dir, s.pace)
	if err != nil {
		s.lock.release(l)
		return nil, err
	}
	return &claudeCodeLock{store: s, ours: l, oursPath: path, claude: c}, nil
}

// claudeCodeLock is our lock and Claude Code's, which is taken after ours.
type claudeCodeLock struct {
	store    *ClaudeCode
	ours     *disk.Lock
	oursPath string
	claude   *claudeLock
}

func (l *claudeCodeLock) Check() error {
	if !l.ours.StillAt(l.oursPath) {
		return lost(l.oursPath)
	}
	return l.claude.check()
}

func (l *claudeCodeLock) Reserve(ctx context.Context) error {
	s := l.store
	return s.lock.reserve(l.ours, func() (*reserved, error) {
		w, err := s.lockWrite(ctx)
		if err != nil {
			return nil, err
		}
		r := &reserved{write: w}
		if r.draft, err = s.ready(ctx, l); err != nil {
			w.release()
			return nil, err
		}
		w.lend(s.pace.loan)
		return r, nil
	})
}

// ready makes the write of the JSON ready, and tries that of the note.
func (s *ClaudeCode) ready(ctx context.Context, l *claudeCodeLock) (*disk.Draft, error) {
	file, _, err := s.paths()
	if err != nil {
		return nil, err
	}
	src, at, err := s.read(ctx, file)
	if err == nil {
		var r Record
		if r, err = readClaude(s.path(), src); r.isClaudeStub(err) {
			err = nil
		}
	}
	if err != nil && !errors.Is(err, protocol.ErrNotFound) {
		return nil, err
	}
	if err := writeNote(l.ours, readNote(l.oursPath)); err != nil {
		return nil, disk.Error("writing", l.oursPath, err)
	}
	if at.chain != nil {
		return nil, at.chain.Ready(ctx, at.service, len(src)+growth)
	}
	return prepareFile(file, len(src)+spare)
}

func (l *claudeCodeLock) Release() error {
	return errors.Join(l.claude.release(), l.store.lock.release(l.ours))
}
