package store

import (
	"context"

	"github.com/ccagent/ccagent/disk"
)

// Medium is what a program provides to store one record in a place of its own choice, like a row of a database or a secret of a
// cluster. [NewCustom] makes a Store of it. Methods are called from several goroutines, Write and Remove under a lock. Errors
// should be ErrStorage or ErrLocked of package protocol, and must hold nothing of what is stored.
type Medium interface {
	// Read returns the whole of what was written last, and ErrNotFound when there is nothing.
	Read(ctx context.Context) ([]byte, error)
	// Write stores data, which holds secrets, whole or not at all. Once it has returned nil, data survives a power cut. Before a
	// refresh token is spent, Write is called with what is stored already, to see whether it works.
	Write(ctx context.Context, data []byte) error
	// Remove deletes what is stored, and returns ErrNotFound if there is nothing.
	Remove(ctx context.Context) error
}

// NewCustom returns the store of a record in m, in the versioned form of [Record.Marshal]. at is what its Place says. lockPath is
// a lock file, made when needed and never deleted, by which the programs of this machine that share m wait for each other.
// Programs of several machines that share one need to implement Store themselves.
func NewCustom(m Medium, at Place, lockPath string) Store {
	return &own{medium: custom{m}, place: at, lockPath: lockPath}
}

type custom struct{ Medium }

func (c custom) read(ctx context.Context) ([]byte, error) { return c.Read(ctx) }
func (c custom) remove(ctx context.Context) error         { return c.Remove(ctx) }

func (c custom) write(ctx context.Context, data []byte, _ *disk.Draft) error {
	return c.Write(ctx, data)
}

// ready writes what is there once more: only that shows whether the medium can be written.
func (c custom) ready(ctx context.Context, src []byte) (*disk.Draft, error) {
	if src == nil {
		return nil, nil
	}
	return nil, c.Write(ctx, src)
}
