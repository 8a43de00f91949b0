// Package store keeps records between runs.
//
// A [Store] holds one [Record]. [ClaudeCode] is the one that Claude Code itself uses. [File], [Keyring] and [Encrypted] are ours
// alone: a plain file, an item in the system's keyring, and a file encrypted with age. [NewCustom] makes one of whatever can
// hold some bytes. [Kind] tells what differs between them, and every implementation passes storetest.Run.
//
// What could not be saved is left in a spill file by [Spill], and [Recover] saves it at the next load.
//
// The order for a renewal is [Store.Lock], [Recover], [Store.Load], [Reserve], then the provider, then [Store.Save], then
// [Lock.Release]. Save is a compare-and-swap, so a writer that took no lock can be surprised but can't destroy.
package store

import (
	"context"
	"errors"
	"time"
)

// ErrConflict says that a store no longer holds what the caller took it to hold: someone else wrote or removed the record.
// Load again and judge again. It never leaves the worker.
var ErrConflict = errors.New("the stored record has changed meanwhile")

// ErrMissing says that a store does not hold what was saved in it and not deleted since: another keyring answers in its place,
// or a person has removed it there. Nobody can tell which, so it is a failure of the store (ErrStorage) and no sign-out. A
// fresh sign-in may be saved, on the zero Version, and Delete forgets the missing record for good.
var ErrMissing = errors.New("what was saved is not there")

// How long to wait for another program. A lock whose holder may have died is only free for the taking when nobody has touched it
// for a while, and where its time tells nothing (a clock was set back, or a file server has one of its own) that while passes
// under our eyes, from the first look on. So each of these is longer than that, or such a lock would never be taken.
const (
	LockWait  = 75 * time.Second // for Store.Lock; those who wait for a renewal in turn wait for longer still
	WriteWait = 20 * time.Second // for writing alone: Save, Delete and views keep to it themselves
)

// Version identifies what a store holds: a digest of the record's own keys, the same for the same record whoever wrote it.
// The zero Version is "nothing stored".
type Version [32]byte

// Store holds one profile's record. Methods return errors for which errors.Is finds a sentinel of package protocol:
// ErrNotFound (nothing stored), ErrLoginRequired (a logged-out stub), ErrInvalid (corrupt, of a wrong type, or from a newer
// version of ours: left untouched), ErrLocked (the store itself wants unlocking), ErrStorage (unreachable, full, read-only),
// ErrUnavailable (ctx ended while another program held the record), [ErrMissing] and [ErrConflict].
// Methods may be called concurrently and from several processes.
type Store interface {
	// Load returns the record and its version. With ErrLoginRequired the version of the stub is returned too, so that a
	// good record can be saved over it.
	Load(ctx context.Context) (Record, Version, error)

	// Save replaces the record if the store still holds base, and returns the new version; otherwise it changes nothing and
	// returns ErrConflict. The zero base creates. A Save of what is stored already succeeds whatever its base, so one whose
	// answer was lost can be made again. Once it has returned nil the record survives a power cut; interrupted anywhere,
	// the store holds the old record or the new one, whole.
	//
	// What is stored may say more than r does: an empty Subscription, for one, leaves the stored one in place. Without a
	// Lock of the same Store value held, Save takes the record for itself while it works.
	Save(ctx context.Context, r Record, base Version) (Version, error)

	// Delete removes the record if the store still holds base, and answers ErrNotFound if there is none. Other programs'
	// data in the same place stays.
	Delete(ctx context.Context, base Version) error

	// Lock takes the record for one renewal, across processes and, where the place is shared, programs. It waits for a living
	// holder as long as ctx allows (then ErrUnavailable). What it returns must be released. Where nothing can be written
	// (a full or read-only file system) it locks as far as that goes: tokens are still served, and Reserve says what is wrong.
	Lock(ctx context.Context) (Lock, error)

	// Place says where the record rests.
	Place() Place
}

// Lock is a record held for one renewal.
type Lock interface {
	// Check returns an error (ErrUnavailable) if the lock was lost meanwhile, as after a long suspend.
	Check() error
	// Reserve makes ready the next Save of the Store, in the way in which it will be written: what could keep it from being
	// written is found out now, while the refresh token is not yet spent. Where Reserve fails (ErrStorage, ErrLocked, ErrInvalid,
	// or ErrUnavailable while another program writes) nothing has changed. What the Save does not use up goes with Release.
	// Calling it again does nothing. Callers want [Reserve].
	Reserve(ctx context.Context) error
	// Release lets go. It removes what Lock made and nothing else; calling it again does nothing.
	Release() error
}

// Place is where a store keeps its record.
type Place struct {
	Kind     Kind
	Location string   // for a person to read; with Kind it names the record for ever
	Watch    []string // files whose change means that someone wrote the record
}
