// Package store keeps records between runs.
//
// A [Store] holds one [Record]. [ClaudeCode] is the one that Claude Code itself uses. [File], [Keyring] and [Encrypted] are ours
// alone: a plain file, items in the system's keyring, and a file encrypted with age. [NewCustom] makes a Store of whatever can
// hold some bytes. If the agent alone holds a record, in memory, there is no Store. [Kind] says what differs between these kinds,
// and every implementation passes storetest.Run.
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
// Load again and judge again. It never reaches a client of the agent.
var ErrConflict = errors.New("the stored record has changed meanwhile")

// ErrMissing says that a store does not hold what was saved in it and not deleted since. Either another keyring answers in its
// place, or a person has removed the record there, and nobody can tell which. So it is a failure of the store (ErrStorage) and no
// sign-out. A fresh sign-in may be saved, on the zero Version. Delete forgets the missing record for good.
var ErrMissing = errors.New("what was saved is not there")

// How long to wait for another program. If the holder of a lock may have died, the lock is taken over once nobody has touched it
// for a while. If its time tells nothing, because a clock was set back or a file server has a clock of its own, that while begins
// when the waiting begins. So each of these must be longer than that while.
const (
	LockWait  = 75 * time.Second // for Store.Lock; whoever waits for a renewal must wait longer
	WriteWait = 20 * time.Second // for a single write: Save, Delete and views wait no longer by themselves
)

// Version identifies what a store holds. It is a digest of the record's own keys, the same for the same record whoever wrote it.
// The zero Version means that nothing is stored.
type Version [32]byte

// Store holds one profile's record. Methods return errors for which errors.Is finds a sentinel of package protocol: ErrNotFound
// (nothing is stored), ErrLoginRequired (a stub is stored), ErrInvalid (what is stored is broken or from a newer version of ours,
// and stays as it is), ErrLocked (the store must be unlocked), ErrStorage (it is unreachable, full or read-only), ErrUnavailable
// (ctx ended while another program held the record), [ErrMissing] and [ErrConflict]. Methods may be called concurrently and from
// several processes.
type Store interface {
	// Load returns the record and its version. With ErrLoginRequired it returns the version of the stub, so that a good record
	// can be saved over it.
	Load(ctx context.Context) (Record, Version, error)

	// Save replaces the record if the store still holds base, and returns the new version. Otherwise it changes nothing and
	// returns ErrConflict. With the zero base it creates a record. If r is stored already, Save succeeds whatever its base is, so
	// it can be repeated if its answer was lost. Once it has returned nil, the record survives a power cut. If it is interrupted,
	// the store holds the old record or the new one, whole.
	//
	// The stored record may say more than r does: an empty Subscription, for example, leaves the stored one in place. Save locks
	// the record while it works, unless a Lock of the same Store value is held.
	Save(ctx context.Context, r Record, base Version) (Version, error)

	// Delete removes the record if the store still holds base, and returns ErrNotFound if there is none. Other programs' data in
	// the same place stays.
	Delete(ctx context.Context, base Version) error

	// Lock locks the record for one renewal, against all processes and programs that share it. It waits for a living holder as
	// long as ctx allows (then ErrUnavailable). The Lock must be released. Where nothing can be written, because the file system
	// is full or read-only, it locks what can be locked: tokens are still served, and Reserve says what is wrong.
	Lock(ctx context.Context) (Lock, error)

	// Place says where the record is.
	Place() Place
}

// Lock is the lock of a record for one renewal. Its methods are called by one goroutine.
type Lock interface {
	// Check returns an error (ErrUnavailable) if the lock was lost meanwhile, as after a long suspend.
	Check() error
	// Reserve makes the next Save of the Store ready, in the way in which that will write. What could keep it from writing is
	// found out now, while the refresh token is not spent yet. If Reserve fails (ErrStorage, ErrLocked, ErrInvalid, or
	// ErrUnavailable while another program writes), nothing has changed. Release undoes what the Save has not used. Calling it
	// again does nothing. Callers use the function [Reserve].
	Reserve(ctx context.Context) error
	// Release unlocks the record. It removes what Lock has made and nothing else. Calling it again does nothing.
	Release() error
}

// Place is where the record of a store is.
type Place struct {
	Kind     Kind
	Location string   // for a person to read; Kind and Location together name the record for ever
	Watch    []string // files that change when somebody writes the record
}
