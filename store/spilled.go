package store

import (
	"context"
	"os"
)

// Spilled reports whether a spill file waits for [Recover], be it of a write in place that was cut off. A state directory that can't be read counts as one where one
// may: Recover says what is wrong with it.
func Spilled(stateDir string, st Store) bool {
	if path := fileOf(st); path != "" && hasUnfinished(path) {
		return true
	}
	spills, err := spillsOf(stateDir, st)
	for _, sp := range spills {
		if !sp.kept && sp.readable {
			return true
		}
	}
	return err != nil
}

// Forget removes what was spilled or kept aside for st, and its history. The caller holds the store's lock and is about to
// delete the record: nothing of it is to be left.
func Forget(ctx context.Context, stateDir string, st Store) error {
	spills, err := spillsOf(stateDir, st)
	if err != nil {
		return err
	}
	for _, sp := range spills {
		if err := os.Remove(sp.path); err != nil {
			return storageError("clearing", sp.path, err)
		}
	}
	return NewHistory(stateDir, st).Clear(ctx)
}
