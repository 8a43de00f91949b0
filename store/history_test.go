package store

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ccagent/ccagent/protocol"
)

var noon = time.UnixMilli(1890000000000)

// ofSignIn returns the nth record of a sign-in.
func ofSignIn(id string, n int) Record {
	r := fakeRecord(n)
	r.SignIn = id
	return r
}

// places are the stores whose protection a history shares.
func places(t *testing.T) map[string]Store {
	claude := filepath.Join(t.TempDir(), ".claude")
	if err := os.Mkdir(claude, 0o700); err != nil {
		t.Fatal(err)
	}
	return map[string]Store{
		"file":        NewFile(t.TempDir(), "work"),
		"claude-code": NewClaudeCode(claude),
		"keyring":     newKeyring(&fakeKeyring{}, t.TempDir(), "work"),
		"encrypted":   NewEncrypted(t.TempDir(), "work", FakeIdentity()),
	}
}

func describe(past []Past) string {
	var b strings.Builder
	for _, p := range past {
		b.WriteString(p.Record.SignIn + ":" + strings.TrimPrefix(p.Record.AccessToken.Reveal(), "fake-access-"))
		if p.Spent {
			b.WriteString(" spent")
		}
		b.WriteString(", ")
	}
	return b.String()
}

func TestHistory(t *testing.T) {
	t.Parallel()
	for name, st := range places(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := NewHistory(t.TempDir(), st)
			want := func(want string) {
				t.Helper()
				past, err := h.List(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if got := describe(past); got != want {
					t.Fatalf("kept %q, want %q", got, want)
				}
			}
			keep := func(r Record) {
				t.Helper()
				if err := h.Keep(t.Context(), r, false, noon); err != nil {
					t.Fatal(err)
				}
			}
			renewed := func(old, r Record) {
				t.Helper()
				if err := h.Renewed(t.Context(), old, r, noon); err != nil {
					t.Fatal(err)
				}
			}
			want("")
			keep(ofSignIn("a", 1))
			renewed(ofSignIn("a", 1), ofSignIn("a", 2))
			want("a:2, ")
			keep(ofSignIn("a", 1)) // an older record comes late
			want("a:2, ")
			keep(ofSignIn("b", 3))
			keep(ofSignIn("c", 4))
			renewed(ofSignIn("a", 2), ofSignIn("a", 5))
			want("a:5, c:4, b:3, ")
			renewed(ofSignIn("a", 1), ofSignIn("a", 2)) // told late
			want("a:5, c:4, b:3, ")
			keep(ofSignIn("d", 6))
			want("d:6, a:5, c:4, ")
			if err := h.Refused(t.Context(), ofSignIn("a", 5), noon); err != nil {
				t.Fatal(err)
			}
			want("d:6, a:5 spent, c:4, ")
			if err := h.Refused(t.Context(), ofSignIn("x", 9), noon); err != nil { // never seen before
				t.Fatal(err)
			}
			want("x:9 spent, d:6, a:5 spent, ")
			if err := h.clear(t.Context()); err != nil {
				t.Fatal(err)
			}
			want("")
			if err := h.clear(t.Context()); err != nil {
				t.Fatal(err)
			}
			keep(ofSignIn("e", 7))
			want("e:7, ")
		})
	}
}

// TestFirstContact: a first renewal spends a refresh token that the history does not have. The history remembers it, like every
// one that is spent later.
func TestFirstContact(t *testing.T) {
	t.Parallel()
	all := places(t)
	all["custom"] = NewCustom(nil, Place{Kind: "custom", Location: "a row"}, filepath.Join(t.TempDir(), "lock"))
	for name, st := range all {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			state := t.TempDir()
			h := NewHistory(state, st)
			id := SignInOf(ofSignIn("", 1).RefreshToken)
			chain := []Record{ofSignIn("", 1), ofSignIn(id, 2), ofSignIn(id, 3)}
			for i := range 2 {
				for range 2 { // a save that was made later says it again
					if err := h.Renewed(t.Context(), chain[i], chain[i+1], noon); err != nil {
						t.Fatal(err)
					}
				}
			}
			h.Keep(t.Context(), ofSignIn("b", 7), true, noon)
			for n, r := range chain {
				newest, spent := h.Replaces(t.Context(), r.RefreshToken)
				if spent != (n < 2) {
					t.Errorf("record %d: spent is %v", n+1, spent)
				}
				if spent && (!newest.Lineage.Same(chain[2].Lineage()) || name != "custom" && !sameTokens(newest.Record, chain[2])) {
					t.Errorf("record %d was replaced by %+v", n+1, newest.Lineage)
				}
			}
			filepath.WalkDir(filepath.Join(state, "history"), func(path string, d os.DirEntry, err error) error {
				if b, _ := os.ReadFile(path); name == "custom" && bytes.Contains(b, []byte("fake-")) {
					t.Errorf("%s has a secret of a store whose protection is not known", path)
				}
				return nil
			})
		})
	}
}

// TestHistoryOfOthers: what another program has put in the place of a record may be its renewal or another sign-in. Only what we
// have renewed ourselves is known to be spent. A record that comes back is the newest again.
func TestHistoryOfOthers(t *testing.T) {
	t.Parallel()
	h := NewHistory(t.TempDir(), NewFile(t.TempDir(), "work"))
	check := func(err error, want string) {
		t.Helper()
		past, _ := h.List(t.Context())
		if got := describe(past); err != nil || got != want {
			t.Fatalf("kept %q, %v, want %q", got, err, want)
		}
	}
	step := func(r Record, want string) {
		t.Helper()
		check(h.Keep(t.Context(), r, true, noon), want)
	}
	step(ofSignIn("", 1), ":1, ")
	step(ofSignIn("", 2), ":2, :1, ")
	step(ofSignIn("", 1), ":1, :2, ") // somebody exchanges files
	step(ofSignIn("", 2), ":2, :1, ")
	id := SignInOf(ofSignIn("", 2).RefreshToken)
	check(h.Renewed(t.Context(), ofSignIn("", 2), ofSignIn(id, 3), noon), id+":3, :1, ") // our first renewal names it
	step(ofSignIn("", 2), id+":3, :1, ")
	if newest, spent := h.Replaces(t.Context(), ofSignIn("", 2).RefreshToken); !spent || newest.Displaced ||
		!sameTokens(newest.Record, ofSignIn("", 3)) {
		t.Errorf("got %+v, %v", newest, spent)
	}
	for _, n := range []int{1, 3} {
		if _, spent := h.Replaces(t.Context(), ofSignIn("", n).RefreshToken); spent {
			t.Errorf("record %d is not spent", n)
		}
	}
	// Another sign-in takes nothing over from the one that it displaces. Of those that were displaced the oldest goes first.
	step(ofSignIn("", 4), ":4, "+id+":3, :1, ")
	if newest, spent := h.Replaces(t.Context(), ofSignIn("", 2).RefreshToken); !spent || !newest.Displaced ||
		!sameTokens(newest.Record, ofSignIn("", 3)) {
		t.Errorf("got %+v, %v", newest, spent)
	}
	check(h.Keep(t.Context(), ofSignIn("own", 5), false, noon), "own:5, :4, "+id+":3, ")
	step(ofSignIn("", 6), ":6, own:5, :4, ")
	step(ofSignIn(id, 3), id+":3, :6, :4, ")
	step(ofSignIn("", 2), id+":3, :6, :4, ") // the id tells what our first renewal has spent, even if the rest is forgotten
	out := func(want ...bool) {
		t.Helper()
		past, _ := h.List(t.Context())
		for i, p := range past {
			if p.Out != want[i] {
				t.Errorf("sign-in %d: signed out is %v", i, p.Out)
			}
		}
	}
	h.SignOut(t.Context())
	out(true, false, false)
	step(ofSignIn(id, 3), id+":3, :6, :4, ")
	out(false, false, false)
}

// TestHistoryMoves: a history moves with its record, and knows at the new place what is spent.
func TestHistoryMoves(t *testing.T) {
	t.Parallel()
	state, st := t.TempDir(), places(t)
	from, to := NewHistory(state, st["claude-code"]), NewHistory(state, st["file"])
	if err := to.Take(t.Context(), from); err != nil {
		t.Fatal(err)
	}
	to.Keep(t.Context(), ofSignIn("b", 7), false, noon)
	to.Keep(t.Context(), ofSignIn("a", 1), false, noon)
	for n := 1; n < 3; n++ {
		from.Renewed(t.Context(), ofSignIn("a", n), ofSignIn("a", n+1), noon)
	}
	if err := to.Take(t.Context(), from); err != nil {
		t.Fatal(err)
	}
	past, err := to.List(t.Context())
	if got := describe(past); got != "a:3, b:7, " {
		t.Errorf("kept %q, %v", got, err)
	}
	if _, spent := to.Replaces(t.Context(), ofSignIn("a", 1).RefreshToken); !spent {
		t.Error("what is spent was forgotten on the way")
	}
}

func TestRestorable(t *testing.T) {
	t.Parallel()
	r := fakeRecord(1)
	if got, err := (Past{Record: r}).Restorable(r.Expiry.Add(time.Hour)); err != nil || got.RefreshToken.Empty() {
		t.Errorf("with a good refresh token: %v", err)
	}
	if got, err := (Past{Record: r, Spent: true}).Restorable(r.Expiry.Add(-time.Hour)); err != nil || !got.RefreshToken.Empty() ||
		got.AccessToken.Empty() {
		t.Errorf("spent, and the access token lives: %v", err)
	}
	_, err := (Past{Record: r, Spent: true}).Restorable(r.Expiry)
	wantIs(t, err, protocol.ErrExpired)
}

// TestHistoryProtection: a history has the same protection as its store.
func TestHistoryProtection(t *testing.T) {
	t.Parallel()
	dir, state := t.TempDir(), t.TempDir()
	identity := FakeIdentity()
	ring := newKeyring(&fakeKeyring{}, state, "work")
	for _, st := range []Store{NewEncrypted(dir, "work", identity), ring, NewFile(dir, "work")} {
		h := NewHistory(state, st)
		if err := h.Keep(t.Context(), fakeRecord(1), true, noon); err != nil {
			t.Fatal(err)
		}
		for _, root := range []string{dir, state} {
			filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
				info, _ := d.Info()
				if info.Mode().Perm()&0o077 != 0 && path != root {
					t.Errorf("%s has mode %v", path, info.Mode())
				}
				if b, _ := os.ReadFile(path); bytes.Contains(b, []byte("fake-")) && st.Place().Kind != "file" {
					t.Errorf("%s: %s holds a secret", st.Place().Kind, path)
				}
				return nil
			})
		}
	}
	err := NewHistory(state, NewEncrypted(dir, "work", Identity{})).Keep(t.Context(), fakeRecord(2), true, noon)
	wantIs(t, err, protocol.ErrLocked)
}

func TestHistoryOfOtherVersions(t *testing.T) {
	t.Parallel()
	state := t.TempDir()
	h := NewHistory(state, NewFile(t.TempDir(), "work"))
	path := string(h.medium.(file))
	os.MkdirAll(filepath.Dir(path), 0o700)
	for _, newer := range []string{`{"version":2}`, `{"version":1,"sign_ins":[{"record":{"version":2}}]}`} {
		os.WriteFile(path, []byte(newer), 0o600)
		err := h.Keep(t.Context(), fakeRecord(1), true, noon)
		if !errors.Is(err, protocol.ErrInvalid) || !strings.Contains(err.Error(), "version 2") {
			t.Errorf("%s: %v", newer, err)
		}
		if now, _ := os.ReadFile(path); string(now) != newer {
			t.Errorf("%s was changed to %s", newer, now)
		}
	}
	// A history of our version keeps what else is in it. One that is broken is begun anew.
	os.WriteFile(path,
		[]byte(`{"version":1,"x":1.0,"sign_ins":[{"record":{"version":1,"access_token":"fake-access-9","y":2.0},"z":3.0}]}`), 0o600)
	for range 2 {
		if err := h.Keep(t.Context(), fakeRecord(1), true, noon); err != nil {
			t.Fatal(err)
		}
		now, _ := os.ReadFile(path)
		for _, kept := range []string{`"x":1.0`, `"y":2.0`, `"z":3.0`} {
			if !bytes.Contains(now, []byte(kept)) {
				t.Errorf("%s is gone from %s", kept, now)
			}
		}
	}
	os.WriteFile(path, []byte(`{"version`), 0o600)
	_, err := h.List(t.Context())
	wantIs(t, err, protocol.ErrInvalid)
	if err := h.Keep(t.Context(), fakeRecord(1), true, noon); err != nil {
		t.Fatal(err)
	}
}

func FuzzHistory(f *testing.F) {
	one, err := formatHistory([]byte("{}"), []signIn{{record: fakeRecord(1), saved: noon, spent: []string{"00"}}}, false)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(one)
	f.Add([]byte(`{"version":1,"sign_ins":null}`))
	f.Add([]byte(`{"version":1,"sign_ins":[null]}`))
	f.Fuzz(func(t *testing.T, src []byte) {
		all, err := parseHistory("history", src)
		if err != nil {
			wantIs(t, err, protocol.ErrInvalid)
			return
		}
		out, err := formatHistory(src, all, false)
		if err != nil {
			wantIs(t, err, protocol.ErrInvalid) // such a token is never stored
			return
		}
		again, err := parseHistory("history", out)
		if err != nil || len(again) != len(all) {
			t.Fatalf("%s comes back as %s: %v", src, out, err)
		}
		for i := range all {
			if again[i].record.version() != all[i].record.version() {
				t.Errorf("record %d of %s comes back as another", i, src)
			}
		}
	})
}
