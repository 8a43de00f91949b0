package store

import (
	"context"
	"os"
	"path/filepath"
	"strconv"

	"github.com/ccagent/ccagent/disk"
)

// SetAside returns the records of st that were set aside because another program's had taken their place, the newest first. Their
// sign-ins may still be good: only a person can tell.
func SetAside(ctx context.Context, stateDir string, st Store) ([]Past, error) {
	history := NewHistory(stateDir, st)
	var aside []Past
	err := eachSetAside(stateDir, st, func(sp spill) error {
		_, spent := history.Replaces(ctx, sp.record.RefreshToken)
		p := Past{Record: sp.record, Lineage: sp.record.Lineage(), Spent: spent}
		if info, err := os.Stat(sp.path); err == nil {
			p.Saved = info.ModTime()
		}
		aside = append([]Past{p}, aside...)
		return nil
	})
	return aside, err
}

// CountSetAside is how many records of st were set aside.
func CountSetAside(stateDir string, st Store) int {
	spills, _ := spillsOf(stateDir, st)
	n := 0
	for _, sp := range spills {
		if sp.aside {
			n++
		}
	}
	return n
}

// DropSetAside removes a record from those that were set aside, because it is in force again.
func DropSetAside(stateDir string, st Store, r Record) error {
	return eachSetAside(stateDir, st, func(sp spill) error {
		if sp.record.version() != r.version() {
			return nil
		}
		return os.Remove(sp.path)
	})
}

// CopySetAside copies the records of from that were set aside to those of to, because the record has moved there.
func CopySetAside(stateDir string, from, to Store) error {
	next := 1
	if there, err := spillsOf(stateDir, to); err == nil && len(there) > 0 {
		next = there[len(there)-1].number + 1
	}
	seal, _ := to.(sealer)
	return eachSetAside(stateDir, from, func(sp spill) error {
		form, err := spillForm(sp.base, sp.record, seal)
		if err != nil {
			return err
		}
		path := filepath.Join(stateDir, "spill", placeKey(to.Place())+"."+strconv.Itoa(next)+".kept")
		next++
		return writeFile(path, form, disk.Always)
	})
}

// eachSetAside calls do with each record of st that was set aside, the oldest first, until do fails. Files that can't be read are
// passed over.
func eachSetAside(stateDir string, st Store, do func(spill) error) error {
	spills, err := spillsOf(stateDir, st)
	if err != nil {
		return err
	}
	sealed, _ := st.(sealer)
	for _, sp := range spills {
		if !sp.aside {
			continue
		}
		if sp.read(sealed); !sp.readable {
			continue
		}
		if err := do(sp); err != nil {
			return disk.Error("removing", sp.path, err)
		}
	}
	return nil
}

// Spilled reports whether there is something for [Recover] to do: a spill file, or a write in place that was cut off. If the
// state directory can't be read there may be something: Recover says what is wrong.
func Spilled(stateDir string, st Store) bool {
	if path := fileOf(st); path != "" && disk.HasUnfinished(path) {
		return true
	}
	spills, err := spillsOf(stateDir, st)
	for _, sp := range spills {
		if !sp.aside && sp.readable {
			return true
		}
	}
	return err != nil
}

// Forget removes the spill files of st, with those that were set aside, the copies of what was broken there, and its history. The
// caller holds the lock of the store, and is about to delete the record: nothing of it must be left.
func Forget(ctx context.Context, stateDir string, st Store) error {
	spills, err := spillsOf(stateDir, st)
	if err != nil {
		return err
	}
	for _, sp := range spills {
		if err := os.Remove(sp.path); err != nil {
			return disk.Error("clearing", sp.path, err)
		}
	}
	if err := newCopy(stateDir, st.Place()).clear(); err != nil {
		return err
	}
	return NewHistory(stateDir, st).clear(ctx)
}
