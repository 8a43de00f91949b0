package store

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/ccagent/ccagent/disk"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store/splice"
)

// A system's keyring holds small values, forgets what it was writing when its service dies, and may carry out a write long after
// the writer has given up on it. So a form is stored there in pieces. Every write of a form is a generation of its own, and has
// the next number. The generations take turns among a few slots. So a write never touches the newest whole generation, a write
// that was interrupted is never read as a form, and a write that comes late finds its slot out of use.
//
// The keyring can't tell whether its newest generation is the newest there ever was. The file of generations, in the state
// directory, can.

// system is the keyring that a ring keeps its items in. Its methods are those of [keyring.System].
type system interface {
	Ready(ctx context.Context) error
	Get(ctx context.Context, service, account string) (string, error)
	Set(ctx context.Context, service, account, value string) error
	Delete(ctx context.Context, service, account string) error
}

// slots is how many slots there are. A write that comes later than so many others may destroy the newest generation, which the
// file of generations then shows.
const slots = 4

// pieceSize is how many bytes of a form go into one item. On macOS go-keyring puts a value, in base64, and its names into one
// command line of 4096 bytes.
const pieceSize = 2200

// maxPieces is how many pieces a form has at most. It bounds what an item that is not ours can make us read.
const maxPieces = MaxFile / pieceSize

// ring is the medium that is a system's keyring.
type ring struct {
	sys     system
	service string
	name    string // begins every account
	state   string // path of the file of generations
}

// account names the item of one piece.
func (m *ring) account(slot, index int) string {
	return m.name + "/" + strconv.Itoa(slot) + "/" + strconv.Itoa(index)
}

// piece is one item: a line that describes it, then a part of the form.
type piece struct {
	generation uint64
	id         string // of the write: two writers may use one number if both have lost the file of generations
	index      int
	count      int
	digest     string // of the whole form, hex
	data       string
}

// pieceHead begins every item. The digit is the version of the format.
const pieceHead = "ccagent-piece 1 "

func (p piece) String() string {
	return fmt.Sprintf("%s%d %s %d/%d %s\n%s", pieceHead, p.generation, p.id, p.index, p.count, p.digest, p.data)
}

// parsePiece reads what [piece.String] wrote. name begins the error (ErrInvalid), which says the version if that is newer than
// ours.
func parsePiece(name, s string) (piece, error) {
	head, data, _ := strings.Cut(s, "\n")
	fields := strings.Split(head, " ")
	if len(fields) > 1 && fields[0] == "ccagent-piece" && fields[1] != "1" {
		if _, err := strconv.ParseUint(fields[1], 10, 32); err == nil {
			return piece{}, newer(name, fields[1])
		}
	}
	p := piece{data: data}
	if len(fields) == 6 {
		index, count, _ := strings.Cut(fields[4], "/")
		p.generation, _ = strconv.ParseUint(fields[2], 10, 64)
		p.id, p.digest = fields[3], fields[5]
		p.index, _ = strconv.Atoi(index)
		p.count, _ = strconv.Atoi(count)
	}
	whole := p.count > 0 && p.count <= maxPieces && p.index >= 0 && p.index < p.count && p.generation > 0 && p.id != ""
	if !whole || p.String() != s { // there is one way to write a piece
		return piece{}, invalid(name, "was not written by ccagent")
	}
	return p, nil
}

// fits reports whether p and q are of one write.
func (p piece) fits(q piece) bool {
	return p.generation == q.generation && p.id == q.id && p.count == q.count && p.digest == q.digest
}

// cut makes the pieces of one generation. It cuts between characters, because some services store text and not bytes.
func cut(form []byte, generation uint64) []piece {
	sum := sha256.Sum256(form)
	digest := hex.EncodeToString(sum[:])
	id := rand.Text()[:8]
	var pieces []piece
	for rest := form; len(pieces) == 0 || len(rest) > 0; {
		n := min(pieceSize, len(rest))
		for n < len(rest) && n > pieceSize-utf8.UTFMax && !utf8.RuneStart(rest[n]) {
			n--
		}
		pieces = append(pieces, piece{generation: generation, id: id, index: len(pieces), digest: digest, data: string(rest[:n])})
		rest = rest[n:]
	}
	for i := range pieces {
		pieces[i].count = len(pieces)
	}
	return pieces
}

// found is what the slots hold.
type found struct {
	newest piece  // the first piece of the newest whole generation; zero: there is none
	slot   int    // where that is
	form   []byte // that generation
	strays []int  // slots that hold anything else
	last   uint64 // the highest number of a generation, whole or not
}

// look reads the slots. A piece of a newer version of ours is an error (ErrInvalid). So is a piece that is not ours or belongs to
// no whole generation, if there is no generation that is whole.
func (m *ring) look(ctx context.Context) (found, error) {
	if err := m.sys.Ready(ctx); err != nil {
		return found{}, err
	}
	type candidate struct {
		first piece
		slot  int
	}
	var candidates []candidate
	var f found
	var damaged error
	for slot := range slots {
		name := m.account(slot, 0)
		value, err := m.sys.Get(ctx, m.service, name)
		if errors.Is(err, protocol.ErrNotFound) {
			continue
		}
		if err != nil {
			return found{}, err
		}
		p, err := parsePiece("the keyring's item "+m.service+" "+name, value)
		if err != nil {
			if isNewer(err) {
				return found{}, err
			}
			damaged = err
			f.strays = append(f.strays, slot)
			continue
		}
		f.last = max(f.last, p.generation)
		candidates = append(candidates, candidate{p, slot})
	}
	slices.SortFunc(candidates, func(a, b candidate) int { return cmp.Compare(b.first.generation, a.first.generation) })
	for _, c := range candidates {
		if f.newest.generation > 0 {
			f.strays = append(f.strays, c.slot)
			continue
		}
		form, whole, err := m.assemble(ctx, c.first, c.slot)
		if err != nil {
			return found{}, err
		}
		if !whole {
			damaged = invalid("the keyring's item "+m.service+" "+m.account(c.slot, 0), "is a part of a record whose rest is missing")
			f.strays = append(f.strays, c.slot)
			continue
		}
		f.newest, f.slot, f.form = c.first, c.slot, form
	}
	if f.newest.generation == 0 && damaged != nil {
		return f, damaged
	}
	return f, nil
}

// assemble reads the other pieces of a generation. whole is false if they make no form.
func (m *ring) assemble(ctx context.Context, first piece, slot int) (form []byte, whole bool, err error) {
	if first.index != 0 {
		return nil, false, nil
	}
	var b bytes.Buffer
	b.WriteString(first.data)
	for i := 1; i < first.count; i++ {
		value, err := m.sys.Get(ctx, m.service, m.account(slot, i))
		if errors.Is(err, protocol.ErrNotFound) {
			return nil, false, nil
		}
		if err != nil {
			return nil, false, err
		}
		p, err := parsePiece("", value)
		if err != nil || !p.fits(first) || p.index != i {
			return nil, false, nil
		}
		b.WriteString(p.data)
	}
	sum := sha256.Sum256(b.Bytes())
	return b.Bytes(), hex.EncodeToString(sum[:]) == first.digest, nil
}

func (m *ring) read(ctx context.Context) ([]byte, error) {
	for {
		w, err := readGenerations(m.state)
		if err != nil {
			return nil, err
		}
		form, err := m.readWith(ctx, w)
		if err == nil || ctx.Err() != nil {
			return form, err
		}
		// A save between the reading of two slots may have moved the newest generation from one to the other: then once more.
		if now, changed := readGenerations(m.state); changed != nil || now.Saved == w.Saved {
			return form, err
		}
	}
}

func (m *ring) readWith(ctx context.Context, w generations) ([]byte, error) {
	f, err := m.look(ctx)
	if err != nil && !(w.Deleted && errors.Is(err, protocol.ErrInvalid) && !isNewer(err)) {
		return nil, err
	}
	switch {
	case w.Deleted && f.newest.generation <= w.Saved: // what is there is of a write that came late
		return nil, m.nothing()
	case f.newest.generation == 0 && w.Saved > 0:
		return nil, missingError{&protocol.Error{
			Code:    protocol.CodeStorage,
			Message: "the keyring that answers does not hold the saved item " + m.service + " " + m.name,
			Hint:    "if another keyring holds it, start or open that one; if it was removed there, sign in again",
		}}
	case f.newest.generation == 0:
		return nil, m.nothing()
	case f.newest.generation < w.Saved:
		return f.form, &protocol.Error{
			Code: protocol.CodeLoginRequired,
			Message: fmt.Sprintf("the keyring has gone back to an older record of %s (its generation %d; %d was saved)", m.name,
				f.newest.generation, w.Saved),
			Hint: "the older record's sign-in may be spent: sign in again",
		}
	}
	return f.form, nil
}

func (m *ring) nothing() error {
	return &protocol.Error{
		Code:    protocol.CodeNotFound,
		Message: "nothing is stored: the keyring has no item " + m.service + " " + m.name,
	}
}

// ready makes an item as large as those of a form, and deletes it.
func (m *ring) ready(ctx context.Context, src []byte) (*disk.Draft, error) {
	w, err := readGenerations(m.state)
	if err == nil {
		err = w.write(m.state) // unchanged, to see whether it can be written
	}
	if err != nil {
		return nil, err
	}
	return nil, m.try(ctx, m.name+"/try")
}

// try makes an item, and deletes it.
func (m *ring) try(ctx context.Context, account string) error {
	if err := m.sys.Ready(ctx); err != nil {
		return err
	}
	value := strings.Repeat("to see whether the keyring works ", pieceSize/33) // as long as a piece
	err := m.put(ctx, account, value)
	if err == nil {
		err = m.sys.Ready(ctx) // only with an item can it tell whether a person is asked about each
	}
	if deleted := m.sys.Delete(ctx, m.service, account); err == nil {
		err = deleted
	}
	return err
}

func (m *ring) write(ctx context.Context, form []byte, _ *disk.Draft) error {
	if len(form) > MaxFile {
		return invalid("the record", "is larger than 4 MiB")
	}
	w, err := readGenerations(m.state)
	if err != nil {
		return err
	}
	f, err := m.look(ctx)
	if err != nil && (!errors.Is(err, protocol.ErrInvalid) || isNewer(err)) {
		return err
	}
	next := max(w.Tried, w.Saved, f.last) + 1
	for f.newest.generation > 0 && int(next%slots) == f.slot {
		next++
	}
	pieces := cut(form, next)
	slot := int(next % slots)
	interrupted := w.Tried > w.Saved
	// The number is written down first, so that it is not used twice: a write that we give up on may still be carried out.
	w.Tried, w.Pieces = next, max(w.Pieces, len(pieces))
	if err := w.write(m.state); err != nil {
		return err
	}
	// The first piece is what makes a generation count: it goes last.
	for i := len(pieces) - 1; i >= 0; i-- {
		if err := m.put(ctx, m.account(slot, i), pieces[i].String()); err != nil {
			return err
		}
	}
	w.Saved, w.Deleted = next, false
	if err := w.write(m.state); err != nil {
		return err
	}
	// The generation before holds a refresh token that is spent by now. What can't be removed now is removed the next time.
	if f.newest.generation > 0 {
		m.clear(ctx, w, f.slot, 0)
	}
	for other := range slots {
		// An interrupted write may have left pieces without a first one, which look does not find.
		if other != slot && (interrupted || slices.Contains(f.strays, other)) {
			m.clear(ctx, w, other, 0)
		}
	}
	m.clear(ctx, w, slot, len(pieces))
	return nil
}

// put writes one item and reads it back: some services report success and store nothing, or a part.
func (m *ring) put(ctx context.Context, account, value string) error {
	if err := m.sys.Set(ctx, m.service, account, value); err != nil {
		return err
	}
	back, err := m.sys.Get(ctx, m.service, account)
	if err != nil && !errors.Is(err, protocol.ErrNotFound) {
		return err
	}
	if err != nil || back != value {
		return &protocol.Error{
			Code:    protocol.CodeStorage,
			Message: "the keyring does not hold what was just written to it",
			Hint:    "its service is at fault: set store = \"file\" for the profile in config.toml",
		}
	}
	return nil
}

// clear removes the pieces of a slot, beginning with number from. It tries as many as any write of ours has had, because an
// interrupted one leaves gaps, and goes on from there while it finds some.
func (m *ring) clear(ctx context.Context, w generations, slot, from int) error {
	for i := from; i < maxPieces; i++ {
		err := m.sys.Delete(ctx, m.service, m.account(slot, i))
		missing := errors.Is(err, protocol.ErrNotFound)
		if missing && i+1 >= w.Pieces {
			return nil
		}
		if err != nil && !missing {
			return err
		}
	}
	return nil
}

// remove writes the deletion down first. From then on nothing that is left, or written late, counts as a form.
func (m *ring) remove(ctx context.Context) error {
	w, err := readGenerations(m.state)
	if err != nil {
		return err
	}
	f, err := m.look(ctx)
	if err != nil && (!errors.Is(err, protocol.ErrInvalid) || isNewer(err)) {
		return err
	}
	w.Saved = max(w.Tried, w.Saved, f.last) + 1
	w.Tried, w.Deleted = w.Saved, true
	if err := w.write(m.state); err != nil {
		return err
	}
	for slot := range slots {
		if err := m.clear(ctx, w, slot, 0); err != nil {
			return err
		}
	}
	return nil
}

// mend removes what a late write has left. The caller holds the lock of the form. What can't be removed is removed the next time.
func (m *ring) mend(ctx context.Context) {
	w, err := readGenerations(m.state)
	if err != nil {
		return
	}
	f, err := m.look(ctx)
	if err != nil && !(w.Deleted && errors.Is(err, protocol.ErrInvalid) && !isNewer(err)) {
		return
	}
	if w.Deleted && f.newest.generation > 0 && f.newest.generation <= w.Saved {
		f.strays = append(f.strays, f.slot)
	} else if f.newest.generation < w.Saved && !w.Deleted {
		return // the older generation is all that is left
	}
	for _, stray := range f.strays {
		m.clear(ctx, w, stray, 0)
	}
}

// generations is the file of generations: it says outside the keyring which generation is the newest.
type generations struct {
	Version int    `json:"version"`
	Tried   uint64 `json:"tried"`             // the last number given to a write
	Saved   uint64 `json:"saved"`             // the number of the last write that was read back, or of the deletion
	Deleted bool   `json:"deleted,omitempty"` // the form was deleted at Saved
	Pieces  int    `json:"pieces"`            // the most that a write was cut into
}

// readGenerations returns a file without any generation when there is none.
func readGenerations(path string) (generations, error) {
	src, err := readFile(path)
	if errors.Is(err, protocol.ErrNotFound) {
		return generations{Version: 1}, nil
	}
	if err != nil {
		return generations{}, err
	}
	return parseGenerations(path, src)
}

func parseGenerations(name string, src []byte) (generations, error) {
	var w generations
	switch err := json.Unmarshal(src, &w); {
	case err == nil && w.Version > 1:
		return generations{}, newer(name, strconv.Itoa(w.Version))
	case err != nil || w.Version != 1:
		return generations{}, &protocol.Error{
			Code:    protocol.CodeInvalid,
			Message: name + " does not say which record in the keyring is the newest",
			Hint:    "if nobody has restored an older keyring meanwhile, remove that file",
		}
	}
	return w, nil
}

func (w generations) write(path string) error {
	if err := disk.MakeFolder(filepath.Dir(path)); err != nil {
		return err
	}
	w.Version = 1
	return writeFile(path, append(splice.Encode(w), '\n'), disk.Always)
}
