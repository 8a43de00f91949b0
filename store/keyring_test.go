package store

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store/splice"
)

// fakeKeyring is a system's keyring in memory, with the faults that real ones have.
type fakeKeyring struct {
	mu     sync.Mutex
	items  map[string]string
	fault  error                          // of every call
	hangs  bool                           // every call waits for its context
	lies   func(value string) (kept bool) // whether it stores a value: it reports success all the same
	bends  func(value string) string      // what it makes of a value it keeps
	budget int                            // writes until it dies; 0: it does not
	before func(account string)           // called before each read
}

var errDied = &protocol.Error{Code: protocol.CodeStorage, Message: "the service died"}

func (s *fakeKeyring) enter(ctx context.Context) error {
	s.mu.Lock()
	hangs, fault := s.hangs, s.fault
	s.mu.Unlock()
	if hangs {
		<-ctx.Done()
		return &protocol.Error{Code: protocol.CodeStorage, Message: "the keyring did not answer in time"}
	}
	return fault
}

func (s *fakeKeyring) Ready(ctx context.Context) error { return s.enter(ctx) }

func (s *fakeKeyring) Get(ctx context.Context, service, account string) (string, error) {
	if err := s.enter(ctx); err != nil {
		return "", err
	}
	if s.before != nil {
		s.before(account)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	v, ok := s.items[service+" "+account]
	if !ok {
		return "", &protocol.Error{Code: protocol.CodeNotFound, Message: "no such item"}
	}
	return v, nil
}

func (s *fakeKeyring) Set(ctx context.Context, service, account, value string) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.budget > 0 {
		if s.budget--; s.budget == 0 {
			s.fault = errDied
			return errDied
		}
	}
	if s.items == nil {
		s.items = map[string]string{}
	}
	if s.bends != nil {
		value = s.bends(value)
	}
	if s.lies == nil || s.lies(value) {
		s.items[service+" "+account] = value
	}
	return nil
}

func (s *fakeKeyring) Delete(ctx context.Context, service, account string) error {
	if _, err := s.Get(ctx, service, account); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.items, service+" "+account)
	return nil
}

func (s *fakeKeyring) accounts() []string { return slices.Sorted(maps.Keys(s.items)) }

// long returns a record that takes several items.
func long(n int) Record {
	r := fakeRecord(n)
	r.RefreshToken = protocol.NewSecret("fake-refresh-" + strconv.Itoa(n) + "-" + strings.Repeat("ü", 3*pieceSize/2))
	return r
}

func fakeRecord(n int) Record {
	return Record{
		Kind:         protocol.KindOAuth,
		AccessToken:  protocol.NewSecret("fake-access-" + strconv.Itoa(n)),
		RefreshToken: protocol.NewSecret("fake-refresh-" + strconv.Itoa(n)),
		Expiry:       time.UnixMilli(1900000000000 + int64(n)),
		SignIn:       "0123456789abcdef",
	}
}

func mustSave(t *testing.T, s Store, r Record, base Version) Version {
	t.Helper()
	v, err := s.Save(t.Context(), r, base)
	if err != nil {
		t.Fatalf("save: %v", err)
	}
	return v
}

func wantRecord(t *testing.T, s Store, want Record) {
	t.Helper()
	got, _, err := s.Load(t.Context())
	if err != nil {
		t.Fatalf("load: %v", err)
	}
	if !sameTokens(got, want) {
		t.Fatalf("loaded %q, want %q", got.AccessToken.Reveal(), want.AccessToken.Reveal())
	}
}

func wantIs(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error %v, want %v", err, want)
	}
}

func TestKeyringSplitsLargeRecords(t *testing.T) {
	t.Parallel()
	var sys fakeKeyring
	s := newKeyring(&sys, t.TempDir(), "Work")
	v := mustSave(t, s, long(1), Version{})
	if n := len(sys.items); n != 4 {
		t.Errorf("%d items: %v", n, sys.accounts())
	}
	for name, value := range sys.items {
		// What go-keyring makes of it on macOS must fit on a line of 4096 bytes.
		if line := len(value)*4/3 + len(name) + 100; line > 4096 || !utf8.ValidString(value) {
			t.Errorf("%s takes a line of %d bytes, valid text: %v", name, line, utf8.ValidString(value))
		}
	}
	wantRecord(t, s, long(1))
	mustSave(t, s, fakeRecord(2), v)
	if got := sys.accounts(); len(got) != 1 || got[0] != "ccagent work/2/0" {
		t.Errorf("after a short record the keyring holds %v", got)
	}
	wantRecord(t, s, fakeRecord(2))
}

// TestKeyringDiesWhileSaving kills the service at each write in turn. The old record or the new one is stored, and once the
// service runs again, the save succeeds.
func TestKeyringDiesWhileSaving(t *testing.T) {
	t.Parallel()
	for budget := 1; ; budget++ {
		var sys fakeKeyring
		s := newKeyring(&sys, t.TempDir(), "work")
		base := mustSave(t, s, long(1), Version{})
		sys.budget = budget
		_, err := s.Save(t.Context(), long(2), base)
		if err == nil {
			if budget != 5 {
				t.Errorf("a save makes %d writes", budget-1)
			}
			return
		}
		wantIs(t, err, protocol.ErrStorage)
		sys.fault, sys.budget = nil, 0
		wantRecord(t, s, long(1))
		mustSave(t, s, long(2), base)
		wantRecord(t, s, long(2))
		if n := len(sys.items); n != 4 {
			t.Errorf("%d items are left: %v", n, sys.accounts())
		}
	}
}

func TestKeyringThatLies(t *testing.T) {
	t.Parallel()
	for name, sys := range map[string]*fakeKeyring{
		"keeps nothing":    {lies: func(string) bool { return false }},
		"truncates":        {bends: func(v string) string { return v[:min(len(v), 100)] }},
		"cuts the end off": {bends: func(v string) string { return v[:len(v)-1] }},
		"another encoding": {bends: func(v string) string { return strings.ToUpper(v) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newKeyring(sys, t.TempDir(), "work")
			_, err := s.Save(t.Context(), long(1), Version{})
			wantIs(t, err, protocol.ErrStorage)
			if err := probe(t.Context(), sys, time.Second); !errors.Is(err, protocol.ErrStorage) {
				t.Errorf("the probe says %v", err)
			}
			for account := range sys.items {
				if strings.Contains(account, "probe/") {
					t.Errorf("the probe left %s", account)
				}
			}
		})
	}
}

// TestKeyringLieLeavesTheOldRecord: if the service stores nothing and reports success, the old record stays.
func TestKeyringLieLeavesTheOldRecord(t *testing.T) {
	t.Parallel()
	var sys fakeKeyring
	s := newKeyring(&sys, t.TempDir(), "work")
	base := mustSave(t, s, long(1), Version{})
	sys.bends = func(v string) string { return v[:len(v)/2] }
	_, err := s.Save(t.Context(), long(2), base)
	wantIs(t, err, protocol.ErrStorage)
	wantRecord(t, s, long(1))
}

func TestKeyringLateWrite(t *testing.T) {
	t.Parallel()
	var sys fakeKeyring
	dir := t.TempDir()
	s := newKeyring(&sys, dir, "work")
	v1 := mustSave(t, s, long(1), Version{})
	first := maps.Clone(sys.items)
	v2 := mustSave(t, s, long(2), v1)

	// The first write is carried out once more, when the second is done.
	maps.Copy(sys.items, first)
	wantRecord(t, s, long(2))
	l, err := s.Lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if n := len(sys.items); n != 4 {
		t.Errorf("the late write is not cleared away: %v", sys.accounts())
	}
	l.Release()

	// It comes so late that the newest generation is in its slot: the older record is recognised, and not used.
	v3 := mustSave(t, s, long(3), v2)
	v4 := mustSave(t, s, long(4), v3)
	mustSave(t, s, long(5), v4)
	clear(sys.items)
	maps.Copy(sys.items, first)
	_, old, err := s.Load(t.Context())
	wantIs(t, err, protocol.ErrLoginRequired)
	if old != v1 {
		t.Error("the older record has no version to save over")
	}
	mustSave(t, s, long(6), old)
	wantRecord(t, newKeyring(&sys, dir, "work"), long(6))

	// After a deletion, no write that comes late makes a record.
	_, v6, _ := s.Load(t.Context())
	if err := s.Delete(t.Context(), v6); err != nil {
		t.Fatal(err)
	}
	if len(sys.items) != 0 {
		t.Errorf("after the deletion the keyring holds %v", sys.accounts())
	}
	maps.Copy(sys.items, first)
	_, _, err = s.Load(t.Context())
	wantIs(t, err, protocol.ErrNotFound)
	if l, err = s.Lock(t.Context()); err != nil {
		t.Fatal(err)
	}
	l.Release()
	if len(sys.items) != 0 {
		t.Errorf("what landed after the deletion stays: %v", sys.accounts())
	}
	mustSave(t, s, long(7), Version{})
	wantRecord(t, s, long(7))
}

// TestKeyringBehindAnother: an empty keyring takes the place of the one that holds the record. It accepts no renewal of that
// record, and accepts a fresh sign-in. A deletion counts also when the first keyring comes back.
func TestKeyringBehindAnother(t *testing.T) {
	t.Parallel()
	var sys fakeKeyring
	dir := t.TempDir()
	s := newKeyring(&sys, dir, "work")
	history := NewHistory(dir, s)
	v := mustSave(t, s, long(1), Version{})
	if err := history.Keep(t.Context(), long(1), false, time.Now()); err != nil {
		t.Fatal(err)
	}
	first := maps.Clone(sys.items)
	clear(sys.items)
	_, got, err := s.Load(t.Context())
	wantIs(t, err, ErrMissing)
	wantIs(t, err, protocol.ErrStorage)
	if got != (Version{}) {
		t.Error("what is missing has a version")
	}
	_, err = s.Save(t.Context(), long(2), v)
	wantIs(t, err, ErrConflict)
	if _, err = history.List(t.Context()); !errors.Is(err, ErrMissing) {
		t.Errorf("the history says %v", err)
	}
	maps.Copy(sys.items, first)
	wantRecord(t, s, long(1))

	clear(sys.items)
	mustSave(t, s, long(3), Version{})
	wantRecord(t, s, long(3))
	if err := history.Keep(t.Context(), long(3), false, time.Now()); err != nil {
		t.Error(err)
	}
	if past, err := history.List(t.Context()); err != nil || len(past) != 1 {
		t.Errorf("the history has %d entries, %v", len(past), err)
	}

	clear(sys.items)
	if err := s.Delete(t.Context(), Version{}); err != nil {
		t.Fatal(err)
	}
	maps.Copy(sys.items, first)
	_, _, err = s.Load(t.Context())
	wantIs(t, err, protocol.ErrNotFound)
}

// TestKeyringSavedWhileRead: a load does not fail because of a save at the same time, and returns no older record than there was.
func TestKeyringSavedWhileRead(t *testing.T) {
	t.Parallel()
	for moment := 1; ; moment++ {
		var sys fakeKeyring
		dir := t.TempDir()
		s := newKeyring(&sys, dir, "work")
		v := mustSave(t, s, long(1), Version{})
		v = mustSave(t, s, long(2), v)
		v = mustSave(t, s, long(3), v) // in the last slot: the next goes into the first
		reads := 0
		sys.before = func(string) {
			if reads++; reads == moment {
				mustSave(t, newKeyring(&sys, dir, "work"), long(4), v)
			}
		}
		got, _, err := s.Load(t.Context())
		if err != nil {
			t.Fatalf("a save before read %d: %v", moment, err)
		}
		if n := got.AccessToken.Reveal(); n != "fake-access-3" && n != "fake-access-4" {
			t.Errorf("a save before read %d: loaded %s", moment, n)
		}
		if reads < moment {
			return
		}
	}
}

// TestKeyringWithoutGenerations: the keyring alone is enough to find the newest record.
func TestKeyringWithoutGenerations(t *testing.T) {
	t.Parallel()
	var sys fakeKeyring
	s := newKeyring(&sys, t.TempDir(), "work")
	v := mustSave(t, s, long(1), Version{})
	mustSave(t, s, long(2), v)
	other := newKeyring(&sys, t.TempDir(), "work")
	wantRecord(t, other, long(2))
	_, v, _ = other.Load(t.Context())
	mustSave(t, other, long(3), v)
	wantRecord(t, other, long(3))
	wantRecord(t, s, long(3))
}

func TestKeyringTellsItsStatesApart(t *testing.T) {
	t.Parallel()
	locked := &protocol.Error{Code: protocol.CodeLocked, Message: "the keyring is locked"}
	dead := &protocol.Error{Code: protocol.CodeStorage, Message: "it is gone"}
	for _, tt := range []struct {
		name string
		harm func(*fakeKeyring, string)
		want error
	}{
		{"locked", func(s *fakeKeyring, _ string) { s.fault = locked }, protocol.ErrLocked},
		{"unreachable", func(s *fakeKeyring, _ string) { s.fault = dead }, protocol.ErrStorage},
		{"removed by hand", func(s *fakeKeyring, _ string) { clear(s.items) }, ErrMissing},
		{"foreign item", func(s *fakeKeyring, _ string) {
			for k := range s.items {
				s.items[k] = "fake-password"
			}
		}, protocol.ErrInvalid},
		{"a piece is missing", func(s *fakeKeyring, _ string) { delete(s.items, "ccagent work/1/2") }, protocol.ErrInvalid},
		{"a piece of another write", func(s *fakeKeyring, _ string) {
			p, _ := parsePiece("", s.items["ccagent work/1/2"])
			p.id = "ABCDEFGH"
			s.items["ccagent work/1/2"] = p.String()
		}, protocol.ErrInvalid},
		{"corrupt file of generations", func(_ *fakeKeyring, dir string) {
			os.WriteFile(filepath.Join(dir, "keyring/work.json"), []byte("{"), 0o600)
		}, protocol.ErrInvalid},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var sys fakeKeyring
			dir := t.TempDir()
			s := newKeyring(&sys, dir, "work")
			mustSave(t, s, long(1), Version{})
			tt.harm(&sys, dir)
			_, _, err := s.Load(t.Context())
			wantIs(t, err, tt.want)
			if strings.Contains(err.Error(), "fake-") {
				t.Errorf("a secret is in %q", err)
			}
		})
	}
}

func TestKeyringRefusesNewerVersions(t *testing.T) {
	t.Parallel()
	var sys fakeKeyring
	dir := t.TempDir()
	s := newKeyring(&sys, dir, "work")
	v := mustSave(t, s, fakeRecord(1), Version{})
	sys.items["ccagent work/2/0"] = "ccagent-piece 7 whatever that means"
	before := maps.Clone(sys.items)
	for name, err := range map[string]error{
		"load":   func() error { _, _, err := s.Load(t.Context()); return err }(),
		"save":   func() error { _, err := s.Save(t.Context(), fakeRecord(2), v); return err }(),
		"delete": s.Delete(t.Context(), v),
	} {
		if !errors.Is(err, protocol.ErrInvalid) || !strings.Contains(err.Error(), "version 7") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if !maps.Equal(before, sys.items) {
		t.Error("the keyring was changed")
	}
}

// TestKeyringHangs: nothing waits for a keyring longer than it may.
func TestKeyringHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		started := time.Now()
		err := probe(t.Context(), &fakeKeyring{hangs: true}, probeLimit)
		wantIs(t, err, protocol.ErrStorage)
		if took := time.Since(started); took != probeLimit {
			t.Errorf("the probe took %v", took)
		}
	})
}

func TestKeyringWithoutABus(t *testing.T) {
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path="+filepath.Join(t.TempDir(), "none"))
	if err := probeKeyring(t.Context()); !errors.Is(err, protocol.ErrStorage) {
		t.Errorf("the probe says %v", err)
	}
}

func TestCutAndAssemble(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, pieceSize - 1, pieceSize, pieceSize + 1, 3 * pieceSize, 100_000} {
		for _, letter := range []string{"a", "ü", "漢", "🔑", "\xff"} {
			form := []byte(strings.Repeat(letter, n/len(letter)))
			var back strings.Builder
			for i, p := range cut(form, 9) {
				q, err := parsePiece("item", p.String())
				if err != nil || q != p || q.index != i || len(q.data) > pieceSize {
					t.Fatalf("%d of %q: piece %d: %v", n, letter, i, err)
				}
				if letter != "\xff" && !utf8.ValidString(q.data) {
					t.Fatalf("%d of %q: piece %d splits a character", n, letter, i)
				}
				back.WriteString(q.data)
			}
			if back.String() != string(form) {
				t.Fatalf("%d of %q: another form comes back", n, letter)
			}
		}
	}
}

func FuzzPiece(f *testing.F) {
	for _, p := range cut([]byte(strings.Repeat("fake", pieceSize)), 3) {
		f.Add(p.String())
	}
	f.Add("ccagent-piece 2 x")
	f.Add("fake-password")
	f.Fuzz(func(t *testing.T, s string) {
		p, err := parsePiece("item", s)
		if err == nil && p.String() != s {
			t.Errorf("%q comes back as %q", s, p)
		}
		if err != nil && !errors.Is(err, protocol.ErrInvalid) {
			t.Errorf("error %v", err)
		}
	})
}

func FuzzGenerations(f *testing.F) {
	f.Add([]byte(`{"version":1,"tried":7,"saved":6}`))
	f.Add([]byte(`{"version":2}`))
	f.Fuzz(func(t *testing.T, src []byte) {
		w, err := parseGenerations("file", src)
		if err != nil {
			wantIs(t, err, protocol.ErrInvalid)
			return
		}
		if again, err := parseGenerations("file", splice.Encode(w)); err != nil || again != w {
			t.Errorf("%+v comes back as %+v, %v", w, again, err)
		}
	})
}
