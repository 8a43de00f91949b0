package embed_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ccagent/ccagent/agent"
	"github.com/ccagent/ccagent/agent/embed"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store"
)

// accounts is a provider of several accounts, whose refresh tokens are good once: "fake-refresh-ACCOUNT-N".
type accounts struct {
	mu     sync.Mutex
	spent  map[string]bool
	reuses int
	err    error
}

func (p *accounts) Renew(_ context.Context, old store.Record) (store.Record, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	token := old.RefreshToken.Reveal()
	switch {
	case p.err != nil:
		return store.Record{}, p.err
	case token == "":
		return store.Record{}, &protocol.Error{Code: protocol.CodeExpired, Message: "there is nothing to renew it with"}
	case strings.Contains(token, "revoked"):
		return store.Record{}, &protocol.Error{Code: protocol.CodeLoginRequired, Message: "refused"}
	case p.spent[token]:
		p.reuses++
		return store.Record{}, &protocol.Error{Code: protocol.CodeLoginRequired, Message: "the refresh token was used before"}
	}
	p.spent[token] = true
	var account string
	var n int
	fmt.Sscanf(strings.ReplaceAll(token, "-", " "), "fake refresh %s %d", &account, &n)
	return accountRecord(account, n+1, time.Hour), nil
}

func (p *accounts) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.err = err
}

func accountRecord(account string, n int, left time.Duration) store.Record {
	return store.Record{
		AccessToken:  protocol.NewSecret(fmt.Sprintf("fake-access-%s-%d", account, n)),
		RefreshToken: protocol.NewSecret(fmt.Sprintf("fake-refresh-%s-%d", account, n)),
		Expiry:       time.Now().Add(left).Truncate(time.Millisecond),
	}
}

// put writes a record over a file as a backup does: whole, and without a lock.
func put(t *testing.T, path string, r store.Record) {
	t.Helper()
	form, err := r.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path+".new", []byte(form.Reveal()), 0o600),
		os.Rename(path+".new", path)); err != nil {
		t.Fatal(err)
	}
}

// TestNobodyElseIsServed: the record of account a takes the place of b's, whose token the agent has in hand.
func TestNobodyElseIsServed(t *testing.T) {
	t.Parallel()
	down := &protocol.Error{Code: protocol.CodeUnavailable, Message: "the provider is down"}
	for _, state := range []string{"alive", "unsaved", "in back-off"} {
		for file, want := range map[string]error{
			"alive": nil, "expired": nil, "revoked": protocol.ErrLoginRequired, "without refresh token": protocol.ErrExpired,
			"down": protocol.ErrUnavailable, "corrupt": protocol.ErrInvalid,
		} {
			t.Run("b is "+state+", a is "+file, func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				st := store.NewFile(dir, "main")
				path := st.Place().Location
				p := &accounts{spent: map[string]bool{}}
				var place store.Store = st
				left := time.Hour
				switch state {
				case "unsaved":
					left, place = -time.Minute, &unsaving{Store: st}
				case "in back-off":
					left = 3 * time.Minute
					p.fail(down)
				}
				put(t, path, accountRecord("b", 1, left))
				a := agent.New(agent.Options{
					Runner: &embed.Runner{Profiles: map[string]embed.Profile{"main": {Provider: p, Store: place}}, StateDir: t.TempDir()},
					Load: func() (agent.Config, error) {
						return agent.Config{Default: "main", Profiles: []agent.Profile{{Name: "main"}}}, nil
					}})
				defer a.Close(context.Background())
				if got := token(t, a, protocol.TokenRequest{}); !strings.Contains(got, "-b-") {
					t.Fatalf("got %q", got)
				}
				p.fail(nil)
				other := accountRecord("a", 1, -time.Minute)
				switch file {
				case "alive":
					other = accountRecord("a", 1, time.Hour)
				case "revoked":
					other = accountRecord("a-revoked", 1, -time.Minute)
				case "without refresh token":
					other.RefreshToken = protocol.Secret{}
				case "down":
					p.fail(down)
				}
				put(t, path, other)
				if file == "corrupt" {
					if err := errors.Join(os.WriteFile(path+".new", []byte(`{"version"`), 0o600), os.Rename(path+".new", path)); err != nil {
						t.Fatal(err)
					}
				}
				for _, req := range []protocol.TokenRequest{{}, {MinTTL: 10 * time.Minute}, {HalfLife: true}, {Force: true}, {}} {
					got, err := a.Token(t.Context(), req)
					if strings.Contains(got.Value.Reveal(), "-b-") {
						t.Fatalf("%+v: b's token is served", req)
					}
					bad := want == protocol.ErrInvalid && errors.Is(err, protocol.ErrStorage)
					if !req.Force && !errors.Is(err, want) && !bad {
						t.Errorf("%+v: %q, %v, want %v", req, got.Value.Reveal(), err, want)
					}
				}
				if data, _ := os.ReadFile(path); strings.Contains(string(data), "-b-") {
					t.Error("b was written over a's record")
				}
			})
		}
	}
}

// unsaving is a store that refuses the first save.
type unsaving struct {
	store.Store
	once sync.Once
}

func (s *unsaving) Save(ctx context.Context, r store.Record, base store.Version) (store.Version, error) {
	err := error(nil)
	s.once.Do(func() { err = &protocol.Error{Code: protocol.CodeStorage, Message: "no room"} })
	if err != nil {
		return store.Version{}, err
	}
	return s.Store.Save(ctx, r, base)
}

// TestOldCopy has a backup bring the record back whose refresh token the first job of all has spent.
func TestOldCopy(t *testing.T) {
	t.Parallel()
	const bare, forgotten = "in a store of the program's own, whose records are not copied", "further back than the history goes"
	for _, where := range []string{"in a file", bare, forgotten} {
		dir, state := t.TempDir(), t.TempDir()
		var st store.Store = store.NewFile(dir, "main")
		path := st.Place().Location
		if where == bare {
			st = &unsaving{Store: st}
			st.(*unsaving).once.Do(func() {})
		}
		p := &accounts{spent: map[string]bool{}}
		old := accountRecord("b", 1, -time.Minute)
		put(t, path, old)
		runner := &embed.Runner{Profiles: map[string]embed.Profile{"main": {Provider: p, Store: st}}, StateDir: state}
		newest := token(t, start(t, runner), protocol.TokenRequest{})
		if where == forgotten {
			os.RemoveAll(filepath.Join(state, "history"))
		}
		for range 2 { // the agent that has renewed it was another
			put(t, path, old)
			a := start(t, runner)
			got, err := a.Token(t.Context(), protocol.TokenRequest{})
			found := err == nil && got.Value.Reveal() == newest
			if lost := where != "in a file"; lost && !errors.Is(err, protocol.ErrLoginRequired) || !lost && !found {
				t.Errorf("%s: got %q, %v", where, got.Value.Reveal(), err)
			}
		}
		if p.reuses != 0 {
			t.Errorf("a spent refresh token was sent %d times", p.reuses)
		}
	}
}
