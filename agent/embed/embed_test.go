package embed_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/ccagent/ccagent/agent"
	"github.com/ccagent/ccagent/agent/embed"
	"github.com/ccagent/ccagent/agent/job"
	"github.com/ccagent/ccagent/agent/socket"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/protocol/protocoltest"
	"github.com/ccagent/ccagent/store"
)

// TestMain: an agent that is closed leaves no goroutine behind, whatever the tests did with it.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rotating is a provider whose refresh tokens are good once.
type rotating struct {
	mu       sync.Mutex
	n        int
	lifetime time.Duration
	err      error
	revoked  []string
}

func (p *rotating) Renew(_ context.Context, old store.Record) (store.Record, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return store.Record{}, p.err
	}
	if want := fmt.Sprintf("fake-refresh-%d", p.n); p.n > 0 && old.RefreshToken.Reveal() != want {
		return store.Record{}, &protocol.Error{Code: protocol.CodeLoginRequired, Message: "the refresh token was used before"}
	}
	p.n++
	now := time.Now().Truncate(time.Millisecond)
	old.AccessToken = protocol.NewSecret(fmt.Sprintf("fake-access-%d", p.n))
	old.RefreshToken = protocol.NewSecret(fmt.Sprintf("fake-refresh-%d", p.n))
	old.Issued, old.Expiry = now.Add(-2*p.lifetime), now.Add(p.lifetime) // so that a request for more than what is left renews
	return old, nil
}

func (p *rotating) Revoke(_ context.Context, r store.Record) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.revoked = append(p.revoked, r.RefreshToken.Reveal())
	return nil
}

func (p *rotating) Identify(context.Context, store.Record) (protocol.Identity, error) {
	return protocol.Identity{Account: "user-1", Fetched: time.UnixMilli(1767225600123)}, nil
}

func (p *rotating) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.err = err
}

func (p *rotating) renewals() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.n
}

// start runs an agent within the test.
func start(t *testing.T, r *embed.Runner) *agent.Agent {
	t.Helper()
	a := agent.New(agent.Options{Runner: r, Load: func() (agent.Config, error) {
		c := agent.Config{Default: "main"}
		for name := range r.Profiles {
			c.Profiles = append(c.Profiles, agent.Profile{Name: name})
		}
		return c, nil
	}})
	t.Cleanup(func() { a.Close(context.Background()) })
	return a
}

func token(t *testing.T, a protocol.Agent, req protocol.TokenRequest) string {
	t.Helper()
	got, err := a.Token(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	return got.Value.Reveal()
}

// What a token says itself that it is counts before what its provider says of it.
func TestKind(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		value      string
		said, want protocol.Kind
	}{
		{"fake-1", "", protocol.KindBearer}, {"fake-1", protocol.KindAPIKey, protocol.KindAPIKey},
		{"sk-ant-oat01-fake", protocol.KindAPIKey, protocol.KindOAuth}, {"sk-ant-api03-fake", "", protocol.KindAPIKey},
	} {
		a := start(
			t,
			&embed.Runner{
				Profiles: map[string]embed.Profile{
					"main": {Provider: embed.ProviderFunc(func(context.Context, store.Record) (store.Record, error) {
						return store.Record{Kind: tt.said, AccessToken: protocol.NewSecret(tt.value)}, nil
					})},
				},
			},
		)
		if got, err := a.Token(t.Context(), protocol.TokenRequest{}); err != nil || got.Kind != tt.want {
			t.Errorf("%s, said to be %q, is %q, %v; want %q", tt.value, tt.said, got.Kind, err, tt.want)
		}
	}
}

// places are where a record may rest: each call of what they return is another Store on the same place.
func places(t *testing.T) map[string]func() store.Store {
	dir := t.TempDir()
	return map[string]func() store.Store{
		"memory": func() store.Store { return nil },
		"file":   func() store.Store { return store.NewFile(dir, "main") },
	}
}

func TestLife(t *testing.T) {
	t.Parallel()
	for name, place := range places(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := &rotating{lifetime: time.Hour}
			runner := &embed.Runner{Profiles: map[string]embed.Profile{"main": {Provider: p, Store: place()}}, StateDir: t.TempDir()}
			a := start(t, runner)

			// The first of a herd makes a token of nothing, and all have that one.
			var herd sync.WaitGroup
			var wrong atomic.Int32
			for range 50 {
				herd.Go(func() {
					if got, err := a.Token(t.Context(), protocol.TokenRequest{}); err != nil || got.Value.Reveal() != "fake-access-1" {
						wrong.Add(1)
					}
				})
			}
			herd.Wait()
			if wrong.Load() != 0 || p.renewals() != 1 {
				t.Fatalf("%d of 50 got something else, after %d renewals", wrong.Load(), p.renewals())
			}
			if got := token(t, a, protocol.TokenRequest{MinTTL: 2 * time.Hour}); got != "fake-access-2" {
				t.Errorf("a token that must live longer is %s", got)
			}
			if who, err := a.Identify(t.Context(), protocol.IdentifyRequest{}); err != nil || who.Account != "user-1" ||
				who.Profile != "main" {
				t.Errorf("%+v, %v", who, err)
			}

			// What was saved is there for the next agent; what was memory's is gone.
			if err := a.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			runner.Profiles = map[string]embed.Profile{"main": {Provider: p, Store: place()}}
			next := start(t, runner)
			got, err := next.Token(t.Context(), protocol.TokenRequest{})
			if name == "memory" {
				if !errors.Is(err, protocol.ErrLoginRequired) {
					t.Errorf("a new agent has %q, %v", got.Value.Reveal(), err)
				}
				return
			}
			if err != nil || got.Value.Reveal() != "fake-access-2" || p.renewals() != 2 {
				t.Errorf("the next agent has %q, %v after %d renewals", got.Value.Reveal(), err, p.renewals())
			}
			if _, err := next.Control(t.Context(), protocol.ControlRequest{Command: protocol.CommandLogout, Profile: "main"}); err != nil {
				t.Error(err)
			}
			if len(p.revoked) != 1 || p.revoked[0] != "fake-refresh-2" {
				t.Errorf("revoked: %q", p.revoked)
			}
			if _, _, err := place().Load(t.Context()); !errors.Is(err, protocol.ErrNotFound) {
				t.Errorf("after the logout: %v", err)
			}
		})
	}
}

// TestOutage: a provider that fails is not asked in a loop, and what lives is served meanwhile.
func TestOutage(t *testing.T) {
	t.Parallel()
	p := &rotating{lifetime: time.Hour}
	a := start(t, &embed.Runner{Profiles: map[string]embed.Profile{"main": {Provider: p}}})
	token(t, a, protocol.TokenRequest{})
	p.fail(&protocol.Error{Code: protocol.CodeUnavailable, Message: "the provider answered 503"})
	if got := token(t, a, protocol.TokenRequest{MinTTL: 2 * time.Hour}); got != "fake-access-1" {
		t.Errorf("during the outage: %s", got)
	}
	p.fail(errors.New("fake-secret-in-an-error-of-no-code"))
	if _, err := a.Token(t.Context(), protocol.TokenRequest{Profile: "nobody"}); !errors.Is(err, protocol.ErrNotFound) {
		t.Errorf("an unknown profile: %v", err)
	}
}

// TestNothingIsLost: a record that the provider rotated and the store refused is served, and brought home by the next agent.
func TestNothingIsLost(t *testing.T) {
	t.Parallel()
	dir, state := t.TempDir(), t.TempDir()
	p := &rotating{lifetime: time.Hour}
	full := &refusing{Store: store.NewFile(dir, "main")}
	runner := &embed.Runner{Profiles: map[string]embed.Profile{"main": {Provider: p, Store: full}}, StateDir: state}
	a := start(t, runner)
	token(t, a, protocol.TokenRequest{})
	full.refuse.Store(true)
	if got := token(t, a, protocol.TokenRequest{MinTTL: 2 * time.Hour}); got != "fake-access-2" {
		t.Fatalf("the rotated token is not served, but %s", got)
	}
	status, err := a.Status(t.Context(), protocol.StatusRequest{Profile: "main"})
	if err != nil || status.Profiles[0].State != protocol.StateUnsaved {
		t.Errorf("%+v, %v; want state unsaved", status.Profiles, err)
	}
	if err := a.Close(t.Context()); err != nil {
		t.Errorf("Close: %v", err)
	}
	if spills, _ := filepath.Glob(filepath.Join(state, "spill", "*.json")); len(spills) != 1 {
		t.Fatalf("%d spill files, want 1", len(spills))
	}
	full.refuse.Store(false)
	next := start(t, runner)
	if got := token(t, next, protocol.TokenRequest{MinTTL: 2 * time.Hour}); got != "fake-access-3" {
		t.Errorf("the next agent could not go on from what was spilled: %s", got)
	}
	if r, _, err := store.NewFile(dir, "main").Load(t.Context()); err != nil || r.RefreshToken.Reveal() != "fake-refresh-3" {
		t.Errorf("stored: %q, %v", r.RefreshToken.Reveal(), err)
	}
}

// TestOrder: what a provider rotated is handed over before it is saved, spilled where it can't be saved, and saved by the next
// job that gets it.
func TestOrder(t *testing.T) {
	t.Parallel()
	dir, state := t.TempDir(), t.TempDir()
	st := &refusing{Store: store.NewFile(dir, "main")}
	runner := &embed.Runner{
		Profiles: map[string]embed.Profile{"main": {Provider: &rotating{lifetime: time.Hour}, Store: st}},
		StateDir: state,
	}
	spills := func() int {
		files, _ := filepath.Glob(filepath.Join(state, "spill", "*.json"))
		return len(files)
	}
	var handed job.Result
	handOver := func(r job.Result) {
		handed = r
		if _, _, err := st.Load(t.Context()); !errors.Is(err, protocol.ErrNotFound) {
			t.Errorf("before the hand-over something is stored: %v", err)
		}
	}
	st.refuse.Store(true)
	report, err := runner.Run(t.Context(), job.Job{Op: job.Renew, Profile: "main"}, handOver)
	if err != nil || handed.Token.Reveal() != "fake-access-1" || handed.Record.Empty() {
		t.Fatalf("handed over: %+v, %v", handed, err)
	}
	if r := report.Result; !errors.Is(report.Err, protocol.ErrStorage) || r.Saved || !r.Renewed || r.Record.Empty() ||
		spills() != 1 {
		t.Errorf("%+v, %d spill files", report, spills())
	}

	// The agent's next job has the record; what was spilled is the same one, and is gone when that is saved.
	st.refuse.Store(false)
	first := handed.Record
	save := job.Job{Op: job.Save, Profile: "main", Record: handed.Record, Base: handed.Version}
	if report, err = runner.Run(t.Context(), save, nil); err != nil || report.Err != nil || !report.Result.Saved || spills() != 0 {
		t.Errorf("%+v, %v, %d spill files", report, err, spills())
	}
	if r, _, err := st.Load(t.Context()); err != nil || r.RefreshToken.Reveal() != "fake-refresh-1" {
		t.Errorf("stored: %q, %v", r.RefreshToken.Reveal(), err)
	}

	// Without a folder for spill files the agent's memory is all there is, and a save from there works the same.
	runner.StateDir = ""
	st.refuse.Store(true)
	renew := job.Job{Op: job.Renew, Profile: "main", Base: report.Result.Version, MinTTL: 2 * time.Hour}
	report, err = runner.Run(t.Context(), renew, func(r job.Result) { handed = r })
	if err != nil || report.Result.Saved || handed.Token.Reveal() != "fake-access-2" {
		t.Fatalf("%+v, %v", report, err)
	}
	st.refuse.Store(false)
	save.Record, save.Base = report.Result.Record, report.Result.Version
	if report, err = runner.Run(t.Context(), save, nil); err != nil || report.Err != nil || !report.Result.Saved {
		t.Errorf("%+v, %v", report, err)
	}
	if r, _, err := st.Load(t.Context()); err != nil || r.RefreshToken.Reveal() != "fake-refresh-2" {
		t.Errorf("stored: %q, %v", r.RefreshToken.Reveal(), err)
	}

	// Somebody else has written meanwhile: theirs stays.
	save.Record, save.Base = first, job.Version{1}
	if report, err = runner.Run(t.Context(), save, nil); err != nil || report.Err != nil || !report.Result.Saved {
		t.Errorf("%+v, %v", report, err)
	}
	if r, _, err := st.Load(t.Context()); err != nil || r.RefreshToken.Reveal() != "fake-refresh-2" {
		t.Errorf("stored: %q, %v", r.RefreshToken.Reveal(), err)
	}
}

// TestReserve: a refresh token is not sent while its successor could be saved nowhere.
func TestReserve(t *testing.T) {
	t.Parallel()
	p := &rotating{lifetime: time.Minute}
	home := t.TempDir()
	st := store.NewClaudeCode(home)
	runner := &embed.Runner{Profiles: map[string]embed.Profile{"main": {Provider: p, Store: st}}, StateDir: t.TempDir()}
	if report, err := runner.Run(t.Context(), job.Job{Op: job.Renew, Profile: "main"}, func(job.Result) {}); err != nil ||
		report.Err != nil {
		t.Fatalf("%+v, %v", report, err)
	}
	lock := filepath.Join(home, ".storage-write.lock")
	if err := os.WriteFile(lock, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	renew := job.Job{Op: job.Renew, Profile: "main", MinTTL: time.Hour}
	report, err := runner.Run(t.Context(), renew, func(job.Result) {})
	if err != nil || !errors.Is(report.Err, protocol.ErrStorage) || report.Result.Token.Reveal() != "fake-access-1" ||
		p.renewals() != 1 {
		t.Errorf("%+v, %v after %d renewals", report, err, p.renewals())
	}
	if err := os.Remove(lock); err != nil {
		t.Fatal(err)
	}
	if report, err := runner.Run(t.Context(), renew, func(job.Result) {}); err != nil || report.Err != nil ||
		report.Result.Token.Reveal() != "fake-access-2" {
		t.Errorf("mended: %+v, %v", report, err)
	}
}

// refusing is a store on a disk that is full at times.
type refusing struct {
	store.Store
	refuse atomic.Bool
	before func()      // another program's turn, right before a save
	bad    atomic.Bool // it can't be read either
	gone   error       // what it says when it is asked for the record
}

func (s *refusing) Save(ctx context.Context, r store.Record, base store.Version) (store.Version, error) {
	if s.refuse.Load() {
		return store.Version{}, &protocol.Error{Code: protocol.CodeStorage, Message: "no space left on the device"}
	}
	if s.before != nil {
		s.before()
	}
	return s.Store.Save(ctx, r, base)
}

func (s *refusing) Load(ctx context.Context) (store.Record, store.Version, error) {
	switch {
	case s.bad.Load():
		return store.Record{}, store.Version{}, &protocol.Error{Code: protocol.CodeStorage, Message: "input/output error"}
	case s.gone != nil:
		return store.Record{}, store.Version{}, s.gone
	}
	return s.Store.Load(ctx)
}

// TestWhoWins: what the agent holds unsaved, what an earlier try at saving left and what the store has are brought into the order
// that workers keep to.
func TestWhoWins(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	numbered := func(n int) store.Record {
		return store.Record{
			AccessToken: protocol.NewSecret(
				fmt.Sprintf("fake-access-%d", n),
			), RefreshToken: protocol.NewSecret(fmt.Sprintf("fake-refresh-%d", n)),
			Issued: time.Now(), Expiry: time.Now().Add(time.Hour),
		}
	}
	type place struct {
		st     *refusing
		runner *embed.Runner
		p      *rotating
		base   store.Version // of what is stored, numbered(1)
	}
	begin := func(t *testing.T) place {
		st, p := &refusing{Store: store.NewFile(t.TempDir(), "main")}, &rotating{lifetime: time.Hour}
		base, err := st.Save(ctx, numbered(1), store.Version{})
		if err != nil {
			t.Fatal(err)
		}
		return place{st, &embed.Runner{Profiles: map[string]embed.Profile{"main": {Provider: p, Store: st}}, StateDir: t.TempDir()}, p,
			base}
	}
	holding := func(r store.Record, base store.Version) job.Job {
		form, err := r.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		return job.Job{Op: job.Save, Profile: "main", Record: form, Base: job.Version(base)}
	}
	run := func(t *testing.T, pl place, j job.Job) job.Report {
		t.Helper()
		report, err := pl.runner.Run(ctx, j, func(job.Result) {})
		if err != nil {
			t.Fatal(err)
		}
		return report
	}
	stored := func(t *testing.T, pl place, n int) {
		t.Helper()
		if r, _, err := pl.st.Store.Load(ctx); err != nil || r.RefreshToken.Reveal() != fmt.Sprintf("fake-refresh-%d", n) {
			t.Errorf("stored: %q, %v, want number %d", r.RefreshToken.Reveal(), err, n)
		}
	}
	files := func(pl place, extension string) int {
		found, _ := filepath.Glob(filepath.Join(pl.runner.StateDir, "spill", "*."+extension))
		return len(found)
	}

	t.Run("a spill that is older than what is held", func(t *testing.T) {
		pl := begin(t)
		if err := store.Spill(pl.runner.StateDir, pl.st, pl.base, numbered(2)); err != nil {
			t.Fatal(err)
		}
		if report := run(t, pl, holding(numbered(3), pl.base)); report.Err != nil || !report.Result.Saved {
			t.Errorf("%+v", report)
		}
		stored(t, pl, 3)
		if n := files(pl, "json"); n != 0 {
			t.Errorf("%d spill files are left", n)
		}
	})
	t.Run("somebody else writes while we renew", func(t *testing.T) {
		pl := begin(t)
		pl.st.before = func() {
			pl.st.before = nil
			if _, err := pl.st.Store.Save(ctx, numbered(9), pl.base); err != nil {
				t.Error(err)
			}
		}
		renew := job.Job{Op: job.Renew, Profile: "main", Base: job.Version(pl.base), Force: true}
		if report := run(t, pl, renew); report.Err != nil || report.Result.Token.Reveal() != "fake-access-9" {
			t.Errorf("%+v", report)
		}
		stored(t, pl, 9)
		if n := files(pl, "kept"); n != 1 {
			t.Errorf("%d records are kept aside, want ours", n)
		}
	})
	t.Run("a store that can't be read", func(t *testing.T) {
		pl := begin(t)
		pl.st.bad.Store(true)
		pl.st.refuse.Store(true)
		j := holding(numbered(2), pl.base)
		j.Op, j.Force = job.Renew, true
		if report := run(t, pl, j); !report.Result.Renewed || report.Result.Saved || report.Result.Record.Empty() {
			t.Errorf("what is held was not renewed: %+v", report)
		}
	})
	t.Run("a logout", func(t *testing.T) {
		pl := begin(t)
		if err := store.Spill(pl.runner.StateDir, pl.st, pl.base, numbered(2)); err != nil {
			t.Fatal(err)
		}
		if report := run(t, pl, job.Job{Op: job.Logout, Profile: "main"}); report.Err != nil || len(pl.p.revoked) != 1 ||
			pl.p.revoked[0] != "fake-refresh-2" {
			t.Errorf("%+v, revoked %q, want the newest", report.Err, pl.p.revoked)
		}
	})
	t.Run("a sign-in where the record went missing", func(t *testing.T) {
		pl := begin(t)
		if err := pl.st.Delete(ctx, pl.base); err != nil {
			t.Fatal(err)
		}
		pl.st.gone = store.ErrMissing
		j := holding(numbered(2), store.Version{})
		j.Op, j.SignIn, j.Force = job.Put, true, true
		if report := run(t, pl, j); report.Err != nil || !report.Result.Saved {
			t.Errorf("%+v", report)
		}
		stored(t, pl, 2)
	})
}

// TestPut: records come in as they do for any agent.
func TestPut(t *testing.T) {
	t.Parallel()
	for name, place := range places(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := &rotating{err: protocol.ErrLoginRequired}
			a := start(t, &embed.Runner{Profiles: map[string]embed.Profile{"main": {Provider: p, Store: place()}}, StateDir: t.TempDir()})
			if _, err := a.Token(t.Context(), protocol.TokenRequest{}); !errors.Is(err, protocol.ErrLoginRequired) {
				t.Fatalf("before the sign-in: %v", err)
			}
			record, err := store.Record{AccessToken: protocol.NewSecret("fake-access-9"), Expiry: time.Now().Add(time.Hour)}.Marshal()
			if err != nil {
				t.Fatal(err)
			}
			if reply, err := a.Put(t.Context(), protocol.PutRequest{Record: record, SignIn: true}); err != nil || reply.Location == "" {
				t.Fatalf("%+v, %v", reply, err)
			}
			if got := token(t, a, protocol.TokenRequest{}); got != "fake-access-9" {
				t.Errorf("after it: %s", got)
			}
			_, err = a.Put(t.Context(), protocol.PutRequest{Record: protocol.NewSecret("no record")})
			if !errors.Is(err, protocol.ErrInvalid) {
				t.Errorf("what is no record: %v", err)
			}
			if _, err := a.Control(t.Context(), protocol.ControlRequest{Command: protocol.CommandRemove, Profile: "main"}); err != nil {
				t.Error(err)
			}
			if _, err := a.Token(t.Context(), protocol.TokenRequest{}); !errors.Is(err, protocol.ErrLoginRequired) {
				t.Errorf("after the removal: %v", err)
			}
		})
	}
}

// TestServe: the embedded agent is an agent like any other to programs that connect.
func TestServe(t *testing.T) {
	t.Parallel()
	a := start(t, &embed.Runner{Profiles: map[string]embed.Profile{"main": {Provider: &rotating{lifetime: time.Hour}}}})
	l, err := socket.Listen(t.Context(), filepath.Join(protocoltest.SocketDir(t), "s", "agent.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Release()
	served := make(chan error)
	go func() { served <- a.Serve(l, socket.OnlyUser(uint32(os.Geteuid()))) }()
	p := protocol.NewPool(protocol.NewClient(l.Path()), 0)
	defer p.Close()
	if got := token(t, p, protocol.TokenRequest{}); got != "fake-access-1" {
		t.Errorf("over the socket: %s", got)
	}
	a.Stop()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// spender is a provider that counts how often it was sent each refresh token.
type spender struct{ sent map[string]int }

func (p *spender) Renew(_ context.Context, r store.Record) (store.Record, error) {
	p.sent[r.RefreshToken.Reveal()]++
	n := strconv.Itoa(len(p.sent))
	r.AccessToken, r.RefreshToken = protocol.NewSecret("fake-new-access-"+n), protocol.NewSecret("fake-new-refresh-"+n)
	r.Issued, r.Expiry = time.Now(), time.Now().Add(time.Hour)
	return r, nil
}

// TestOneHome: of two profiles that hold one sign-in, the second does not send its refresh token, be it spent by then or not.
func TestOneHome(t *testing.T) {
	t.Parallel()
	dir, state := t.TempDir(), t.TempDir()
	p := &spender{sent: map[string]int{}}
	profiles := map[string]embed.Profile{}
	for _, name := range []string{"first", "second"} {
		st := store.NewFile(dir, name)
		r := store.Record{
			AccessToken:  protocol.NewSecret("fake-access"),
			RefreshToken: protocol.NewSecret("fake-refresh"),
			Expiry:       time.Now(),
		}
		if _, err := st.Save(t.Context(), r, store.Version{}); err != nil {
			t.Fatal(err)
		}
		profiles[name] = embed.Profile{Provider: p, Store: st}
	}
	runner := &embed.Runner{Profiles: profiles, StateDir: state}
	renew := func(name string) job.Report {
		report, err := runner.Run(t.Context(), job.Job{Op: job.Renew, Profile: name}, func(job.Result) {})
		if err != nil {
			t.Fatal(err)
		}
		return report
	}
	if report := renew("first"); report.Err != nil || !report.Result.Renewed {
		t.Fatalf("the first: %+v", report)
	}
	if report := renew("second"); !errors.Is(report.Err, protocol.ErrLoginRequired) {
		t.Errorf("the second: %+v", report)
	}
	if p.sent["fake-refresh"] != 1 {
		t.Errorf("sent: %v", p.sent)
	}
}
