package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"path/filepath"
	"slices"
	"time"

	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store/splice"
)

// How much a history remembers: sign-ins, and of each the refresh tokens known to be spent.
const (
	maxSignIns = 3
	maxSpent   = 64
)

// History is the backup of last resort of one store: the newest record of each of the last three sign-ins, under the same
// protection as the record itself. Its methods may be called concurrently and from several processes. A history that can't
// be kept is no reason to fail a save: the record is stored.
type History struct {
	medium   medium
	name     string
	lockPath string
}

// Past is a record in the history.
type Past struct {
	Record Record
	Saved  time.Time // when it was first kept
	Spent  bool      // its refresh token is known to be used up: sending it again can revoke the whole sign-in
	Out    bool      // a person has signed out of it
}

// NewHistory returns the history of what st stores. stateDir is the state directory.
func NewHistory(stateDir string, st Store) *History {
	base := filepath.Join(stateDir, "history", spillKey(st.Place()))
	h := &History{medium: file(base + ".json"), name: "the history of " + st.Place().Location, lockPath: base + ".lock"}
	if s, ok := st.(interface{ past() medium }); ok {
		h.medium = s.past()
	}
	return h
}

func (s *Keyring) past() medium {
	// No profile has a plus in its name.
	m := *s.ring
	m.name += "+past"
	m.witness = filepath.Join(filepath.Dir(m.witness), m.name+".json")
	return &m
}

func (s *Encrypted) past() medium {
	m := s.medium.(sealed)
	base := string(m.file)
	m.file = file(base[:len(base)-len(".age")] + "+past.age")
	return m
}

// Keep remembers r, which is stored now, as the newest record of its sign-in. ours says that we have put it in the place of the one
// before, by a renewal that has spent the refresh token of that. Where another program has, nobody knows: it may have renewed, or be
// somebody who changes between two sign-ins by exchanging files. So what comes back is one of its own again, and not older than what
// is kept. One whose refresh token is known to be spent is, and changes nothing.
func (h *History) Keep(ctx context.Context, r Record, ours bool, now time.Time) error {
	return h.change(ctx, func(all []signIn) ([]signIn, error) {
		digest := spentDigest(r.RefreshToken)
		if slices.ContainsFunc(all, func(s signIn) bool { return slices.Contains(s.spent, digest) }) {
			return all, nil
		}
		i := slices.IndexFunc(all, func(s signIn) bool { return digest != "" && spentDigest(s.record.RefreshToken) == digest })
		if i < 0 {
			i = slices.IndexFunc(all, func(s signIn) bool { return s.record.Precedes(r) })
		}
		if i >= 0 && slices.Contains(all[i].replaced, digest) {
			all[i].replaced = slices.DeleteFunc(all[i].replaced, func(d string) bool { return d == digest })
			i = -1
		}
		var kept signIn
		if i >= 0 {
			kept = all[i]
			all = slices.Delete(all, i, i+1)
		}
		kept.signedOut = false
		if kept.raw != nil && kept.record.version() == r.version() {
			return append([]signIn{kept}, all...), nil
		}
		switch old := spentDigest(kept.record.RefreshToken); {
		case old == "" || old == digest:
		case ours:
			kept.spent = append(kept.spent, old)
		default:
			kept.replaced = append(kept.replaced, old)
		}
		kept.record, kept.saved = r, now
		all = append([]signIn{kept}, all...)
		return all[:min(len(all), maxSignIns)], nil
	})
}

// Precedes reports whether r may be an earlier record of later's sign-in.
func (r Record) Precedes(later Record) bool {
	return r.SignIn == later.SignIn || r.SignIn == "" && SignInOf(r.RefreshToken) == later.SignIn
}

// SignInOf is the id that a sign-in gets which another program has made, when we first renew it, from the refresh token that is
// spent by that: so it can be told which record without an id it was. It is empty without a token.
func SignInOf(refresh protocol.Secret) string {
	digest := spentDigest(refresh)
	return digest[:min(len(digest), 16)]
}

// SignOut remembers that a person has signed out of the newest sign-in: it can be brought back, but only by one.
func (h *History) SignOut(ctx context.Context) error {
	return h.change(ctx, func(all []signIn) ([]signIn, error) {
		if len(all) > 0 {
			all[0].signedOut = true
		}
		return all, nil
	})
}

// Replaces returns what took the place of the record with this refresh token, if that is known to be spent by it.
func (h *History) Replaces(ctx context.Context, refresh protocol.Secret) (newest Past, spent bool) {
	digest := spentDigest(refresh)
	src, err := h.medium.read(ctx)
	if digest == "" || err != nil && !errors.Is(err, protocol.ErrLoginRequired) {
		return Past{}, false
	}
	all, _ := parseHistory(h.name, src)
	for _, s := range all {
		if slices.Contains(s.spent, digest) && spentDigest(s.record.RefreshToken) != digest {
			return s.past(), true
		}
	}
	return Past{}, false
}

// CopyTo takes what is kept along to another store's history.
func (h *History) CopyTo(ctx context.Context, to *History) error {
	src, err := h.medium.read(ctx)
	if errors.Is(err, protocol.ErrNotFound) {
		return nil
	}
	if err != nil && !errors.Is(err, protocol.ErrLoginRequired) {
		return err
	}
	mine, err := parseHistory(h.name, src)
	if err != nil {
		return err
	}
	return to.change(ctx, func(there []signIn) ([]signIn, error) {
		all := slices.Clone(mine)
		for _, s := range there {
			if !slices.ContainsFunc(mine, func(m signIn) bool { return s.record.Precedes(m.record) || m.record.Precedes(s.record) }) {
				all = append(all, s)
			}
		}
		return all[:min(len(all), maxSignIns)], nil
	})
}

// Spend remembers that a refresh token is used up: the provider has refused it, or has answered it with another.
func (h *History) Spend(ctx context.Context, refresh protocol.Secret) error {
	return h.change(ctx, func(all []signIn) ([]signIn, error) {
		digest := spentDigest(refresh)
		for i, s := range all {
			if digest != "" && spentDigest(s.record.RefreshToken) == digest && !slices.Contains(s.spent, digest) {
				all[i].spent = append(s.spent, digest)
			}
		}
		return all, nil
	})
}

// List returns what is kept, the newest sign-in first.
func (h *History) List(ctx context.Context) ([]Past, error) {
	src, err := h.medium.read(ctx)
	if errors.Is(err, protocol.ErrNotFound) {
		return nil, nil
	}
	if err != nil && !errors.Is(err, protocol.ErrLoginRequired) {
		return nil, err
	}
	all, err := parseHistory(h.name, src)
	if err != nil {
		return nil, err
	}
	past := make([]Past, len(all))
	for i, s := range all {
		past[i] = s.past()
	}
	return past, nil
}

// Clear forgets everything. It is part of deleting a record.
func (h *History) Clear(ctx context.Context) error {
	return h.locked(ctx, func() error {
		err := h.medium.remove(ctx)
		if errors.Is(err, protocol.ErrNotFound) {
			return nil
		}
		return err
	})
}

// Restorable returns the record as it may be stored again at now: one whose refresh token is spent has none any more.
// ErrExpired says that nothing is left of it then.
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
	record          Record
	saved           time.Time
	spent, replaced []string // digests of refresh tokens: known to be used up, and of which another program's took the place
	signedOut       bool
}

func (s signIn) past() Past {
	return Past{Record: s.record, Saved: s.saved, Spent: slices.Contains(s.spent, spentDigest(s.record.RefreshToken)), Out: s.signedOut}
}

// spentDigest names a refresh token without holding it, "" for none.
func spentDigest(refresh protocol.Secret) string {
	if refresh.Empty() {
		return ""
	}
	sum := sha256.Sum256([]byte(refresh.Reveal()))
	return hex.EncodeToString(sum[:16])
}

func (h *History) locked(ctx context.Context, do func() error) error {
	if err := makeFolder(filepath.Dir(h.lockPath)); err != nil {
		return err
	}
	l, err := lockFile(ctx, h.lockPath)
	if err != nil {
		return err
	}
	defer l.release()
	return do()
}

// change replaces what is kept by what do makes of it. A history that is corrupt is begun anew: there is nothing in it to lose.
func (h *History) change(ctx context.Context, do func([]signIn) ([]signIn, error)) error {
	return h.locked(ctx, func() error {
		src, err := h.medium.read(ctx)
		var all []signIn
		if err == nil || errors.Is(err, protocol.ErrLoginRequired) {
			all, err = parseHistory(h.name, src)
		}
		switch {
		case isNewer(err):
			return err
		case errors.Is(err, protocol.ErrNotFound), errors.Is(err, protocol.ErrInvalid), errors.Is(err, ErrMissing):
			src, all = []byte("{}"), nil
		case err != nil:
			return err
		}
		if all, err = do(all); err != nil {
			return err
		}
		data, err := formatHistory(src, all)
		if err != nil || string(data) == string(src) {
			return err
		}
		return h.medium.write(ctx, data)
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
		if e.err != nil {
			return nil, e.err
		}
		if s.record, err = readForm(name, e.values["record"]); err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
}

// formatHistory writes what is kept over src, and leaves every key that is not ours as it is.
func formatHistory(src []byte, all []signIn) ([]byte, error) {
	list := []byte{'['}
	for i, s := range all {
		raw := s.raw
		if raw == nil {
			raw = []byte("{}")
		}
		form := []byte("{}")
		if o, err := readObject("", raw); err == nil && o.has("record") {
			form = o.values["record"]
		}
		form, err := s.record.mergeInto(form)
		if err != nil {
			return nil, err
		}
		if i > 0 {
			list = append(list, ',')
		}
		last := func(digests []string) []byte {
			return splice.Encode(slices.Concat([]string{}, digests[max(0, len(digests)-maxSpent):]))
		}
		raw, err = setMembers(raw, []member{
			{"saved_at", encodeMillis(s.saved)},
			{"spent", last(s.spent)},
			{"replaced", last(s.replaced)},
			{"signed_out", splice.Encode(s.signedOut)},
			{"record", form},
		})
		if err != nil {
			return nil, err
		}
		list = append(list, raw...)
	}
	return setMembers(src, []member{{"version", splice.Encode(1)}, {"sign_ins", append(list, ']')}})
}

// Version is that of the record where it is stored.
func (p Past) Version() Version { return p.Record.version() }

// ID names the record in lists. It tells nothing of it.
func (p Past) ID() string {
	v := p.Record.version()
	return hex.EncodeToString(v[:4])
}
