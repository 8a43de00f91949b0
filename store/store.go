// Package store keeps records between runs.
//
// A [Store] holds one record. Every implementation passes storetest.Run.
package store

import "context"

// Version identifies what a store holds: a digest of the record's own keys, the same for the same record whoever wrote it.
// The zero Version is "nothing stored".
type Version [32]byte

// Store holds one profile's record. Methods return errors for which errors.Is finds a sentinel of package protocol:
// ErrNotFound (nothing stored), ErrInvalid (corrupt, of a wrong type, or from a newer version of ours: left untouched),
// ErrLocked (the store itself wants unlocking), ErrStorage (unreachable, full, read-only), and [ErrConflict].
// Methods may be called concurrently and from several processes.
type Store interface {
	// Load returns the record and its version.
	Load(ctx context.Context) (Record, Version, error)

	// Save replaces the record if the store still holds base, and returns the new version; otherwise it changes nothing and
	// returns ErrConflict. The zero base creates. Once it has returned nil the record survives a power cut; interrupted
	// anywhere, the store holds the old record or the new one, whole.
	Save(ctx context.Context, r Record, base Version) (Version, error)

	// Delete removes the record if the store still holds base. Other programs' data in the same place stays.
	Delete(ctx context.Context, base Version) error

	// Lock takes the record for one renewal, across processes and, where the place is shared, programs. It waits for a living
	// holder as long as ctx allows (then ErrUnavailable). What it returns must be released.
	Lock(ctx context.Context) (Lock, error)

	// Place says where the record rests.
	Place() Place
}

// Lock is a record held for one renewal.
type Lock interface {
	// Check returns an error (ErrUnavailable) if the lock was lost meanwhile, as after a long suspend.
	Check() error
	Release() error
}

// Place is where a store keeps its record.
type Place struct {
	Kind     string   // claude-code, file
	Location string   // for a person to read
	Watch    []string // files whose change means that someone wrote the record
}
