package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ccagent/ccagent/agent/job"
	"github.com/ccagent/ccagent/protocol"
)

// diskProvider is a Runner whose provider and store are two files in the folder, so that they outlive the agent's image. It punishes the reuse of a
// refresh token.
type diskProvider string

const (
	diskLifetime = 400 * time.Millisecond
	diskStored   = "stored" // "N EXPIRY", EXPIRY in unix nanoseconds
	diskIssued   = "issued" // a byte for each token
)

func (dir diskProvider) Run(_ context.Context, j job.Job, handOver func(job.Result)) (job.Report, error) {
	if j.Op != job.Renew {
		return job.Report{}, errors.New("not asked for here")
	}
	var n, expiry int64
	stored, _ := os.ReadFile(filepath.Join(string(dir), diskStored))
	fmt.Sscan(string(stored), &n, &expiry)
	r := job.Result{Provider: "claude", Store: "file", Location: "a file", Saved: true}
	if now := time.Now(); job.Due(now, time.Unix(0, expiry), time.Unix(0, expiry).Add(-diskLifetime), j.MinTTL, false) {
		f, err := os.OpenFile(filepath.Join(string(dir), diskIssued), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return job.Report{}, err
		}
		f.Write([]byte("."))
		issued, _ := f.Seek(0, io.SeekCurrent)
		f.Close()
		if n+1 != issued {
			return job.Report{Kind: job.Done, Err: &protocol.Error{Code: protocol.CodeLoginRequired, Message: "a refresh token was used twice"}}, nil
		}
		n, expiry, r.Renewed = issued, now.Add(diskLifetime).UnixNano(), true
		if err := os.WriteFile(filepath.Join(string(dir), diskStored), fmt.Appendf(nil, "%d %d", n, expiry), 0o600); err != nil {
			return job.Report{}, err
		}
	}
	r.Token, r.Kind = protocol.NewSecret("fake-access-"+strconv.FormatInt(n, 10)), protocol.KindOAuth
	r.Expiry, r.Issued = time.Unix(0, expiry), time.Unix(0, expiry).Add(-diskLifetime)
	return job.Report{Kind: job.Done, Result: r}, nil
}

// images is how many of it there are in turn.
const images = 50

// reexecuting is a program: an agent that re-executes itself whenever it can, until there have been enough images.
func reexecuting(dir string) error {
	was, err := Inherited()
	if err != nil {
		return err
	}
	l := was.Listener
	if l == nil {
		if l, err = Listen(context.Background(), filepath.Join(dir, "run", "agent.sock")); err != nil {
			return err
		}
	}
	defer l.Release()
	a := New(Options{Build: "test", State: was.State, Runner: diskProvider(dir), Load: func() (Config, error) { return config("claude"), nil }})
	was.Forget()
	begun, err := os.OpenFile(filepath.Join(dir, "begun"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	begun.Write([]byte("."))
	n, _ := begun.Seek(0, io.SeekCurrent)
	begun.Close()
	go func() {
		for n < images {
			time.Sleep(5 * time.Millisecond)
			if err := a.Reexec(l, nil, func(execve func() error) error { return execve() }); err != ErrBusy {
				fmt.Fprintln(os.Stderr, "reexec:", err)
			}
		}
	}()
	fmt.Println("image")
	return errors.Join(a.Serve(l, OnlyUser(uint32(os.Geteuid()))), a.Close(context.Background()))
}

// TestState: what one agent knows another knows. What stays behind is named here: a new field of an entry is one or the other.
func TestState(t *testing.T) {
	home := t.TempDir()
	record := filepath.Join(home, "record")
	if err := os.WriteFile(record, []byte("fake"), 0o600); err != nil {
		t.Fatal(err)
	}
	at := time.Unix(time.Now().Unix()+3600, 123456789) // still to come, so that nothing is due
	a := New(Options{Build: "test", ConfigFile: record, Runner: &provider{}, Load: func() (Config, error) {
		return Config{Default: "Gateway", Home: protocol.Home{Home: home, XDGConfigHome: "/c", ClaudeConfigDir: "/d"}, Profiles: []Profile{
			{Name: "empty", Provider: "claude", Store: "auto"},
			{Name: "Gateway", Provider: "command", Store: "auto", Hosts: []string{"a.example", "b.example"}, ConfigDir: "/e", Identity: "/f", Shown: true, Settings: []byte("{}")},
		}}, nil
	}})
	a.Stop() // its clock
	a.work.Wait()
	a.started = at
	a.requests.Store(7)
	a.renewals.Store(8)
	e := a.table.Load().find("gateway")
	e.keep(protocol.Token{Profile: "Gateway", Value: protocol.NewSecret("fake-access-1"), Expiry: at.AddDate(8000, 0, 0), Kind: protocol.KindOAuth}, at)
	h := *e.hand.Load()
	h.notice = true
	e.hand.Store(&h)
	e.sight.Store(newSight(look([]string{record, record + ".none"}), true, true))
	e.lastUsed.Store(at.Unix())
	e.base = job.Version{1, 31: 2}
	e.place = place{"none", "nowhere", "max", []string{"a", "b"}}
	e.note, e.lastRenewal, e.renewAt, e.reaskedAt = "a note", at, at.Add(time.Hour), at.Add(time.Minute)
	e.failure = &failure{&protocol.Error{Code: protocol.CodeUnavailable, Message: "no answer", Hint: "wait"}, at, retry{3, at.Add(time.Second)}, true}
	e.given = map[consumer]given{{12, 34}: {at, protocol.NewSecret("fake-access-0")}}

	var reader sync.WaitGroup
	reader.Go(func() { _, _ = e.hand.Load().kind, e.failure.err.Code }) // as an embedding program may: encoding only reads, the race detector says
	state, err := a.state()
	reader.Wait()
	if err != nil {
		t.Fatal(err)
	}
	b := New(Options{Build: "test", ConfigFile: record, Runner: &provider{}, State: bytes.Clone(state), Load: func() (Config, error) {
		t.Error("the configuration was read, which is known")
		return Config{}, nil
	}})
	b.Stop()
	b.work.Wait()
	defer b.Close(t.Context())
	if again, err := b.state(); err != nil || !bytes.Equal(again, state) {
		t.Errorf("what was handed over is not what is handed on: %v", err)
	}
	got := b.table.Load().find("gateway")
	covered(t, reflect.ValueOf(got).Elem(), "mu", "removed", "flight", "record", "saving", "saveError", "showing", "looking", "told", "asking", "identity", "changed")
	covered(t, reflect.ValueOf(*got.profile.Load()))
	covered(t, reflect.ValueOf(*got.hand.Load()))
	covered(t, reflect.ValueOf(got.sight.Load()).Elem(), "asked")
	covered(t, reflect.ValueOf(got.sight.Load().stamps[0]))
	covered(t, reflect.ValueOf(*got.failure))
	covered(t, reflect.ValueOf(got.failure.retry))
	covered(t, reflect.ValueOf(*got.failure.err))
	covered(t, reflect.ValueOf(got.place))
	covered(t, reflect.ValueOf(b.table.Load().config), "Profiles", "LockOn")
	covered(t, reflect.ValueOf(b.table.Load().config.Home))
	for c, g := range got.given {
		covered(t, reflect.ValueOf(c))
		covered(t, reflect.ValueOf(g))
	}
	if len(got.given) != 1 || b.started != at || b.requests.Load() != 7 || b.renewals.Load() != 8 || b.active.Load() != a.active.Load() || b.loaded != a.loaded {
		t.Error("something of the agent itself is not handed over")
	}
	if got.sight.Load().changed(&b.looks) || !got.sight.Load().quick() {
		t.Error("a file counts as changed that is as it was")
	}
	held(&b.files.mu, func() {
		if b.files.notify == nil && !b.files.failed {
			t.Error("the files of a record are not followed")
		}
	})
	if got.version == e.version {
		t.Error("whoever watches is not told to look again")
	}
	if e := b.table.Load().find("empty"); e.hand.Load() != nil || e.failure != nil || e.sight.Load() != unseen {
		t.Error("something is known of a profile of which nothing was")
	}
}

// covered fails for a field of v that is zero, unless it is named.
func covered(t *testing.T, v reflect.Value, except ...string) {
	t.Helper()
	for i := range v.NumField() {
		if name := v.Type().Field(i).Name; v.Field(i).IsZero() != slices.Contains(except, name) {
			t.Errorf("%s.%s: zero is %v", v.Type(), name, v.Field(i).IsZero())
		}
	}
}

// TestStateUnread: what is damaged, cut off or of another build costs nothing but to load anew.
func TestStateUnread(t *testing.T) {
	a := start(t, &provider{lifetime: time.Hour})
	ask(t, a, protocol.TokenRequest{})
	state, err := a.state()
	if err != nil {
		t.Fatal(err)
	}
	resumed := func(state []byte, build string) bool {
		loaded := false
		b := New(Options{Build: build, Runner: &provider{}, State: state, Load: func() (Config, error) {
			loaded = true
			return config("claude"), nil
		}})
		defer b.Close(t.Context())
		if b.table.Load().find("claude") == nil && loaded {
			t.Fatalf("nothing was loaded after %q", state)
		}
		return !loaded
	}
	if !resumed(bytes.Clone(state), "test") {
		t.Fatal("the state is not read at all")
	}
	if resumed(bytes.Clone(state), "other") {
		t.Error("the state of another build is read")
	}
	if resumed(append(bytes.Clone(state), 0), "test") {
		t.Error("a state with something after it is read")
	}
	for n := range state {
		if resumed(state[:n], "test") {
			t.Errorf("the first %d of %d bytes are taken for all", n, len(state))
		}
		damaged := bytes.Clone(state)
		damaged[n] ^= 0xff
		resumed(damaged, "test") // or not: it must not panic, nor take memory that is not there
	}
}

// TestHold: a request under way keeps the agent, but not one that watches: somebody nearly always does. No other begins meanwhile.
func TestHold(t *testing.T) {
	for _, tc := range []struct {
		op   protocol.Op
		done bool
		ok   bool
	}{{op: protocol.OpStatus}, {op: protocol.OpStatus, done: true, ok: true}, {op: protocol.OpWatch, ok: true}} {
		idle, asks := &conn{}, &conn{}
		s := connections{open: map[*conn]struct{}{idle: {}, asks: {}}}
		asks.begin([]byte{protocol.Version, byte(tc.op)})
		if tc.done {
			asks.finish()
		}
		release := s.hold()
		if (release != nil) != tc.ok {
			t.Errorf("%+v: held: %v", tc, release != nil)
		}
		if release != nil {
			if idle.mu.TryLock() || asks.mu.TryLock() || s.mu.TryLock() {
				t.Fatalf("%+v: a request may begin", tc)
			}
			release()
		}
		if !idle.mu.TryLock() || !asks.mu.TryLock() || !s.mu.TryLock() {
			t.Fatalf("%+v: requests wait for ever", tc)
		}
	}
}

// TestReplaceBusy: an agent that something depends on stays.
func TestReplaceBusy(t *testing.T) {
	failure := &protocol.Error{Code: protocol.CodeStorage, Message: "the disk is full"}
	for name, tc := range map[string]struct {
		p    *provider
		load func() (Config, error)
		do   func(*testing.T, *Agent)
		ok   bool
	}{
		"at rest":      {p: &provider{}, ok: true},
		"failed":       {p: &provider{fail: &protocol.Error{Code: protocol.CodeLoginRequired, Message: "revoked"}}, ok: true},
		"a job":        {p: &provider{latency: time.Hour}, do: func(t *testing.T, a *Agent) { go a.Token(t.Context(), protocol.TokenRequest{MinTTL: 2 * time.Hour}) }},
		"unsaved":      {p: &provider{saveErr: failure}},
		"view behind":  {p: &provider{behind: true}},
		"memory":       {p: &provider{store: "memory"}},
		"locked":       {p: &provider{}, do: func(t *testing.T, a *Agent) { a.Lock(protocol.Secret{}) }},
		"locks itself": {p: &provider{}, load: lockingOn},
		"guessed at":   {p: &provider{}, do: func(t *testing.T, a *Agent) { held(&a.locking.turn, func() { a.locking.fails = 1 }) }},
		"unlocked": {p: &provider{}, do: func(t *testing.T, a *Agent) {
			held(&a.locking.mu, func() { a.locking.keys = map[string]unlocked{"/f": {}} })
		}},
		"kept for saving": {p: &provider{}, do: func(t *testing.T, a *Agent) {
			synctest.Wait() // the clock has looked for what need not be kept
			held(&a.locking.mu, func() { a.locking.kept = map[string]protocol.Secret{"/f": protocol.NewSecret("fake-identity")} })
		}},
		"removed":        {p: &provider{}, do: withEntry(func(e *entry) { e.removed.Store(true) })},
		"looked at":      {p: &provider{}, do: func(t *testing.T, a *Agent) { a.looks.Add(1) }},
		"to look at":     {p: &provider{}, do: withEntry(func(e *entry) { e.told = true })},
		"who is it":      {p: &provider{}, do: withEntry(func(e *entry) { e.asking = &flight{} })},
		"to be saved":    {p: &provider{}, do: withEntry(func(e *entry) { e.saving = &retry{at: time.Now().Add(time.Hour)} })},
		"bad config":     {p: &provider{}, do: func(t *testing.T, a *Agent) { held(&a.mu, func() { a.opts.Load = noConfig }); a.reload() }},
		"being locked":   {p: &provider{}, do: func(t *testing.T, a *Agent) { a.locking.turn.Lock(); t.Cleanup(a.locking.turn.Unlock) }},
		"being reloaded": {p: &provider{}, do: func(t *testing.T, a *Agent) { a.mu.Lock(); t.Cleanup(a.mu.Unlock) }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tc.p.lifetime = time.Hour
				load := func() (Config, error) { return config("claude"), nil }
				if tc.load != nil {
					load = tc.load
				}
				a := New(Options{Load: load, Runner: tc.p, Build: "test"})
				defer a.Close(t.Context())
				if tc.p.latency == 0 {
					a.Token(t.Context(), protocol.TokenRequest{})
				}
				if tc.do != nil {
					tc.do(t, a)
				}
				synctest.Wait()
				l := &Listener{socket: socket{accepting: &acceptance{}}}
				called := false
				err := a.replace(l, func(state []byte) error {
					called = true
					for what, mu := range map[string]*sync.Mutex{
						"a configuration": &a.mu, "a job": &a.table.Load().find("claude").mu, "a connection": &l.accepting.turn, "a request": &a.conns.mu, "a lock": &a.locking.turn,
					} {
						if mu.TryLock() {
							mu.Unlock()
							t.Errorf("%s may come in between", what)
						}
					}
					if !strings.Contains(string(state), "claude") {
						t.Errorf("handed over: %q", state)
					}
					return errors.ErrUnsupported
				})
				held(&l.accepting.turn, func() {}) // given back, like the others, which Close takes
				if want := map[bool]error{true: errors.ErrUnsupported, false: ErrBusy}[tc.ok]; err != want || called != tc.ok {
					t.Errorf("%v, and called: %v", err, called)
				}
			})
		})
	}
}

func held(mu *sync.Mutex, do func()) {
	mu.Lock()
	defer mu.Unlock()
	do()
}

func withEntry(change func(*entry)) func(*testing.T, *Agent) {
	return func(_ *testing.T, a *Agent) {
		e := a.table.Load().find("claude")
		held(&e.mu, func() { change(e) })
	}
}

func lockingOn() (Config, error) {
	c := config("claude")
	c.LockOn = []string{"suspend"}
	return c, nil
}

func noConfig() (Config, error) { return Config{}, errors.New("it is no TOML") }
