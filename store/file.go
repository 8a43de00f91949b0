package store

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/ccagent/ccagent/protocol"
)

// File keeps one profile's record in a file of our own, 0600 in a folder 0700: `<data dir>/<profile>.json`, in the versioned
// form of [Record.Marshal].
type File struct {
	path  string
	guard guard
}

var _ Store = (*File)(nil)

// NewFile returns the store of that profile in the data directory, which is made when something is first stored. The profile
// is a valid profile name; names that differ in case alone are one.
func NewFile(dataDir, profile string) *File {
	return &File{path: filepath.Join(dataDir, strings.ToLower(profile)+".json")}
}

// lockPath is of the profile's own, so that profiles don't wait for each other.
func (s *File) lockPath() string { return strings.TrimSuffix(s.path, ".json") + ".lock" }

func (s *File) Place() Place {
	return Place{Kind: "file", Location: s.path, Watch: []string{s.path}}
}

func (s *File) Load(ctx context.Context) (Record, Version, error) {
	r, _, err := s.read()
	if err != nil {
		return Record{}, Version{}, err
	}
	return r, r.version(), nil
}

func (s *File) read() (Record, []byte, error) {
	src, err := readFile(s.path)
	if err != nil {
		return Record{}, nil, err
	}
	r, err := readForm(s.path, src)
	return r, src, err
}

func (s *File) Save(ctx context.Context, r Record, base Version) (Version, error) {
	var saved Version
	if err := s.makeFolder(); err != nil {
		return saved, err
	}
	err := s.guard.write(ctx, s.lockPath(), func(*flock) error {
		old, src, err := s.read()
		stored := old.version()
		switch {
		case errors.Is(err, protocol.ErrNotFound):
			src, stored = []byte("{}"), Version{}
		case err != nil:
			return err
		}
		data, err := r.mergeInto(src)
		if err != nil {
			return err
		}
		merged, err := readForm(s.path, data)
		if err != nil {
			return err
		}
		saved = merged.version()
		if stored != base && stored != saved {
			return ErrConflict
		}
		if err := writeFile(s.path, data, func() error { return nil }); err != nil {
			return err
		}
		return confirm(s, ctx, saved)
	})
	if err != nil {
		return Version{}, err
	}
	return saved, nil
}

func (s *File) Delete(ctx context.Context, base Version) error {
	if _, _, err := s.Load(ctx); err != nil {
		return err
	}
	return s.guard.write(ctx, s.lockPath(), func(*flock) error {
		_, stored, err := s.Load(ctx)
		if err != nil {
			return err
		}
		if stored != base {
			return ErrConflict
		}
		return removeFile(s.path)
	})
}

func (s *File) Lock(ctx context.Context) (Lock, error) {
	if err := s.makeFolder(); err != nil {
		return nil, err
	}
	l, err := s.guard.lock(ctx, s.lockPath())
	if err != nil {
		return nil, err
	}
	return &fileLock{s, l}, nil
}

func (s *File) makeFolder() error {
	dir := filepath.Dir(s.path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return storageError("making", dir, err)
	}
	return nil
}

type fileLock struct {
	store *File
	flock *flock
}

func (l *fileLock) Check() error {
	if !l.flock.stillThere(l.store.lockPath()) {
		return lost(l.store.lockPath())
	}
	return nil
}

func (l *fileLock) Release() error { return l.store.guard.unlock(l.flock) }

func lost(path string) error {
	return &protocol.Error{
		Code:    protocol.CodeUnavailable,
		Message: "the lock " + path + " was taken away meanwhile",
		Hint:    "try again",
	}
}

// confirm reads back what was just saved: a disk or network file system that lost it must not be told from one that kept it
// by the next expiry.
func confirm(s Store, ctx context.Context, want Version) error {
	if _, got, err := s.Load(ctx); err != nil {
		return err
	} else if got != want {
		return &protocol.Error{
			Code:    protocol.CodeStorage,
			Message: s.Place().Location + " does not hold what was just written to it",
			Hint:    "another program may be writing it without taking its lock",
		}
	}
	return nil
}

// removeFile unlinks path for good.
func removeFile(path string) error {
	if err := os.Remove(path); err != nil {
		return storageError("removing", path, err)
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return storageError("removing", path, err)
	}
	return nil
}
