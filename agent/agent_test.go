package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ccagent/ccagent/agent/job"
	"github.com/ccagent/ccagent/protocol"
)

// provider is a Runner that renews as a provider and its store would: every renewal brings the next token.
type provider struct {
	mu       sync.Mutex
	jobs     []job.Job
	lifetime time.Duration
	latency  time.Duration

	// fail makes the next renewals fail, saveErr the saves, store names the store; watch names the files of the record.
	fail    *protocol.Error
	local   bool
	after   time.Duration
	saveErr *protocol.Error
	hang    chan struct{} // a save waits for it
	store   string
	watch   []string
	behind  bool // a view can't be written
	note    string
	tells   toTell

	n      int
	expiry time.Time
}

func (p *provider) count(op job.Op) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, j := range p.jobs {
		if j.Op == op {
			n++
		}
	}
	return n
}

func (p *provider) renewed() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.n
}

func (p *provider) all() []job.Job {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.jobs)
}

func (p *provider) set(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
}

func (p *provider) result() job.Result {
	r := job.Result{Provider: "claude", Store: p.store, Location: "a file", Watch: p.watch, Behind: p.behind, Note: p.note}
	r.SignInEnds, r.RemindFrom, r.LostScopes = p.tells.end, p.tells.from, strings.Fields(p.tells.lost)
	if r.Store == "" {
		r.Store = "file"
	}
	if p.n > 0 {
		r.Token, r.Kind = protocol.NewSecret(fmt.Sprintf("fake-access-%d", p.n)), protocol.KindOAuth
		r.Expiry, r.Issued = p.expiry, p.expiry.Add(-p.lifetime)
		r.Version = job.Version{byte(p.n)}
	}
	return r
}

func (p *provider) Run(ctx context.Context, j job.Job, handOver func(job.Result)) (job.Report, error) {
	if err := ctx.Err(); err != nil { // as Process has it
		return job.Report{}, err
	}
	time.Sleep(p.latency)
	p.mu.Lock()
	p.jobs = append(p.jobs, j)
	if j.Op == job.Save || j.Op == job.Put || j.Op == job.Delete || j.Op == job.Spill {
		defer p.mu.Unlock()
		if p.saveErr != nil {
			r := p.result()
			r.Record, r.Version = j.Record, job.Version{}
			return job.Report{Kind: job.Done, Err: p.saveErr, Result: r}, nil
		}
		r := p.result()
		r.Saved = true
		return job.Report{Kind: job.Done, Result: r}, nil
	}
	if p.n > 0 && !j.Force && !job.Due(time.Now(), p.expiry, p.expiry.Add(-p.lifetime), j.MinTTL, j.HalfLife) {
		defer p.mu.Unlock()
		r := p.result()
		r.Saved = true
		return job.Report{Kind: job.Done, Result: r}, nil
	}
	if p.fail != nil {
		defer p.mu.Unlock()
		r := p.result()
		r.Saved = p.n > 0
		return job.Report{Kind: job.Done, Err: p.fail, RetryAfter: p.after, Local: p.local, Result: r}, nil
	}
	p.n++
	p.expiry = time.Now().Add(p.lifetime)
	r := p.result()
	r.Renewed, r.Record = true, protocol.NewSecret("fake-record")
	hang, saveErr := p.hang, p.saveErr
	p.mu.Unlock()
	handOver(r)
	if hang != nil {
		<-hang
	}
	if saveErr != nil {
		return job.Report{Kind: job.Done, Err: saveErr, Result: r}, nil
	}
	r.Saved = true
	if r.Store != "memory" {
		r.Record = protocol.Secret{}
	}
	return job.Report{Kind: job.Done, Result: r}, nil
}

var ours = protocol.Home{Home: "/home/alice"}

func config(names ...string) Config {
	c := Config{Home: ours}
	for _, n := range names {
		c.Profiles = append(c.Profiles, Profile{Name: n, Provider: "claude", Store: "auto"})
		if c.Default == "" {
			c.Default = n
		}
	}
	return c
}

// start makes an agent of p with profile "claude", closed at the test's end.
func start(t *testing.T, p *provider, change ...func(*Options)) *Agent {
	t.Helper()
	if p.lifetime == 0 {
		p.lifetime = 8 * time.Hour
	}
	opts := Options{Load: func() (Config, error) { return config("claude"), nil }, Runner: p, Build: "test"}
	for _, f := range change {
		f(&opts)
	}
	a := New(opts)
	t.Cleanup(func() { a.Close(context.Background()) })
	return a
}

func ask(t *testing.T, a *Agent, req protocol.TokenRequest) string {
	t.Helper()
	tok, err := a.Token(t.Context(), req)
	if err != nil {
		t.Fatalf("Token(%+v): %v", req, err)
	}
	return tok.Value.Reveal()
}

func refused(t *testing.T, a *Agent, req protocol.TokenRequest, want error) {
	t.Helper()
	if tok, err := a.Token(t.Context(), req); !errors.Is(err, want) {
		t.Fatalf("Token(%+v) = %v, %v; want %v", req, tok, err, want)
	}
}

func profileOf(t *testing.T, a *Agent) protocol.ProfileStatus {
	t.Helper()
	s, err := a.Status(t.Context(), protocol.StatusRequest{Profile: "claude"})
	if err != nil {
		t.Fatal(err)
	}
	return s.Profiles[0]
}

func TestOneRenewalForAllWhoWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &provider{latency: 3 * time.Second}
		a := start(t, p)
		var wg sync.WaitGroup
		for i := range 50 {
			wg.Go(func() {
				if got := ask(t, a, protocol.TokenRequest{Force: i%2 == 0}); got != "fake-access-1" {
					t.Errorf("got %s", got)
				}
			})
		}
		wg.Wait()
		if n := p.count(job.Renew); n > 2 || p.renewed() != 1 {
			t.Errorf("%d jobs, %d renewals; want one renewal", n, p.renewed())
		}
	})
}

func TestWaiterGivesUpRenewalFinishes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &provider{latency: 3 * time.Second}
		a := start(t, p)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := a.Token(ctx, protocol.TokenRequest{}); !errors.Is(err, protocol.ErrUnavailable) {
			t.Fatalf("got %v, want ErrUnavailable", err)
		}
		time.Sleep(3 * time.Second)
		if got := ask(t, a, protocol.TokenRequest{}); got != "fake-access-1" || p.count(job.Renew) != 1 {
			t.Errorf("got %s after %d jobs, want the first renewal's token", got, p.count(job.Renew))
		}
	})
}

func TestForced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &provider{}
		a := start(t, p)
		ask(t, a, protocol.TokenRequest{})
		if got := ask(t, a, protocol.TokenRequest{Force: true}); got != "fake-access-1" {
			t.Errorf("within 2 s of a renewal a forced one is answered by it, got %s", got)
		}
		time.Sleep(freshRenewal)
		if got := ask(t, a, protocol.TokenRequest{Force: true}); got != "fake-access-2" {
			t.Errorf("forced: got %s", got)
		}
		time.Sleep(freshRenewal)
		p.set(func() { p.fail = &protocol.Error{Code: protocol.CodeUnavailable, Message: "outage"} })
		refused(t, a, protocol.TokenRequest{Force: true}, protocol.ErrUnavailable)
		if got := ask(t, a, protocol.TokenRequest{}); got != "fake-access-2" {
			t.Errorf("the old token lives, got %s", got)
		}
		n := p.count(job.Renew)
		refused(t, a, protocol.TokenRequest{Force: true}, protocol.ErrUnavailable)
		if p.count(job.Renew) != n {
			t.Error("a second forced renewal within a second reached the provider")
		}
		time.Sleep(minPause)
		p.set(func() { p.fail = nil })
		if got := ask(t, a, protocol.TokenRequest{Force: true}); got != "fake-access-3" {
			t.Errorf("a forced renewal skips the back-off, got %s", got)
		}
	})
}

func TestBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &provider{fail: &protocol.Error{Code: protocol.CodeUnavailable, Message: "outage"}}
		a := start(t, p)
		for range 5 {
			refused(t, a, protocol.TokenRequest{}, protocol.ErrUnavailable)
		}
		if n := p.count(job.Renew); n != 1 {
			t.Errorf("%d requests reached the provider within the back-off, want 1", n)
		}
		if s := profileOf(t, a); s.State != protocol.StateBackoff || s.Retry.IsZero() {
			t.Errorf("state %q until %v", s.State, s.Retry)
		}
		time.Sleep(time.Second)
		refused(t, a, protocol.TokenRequest{}, protocol.ErrUnavailable)
		time.Sleep(1400 * time.Millisecond) // the second wait is 1.5 to 2 s
		refused(t, a, protocol.TokenRequest{}, protocol.ErrUnavailable)
		if n := p.count(job.Renew); n != 2 {
			t.Errorf("%d attempts, want 2: the back-off doubles", n)
		}
		p.set(func() { p.after = 10 * time.Minute })
		time.Sleep(time.Second)
		refused(t, a, protocol.TokenRequest{}, protocol.ErrUnavailable)
		_, err := a.Token(t.Context(), protocol.TokenRequest{})
		if at := time.Now().Add(10 * time.Minute).Local().Format("15:04:05"); !strings.Contains(protocol.HintOf(err), at) {
			t.Errorf("the hint %q does not say that it is asked again at %s", protocol.HintOf(err), at)
		}
		p.set(func() { p.fail = nil })
		time.Sleep(10*time.Minute - time.Second)
		refused(t, a, protocol.TokenRequest{}, protocol.ErrUnavailable)
		time.Sleep(time.Second)
		if got := ask(t, a, protocol.TokenRequest{}); got != "fake-access-1" {
			t.Errorf("after Retry-After: %s", got)
		}
	})
}

func TestPermanentFailureEndsWhenTheRecordIsRewritten(t *testing.T) {
	file := filepath.Join(t.TempDir(), "record")
	if err := os.WriteFile(file, []byte("1"), 0o600); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(file, old, old); err != nil {
		t.Fatal(err)
	}
	time.Sleep(30 * time.Millisecond) // the file's ctime is older than the job by more than a kernel tick
	p := &provider{watch: []string{file}, fail: &protocol.Error{Code: protocol.CodeLoginRequired, Message: "revoked"}}
	a := start(t, p)
	for range 3 {
		refused(t, a, protocol.TokenRequest{}, protocol.ErrLoginRequired)
	}
	if n := p.count(job.Renew); n != 1 {
		t.Fatalf("%d attempts with a refused record, want 1", n)
	}
	if s := profileOf(t, a); s.State != protocol.StateSignIn {
		t.Errorf("state %q", s.State)
	}
	p.set(func() { p.fail = nil })
	if err := os.WriteFile(file, []byte("22"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := ask(t, a, protocol.TokenRequest{}); got != "fake-access-1" {
		t.Errorf("after a new sign-in: %s", got)
	}
}

// unread is a Runner whose jobs fail. Nobody knows in which state they have read the record's file: it is written in the course
// of each.
type unread struct {
	path string
	jobs int
}

func (u *unread) Run(context.Context, job.Job, func(job.Result)) (job.Report, error) {
	u.jobs++
	if err := os.WriteFile(u.path, []byte("fake"), 0o600); err != nil {
		return job.Report{}, err
	}
	return job.Report{
		Kind: job.Done, Result: job.Result{Store: "file", Location: u.path, Watch: []string{u.path}},
		Err: &protocol.Error{Code: protocol.CodeUnavailable, Message: "the provider can't answer now"},
	}, nil
}

// The failure of the first job for a profile is one request at the provider, whatever is known of the files.
func TestFirstFailureAsksOnce(t *testing.T) {
	u := &unread{path: filepath.Join(t.TempDir(), "record")}
	a := start(t, &provider{}, func(o *Options) { o.Runner = u })
	refused(t, a, protocol.TokenRequest{}, protocol.ErrUnavailable)
	if u.jobs != 1 {
		t.Errorf("%d jobs for one request", u.jobs)
	}
}

// To read the files again is no renewal, and status tells the two apart.
func TestStateWhileLooking(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &provider{lifetime: time.Hour, latency: time.Second}
		a := start(t, p)
		ask(t, a, protocol.TokenRequest{})
		e := a.table.Load().find("claude", ours)
		for _, test := range []struct {
			job  job.Job
			want protocol.State
		}{
			{job.Job{Op: job.Renew}, protocol.StateLive},
			{job.Job{Op: job.Renew, Force: true}, protocol.StateRenew},
			{job.Job{Op: job.Renew, MinTTL: 2 * time.Hour}, protocol.StateLive}, // there is no token that lives as long
		} {
			e.mu.Lock()
			e.startLocked(test.job)
			e.mu.Unlock()
			if s := profileOf(t, a); s.State != test.want {
				t.Errorf("%+v under way: state %q, want %q", test.job, s.State, test.want)
			}
			time.Sleep(2 * time.Second)
		}
	})
}

func TestRenewalFailsTokenLives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &provider{lifetime: time.Hour}
		a := start(t, p)
		ask(t, a, protocol.TokenRequest{})
		p.set(func() { p.fail = &protocol.Error{Code: protocol.CodeUnavailable, Message: "outage"} })
		time.Sleep(56 * time.Minute)
		if got := ask(t, a, protocol.TokenRequest{}); got != "fake-access-1" {
			t.Errorf("inside the margin: %s", got)
		}
		time.Sleep(5 * time.Minute)
		refused(t, a, protocol.TokenRequest{}, protocol.ErrUnavailable)
	})
}

// What fails on this machine alone is tried again whenever somebody asks. Without a request it is tried ever more rarely.
func TestFailureOnThisMachine(t *testing.T) {
	for name, fail := range map[string]struct {
		err   *protocol.Error
		local bool
		is    error
	}{
		"store":   {&protocol.Error{Code: protocol.CodeInvalid, Message: "not valid JSON"}, false, protocol.ErrInvalid},
		"command": {&protocol.Error{Code: protocol.CodeConfig, Message: "the command is not there"}, true, protocol.ErrConfig},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &provider{lifetime: time.Hour}
				a := start(t, p)
				ask(t, a, protocol.TokenRequest{})
				p.set(func() { p.fail, p.local = fail.err, fail.local })
				before := p.count(job.Renew)
				time.Sleep(4 * time.Hour)
				if n := p.count(job.Renew) - before; n < 5 || n > 100 {
					t.Errorf("%d tries in 4 hours, want a back-off", n)
				}
				refused(t, a, protocol.TokenRequest{}, fail.is)
				p.set(func() { p.fail = nil })
				time.Sleep(minPause)
				if got := ask(t, a, protocol.TokenRequest{}); got != "fake-access-2" {
					t.Errorf("asked after it was mended: %s", got)
				}
			})
		})
	}
}

func TestShortLivedTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &provider{lifetime: 8 * time.Second}
		a := start(t, p)
		for range 200 {
			tok, err := a.Token(t.Context(), protocol.TokenRequest{})
			if err != nil || !tok.Expiry.After(time.Now()) {
				t.Fatalf("%v, %v", tok.Expiry, err)
			}
			time.Sleep(time.Second)
		}
		if p.renewed() > 50 {
			t.Errorf("%d renewals of an 8-second token in 200 s", p.renewed())
		}
	})
}

func TestMinTTLBeyondAnyToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &provider{lifetime: time.Hour}
		a := start(t, p)
		if got := ask(t, a, protocol.TokenRequest{MinTTL: 2 * time.Hour}); got != "fake-access-1" {
			t.Errorf("what a renewal brought is the answer, got %s", got)
		}
	})
}

func TestBackgroundRenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &provider{lifetime: time.Hour}
		a := start(t, p)
		ask(t, a, protocol.TokenRequest{})
		time.Sleep(55 * time.Minute)
		if p.renewed() != 2 {
			t.Fatalf("%d renewals, want one ahead of the margin", p.renewed())
		}
		if h := a.cachedFor(&protocol.TokenRequest{}); h == nil {
			t.Error("the renewed token is not cached")
		}
		time.Sleep(72 * time.Hour)
		n := p.renewed()
		time.Sleep(72 * time.Hour)
		if p.renewed() != n {
			t.Errorf("renewed %d times though nobody has asked for three days", p.renewed()-n)
		}
		ask(t, a, protocol.TokenRequest{})
	})
}

// The machine sleeps: the wall clock jumps and no timer has fired.
func TestWallClockJump(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &provider{}
		var mu sync.Mutex
		var ahead time.Duration
		a := start(t, p, func(o *Options) {
			o.Now = func() time.Time { mu.Lock(); defer mu.Unlock(); return time.Now().Add(ahead).Round(0) }
		})
		ask(t, a, protocol.TokenRequest{})
		mu.Lock()
		ahead = 7*time.Hour + 58*time.Minute
		mu.Unlock()
		p.set(func() { p.expiry = time.Now() })
		if got := ask(t, a, protocol.TokenRequest{}); got != "fake-access-2" {
			t.Errorf("a token that expired while the machine slept was served: %s", got)
		}
	})
}

// TestWorkerSeesNoNeed has a worker's clock stand behind the agent's: what the one takes for due the other leaves as it is, and
// is not asked again without a pause.
func TestWorkerSeesNoNeed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &provider{latency: time.Millisecond}
		var ahead atomic.Int64
		a := start(t, p, func(o *Options) {
			o.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())).Round(0) }
		})
		ask(t, a, protocol.TokenRequest{})
		ahead.Store(int64(7*time.Hour + 58*time.Minute))
		time.Sleep(maxSleep)
		before := p.count(job.Renew)
		time.Sleep(10 * time.Second)
		if n := p.count(job.Renew) - before; n == 0 || n > 10 {
			t.Errorf("%d jobs in 10 s, of which none renewed", n)
		}
	})
}

func TestUnsaved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &provider{saveErr: &protocol.Error{Code: protocol.CodeStorage, Message: "no space left"}}
		a := start(t, p)
		if got := ask(t, a, protocol.TokenRequest{}); got != "fake-access-1" {
			t.Fatalf("got %s", got)
		}
		if s := profileOf(t, a); s.State != protocol.StateUnsaved {
			t.Errorf("state %q, want unsaved", s.State)
		}
		if tok, err := a.Token(t.Context(), protocol.TokenRequest{}); err != nil || tok.Notice == "" {
			t.Errorf("the person is not told: %+v, %v", tok, err)
		}
		_, err := a.Control(t.Context(), protocol.ControlRequest{Command: protocol.CommandStop})
		if !errors.Is(err, protocol.ErrStorage) {
			t.Errorf("stop with an unsaved record: %v", err)
		}
		time.Sleep(10 * time.Second)
		if n := p.count(job.Save); n < 2 || n > 5 {
			t.Errorf("%d saves in 10 s, want a back-off", n)
		}
		p.set(func() { p.saveErr = nil })
		time.Sleep(maxSaveBackoff)
		if s := profileOf(t, a); s.State != protocol.StateLive {
			t.Errorf("state %q after the store is back", s.State)
		}
		if tok, _ := a.Token(t.Context(), protocol.TokenRequest{}); tok.Notice != "" {
			t.Errorf("notice %q though all is saved", tok.Notice)
		}
	})
}

func TestUnsavedIsSpilledAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &provider{saveErr: &protocol.Error{Code: protocol.CodeStorage, Message: "no space left"}}
		a := start(t, p)
		ask(t, a, protocol.TokenRequest{})
		if err := a.Close(t.Context()); err == nil {
			t.Error("a spill that failed is no error")
		}
		p.set(func() { p.saveErr = nil })
		if err := a.Close(t.Context()); err != nil {
			t.Error(err)
		}
		all := p.all()
		last := all[len(all)-1]
		if last.Op != job.Spill || last.Record.Reveal() != "fake-record" {
			t.Errorf("the last job is %v", last.Op)
		}
	})
}

// A worker that takes longer than the agent has is no reason to lose what another profile has not saved.
func TestUnsavedIsSpilledThoughAWorkerIsBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &provider{saveErr: &protocol.Error{Code: protocol.CodeStorage, Message: "no space left"}}
		a := start(t, p, func(o *Options) { o.Load = func() (Config, error) { return config("claude", "work"), nil } })
		ask(t, a, protocol.TokenRequest{})
		hang := make(chan struct{})
		defer close(hang)
		p.set(func() { p.saveErr, p.hang = nil, hang })
		go a.Token(context.Background(), protocol.TokenRequest{Profile: "work", Force: true})
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := a.Close(ctx); err != nil {
			t.Error(err)
		}
		if p.count(job.Spill) != 2 { // what the busy worker has not saved either
			t.Error("what was unsaved is not spilled")
		}
	})
}

func TestHangingSaveKeepsNobodyWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &provider{hang: make(chan struct{})}
		a := start(t, p)
		began := time.Now()
		ask(t, a, protocol.TokenRequest{})
		if d := time.Since(began); d != saveGrace {
			t.Errorf("waited %v for a save that hangs, want %v", d, saveGrace)
		}
		time.Sleep(time.Hour) // no second worker meanwhile
		if len(p.all()) != 1 {
			t.Errorf("%d jobs while the first saves", len(p.all()))
		}
		close(p.hang)
		synctest.Wait()
		if s := profileOf(t, a); s.State != protocol.StateLive {
			t.Errorf("state %q", s.State)
		}
	})
}

// A worker is killed between hand-over and save. What it renewed was not what the agent knew but what it had found.
func TestWorkerDiesBeforeItSaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &provider{}
		found := job.Version{7}
		a := start(t, p, func(o *Options) { o.Runner = dying{p, found} })
		if got := ask(t, a, protocol.TokenRequest{}); got != "fake-access-1" {
			t.Fatalf("got %s", got)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		p.mu.Lock()
		defer p.mu.Unlock()
		if len(p.jobs) == 0 || p.jobs[0].Op != job.Save || p.jobs[0].Record.Reveal() != "fake-record" || p.jobs[0].Base != found {
			t.Fatalf("jobs after it: %+v; want a save of the handed-over record against what the worker found", p.jobs)
		}
		if s := profileOf(t, a); s.State != protocol.StateLive {
			t.Errorf("state %q", s.State)
		}
	})
}

// dying is a Runner whose renewals hand over and end without a word.
type dying struct {
	*provider
	found job.Version
}

func (d dying) Run(ctx context.Context, j job.Job, handOver func(job.Result)) (job.Report, error) {
	if j.Op != job.Renew {
		return d.provider.Run(ctx, j, handOver)
	}
	var r job.Result
	d.set(func() { d.n, d.expiry = 1, time.Now().Add(d.lifetime); r = d.result() })
	r.Renewed, r.Record, r.Version = true, protocol.NewSecret("fake-record"), d.found
	handOver(r)
	return job.Report{}, errors.New("killed")
}

func TestMemoryRecordBlocksStopAndIdleExit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &provider{store: "memory"}
		a := start(t, p, func(o *Options) { o.IdleTimeout = time.Minute })
		ask(t, a, protocol.TokenRequest{})
		time.Sleep(2 * time.Minute)
		if a.ending() {
			t.Error("ended though it alone holds a record")
		}
		_, err := a.Control(t.Context(), protocol.ControlRequest{Command: protocol.CommandStop})
		if !errors.Is(err, protocol.ErrStorage) {
			t.Errorf("stop: %v", err)
		}
		if _, err := a.Control(t.Context(), protocol.ControlRequest{Command: protocol.CommandStop, Force: true}); err != nil ||
			!a.ending() {
			t.Errorf("stop --force: %v", err)
		}
	})
}

func TestIdleExit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := start(t, &provider{}, func(o *Options) { o.IdleTimeout = time.Minute })
		ask(t, a, protocol.TokenRequest{})
		time.Sleep(59 * time.Second)
		ask(t, a, protocol.TokenRequest{})
		time.Sleep(59 * time.Second)
		if a.ending() {
			t.Fatal("ended within a minute of a request")
		}
		time.Sleep(2 * time.Second)
		if !a.ending() {
			t.Error("goes on though idle")
		}
	})
}

func TestReload(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config.toml")
	write := func(text string) {
		t.Helper()
		// In one step, as every program of ours writes it, because the agent may poll at any moment.
		if err := os.WriteFile(file+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
	}
	write("claude")
	p := &provider{}
	a := start(t, p, func(o *Options) {
		o.ConfigFile = file
		o.Load = func() (Config, error) {
			text, err := os.ReadFile(file)
			if err != nil || strings.Contains(string(text), "bad") {
				return Config{}, &protocol.Error{Code: protocol.CodeConfig, Message: "config.toml: line 1: unknown key"}
			}
			return config(strings.Fields(string(text))...), nil
		}
	})
	ask(t, a, protocol.TokenRequest{})
	refused(t, a, protocol.TokenRequest{Profile: "work"}, protocol.ErrNotFound)
	write("claude work")
	ask(t, a, protocol.TokenRequest{Profile: "WORK"})
	n := p.count(job.Renew)
	ask(t, a, protocol.TokenRequest{Profile: "claude"})
	if p.count(job.Renew) != n {
		t.Error("a reload lost the token of an unchanged profile")
	}
	write("bad")
	_, err := a.Control(t.Context(), protocol.ControlRequest{Command: protocol.CommandReload})
	if !errors.Is(err, protocol.ErrConfig) {
		t.Errorf("reload of an invalid file: %v", err)
	}
	ask(t, a, protocol.TokenRequest{Profile: "work"})
	if s, err := a.Status(t.Context(), protocol.StatusRequest{}); err != nil || s.Agent.ConfigError == "" || len(s.Profiles) != 2 {
		t.Errorf("status with an invalid file: %+v, %v", s, err)
	}
	refused(t, a, protocol.TokenRequest{Profile: "other"}, protocol.ErrConfig)
	write("claude")
	if _, err := a.Control(t.Context(), protocol.ControlRequest{Command: protocol.CommandReload}); err != nil {
		t.Error(err)
	}
	refused(t, a, protocol.TokenRequest{Profile: "work"}, protocol.ErrNotFound)
}

// What was noted under other settings, as of a view that nobody wants any more, is not said of these.
func TestReloadForgetsNote(t *testing.T) {
	settings := "{}"
	p := &provider{note: "the view could not be written"}
	a := start(t, p, func(o *Options) {
		o.Load = func() (Config, error) {
			c := config("claude")
			c.Profiles[0].Settings = []byte(settings)
			return c, nil
		}
	})
	note := func() string {
		t.Helper()
		s, err := a.Status(t.Context(), protocol.StatusRequest{})
		if err != nil {
			t.Fatal(err)
		}
		return s.Profiles[0].Note
	}
	ask(t, a, protocol.TokenRequest{})
	if note() != p.note {
		t.Fatalf("noted: %q", note())
	}
	settings = `{"other": true}`
	if _, err := a.Control(t.Context(), protocol.ControlRequest{Command: protocol.CommandReload}); err != nil {
		t.Fatal(err)
	}
	if got := note(); got != "" {
		t.Errorf("of other settings is noted: %q", got)
	}
}

func TestHome(t *testing.T) {
	p := &provider{}
	a := start(t, p, func(o *Options) {
		o.Load = func() (Config, error) {
			c := config("claude", "settled", "loose")
			c.Profiles[0].Store = "claude-code"
			c.Profiles[1].ConfigDir = "/srv/claude"
			return c, nil
		}
	})
	spelling := "" // no difference
	if runtime.GOOS == "darwin" {
		spelling = "CLAUDE_CONFIG_DIR"
	}
	for _, tc := range []struct {
		name, profile string
		home          protocol.Home
		names         string // what the refusal names; "" is no refusal
	}{
		{"says nothing", "claude", protocol.Home{}, ""},
		{"the same", "claude", ours, ""},
		{"the default spelt out", "claude", protocol.Home{Home: ours.Home, XDGConfigHome: ours.Home + "/.config",
			ClaudeConfigDir: ours.Home + "/.claude/"}, spelling},
		{"the same, written differently", "claude", protocol.Home{Home: ours.Home + "/"}, ""},
		{"relative, so as good as unset", "claude", protocol.Home{Home: ours.Home, XDGConfigHome: "here"}, ""},
		{"a Claude Code that depends on the folder", "claude", protocol.Home{Home: ours.Home, ClaudeConfigDir: ".claude"},
			"CLAUDE_CONFIG_DIR"},
		{"a tilde that no shell expanded", "claude", protocol.Home{Home: ours.Home, ClaudeConfigDir: "~/.claude"}, "CLAUDE_CONFIG_DIR"},
		{"a tilde that no shell expanded, settled by config_dir", "settled",
			protocol.Home{Home: ours.Home, ClaudeConfigDir: "~/.claude"}, ""},
		{"another home", "claude", protocol.Home{Home: "/root"}, "HOME"},
		{"another configuration", "claude", protocol.Home{Home: ours.Home, XDGConfigHome: "/etc"}, "XDG_CONFIG_HOME"},
		{"another Claude Code", "claude", protocol.Home{Home: ours.Home, ClaudeConfigDir: "/tmp/c"}, "CLAUDE_CONFIG_DIR"},
		{"another Claude Code, and the record rests in none", "loose", protocol.Home{Home: ours.Home, ClaudeConfigDir: "/tmp/c"}, ""},
		{"another Claude Code, settled by config_dir", "settled", protocol.Home{Home: ours.Home, ClaudeConfigDir: "/tmp/c"}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := a.Token(t.Context(), protocol.TokenRequest{Profile: tc.profile, Home: tc.home})
			if tc.names == "" && err != nil ||
				tc.names != "" && (!errors.Is(err, protocol.ErrConfig) || !strings.HasPrefix(err.Error(), tc.names+" is ")) {
				t.Errorf("got %v, want a refusal naming %q", err, tc.names)
			}
		})
	}
}

// TestNoConfigurationYet is an agent that was started on an invalid file: that is what it says, and not that it has another home.
func TestNoConfigurationYet(t *testing.T) {
	a := start(t, &provider{}, func(o *Options) {
		o.Load = func() (Config, error) {
			return Config{}, &protocol.Error{Code: protocol.CodeConfig, Message: "config.toml: line 1: unknown key"}
		}
	})
	if s, err := a.Status(t.Context(), protocol.StatusRequest{Home: ours}); err != nil || s.Agent.ConfigError == "" {
		t.Errorf("%+v, %v", s, err)
	}
	if _, err := a.Token(t.Context(), protocol.TokenRequest{Home: ours}); !errors.Is(err, protocol.ErrConfig) ||
		!strings.Contains(err.Error(), "unknown key") {
		t.Errorf("a token: %v", err)
	}
}

func TestHosts(t *testing.T) {
	a := start(t, &provider{}, func(o *Options) {
		o.Load = func() (Config, error) {
			c := config("claude")
			c.Profiles[0].Hosts = []string{"llm.example.com"}
			return c, nil
		}
	})
	ask(t, a, protocol.TokenRequest{Host: "LLM.example.com"})
	refused(t, a, protocol.TokenRequest{Host: "evil.example.com"}, protocol.ErrDenied)
}

// Where a token may go is what config.toml says at the moment, also for a token that is in memory.
func TestHostsAreThoseOfNow(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config.toml")
	write := func(host string) {
		t.Helper()
		if err := errors.Join(os.WriteFile(file+".new", []byte(host), 0o600), os.Rename(file+".new", file)); err != nil {
			t.Fatal(err)
		}
	}
	write("old.example.com")
	a := start(t, &provider{}, func(o *Options) {
		o.ConfigFile = file
		o.Load = func() (Config, error) {
			host, err := os.ReadFile(file)
			c := config("claude")
			c.Profiles[0].Hosts = []string{string(host)}
			return c, err
		}
	})
	ask(t, a, protocol.TokenRequest{Host: "old.example.com"})
	write("new.example.com")
	frame, err := protocol.AppendTokenRequest(nil, protocol.TokenRequest{Host: "old.example.com"})
	if err != nil || a.cachedReply(frame[4:]) != nil {
		t.Errorf("the cached token went to a host that is listed no more, %v", err)
	}
	refused(t, a, protocol.TokenRequest{Host: "old.example.com"}, protocol.ErrDenied)
	ask(t, a, protocol.TokenRequest{Host: "new.example.com"})
}

// The user name that goes with a token is what config.toml says at the moment.
func TestUsername(t *testing.T) {
	name := "alice"
	a := start(t, &provider{}, func(o *Options) {
		o.Load = func() (Config, error) {
			c := config("claude")
			c.Profiles[0].Username = name
			return c, nil
		}
	})
	for _, name = range []string{"alice", "bob", ""} {
		if err := a.reload(); err != nil {
			t.Fatal(err)
		}
		if got, err := a.Token(t.Context(), protocol.TokenRequest{}); err != nil || got.Username != name {
			t.Errorf("got %q, %v, want %q", got.Username, err, name)
		}
	}
}

func TestRemoveForgets(t *testing.T) {
	p := &provider{}
	a := start(t, p)
	ask(t, a, protocol.TokenRequest{})
	if _, err := a.Control(t.Context(), protocol.ControlRequest{Command: protocol.CommandRemove, Profile: "claude"}); err != nil {
		t.Fatal(err)
	}
	if s := profileOf(t, a); s.HasToken || s.State != protocol.StateIdle {
		t.Errorf("after remove: %+v", s)
	}
}

func TestStatusPages(t *testing.T) {
	var names []string
	for i := range MaxProfiles {
		names = append(names, fmt.Sprintf("profile-%04d-%s", i, strings.Repeat("x", 40)))
	}
	a := start(t, &provider{}, func(o *Options) { o.Load = func() (Config, error) { return config(names...), nil } })
	s, err := protocol.StatusAll(t.Context(), a, protocol.StatusRequest{})
	if err != nil || len(s.Profiles) != MaxProfiles {
		t.Fatalf("%d profiles, %v", len(s.Profiles), err)
	}
	for i, p := range s.Profiles {
		if p.Name != names[i] {
			t.Fatalf("profile %d is %s", i, p.Name)
		}
	}
	page, _ := a.Status(t.Context(), protocol.StatusRequest{})
	if page.Next == "" || len(protocol.AppendStatus(nil, page)) > protocol.MaxFrame {
		t.Errorf("the first page has %d bytes, next %q", len(protocol.AppendStatus(nil, page)), page.Next)
	}
}

func TestHotPathAllocatesNothing(t *testing.T) {
	a := start(t, &provider{}, func(o *Options) {
		o.Load = func() (Config, error) {
			c := config("other", "claude")
			c.Uses = []Use{{Dir: "/home/alice/work", Below: true, Profile: "claude"}, {Dir: "/home/alice", Profile: "other"}}
			return c, nil
		}
	})
	ask(t, a, protocol.TokenRequest{Profile: "claude"})
	named, err := protocol.AppendTokenRequest(nil, protocol.TokenRequest{Profile: "claude", Home: ours})
	if err != nil {
		t.Fatal(err)
	}
	from := ours
	from.Dir = "/home/alice/work/a/b/c/d"
	placed, err := protocol.AppendTokenRequest(nil, protocol.TokenRequest{Home: from})
	if err != nil {
		t.Fatal(err)
	}
	out := make([]byte, 0, 4096)
	for _, frame := range [][]byte{named, placed} {
		if n := testing.AllocsPerRun(1000, func() { out = append(out[:0], a.cachedReply(frame[4:])...) }); n != 0 {
			t.Errorf("%v allocations for a live token's request, want 0", n)
		}
		if !strings.Contains(string(out), "fake-access-1") {
			t.Error("the answer is not the token")
		}
	}
}

func BenchmarkHotPath(b *testing.B) {
	p := &provider{lifetime: 8 * time.Hour}
	a := New(Options{Load: func() (Config, error) { return config("claude"), nil }, Runner: p})
	defer a.Close(context.Background())
	if _, err := a.Token(b.Context(), protocol.TokenRequest{}); err != nil {
		b.Fatal(err)
	}
	frame, _ := protocol.AppendTokenRequest(nil, protocol.TokenRequest{Profile: "claude", Home: ours})
	out := make([]byte, 0, 4096)
	b.ReportAllocs()
	for b.Loop() {
		out = append(out[:0], a.cachedReply(frame[4:])...)
	}
}

// TestRests: each lull is a rest, and none is while someone keeps asking or a job is under way.
func TestRests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &provider{lifetime: time.Hour, latency: 2 * restDelay}
		var mu sync.Mutex
		rests := 0
		a := New(Options{Load: func() (Config, error) { return config("claude"), nil }, Runner: p, Rest: func() {
			mu.Lock()
			defer mu.Unlock()
			rests++
		}})
		defer a.Close(t.Context())
		for _, step := range []struct {
			what string
			do   func()
			want int
		}{
			{"start", func() {}, 0},
			{"a lull", func() { time.Sleep(restDelay + time.Second) }, 1},
			{"more of it", func() { time.Sleep(2 * maxSleep) }, 1},
			{"a job", func() { a.Token(t.Context(), protocol.TokenRequest{}) }, 1},
			{"requests", func() {
				for range 30 {
					time.Sleep(restDelay / 2)
					a.Token(t.Context(), protocol.TokenRequest{})
				}
			}, 1},
			{"the lull after", func() { time.Sleep(maxSleep + restDelay) }, 2},
			{"a request from memory", func() { a.Token(t.Context(), protocol.TokenRequest{}) }, 2},
			{"half a minute", func() { time.Sleep(maxSleep) }, 3},
		} {
			step.do()
			synctest.Wait()
			mu.Lock()
			if rests != step.want {
				t.Errorf("after %s: %d rests, want %d", step.what, rests, step.want)
			}
			mu.Unlock()
		}
	})
}

// TestSettingsChangeDuringRenewal: whoever asks after a change of the settings is not answered by a job that began before it.
func TestSettingsChangeDuringRenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &provider{latency: 2 * time.Second}
		settings := []byte("{}")
		a := start(t, p, func(o *Options) {
			o.Load = func() (Config, error) {
				c := config("claude")
				c.Profiles[0].Settings = settings
				return c, nil
			}
		})
		first := make(chan error)
		go func() { first <- request(a) }()
		time.Sleep(time.Second)
		settings = []byte(`{"store":"keyring"}`)
		if _, err := a.Control(t.Context(), protocol.ControlRequest{Command: protocol.CommandReload}); err != nil {
			t.Fatal(err)
		}
		ask(t, a, protocol.TokenRequest{})
		if err := <-first; err != nil {
			t.Error(err)
		}
		if jobs := p.all(); len(jobs) != 2 || string(jobs[1].Settings) != string(settings) {
			t.Errorf("%d jobs, the last by %s", len(jobs), jobs[len(jobs)-1].Settings)
		}
	})
}

// TestRemovedDuringRenewal: the record of a profile that was taken out of the configuration while it was renewed is held, saved
// as soon as that can be, and only then let go.
func TestRemovedDuringRenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &provider{latency: 2 * time.Second, saveErr: &protocol.Error{Code: protocol.CodeStorage, Message: "no space left"}}
		names := []string{"claude", "work"}
		a := start(t, p, func(o *Options) { o.Load = func() (Config, error) { return config(names...), nil } })
		go a.Token(context.Background(), protocol.TokenRequest{Profile: "work"})
		time.Sleep(time.Second)
		names = names[:1]
		if _, err := a.Control(t.Context(), protocol.ControlRequest{Command: protocol.CommandReload}); err != nil {
			t.Fatal(err)
		}
		profiles := func() []protocol.ProfileStatus {
			s, err := a.Status(t.Context(), protocol.StatusRequest{})
			if err != nil {
				t.Fatal(err)
			}
			return s.Profiles
		}
		time.Sleep(time.Minute)
		if got := profiles(); len(got) != 2 || got[1].State != protocol.StateUnsaved || p.count(job.Save) == 0 {
			t.Fatalf("what could not be saved is forgotten: %+v, %d saves", got, p.count(job.Save))
		}
		p.set(func() { p.saveErr = nil })
		time.Sleep(time.Minute)
		if got := profiles(); len(got) != 1 {
			t.Errorf("it is saved, and still there: %+v", got)
		}
	})
}

// TestRemovedBeforeTheJob: a request has found a profile that a reload then takes out of the configuration, and another brings
// back. No job begins for the old entry: it would be a second one of the profile at a time, and what it brings would be lost.
func TestRemovedBeforeTheJob(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		names := []string{"claude"}
		p := &provider{lifetime: time.Hour}
		a := start(t, p, func(o *Options) { o.Load = func() (Config, error) { return config(names...), nil } })
		old, err := a.entry("claude", protocol.Home{})
		if err != nil {
			t.Fatal(err)
		}
		for _, names = range [][]string{{"other"}, {"claude"}} {
			if err := a.reload(); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := old.token(t.Context(), protocol.TokenRequest{}); !errors.Is(err, protocol.ErrNotFound) {
			t.Errorf("a token of what is no profile: %v", err)
		}
		if _, err := old.exclusive(t.Context(), job.Job{Op: job.Put}); !errors.Is(err, protocol.ErrNotFound) {
			t.Errorf("stored for what is no profile: %v", err)
		}
		if jobs := p.all(); len(jobs) != 0 {
			t.Errorf("jobs: %+v", jobs)
		}
		if got := ask(t, a, protocol.TokenRequest{Profile: "claude"}); got != "fake-access-1" {
			t.Errorf("got %q", got)
		}
	})
}

// TestStoreChangeWhileUnsaved: what a store refuses goes to the one that is configured in its place, as a record that is new
// there. Where the store stays, what it held does too.
func TestStoreChangeWhileUnsaved(t *testing.T) {
	for _, kind := range []string{"keyring", "file", "auto", "file, during the renewal"} {
		synctest.Test(t, func(t *testing.T) {
			p := &provider{
				store:   "keyring",
				latency: time.Second,
				saveErr: &protocol.Error{Code: protocol.CodeStorage, Message: "the keyring can't be used"},
			}
			c := config("claude")
			c.Profiles[0].Store, c.Profiles[0].Settings = "keyring", []byte("1")
			a := start(t, p, func(o *Options) {
				o.Load = func() (Config, error) { return Config{Default: "claude", Profiles: slices.Clone(c.Profiles)}, nil }
			})
			kind, during := strings.CutSuffix(kind, ", during the renewal")
			if during {
				go a.Token(context.Background(), protocol.TokenRequest{})
				synctest.Wait()
			} else {
				ask(t, a, protocol.TokenRequest{})
			}
			c.Profiles[0].Store, c.Profiles[0].Settings = kind, []byte("2")
			if _, err := a.Control(t.Context(), protocol.ControlRequest{Command: protocol.CommandReload}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
			all := p.all()
			want := job.Version{1}
			if kind == "file" {
				want = job.Version{}
			}
			if last := all[len(all)-1]; last.Op != job.Save || last.Record.Empty() || string(last.Settings) != "2" ||
				last.Base != want {
				t.Errorf("now in store %s: the last job is %v with base %v, want %v", kind, last.Op, last.Base[:1], want[:1])
			}
		})
	}
}

// reluctant is a Runner that never has another token than the one it has.
type reluctant struct {
	expiry time.Time
	jobs   atomic.Int32
}

func (r *reluctant) Run(context.Context, job.Job, func(job.Result)) (job.Report, error) {
	r.jobs.Add(1)
	time.Sleep(time.Millisecond)
	return job.Report{
		Kind:   job.Done,
		Result: job.Result{Store: "file", Location: "a file", Saved: true, Token: protocol.NewSecret("fake-1"), Expiry: r.expiry},
	}, nil
}

// TestNothingBetter: a token that is due and that a worker leaves as it is is the answer while it lives. Nobody asks again and
// again.
func TestNothingBetter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &reluctant{expiry: time.Now().Add(3 * time.Minute)}
		a := New(Options{Runner: r, Load: func() (Config, error) { return config("claude"), nil }})
		t.Cleanup(func() { a.Close(context.Background()) })
		request := func(req protocol.TokenRequest) (protocol.Token, error) {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			return a.Token(ctx, req)
		}
		for _, req := range []protocol.TokenRequest{{}, {MinTTL: time.Hour}, {HalfLife: true}} {
			before := r.jobs.Load()
			got, err := request(req)
			if n := r.jobs.Load() - before; err != nil || got.Value.Reveal() != "fake-1" || n != 1 {
				t.Errorf("%+v: got %q, %v after %d jobs, want the token after one", req, got.Value.Reveal(), err, n)
			}
		}
		time.Sleep(3 * time.Minute)
		before := r.jobs.Load()
		if _, err := request(protocol.TokenRequest{}); !errors.Is(err, protocol.ErrUnavailable) || r.jobs.Load()-before > 1 {
			t.Errorf("expired: %v after %d jobs", err, r.jobs.Load()-before)
		}
	})
}
