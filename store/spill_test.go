package store

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/ccagent/ccagent/protocol"
)

func numbered(n string) Record {
	r := newRecord()
	r.AccessToken, r.RefreshToken = protocol.NewSecret("fake-"+n), protocol.NewSecret("fake-r-"+n)
	return r
}

func TestRecover(t *testing.T) {
	t.Parallel()
	v := func(n string) Version { return numbered(n).version() }
	none := Version{}
	type s struct {
		base Version
		rec  string
	}
	tests := []struct {
		name   string
		stored string // "": nothing
		spills []s
		want   string
		kept   int
	}{
		{"stored is the base", "0", []s{{v("0"), "1"}}, "1", 0},
		{"stored is the spilled one", "1", []s{{v("0"), "1"}}, "1", 0},
		{"someone else wrote", "x", []s{{v("0"), "1"}}, "x", 1},
		{"someone else removed", "", []s{{v("0"), "1"}}, "", 1},
		{"never stored", "", []s{{none, "1"}}, "1", 0},
		{"never stored, and then by someone else", "x", []s{{none, "1"}}, "x", 1},
		{"a chain", "0", []s{{v("0"), "1"}, {v("1"), "2"}, {v("2"), "3"}}, "3", 0},
		{"the same base", "0", []s{{v("0"), "1"}, {v("0"), "2"}}, "2", 0},
		{"a chain partly stored", "1", []s{{v("0"), "1"}, {v("1"), "2"}}, "2", 0},
		{"the same base, the first stored", "1", []s{{v("0"), "1"}, {v("0"), "2"}}, "2", 0},
		{"a chain wholly stored", "2", []s{{v("0"), "1"}, {v("1"), "2"}}, "2", 0},
		{"one of another descent before", "0", []s{{v("y"), "z"}, {v("0"), "1"}}, "1", 1},
		{"three kept at most", "x", []s{{v("0"), "1"}, {v("0"), "2"}, {v("0"), "3"}, {v("0"), "4"}}, "x", 3},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			ctx, state := context.Background(), t.TempDir()
			st := NewFile(t.TempDir(), "p")
			if tt.stored != "" {
				_, err := st.Save(ctx, numbered(tt.stored), none)
				check(t, err)
			}
			for _, sp := range tt.spills {
				check(t, Spill(state, st, sp.base, numbered(sp.rec)))
			}
			for range 2 { // the second finds nothing to do
				l, err := st.Lock(ctx)
				check(t, err)
				u, err := Recover(ctx, state, st)
				check(t, err)
				check(t, l.Release())
				if u != nil {
					t.Error("unsaved without an error")
				}
				r, _, err := st.Load(ctx)
				if tt.want == "" && !errors.Is(err, protocol.ErrNotFound) || tt.want != "" && r.AccessToken.Reveal() != "fake-"+tt.want {
					t.Errorf("holds %q, %v", r.AccessToken.Reveal(), err)
				}
				kept := 0
				for _, n := range names(t, filepath.Join(state, "spill")) {
					if !strings.HasSuffix(n, ".kept") {
						t.Errorf("left %s", n)
					}
					kept++
				}
				if kept != tt.kept {
					t.Errorf("kept %d, want %d", kept, tt.kept)
				}
			}
		})
	}
}

func TestRecoverOverStub(t *testing.T) {
	t.Parallel()
	dir, _ := claudeDir(t, `{"claudeAiOauth":{"accessToken":"","refreshToken":"","expiresAt":0}}`)
	state, s := t.TempDir(), NewClaudeCode(dir)
	check(t, Spill(state, s, Version{1}, numbered("1")))
	_, err := Recover(context.Background(), state, s)
	check(t, err)
	if r, _ := mustLoad(t, s); r.AccessToken.Reveal() != "fake-1" {
		t.Error("the stub stayed")
	}
}

// failing is a store whose disk is full.
type failing struct{ Store }

func (failing) Save(context.Context, Record, Version) (Version, error) {
	return Version{}, &protocol.Error{Code: protocol.CodeStorage, Message: "full"}
}

func TestRecoverWhileTheStoreFails(t *testing.T) {
	t.Parallel()
	state, s := t.TempDir(), NewFile(t.TempDir(), "p")
	v, err := s.Save(context.Background(), numbered("0"), Version{})
	check(t, err)
	check(t, Spill(state, s, v, numbered("1")))
	u, err := Recover(context.Background(), state, failing{s})
	if !errors.Is(err, protocol.ErrStorage) || u == nil || u.Base != v || u.Record.AccessToken.Reveal() != "fake-1" {
		t.Fatalf("%+v %v", u, err)
	}
	if _, err := Recover(context.Background(), state, s); err != nil {
		t.Fatal(err)
	}
	if r, _ := mustLoad(t, s); r.AccessToken.Reveal() != "fake-1" {
		t.Error("lost")
	}
}

// overtaken is a store that somebody without a lock writes to right before our first save.
type overtaken struct {
	Store
	write func()
}

func (s *overtaken) Save(ctx context.Context, r Record, base Version) (Version, error) {
	if s.write != nil {
		s.write()
		s.write = nil
	}
	return s.Store.Save(ctx, r, base)
}

func TestRecoverOvertaken(t *testing.T) {
	t.Parallel()
	ctx, state := t.Context(), t.TempDir()
	st := &overtaken{Store: NewFile(t.TempDir(), "p")}
	base, err := st.Save(ctx, numbered("0"), Version{})
	check(t, err)
	check(t, Spill(state, st, base, numbered("1")))
	st.write = func() {
		_, err := st.Store.Save(ctx, numbered("x"), base)
		check(t, err)
	}
	if unsaved, err := Recover(ctx, state, st); unsaved != nil || err != nil {
		t.Errorf("%v, %v: theirs is in force", unsaved, err)
	}
	r, _, err := st.Load(ctx)
	check(t, err)
	if kept, _ := filepath.Glob(filepath.Join(state, "spill", "*.kept")); !sameTokens(r, numbered("x")) || len(kept) != 1 {
		t.Errorf("%d records are kept aside, and %q is stored", len(kept), r.AccessToken.Reveal())
	}
}

func TestSpillIsPrivateAndOfItsPlace(t *testing.T) {
	t.Parallel()
	state, a, b := t.TempDir(), NewFile(t.TempDir(), "a"), NewFile(t.TempDir(), "b")
	check(t, Spill(state, a, Version{}, numbered("1")))
	check(t, os.WriteFile(filepath.Join(state, "spill", placeKey(b.Place())+".1.json"), []byte(`{"version":2}`), 0o600))
	for i, n := range names(t, filepath.Join(state, "spill")) {
		info, err := os.Stat(filepath.Join(state, "spill", n))
		check(t, err)
		if info.Mode() != 0o600 {
			t.Errorf("%d: mode %v", i, info.Mode())
		}
	}
	if _, err := Recover(context.Background(), state, b); !errors.Is(err, protocol.ErrInvalid) { // see TestNewerVersion
		t.Errorf("recover: %v", err)
	}
	if _, _, err := b.Load(context.Background()); !errors.Is(err, protocol.ErrNotFound) {
		t.Errorf("another place's spill was taken: %v", err)
	}
	if got := names(t, filepath.Join(state, "spill")); len(got) != 2 {
		t.Errorf("a spill of a newer version, or of another place, is gone: %v", got)
	}
	for i := range 3 { // numbers go on after those that were set aside
		check(t, Spill(state, a, Version{9}, numbered(strconv.Itoa(i))))
	}
	_, err := a.Save(context.Background(), numbered("x"), Version{})
	check(t, err)
	_, err = Recover(context.Background(), state, a)
	check(t, err)
	check(t, Spill(state, a, Version{9}, numbered("z")))
	spills, err := spillsOf(state, a)
	check(t, err)
	if last := spills[len(spills)-1]; last.aside || last.record.AccessToken.Reveal() != "fake-z" {
		t.Errorf("the newest is not last: %+v", last.path)
	}
}

// TestSpillThatMayNotBeRead: such a spill file is not passed over. It is newer than what is stored, whose refresh token is spent.
func TestSpillThatMayNotBeRead(t *testing.T) {
	t.Parallel()
	state, st := t.TempDir(), NewFile(t.TempDir(), "p")
	v := mustSave(t, st, numbered("1"), Version{})
	check(t, Spill(state, st, v, numbered("2")))
	path := filepath.Join(state, "spill", names(t, filepath.Join(state, "spill"))[0])
	aside := filepath.Join(t.TempDir(), "aside")
	check(t, os.Rename(path, aside))
	check(t, os.Symlink(path, path)) // which root can't read either
	_, err := Recover(t.Context(), state, st)
	wantIs(t, err, protocol.ErrStorage)
	check(t, os.Rename(aside, path))
	_, err = Recover(t.Context(), state, st)
	check(t, err)
	wantRecord(t, st, numbered("2"))
}
