package store

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"path/filepath"
	"slices"
	"time"

	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store/splice"
)

// How much a history remembers.
const (
	maxSignIns = 3
	maxSpent   = 64 // refresh tokens of each sign-in that are known to be spent
)

// History is the last backup of one store: the newest record of each of the last three sign-ins, with the same protection as the
// record itself. It also has digests of the refresh tokens that are known to be spent. For a store of somebody else's making,
// whose protection nobody knows, it has the digests and no records. The methods of a History may be called concurrently and from
// several processes. A history that can't be written is no reason to fail a save: the record is stored.
type History struct {
	medium   medium
	name     string // begins its errors
	lockPath string
	bare     bool // it has no records
}

// Past is a sign-in in the history.
type Past struct {
	Record  Record    // its newest record; the zero Record if the history has no records
	Lineage Lineage   // of that record
	Saved   time.Time // when that record came into the history
	Spent   bool      // its refresh token is known to be spent: to send it again can end the whole sign-in
	Out     bool      // a person has signed out of it
	// Displaced says that another program has put a record in its place, and nobody knows whether that is its renewal or another
	// sign-in. Its refresh token may be spent.
	Displaced bool
}

// NewHistory returns the history of what st stores. stateDir is the state directory.
func NewHistory(stateDir string, st Store) *History {
	base := filepath.Join(stateDir, "history", placeKey(st.Place()))
	h := &History{medium: file(base + ".json"), name: "the history of " + st.Place().Location, lockPath: base + ".lock"}
	s, ours := st.(interface{ past(plain medium) medium })
	if h.bare = !ours; ours {
		h.medium = s.past(h.medium)
	}
	return h
}

// Each store of ours has a method past, which returns the medium of its history. That is plain, a file in the state directory, or
// a medium with the protection that the record has.

func (s *File) past(plain medium) medium { return plain }

func (s *ClaudeCode) past(plain medium) medium { return plain }

func (s *Keyring) past(medium) medium {
	// No profile has a plus in its name.
	m := *s.ring
	m.name += "+past"
	m.state = filepath.Join(filepath.Dir(m.state), m.name+".json")
	return &m
}

func (s *Encrypted) past(medium) medium {
	m := s.medium.(sealed)
	base := string(m.file)
	m.file = file(base[:len(base)-len(".age")] + "+past.age")
	return m
}

// Keep makes r, which is stored now, the newest record of its sign-in. adopted says that another program has stored it. That
// program may have renewed the record before. Or a person may have exchanged the file, to change to another sign-in. Nobody knows
// which, so the record before becomes a sign-in of its own. A record whose refresh token is known to be spent changes nothing.
func (h *History) Keep(ctx context.Context, r Record, adopted bool, now time.Time) error {
	return h.change(ctx, func(all []signIn) ([]signIn, error) {
		lineage := r.Lineage()
		if slices.ContainsFunc(all, func(s signIn) bool { return s.hasSpent(lineage.Refresh) }) {
			return all, nil
		}
		i := slices.IndexFunc(all, func(s signIn) bool { return lineage.Refresh != "" && s.lineage.Refresh == lineage.Refresh })
		if i < 0 {
			i = slices.IndexFunc(all, func(s signIn) bool { return s.lineage.Same(lineage) })
		}
		if i >= 0 && slices.Contains(all[i].replaced, lineage.Refresh) {
			all[i].replaced = slices.DeleteFunc(all[i].replaced, func(d string) bool { return d == lineage.Refresh })
			i = -1
		}
		var kept signIn
		kept, all = takeOut(all, i)
		if kept.lineage.Refresh != lineage.Refresh {
			kept.replaced = appendDigest(kept.replaced, kept.lineage.Refresh)
		}
		if adopted && len(all) > 0 && i != 0 {
			all[0].displaced = true
		}
		return front(kept, r, all, now), nil
	})
}

// Renewed makes r the newest record of the sign-in of old, whose refresh token the provider has answered with r. It is called for
// every renewal of ours, before or after r is saved. Calling it again changes nothing.
func (h *History) Renewed(ctx context.Context, old, r Record, now time.Time) error {
	return h.change(ctx, func(all []signIn) ([]signIn, error) {
		before, after := old.Lineage(), r.Lineage()
		if slices.ContainsFunc(all, func(s signIn) bool { return s.hasSpent(after.Refresh) }) {
			return all, nil // renewed once more meanwhile
		}
		var kept signIn
		gone := []string{before.Refresh}
		for i := 0; i < len(all); { // a sign-in that was forgotten and came back may be there twice
			if s := all[i]; !s.lineage.Same(before) && !s.lineage.Same(after) && !s.hasSpent(before.Refresh) {
				i++
				continue
			}
			var found signIn
			found, all = takeOut(all, i)
			gone = append(append(gone, found.spent...), found.lineage.Refresh)
			if kept.raw == nil {
				kept = found
			}
		}
		for _, digest := range gone {
			if digest != after.Refresh && !kept.hasSpent(digest) {
				kept.spent = appendDigest(kept.spent, digest)
			}
		}
		return front(kept, r, all, now), nil
	})
}

// takeOut removes an entry, and returns a new one for a negative i.
func takeOut(all []signIn, i int) (signIn, []signIn) {
	if i < 0 {
		return signIn{}, all
	}
	kept := all[i]
	return kept, slices.Delete(all, i, i+1)
}

// front puts an entry before all the others, with r as its record. If there are too many, the oldest displaced one goes, because
// it may be an earlier record of another entry; without one, the oldest.
func front(kept signIn, r Record, others []signIn, now time.Time) []signIn {
	kept.signedOut, kept.displaced = false, false
	if kept.saved.IsZero() || kept.lineage != r.Lineage() || !kept.record.IsStub() && kept.record.version() != r.version() {
		kept.record, kept.lineage, kept.saved = r, r.Lineage(), now
	}
	all := append([]signIn{kept}, others...)
	for len(all) > maxSignIns {
		i := len(all) - 1
		for j := i; j > 0; j-- {
			if all[j].displaced {
				i = j
				break
			}
		}
		all = slices.Delete(all, i, i+1)
	}
	return all
}

func appendDigest(digests []string, digest string) []string {
	if digest == "" {
		return digests
	}
	return append(digests, digest)
}

// SignOut marks the newest sign-in as one that a person has signed out of. Only a person brings it back.
func (h *History) SignOut(ctx context.Context) error {
	return h.change(ctx, func(all []signIn) ([]signIn, error) {
		if len(all) > 0 {
			all[0].signedOut = true
		}
		return all, nil
	})
}

// Replaces reports whether this refresh token is known to be spent, and returns the sign-in that it was of, as it is now.
func (h *History) Replaces(ctx context.Context, refresh protocol.Secret) (newest Past, spent bool) {
	digest := Digest(refresh)
	if digest == "" {
		return Past{}, false
	}
	all, err := h.read(ctx)
	if err != nil {
		return Past{}, false
	}
	for _, s := range all {
		if s.hasSpent(digest) && s.lineage.Refresh != digest {
			return s.past(), true
		}
	}
	return Past{}, false
}

// Refused remembers that the provider has refused r's refresh token for good, even if the history did not have r.
func (h *History) Refused(ctx context.Context, r Record, now time.Time) error {
	return h.change(ctx, func(all []signIn) ([]signIn, error) {
		digest := Digest(r.RefreshToken)
		if digest == "" || slices.ContainsFunc(all, func(s signIn) bool { return s.hasSpent(digest) }) {
			return all, nil
		}
		i := slices.IndexFunc(all, func(s signIn) bool { return s.lineage.Refresh == digest })
		if i < 0 {
			all, i = front(signIn{}, r, all, now), 0
		}
		all[i].spent = append(all[i].spent, digest)
		return all, nil
	})
}

// Take takes over the sign-ins of other, which is the newer of the two. From a history that can't be read it takes nothing.
func (h *History) Take(ctx context.Context, other *History) error {
	theirs, err := other.read(ctx)
	switch {
	case errors.Is(err, protocol.ErrNotFound), errors.Is(err, protocol.ErrInvalid) && !isNewer(err):
		return nil
	case err != nil:
		return err
	}
	return h.change(ctx, func(mine []signIn) ([]signIn, error) {
		all := theirs
		for _, s := range mine {
			if !slices.ContainsFunc(theirs, func(t signIn) bool { return s.lineage.Same(t.lineage) }) {
				all = append(all, s)
			}
		}
		return all[:min(len(all), maxSignIns)], nil
	})
}

// read returns the entries, ErrNotFound if there is no history.
func (h *History) read(ctx context.Context) ([]signIn, error) {
	src, err := h.medium.read(ctx)
	if err != nil && !errors.Is(err, protocol.ErrLoginRequired) {
		return nil, err
	}
	return parseHistory(h.name, src)
}

// List returns the sign-ins, the newest first. No history is no error.
func (h *History) List(ctx context.Context) ([]Past, error) {
	all, err := h.read(ctx)
	if errors.Is(err, protocol.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	past := make([]Past, len(all))
	for i, s := range all {
		past[i] = s.past()
	}
	return past, nil
}

// clear removes the history, as part of deleting the record.
func (h *History) clear(ctx context.Context) error {
	return whileLocked(ctx, h.lockPath, func() error {
		err := h.medium.remove(ctx)
		if err == nil || errors.Is(err, protocol.ErrNotFound) {
			return h.copy().clear()
		}
		return err
	})
}

// Restorable returns the record as it may be stored again at the time now: without its refresh token if that is spent. ErrExpired
// says that its access token has expired as well.
func (p Past) Restorable(now time.Time) (Record, error) {
	r := p.Record
	if !p.Spent {
		return r, nil
	}
	if r.AccessToken.Empty() || !r.Expiry.IsZero() && !r.Expiry.After(now.Round(0)) {
		return Record{}, &protocol.Error{
			Code:    protocol.CodeExpired,
			Message: "its access token has expired, and its refresh token is spent",
			Hint:    "sign in again",
		}
	}
	r.RefreshToken = protocol.Secret{}
	return r, nil
}

// signIn is one entry.
type signIn struct {
	raw             []byte // as it was read; nil: new
	record          Record // the zero Record if the history is bare
	lineage         Lineage
	saved           time.Time
	spent, replaced []string // digests of refresh tokens: known to be spent, and replaced by another program
	signedOut       bool
	displaced       bool // see Past
}

// hasSpent reports whether a refresh token of the entry is known to be spent. If another program has made the sign-in, the id of
// the sign-in was made of the refresh token that our first renewal has spent, see [SignInOf].
func (s signIn) hasSpent(digest string) bool {
	if digest == "" {
		return false
	}
	return slices.Contains(s.spent, digest) || digest != s.lineage.Refresh && signInOf(digest) == s.lineage.SignIn
}

func (s signIn) past() Past {
	return Past{Record: s.record, Lineage: s.lineage, Saved: s.saved, Spent: s.hasSpent(s.lineage.Refresh), Out: s.signedOut,
		Displaced: s.displaced}
}

// copy is the copy of a history that can't be read.
func (h *History) copy() *Copy {
	return newCopy(filepath.Dir(filepath.Dir(h.lockPath)), Place{Kind: "history", Location: h.name})
}

// change replaces the entries by what do makes of them. A history that can't be read is copied, and begun anew.
func (h *History) change(ctx context.Context, do func([]signIn) ([]signIn, error)) error {
	return whileLocked(ctx, h.lockPath, func() error {
		src, err := h.medium.read(ctx)
		var all []signIn
		if err == nil || errors.Is(err, protocol.ErrLoginRequired) {
			all, err = parseHistory(h.name, src)
		}
		switch {
		case isNewer(err):
			return err
		case errors.Is(err, protocol.ErrInvalid):
			if err := h.copy().keep(src); err != nil { // a person may still read something in it
				return err
			}
			src, all = []byte("{}"), nil
		case errors.Is(err, protocol.ErrNotFound), errors.Is(err, ErrMissing):
			src, all = []byte("{}"), nil
		case err != nil:
			return err
		}
		if all, err = do(all); err != nil {
			return err
		}
		data, err := formatHistory(src, all, h.bare)
		if err != nil || string(data) == string(src) {
			return err
		}
		return h.medium.write(ctx, data, nil)
	})
}

func parseHistory(name string, src []byte) ([]signIn, error) {
	o, err := readObject(name, src)
	if err != nil {
		return nil, err
	}
	switch v, ok, err := o.millis("version"); {
	case err != nil:
		return nil, err
	case !ok:
		return nil, invalid(name, `has no "version"`)
	case v != 1:
		return nil, newer(name, string(splice.Encode(v)))
	}
	var raws []json.RawMessage
	if o.has("sign_ins") && json.Unmarshal(o.values["sign_ins"], &raws) != nil {
		return nil, invalid(name, `has a "sign_ins" that is not a list`)
	}
	all := make([]signIn, 0, min(len(raws), maxSignIns))
	for _, raw := range raws {
		e, err := readObject(name, raw)
		if err != nil {
			return nil, err
		}
		s := signIn{raw: raw}
		e.moment("saved_at", &s.saved)
		e.texts("spent", &s.spent)
		e.texts("replaced", &s.replaced)
		s.signedOut = string(e.values["signed_out"]) == "true"
		s.displaced = string(e.values["displaced"]) == "true"
		var lineage string
		e.text("lineage", &lineage)
		if e.err != nil {
			return nil, e.err
		}
		if s.lineage = ParseLineage(lineage); lineage == "" {
			if s.record, err = readForm(name, e.values["record"]); err != nil {
				return nil, err
			}
			s.lineage = s.record.Lineage()
		}
		all = append(all, s)
	}
	return all, nil
}

// formatHistory writes the entries over src, and leaves every key that is not ours as it is. A bare history has no records.
func formatHistory(src []byte, all []signIn, bare bool) ([]byte, error) {
	list := []byte{'['}
	for i, s := range all {
		raw := s.raw
		if raw == nil {
			raw = []byte("{}")
		}
		newest := member{"lineage", splice.Encode(s.lineage.String())}
		if !bare {
			form := []byte("{}")
			if o, err := readObject("", raw); err == nil && o.has("record") {
				form = o.values["record"]
			}
			form, err := s.record.mergeInto(form)
			if err != nil {
				return nil, err
			}
			newest = member{"record", form}
		}
		if i > 0 {
			list = append(list, ',')
		}
		last := func(digests []string) []byte {
			return splice.Encode(slices.Concat([]string{}, digests[max(0, len(digests)-maxSpent):]))
		}
		raw, err := setMembers(raw, []member{
			{"saved_at", encodeMillis(s.saved)},
			{"spent", last(s.spent)},
			{"replaced", last(s.replaced)},
			{"signed_out", splice.Encode(s.signedOut)},
			{"displaced", splice.Encode(s.displaced)},
			newest,
		})
		if err != nil {
			return nil, err
		}
		list = append(list, raw...)
	}
	return setMembers(src, []member{{"version", splice.Encode(1)}, {"sign_ins", append(list, ']')}})
}

// Version is the version of the record as it is stored.
func (p Past) Version() Version { return p.Record.version() }

// ID names the record in lists: 8 hexadecimal digits that tell nothing of it.
func (p Past) ID() string {
	v := p.Record.version()
	return hex.EncodeToString(v[:4])
}
