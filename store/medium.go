package store

import (
	"context"

	"github.com/ccagent/ccagent/disk"
)

// Medium is where a program of its own mind keeps one record: a row of a database, a secret of a cluster. [NewCustom] makes a
// Store of it. Methods are called from several goroutines; Write and Remove under a lock. Errors should be ErrStorage or
// ErrLocked of package protocol, and hold nothing of what is kept.
type Medium interface {
	// Read returns what Write was given last, whole, and ErrNotFound when there is nothing.
	Read(ctx context.Context) ([]byte, error)
	// Write keeps data, which holds secrets: whole or not at all, and for good once it has returned nil. Before a refresh token
	// is spent it is given once more what is there, to see whether it can.
	Write(ctx context.Context, data []byte) error
	// Remove deletes what is kept, and answers ErrNotFound if there is nothing.
	Remove(ctx context.Context) error
}

// NewCustom returns the store that keeps a record in m, in the versioned form of [Record.Marshal]. at is what its Place says.
// lockPath is a file, made when needed and never deleted, by which the programs of this machine that share m wait for each
// other; programs of several machines need a Store of their own making.
func NewCustom(m Medium, at Place, lockPath string) Store {
	return &own{medium: custom{m}, place: at, lockPath: lockPath}
}

type custom struct{ Medium }

func (c custom) read(ctx context.Context) ([]byte, error) { return c.Read(ctx) }
func (c custom) remove(ctx context.Context) error         { return c.Remove(ctx) }

func (c custom) write(ctx context.Context, data []byte, _ *disk.Draft) error {
	return c.Write(ctx, data)
}

// ready writes what is there once more: nothing else tells whether the medium takes it.
func (c custom) ready(ctx context.Context, src []byte) (*disk.Draft, error) {
	if src == nil {
		return nil, nil
	}
	return nil, c.Write(ctx, src)
}
