// Package storetest is the suite that every implementation of store.Store passes.
package storetest

import (
	"context"
	"errors"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store"
)

// Record returns a record whose tokens are obviously fake and different for each n.
func Record(n int) store.Record {
	return store.Record{
		Kind:         protocol.KindOAuth,
		AccessToken:  protocol.NewSecret("fake-access-" + strconv.Itoa(n)),
		RefreshToken: protocol.NewSecret("fake-refresh-" + strconv.Itoa(n)),
		Expiry:       time.UnixMilli(1900000000000 + int64(n)),
		Issued:       time.UnixMilli(1890000000000 + int64(n)),
		Scopes:       []string{"user:inference", "user:profile"},
		Subscription: "max",
		RateLimit:    "default_max",
		GrantExpiry:  time.UnixMilli(1990000000000),
		TokenOrigin:  "https://provider.example",
		SignIn:       "0123456789abcdef",
	}
}

// Run tests the stores that make makes. Each call of make makes a new, empty place, and each call of what it returns makes
// another Store of that place. It is one table of tests, which is why it is long.
func Run(t *testing.T, make func(t *testing.T) func() store.Store) {
	ctx := context.Background()
	tests := []struct {
		name string
		run  func(t *testing.T, open func() store.Store)
	}{
		{"nothing is stored", func(t *testing.T, open func() store.Store) {
			s := open()
			_, v, err := s.Load(ctx)
			wantErr(t, err, protocol.ErrNotFound)
			if v != (store.Version{}) {
				t.Error("nothing has a version")
			}
			wantErr(t, s.Delete(ctx, store.Version{}), protocol.ErrNotFound)
			_, err = s.Save(ctx, Record(1), store.Version{1})
			wantErr(t, err, store.ErrConflict)
		}},
		{"a record comes back as it was", func(t *testing.T, open func() store.Store) {
			s := open()
			for i, r := range []store.Record{
				Record(1),
				{Kind: protocol.KindOAuth, AccessToken: protocol.NewSecret("fake-access-2"), Scopes: Record(1).Scopes, Subscription: "pro",
					RateLimit: "tier", GrantExpiry: time.UnixMilli(1990000000001)}, // never expires, nothing to renew with
			} {
				_, base, _ := s.Load(ctx)
				v := save(t, s, r, base)
				for _, other := range []store.Store{s, open()} {
					got, loaded := load(t, other)
					if !reflect.DeepEqual(reveal(got), reveal(r)) {
						t.Errorf("record %d: loaded %+v, saved %+v", i, got, r)
					}
					if loaded != v {
						t.Errorf("record %d: Load and Save disagree on its version", i)
					}
				}
			}
		}},
		{"the version is of the record alone", func(t *testing.T, open func() store.Store) {
			s := open()
			first := save(t, s, Record(1), store.Version{})
			second := save(t, s, Record(2), first)
			if first == second || first == (store.Version{}) {
				t.Error("two records have one version, or none")
			}
			if again := save(t, s, Record(1), second); again != first {
				t.Error("one record has two versions")
			}
		}},
		{"save compares and swaps", func(t *testing.T, open func() store.Store) {
			s, other := open(), open()
			first := save(t, s, Record(1), store.Version{})
			second := save(t, other, Record(2), first)
			for _, base := range []store.Version{first, {}, {1}} {
				_, err := s.Save(ctx, Record(3), base)
				wantErr(t, err, store.ErrConflict)
			}
			if r, v := load(t, s); v != second || r.AccessToken.Reveal() != "fake-access-2" {
				t.Error("a refused save changed the record")
			}
			if v := save(t, s, Record(2), first); v != second {
				t.Error("a save of what is stored has another version")
			}
		}},
		{"delete compares, and a save after it never recreates", func(t *testing.T, open func() store.Store) {
			s, other := open(), open()
			v := save(t, s, Record(1), store.Version{})
			wantErr(t, s.Delete(ctx, store.Version{1}), store.ErrConflict)
			if err := other.Delete(ctx, v); err != nil {
				t.Fatal(err)
			}
			_, _, err := s.Load(ctx)
			wantErr(t, err, protocol.ErrNotFound)
			_, err = s.Save(ctx, Record(2), v)
			wantErr(t, err, store.ErrConflict)
			_, _, err = s.Load(ctx)
			wantErr(t, err, protocol.ErrNotFound)
			save(t, s, Record(3), store.Version{})
		}},
		{"what can't be sent is not stored", func(t *testing.T, open func() store.Store) {
			s := open()
			for _, token := range []string{"", "fake\naccess", "fake\x00", "fake\x7f", "fake\xff"} {
				r := store.Record{Kind: protocol.KindOAuth, AccessToken: protocol.NewSecret(token)}
				_, err := s.Save(ctx, r, store.Version{})
				wantErr(t, err, protocol.ErrInvalid)
			}
			_, _, err := s.Load(ctx)
			wantErr(t, err, protocol.ErrNotFound)
		}},
		{"one lock at a time, and the holder may write", func(t *testing.T, open func() store.Store) {
			s, other := open(), open()
			held := lock(t, s)
			if err := held.Check(); err != nil {
				t.Errorf("a lock just taken: %v", err)
			}
			short, cancel := context.WithTimeout(ctx, 30*time.Millisecond)
			defer cancel()
			_, err := other.Lock(short)
			wantErr(t, err, protocol.ErrUnavailable)
			_, err = other.Save(short, Record(9), store.Version{})
			wantErr(t, err, protocol.ErrUnavailable)
			save(t, s, Record(1), store.Version{})
			for range 2 {
				if err := held.Release(); err != nil {
					t.Errorf("release: %v", err)
				}
			}
			next := lock(t, other)
			if r, _ := load(t, other); r.AccessToken.Reveal() != "fake-access-1" {
				t.Error("the holder's record is not there")
			}
			if err := next.Release(); err != nil {
				t.Error(err)
			}
		}},
		{"nothing is lost between many", func(t *testing.T, open func() store.Store) {
			const workers, rounds = 4, 5
			v := save(t, open(), Record(0), store.Version{})
			var done sync.WaitGroup
			for range workers {
				done.Go(func() {
					s := open()
					for range rounds {
						l, err := s.Lock(ctx)
						if err != nil {
							t.Error(err)
							return
						}
						r, base, err := s.Load(ctx)
						if err == nil {
							n, _ := strconv.Atoi(r.AccessToken.Reveal()[len("fake-access-"):])
							_, err = s.Save(ctx, Record(n+1), base)
						}
						if err := errors.Join(err, l.Check(), l.Release()); err != nil {
							t.Error(err)
							return
						}
					}
				})
			}
			done.Wait()
			r, last := load(t, open())
			if want := "fake-access-" + strconv.Itoa(workers*rounds); r.AccessToken.Reveal() != want || last == v {
				t.Errorf("after %d increments: %s", workers*rounds, r.AccessToken.Reveal())
			}
		}},
		{"whatever may be stored comes back", func(t *testing.T, open func() store.Store) {
			s := open()
			var base store.Version
			for i, size := range []int{1, 100, 800} {
				for _, letter := range []string{"a", "\"", "\\", "ü", "漢", "🔑", "<&>", "\u2028"} {
					r := Record(i)
					r.RefreshToken = protocol.NewSecret("fake-" + strings.Repeat(letter, size/len(letter)))
					r.Scopes = []string{letter, "fake scope"}
					base = save(t, s, r, base)
					got, loaded := load(t, open())
					if !reflect.DeepEqual(reveal(got), reveal(r)) || loaded != base {
						t.Fatalf("%d of %q: another record came back", size, letter)
					}
				}
			}
		}},
		{"a reader sees the old record or the new, whole", func(t *testing.T, open func() store.Store) {
			base := save(t, open(), Record(0), store.Version{})
			var reading sync.WaitGroup
			saving, stop := context.WithCancel(ctx)
			defer stop()
			for range 2 {
				reading.Go(func() {
					s := open()
					for last := 0; saving.Err() == nil; {
						r, _, err := s.Load(ctx)
						if err != nil {
							t.Errorf("while it is written: %v", err)
							return
						}
						n, _ := strconv.Atoi(r.AccessToken.Reveal()[len("fake-access-"):])
						whole := Record(n)
						if r.RefreshToken.Reveal() != whole.RefreshToken.Reveal() || !r.Expiry.Equal(whole.Expiry) || n < last {
							t.Errorf("after record %d, a reader sees %+v", last, r)
							return
						}
						last = n
					}
				})
			}
			s := open()
			for n := 1; n <= 10; n++ {
				base = save(t, s, Record(n), base)
			}
			stop()
			reading.Wait()
		}},
		{"a context that has ended changes nothing", func(t *testing.T, open func() store.Store) {
			s, other := open(), open()
			v := save(t, s, Record(1), store.Version{})
			held := lock(t, other)
			defer held.Release()
			over, cancel := context.WithCancel(ctx)
			cancel()
			if _, err := s.Lock(over); err == nil {
				t.Error("a lock was taken that another holds")
			}
			if _, err := s.Save(over, Record(2), v); err == nil {
				t.Error("a record was saved that another holds")
			}
			if err := s.Delete(over, v); err == nil {
				t.Error("a record was deleted that another holds")
			}
			if _, now := load(t, s); now != v {
				t.Error("the record has changed")
			}
		}},
		{"what is reserved is saved, and nothing else changes", func(t *testing.T, open func() store.Store) {
			s, other := open(), open()
			var base store.Version
			for n, size := range []int{1, 1, 100, 12_000, 1} { // what is reserved is a guess
				held := lock(t, s)
				for range 2 {
					if err := held.Reserve(ctx); err != nil {
						t.Fatalf("reserve: %v", err)
					}
				}
				if err := held.Check(); err != nil {
					t.Errorf("a lock with a reservation: %v", err)
				}
				if _, now, err := other.Load(ctx); now != base || err != nil && base != (store.Version{}) {
					t.Errorf("a reservation changed the record: %v", err)
				}
				r := Record(n)
				if size > 1 {
					r.TokenOrigin = "https://" + strings.Repeat("fake.", size/5) + "example"
				}
				base = save(t, s, r, base)
				if again := save(t, s, Record(n+100), base); again == base { // without one
					t.Error("two records have one version")
				} else {
					base = again
				}
				if err := held.Release(); err != nil {
					t.Error(err)
				}
			}
		}},
		{"what is reserved and not used is in nobody's way", func(t *testing.T, open func() store.Store) {
			s, other := open(), open()
			v := save(t, s, Record(1), store.Version{})
			held := lock(t, s)
			if err := held.Reserve(ctx); err != nil {
				t.Fatalf("reserve: %v", err)
			}
			if err := held.Release(); err != nil {
				t.Error(err)
			}
			if err := held.Reserve(ctx); err == nil {
				t.Error("a lock that was released reserves")
			}
			next := lock(t, other)
			if err := next.Reserve(ctx); err != nil {
				t.Fatalf("the next one's: %v", err)
			}
			if err := held.Release(); err != nil { // a second time, when another process may have the lock
				t.Error(err)
			}
			save(t, other, Record(2), v)
			if err := errors.Join(next.Check(), next.Release()); err != nil {
				t.Error(err)
			}
			if r, _ := load(t, s); r.AccessToken.Reveal() != "fake-access-2" {
				t.Error("the record is not there")
			}
		}},
		{"the place has a name", func(t *testing.T, open func() store.Store) {
			p := open().Place()
			if p.Kind == "" || p.Location == "" || !reflect.DeepEqual(p, open().Place()) {
				t.Errorf("place %+v", p)
			}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.run(t, make(t))
		})
	}
}

func wantErr(t *testing.T, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("got error %v, want %v", got, want)
	}
}

func save(t *testing.T, s store.Store, r store.Record, base store.Version) store.Version {
	t.Helper()
	v, err := s.Save(context.Background(), r, base)
	if err != nil {
		t.Fatalf("save: %v", err)
	}
	return v
}

func load(t *testing.T, s store.Store) (store.Record, store.Version) {
	t.Helper()
	r, v, err := s.Load(context.Background())
	if err != nil {
		t.Fatalf("load: %v", err)
	}
	return r, v
}

func lock(t *testing.T, s store.Store) store.Lock {
	t.Helper()
	l, err := s.Lock(context.Background())
	if err != nil {
		t.Fatalf("lock: %v", err)
	}
	return l
}

// reveal makes records comparable: two secrets are different pointers, and two times may differ in their zone.
func reveal(r store.Record) any {
	access, refresh := r.AccessToken.Reveal(), r.RefreshToken.Reveal()
	times := []int64{r.Expiry.UnixMilli(), r.Issued.UnixMilli(), r.GrantExpiry.UnixMilli()}
	r.AccessToken, r.RefreshToken = protocol.Secret{}, protocol.Secret{}
	r.Expiry, r.Issued, r.GrantExpiry = time.Time{}, time.Time{}, time.Time{}
	return []any{access, refresh, times, r}
}
