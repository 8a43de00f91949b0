package store

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/ccagent/ccagent/protocol"
)

// A spill file holds a record that could not be saved while nobody was left to hold it in memory:
// `<state dir>/spill/<place>.<number>.json`, where place is a digest of the store's [Place] and numbers grow, for clocks may
// be set. What another program's record has overtaken is renamed to `.kept`, to be restored by hand; keep is how many.
const keep = 3

// Unsaved is a spilled record that could not be brought home yet, and what it replaces.
type Unsaved struct {
	Record Record
	Base   Version
}

// Spill leaves r, which was to replace base in the store at that place, for the next [Recover]. When it returns nil the file
// survives a power cut. It takes no lock.
func Spill(stateDir string, at Place, base Version, r Record) error {
	form, err := r.mergeInto(slices.Concat([]byte(`{"base":"`), hex.AppendEncode(nil, base[:]), []byte(`"}`)))
	if err != nil {
		return err
	}
	dir := filepath.Join(stateDir, "spill")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return storageError("making", dir, err)
	}
	// Written whole under another name first, and linked, which unlike a rename never replaces another worker's spill.
	temp := filepath.Join(dir, rand.Text()+".tmp")
	defer os.Remove(temp)
	if err := writeFile(temp, form, func() error { return nil }); err != nil {
		return err
	}
	for {
		spills, err := spillsOf(stateDir, at)
		if err != nil {
			return err
		}
		number := 1
		for _, s := range spills {
			number = max(number, s.number+1)
		}
		path := filepath.Join(dir, spillKey(at)+"."+strconv.Itoa(number)+".json")
		err = os.Link(temp, path)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err == nil {
			err = syncDir(dir)
		}
		if err != nil {
			return storageError("writing", path, err)
		}
		return nil
	}
}

// Recover brings home what was spilled for s. The caller holds s.Lock, and loads afterwards.
//
// A spilled record is saved if the store still holds what it replaces, or a logged-out stub; of several the newest that
// descends from there is. What the store holds already is dropped. Where someone else has written or removed the record
// meanwhile, theirs stays and ours is kept aside. A file is removed only once its record is safe elsewhere.
//
// If the record can't be saved, it is returned with the error: what is stored is no longer good, and the caller serves and
// saves this one instead.
func Recover(ctx context.Context, stateDir string, s Store) (*Unsaved, error) {
	spills, err := spillsOf(stateDir, s.Place())
	if err != nil || len(spills) == 0 {
		return nil, err
	}
	stored, version, err := s.Load(ctx)
	stub := errors.Is(err, protocol.ErrLoginRequired)
	switch {
	case stub, err == nil, errors.Is(err, protocol.ErrNotFound):
	default:
		return nil, err
	}

	// Forwards from what is stored: each spill replaces it or one that does.
	good := map[Version]bool{version: true}
	for _, sp := range spills {
		if sp.readable && stub {
			good[sp.base] = true
		}
	}
	winner, home := -1, -1
	for i, sp := range spills {
		if !sp.readable {
			continue
		}
		if err == nil && sameTokens(stored, sp.record) {
			winner, home = -1, i // and whatever is older is its ancestor
			good[sp.base], good[sp.record.version()] = true, true
			continue
		}
		if good[sp.base] && (home < 0 || sp.base != spills[home].base) {
			winner = i
			good[sp.record.version()] = true
		}
	}
	if winner >= 0 {
		if _, err := s.Save(ctx, spills[winner].record, version); err != nil {
			if errors.Is(err, ErrConflict) {
				return nil, err
			}
			return &Unsaved{spills[winner].record, version}, err
		}
	}
	for i, sp := range spills {
		if i <= max(winner, home) && sp.readable {
			err = os.Remove(sp.path)
		} else {
			err = os.Rename(sp.path, strings.TrimSuffix(sp.path, ".json")+".kept")
		}
		if err != nil {
			return nil, storageError("clearing", sp.path, err)
		}
	}
	return nil, prune(stateDir, s.Place())
}
