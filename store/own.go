package store

import (
	"context"
	"errors"
	"path/filepath"

	"github.com/ccagent/ccagent/disk"
	"github.com/ccagent/ccagent/protocol"
)

// medium holds the bytes of one form. It returns them whole, and writes them whole or not at all. What it has written survives a
// power cut. The caller of write and remove holds a lock.
type medium interface {
	// read returns ErrNotFound when there is nothing. With ErrLoginRequired it returns an older form that has come back: it must
	// not be used, and may be written over.
	read(ctx context.Context) ([]byte, error)
	// ready fails if a form a little longer than src could not be written. src is what is there now, nil for nothing. The draft
	// is for write; it is nil if the medium needs none.
	ready(ctx context.Context, src []byte) (*disk.Draft, error)
	// write uses d, or makes a draft if d is nil.
	write(ctx context.Context, data []byte, d *disk.Draft) error
	remove(ctx context.Context) error
}

// own is a store of ours alone: a record in the form of [Record.Marshal], in a medium. The exported stores of this sort are a
// medium and a place each.
type own struct {
	medium   medium
	place    Place
	lockPath string // each profile has one, so that profiles don't wait for each other
	lock     recordLock
	copy     *Copy // see Overwrite; nil: what can't be read stays
}

func (s *own) Place() Place { return s.place }

func (s *own) Load(ctx context.Context) (Record, Version, error) {
	r, _, err := s.read(ctx)
	if err != nil && !errors.Is(err, protocol.ErrLoginRequired) {
		return Record{}, Version{}, err
	}
	return r, r.version(), err
}

// read returns the record and the bytes that it was read from, with ErrLoginRequired as well, see [medium].
func (s *own) read(ctx context.Context) (Record, []byte, error) {
	src, past := s.medium.read(ctx)
	if past != nil && !errors.Is(past, protocol.ErrLoginRequired) {
		return Record{}, nil, past
	}
	r, err := readForm(s.place.Location, src)
	if err != nil {
		return Record{}, nil, err
	}
	return r, src, past
}

func (s *own) Save(ctx context.Context, r Record, base Version) (Version, error) {
	var saved Version
	if err := disk.MakeFolder(filepath.Dir(s.lockPath)); err != nil {
		return saved, err
	}
	err := s.lock.write(ctx, s.lockPath, func(_ *disk.Lock, ready reserved) error {
		old, src, err := s.read(ctx)
		stored := old.version()
		switch {
		case errors.Is(err, protocol.ErrNotFound), errors.Is(err, ErrMissing):
			src, stored = []byte("{}"), Version{}
		case err != nil && !errors.Is(err, protocol.ErrLoginRequired):
			if err := s.keepBroken(ctx, err); err != nil {
				return err
			}
			src, stored = []byte("{}"), Version{}
		}
		data, err := r.mergeInto(src)
		if err != nil {
			return err
		}
		merged, err := readForm(s.place.Location, data)
		if err != nil {
			return err
		}
		saved = merged.version()
		if stored != base && stored != saved {
			return ErrConflict
		}
		if err := s.medium.write(ctx, data, ready.draft); err != nil {
			return err
		}
		return confirm(s, ctx, saved)
	})
	if err != nil {
		return Version{}, err
	}
	return saved, nil
}

func (s *own) Delete(ctx context.Context, base Version) error {
	deletable := func(err error) bool {
		return err == nil || errors.Is(err, protocol.ErrLoginRequired) || errors.Is(err, ErrMissing)
	}
	if _, _, err := s.Load(ctx); !deletable(err) {
		return err
	}
	return s.lock.write(ctx, s.lockPath, func(*disk.Lock, reserved) error {
		_, stored, err := s.Load(ctx)
		if !deletable(err) {
			return err
		}
		if stored != base {
			return ErrConflict
		}
		return s.medium.remove(ctx)
	})
}

func (s *own) Lock(ctx context.Context) (Lock, error) {
	if err := disk.MakeFolder(filepath.Dir(s.lockPath)); err != nil {
		return nil, err
	}
	l, err := s.lock.take(ctx, s.lockPath)
	if err != nil {
		return nil, err
	}
	return &ownLock{s, l}, nil
}

type ownLock struct {
	store *own
	flock *disk.Lock
}

func (l *ownLock) Check() error {
	if !l.flock.StillAt(l.store.lockPath) {
		return lost(l.store.lockPath)
	}
	return nil
}

func (l *ownLock) Reserve(ctx context.Context) error {
	return l.store.lock.reserve(l.flock, func() (*reserved, error) {
		_, src, err := l.store.read(ctx)
		if err != nil && !errors.Is(err, protocol.ErrNotFound) && !errors.Is(err, protocol.ErrLoginRequired) &&
			!errors.Is(err, ErrMissing) {
			return nil, err
		}
		d, err := l.store.medium.ready(ctx, src)
		if err != nil {
			return nil, err
		}
		return &reserved{draft: d}, nil
	})
}

func (l *ownLock) Release() error { return l.store.lock.release(l.flock) }

// confirm reads back what was just saved. A disk or network file system that has lost it must be noticed now, and not when the
// token expires.
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
