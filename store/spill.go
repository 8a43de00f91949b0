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

// A spill file holds a record that could not be saved, in case nobody is left to hold it in memory: `<state
// dir>/spill/<place>.<number>.json`. <place> is a digest of the store's [Place]. The numbers grow, and tell the order: times
// would not, because clocks may be set. A record that is set aside, because another program's has taken its place, ends in
// `.kept`, see [SetAside].

// maxSetAside is how many records of a place are set aside. The oldest go first.
const maxSetAside = 3

// Unsaved is a record of a spill file that could not be saved yet, and the version that it is to replace.
type Unsaved struct {
	Record Record
	Base   Version
}

// sealer is a store whose spill files are encrypted.
type sealer interface {
	seal(form []byte) ([]byte, error)
	unseal(name string, data []byte) ([]byte, error)
}

// Spill writes r, which was to replace base in st, to a spill file for the next [Recover]. The file is encrypted if st is. Once
// it has returned nil, the file survives a power cut. If there is a file with the same record and base already, it writes no
// second one. It takes no lock.
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
	// The file is written whole under another name, and linked. Unlike a rename, that never replaces the file of another worker.
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
			if !sp.aside && sp.readable && sp.base == base && sameTokens(sp.record, r) {
				return nil // an earlier attempt at the same save has written it
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

// spillForm is the content of a spill file, encrypted if seal is not nil.
func spillForm(base Version, r Record, seal sealer) ([]byte, error) {
	form, err := r.mergeInto(slices.Concat([]byte(`{"base":"`), hex.AppendEncode(nil, base[:]), []byte(`"}`)))
	if err == nil && seal != nil {
		form, err = seal.seal(form)
	}
	return form, err
}

// Recover saves the records of the spill files of s. The caller holds the lock of s, and loads the record afterwards.
//
// A record is saved if the store still holds what it replaces, or a stub. Of several records, each of which replaces the one
// before, the last is saved. Records that are stored already are dropped. If somebody else has written or removed the record
// meanwhile, theirs stays, and ours is set aside. A spill file is removed only when its record, or one that has replaced it, is
// stored. So if Recover is interrupted, the next one finishes.
//
// If the record can't be saved, it is returned with the error. What is stored is no longer good then: the caller serves the
// returned record, and saves it later.
func Recover(ctx context.Context, stateDir string, s Store) (*Unsaved, error) {
	for tries := 1; ; tries++ {
		unsaved, err := bringHome(ctx, stateDir, s)
		if !errors.Is(err, ErrConflict) || tries == 3 { // a program that takes no lock has written: look again
			return unsaved, err
		}
	}
}

func bringHome(ctx context.Context, stateDir string, s Store) (*Unsaved, error) {
	if path := fileOf(s); path != "" {
		disk.Finish(path) // if that fails, it is read as if it were finished, and the next write finishes it
	}
	all, err := spillsOf(stateDir, s)
	if err != nil {
		return nil, err
	}
	// A spill file that may not be read is not passed over: what it holds is newer than what is stored, whose refresh token is
	// spent.
	for _, sp := range all {
		if sp.barred != nil {
			return nil, sp.barred
		}
	}
	spills := slices.DeleteFunc(all, func(sp spill) bool { return sp.aside || !sp.readable })
	if len(spills) == 0 {
		return nil, nil
	}
	stored, version, err := s.Load(ctx)
	stub := errors.Is(err, protocol.ErrLoginRequired)
	if err != nil && !stub && !errors.Is(err, protocol.ErrNotFound) {
		return nil, err
	}

	// We go forward from what is stored: a record is good if it replaces that, or another good one. The agent always holds the
	// newest record, so if two replace the same one, the later one is newer.
	good := map[Version]bool{version: true}
	safe, winner := -1, -1 // up to safe, records are stored or were replaced by one that is; winner is to be saved
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
	for i, sp := range spills { // the oldest first: the file that shows that the others are not needed goes last
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

// rememberSpent tells the history of the renewals that led to the last of these spill files. Their workers may have ended before
// they could do so.
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
	aside    bool  // its record was set aside
	readable bool  // record and base are known
	barred   error // why it can't be read now, if it may hold a good record: it is of a newer version of ours, or access is denied
	record   Record
	base     Version
	good     bool // its record replaces what is stored, perhaps by way of others
}

// placeKey is the name of a place in file names: 16 hexadecimal digits.
func placeKey(at Place) string {
	sum := sha256.Sum256([]byte(string(at.Kind) + "\x00" + at.Location))
	return hex.EncodeToString(sum[:8])
}

// spillsOf returns the spill files of a place, with those that were set aside, in the order in which they were made.
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
		sp := spill{path: filepath.Join(dir, e.Name()), number: number, aside: ext == "kept"}
		if !sp.aside {
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

// prune removes the oldest records that were set aside of a place, if there are more than maxSetAside. It also removes temporary
// files that a crash has left an hour ago or longer. A file whose time is an hour ahead is one of those, and a clock was set
// back.
func prune(stateDir string, st Store) error {
	spills, err := spillsOf(stateDir, st)
	if err != nil {
		return err
	}
	aside := slices.DeleteFunc(spills, func(sp spill) bool { return !sp.aside })
	for _, sp := range aside[:max(0, len(aside)-maxSetAside)] {
		if err := os.Remove(sp.path); err != nil {
			return disk.Error("clearing", sp.path, err)
		}
	}
	temps, err := filepath.Glob(filepath.Join(stateDir, "spill", "*.tmp"))
	if err != nil {
		return nil // the name of the state directory has a bracket in it: they stay
	}
	for _, temp := range temps {
		if info, err := os.Lstat(temp); err == nil && time.Since(info.ModTime()).Abs() > time.Hour {
			os.Remove(temp)
		}
	}
	return disk.SyncFolder(filepath.Join(stateDir, "spill"))
}
