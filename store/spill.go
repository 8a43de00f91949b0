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
	"time"

	"github.com/ccagent/ccagent/disk"
	"github.com/ccagent/ccagent/protocol"
)

// A spill file holds a record that could not be saved while nobody was left to hold it in memory: `<state
// dir>/spill/<place>.<number>.json`, where place is a digest of the store's [Place] and numbers grow, for clocks may be set.
// What another program's record has overtaken is renamed to `.kept`, to be brought back by a person, see [SetAside]; keep is how
// many.
const keep = 3

// Unsaved is a spilled record that could not be brought home yet, and what it replaces.
type Unsaved struct {
	Record Record
	Base   Version
}

// sealer is a store whose records must not lie about in the clear, not even for a while.
type sealer interface {
	seal(form []byte) ([]byte, error)
	unseal(name string, data []byte) ([]byte, error)
}

// Spill leaves r, which was to replace base in st, for the next [Recover], encrypted where st is. When it returns nil the file
// survives a power cut. What waits there already is not left twice. It takes no lock.
func Spill(stateDir string, st Store, base Version, r Record) error {
	seal, _ := st.(sealer)
	form, err := spillForm(base, r, seal)
	if err != nil {
		return err
	}
	dir := filepath.Join(stateDir, "spill")
	if err := disk.MakeFolder(dir); err != nil {
		return err
	}
	// Written whole under another name first, and linked, which unlike a rename never replaces another worker's spill.
	temp := filepath.Join(dir, rand.Text()+".tmp")
	defer os.Remove(temp)
	if err := writeFile(temp, form, disk.Always); err != nil {
		return err
	}
	for {
		spills, err := spillsOf(stateDir, st)
		if err != nil {
			return err
		}
		number := 1
		for _, sp := range spills {
			if !sp.kept && sp.readable && sp.base == base && sameTokens(sp.record, r) {
				return nil // an earlier try at the same save has left it
			}
			number = sp.number + 1
		}
		path := filepath.Join(dir, placeKey(st.Place())+"."+strconv.Itoa(number)+".json")
		err = disk.LinkNew(temp, path)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err == nil {
			err = disk.SyncFolder(dir)
		}
		if err != nil {
			return disk.Error("writing", path, err)
		}
		return nil
	}
}

// spillForm is what is in a spill file, sealed where seal is not nil.
func spillForm(base Version, r Record, seal sealer) ([]byte, error) {
	form, err := r.mergeInto(slices.Concat([]byte(`{"base":"`), hex.AppendEncode(nil, base[:]), []byte(`"}`)))
	if err == nil && seal != nil {
		form, err = seal.seal(form)
	}
	return form, err
}

// Recover brings home what was spilled for s. The caller holds s.Lock, and loads afterwards.
//
// A spilled record is saved if the store still holds what it replaces, or a logged-out stub; of several the newest that
// descends from there is. What the store holds already is dropped. Where someone else has written or removed the record
// meanwhile, theirs stays and ours is kept aside. A file is removed only once its record, or one that replaced it, is
// stored: interrupted anywhere, the next Recover finishes.
//
// If the record can't be saved, it is returned with the error: what is stored is no longer good, and the caller serves this
// one and saves it later.
func Recover(ctx context.Context, stateDir string, s Store) (*Unsaved, error) {
	for tries := 1; ; tries++ {
		unsaved, err := bringHome(ctx, stateDir, s)
		if !errors.Is(err, ErrConflict) || tries == 3 { // a program that takes no lock was faster: theirs is to be judged
			return unsaved, err
		}
	}
}

func bringHome(ctx context.Context, stateDir string, s Store) (*Unsaved, error) {
	if path := fileOf(s); path != "" {
		disk.Finish(path) // what can't be finished now is read as if it were, and finished by the next write
	}
	all, err := spillsOf(stateDir, s)
	if err != nil {
		return nil, err
	}
	// One that is broken stays. One that is whole is newer than what is stored, whose refresh token is spent: it is not passed
	// over.
	for _, sp := range all {
		if sp.barred != nil {
			return nil, sp.barred
		}
	}
	spills := slices.DeleteFunc(all, func(sp spill) bool { return sp.kept || !sp.readable })
	if len(spills) == 0 {
		return nil, nil
	}
	stored, version, err := s.Load(ctx)
	stub := errors.Is(err, protocol.ErrLoginRequired)
	if err != nil && !stub && !errors.Is(err, protocol.ErrNotFound) {
		return nil, err
	}

	// Forwards from what is stored: a spill is good if it replaces that or a good one. The agent's memory is always of the
	// newest record, so of two that replace the same one the later is the one to have.
	good := map[Version]bool{version: true}
	safe, winner := -1, -1 // spills up to here are stored or overtaken by one of ours that is; the one to save
	for i, sp := range spills {
		switch {
		case err == nil && sameTokens(stored, sp.record):
			safe, winner = i, -1
		case stub || good[sp.base]:
			winner = i
		default:
			continue
		}
		good[sp.base], good[sp.record.version()] = true, true
		spills[i].good = true
	}
	if winner >= 0 {
		if _, err := s.Save(ctx, spills[winner].record, version); errors.Is(err, ErrConflict) {
			return nil, err
		} else if err != nil {
			return &Unsaved{spills[winner].record, version}, err
		}
		rememberSpent(ctx, NewHistory(stateDir, s), stored, spills[:winner+1])
	}
	for i, sp := range spills { // oldest first, so that what proves the others safe goes last
		if i <= safe || sp.good {
			err = os.Remove(sp.path)
		} else {
			err = os.Rename(sp.path, strings.TrimSuffix(sp.path, ".json")+".kept")
		}
		if err != nil {
			return nil, disk.Error("clearing", sp.path, err)
		}
	}
	return nil, prune(stateDir, s)
}

// rememberSpent tells the history of the renewals that brought the last of these spills, whose workers may have ended before
// they could.
func rememberSpent(ctx context.Context, h *History, stored Record, spills []spill) {
	for _, sp := range spills {
		if sp.good && stored.Lineage().Same(sp.record.Lineage()) {
			h.Renewed(ctx, stored, sp.record, time.Now())
			stored = sp.record
		}
	}
}

// spill is one spill file.
type spill struct {
	path     string
	number   int
	kept     bool
	readable bool  // record and base are known
	barred   error // it is of a newer version of ours, or may not be read
	record   Record
	base     Version
	good     bool // descends from what is stored
}

// placeKey names a place in file names.
func placeKey(at Place) string {
	sum := sha256.Sum256([]byte(string(at.Kind) + "\x00" + at.Location))
	return hex.EncodeToString(sum[:8])
}

// spillsOf returns the spill files of a place, the kept ones too, in the order they were made.
func spillsOf(stateDir string, st Store) ([]spill, error) {
	dir := filepath.Join(stateDir, "spill")
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, disk.Error("reading", dir, err)
	}
	key := placeKey(st.Place())
	sealed, _ := st.(sealer)
	var spills []spill
	for _, e := range entries {
		name, ok := strings.CutPrefix(e.Name(), key+".")
		digits, ext, _ := strings.Cut(name, ".")
		number, err := strconv.Atoi(digits)
		if !ok || err != nil || ext != "json" && ext != "kept" {
			continue
		}
		sp := spill{path: filepath.Join(dir, e.Name()), number: number, kept: ext == "kept"}
		if !sp.kept {
			sp.read(sealed)
		}
		spills = append(spills, sp)
	}
	slices.SortFunc(spills, func(a, b spill) int { return cmp.Compare(a.number, b.number) })
	return spills, nil
}

func (sp *spill) read(sealed sealer) {
	form, err := readFile(sp.path)
	if err != nil {
		if errors.Is(err, protocol.ErrStorage) {
			sp.barred = err
		}
		return
	}
	if sealed != nil {
		if form, err = sealed.unseal(sp.path, form); err != nil {
			return
		}
	}
	if sp.record, err = readForm(sp.path, form); err != nil {
		if isNewer(err) {
			sp.barred = err
		}
		return
	}
	o, err := readObject(sp.path, form)
	if err != nil {
		return
	}
	var base string
	o.text("base", &base)
	b, err := hex.DecodeString(base)
	sp.readable = o.err == nil && err == nil && copy(sp.base[:], b) == len(sp.base)
}

// prune removes all but the newest kept files of a place, and temporary files that a crash left an hour ago or more. One dated
// an hour ahead is left as well: a clock was set back.
func prune(stateDir string, st Store) error {
	spills, err := spillsOf(stateDir, st)
	if err != nil {
		return err
	}
	kept := slices.DeleteFunc(spills, func(sp spill) bool { return !sp.kept })
	for _, sp := range kept[:max(0, len(kept)-keep)] {
		if err := os.Remove(sp.path); err != nil {
			return disk.Error("clearing", sp.path, err)
		}
	}
	temps, err := filepath.Glob(filepath.Join(stateDir, "spill", "*.tmp"))
	if err != nil {
		return nil // a state directory with a bracket in its name keeps them
	}
	for _, temp := range temps {
		if info, err := os.Lstat(temp); err == nil && time.Since(info.ModTime()).Abs() > time.Hour {
			os.Remove(temp)
		}
	}
	return disk.SyncFolder(filepath.Join(stateDir, "spill"))
}
