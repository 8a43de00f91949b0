package renewal_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/ccagent/ccagent/agent/job"
	"github.com/ccagent/ccagent/agent/oauth/oauthtest"
	"github.com/ccagent/ccagent/agent/provider"
	"github.com/ccagent/ccagent/agent/worker"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store"
)

// fault is a way in which a provider misbehaves, and what is to come of it.
type fault struct {
	name string
	oauthtest.Fault
	timeout time.Duration // of the request; 0: it is long enough
	want    error         // nil: there is a token
	retry   time.Duration // what the agent is told of when to ask again
	// spends says that the provider has taken the refresh token, and nobody can know the one that took its place.
	spends bool
	// final says that the same request brings the same answer.
	final bool
}

func faults() []fault {
	edit := func(do func(map[string]any)) oauthtest.Fault { return oauthtest.Fault{Edit: do} }
	set := func(key string, value any) oauthtest.Fault {
		return edit(func(reply map[string]any) { reply[key] = value })
	}
	without := func(key string) oauthtest.Fault {
		return edit(func(reply map[string]any) { delete(reply, key) })
	}
	unavailable := protocol.ErrUnavailable
	return []fault{
		{name: "none"},
		{name: "slow to begin", Fault: oauthtest.Fault{Delay: 30 * time.Millisecond}},
		{name: "slow to answer", Fault: oauthtest.Fault{Lag: 30 * time.Millisecond}},
		{name: "drips", Fault: oauthtest.Fault{Drip: 50 * time.Microsecond}},
		{name: "no expiry", Fault: without("expires_in")},
		{name: "too slow to begin", Fault: oauthtest.Fault{Delay: time.Minute}, timeout: 200 * time.Millisecond, want: unavailable},
		{name: "too slow to answer", Fault: oauthtest.Fault{Lag: time.Minute}, timeout: 500 * time.Millisecond, want: unavailable,
			spends: true},
		{name: "drops", Fault: oauthtest.Fault{Drop: true}, want: unavailable},
		{name: "drops the answer", Fault: oauthtest.Fault{Drop: true, Rotate: true}, want: unavailable, spends: true},
		{name: "half of an answer", Fault: oauthtest.Fault{Truncate: true}, want: unavailable, spends: true},
		{name: "an answer without end", Fault: oauthtest.Fault{Endless: true}, want: unavailable, spends: true},
		{name: "down", Fault: oauthtest.Fault{Status: 503, Body: "{}"}, want: unavailable},
		{name: "down behind a gateway", Fault: oauthtest.Fault{Status: 502, Body: "<html>", Rotate: true}, want: unavailable,
			spends: true},
		{name: "busy", want: unavailable, retry: 77 * time.Second,
			Fault: oauthtest.Fault{Status: 429, Body: "{}", Header: map[string]string{"Retry-After": "77"}}},
		{name: "says slow down", Fault: oauthtest.Fault{Status: 400, Body: `{"error":"slow_down"}`}, want: unavailable},
		{name: "a login page", want: unavailable,
			Fault: oauthtest.Fault{Status: 200, Body: "<html>", Header: map[string]string{"Content-Type": "text/html"}}},
		{name: "a redirect", want: unavailable,
			Fault: oauthtest.Fault{Status: 302, Header: map[string]string{"Location": "https://evil.example.com/"}}},
		{name: "refuses the token", Fault: oauthtest.Fault{Status: 400, Body: `{"error":"invalid_grant"}`},
			want: protocol.ErrLoginRequired, final: true},
		{name: "refuses the client", Fault: oauthtest.Fault{Status: 401, Body: `{"error":"invalid_client"}`}, want: protocol.ErrConfig},
		{name: "no access token", Fault: without("access_token"), want: unavailable},
		{name: "an access token that is a number", Fault: set("access_token", 7), want: unavailable},
		{name: "an access token with blanks", Fault: set("access_token", "fake access"), want: unavailable},
		{name: "a refresh token that is a number", Fault: set("refresh_token", 7), want: unavailable, spends: true},
	}
}

// brings reports whether the answer has something that is to be saved.
func (f fault) brings() bool { return (f.want == nil || f.Edit != nil) && !f.spends }

// eachFault runs do with every kind of provider, in both settings, and every fault.
func eachFault(t *testing.T, do func(t *testing.T, b *bench, k kind, f fault)) {
	t.Parallel()
	for _, k := range kinds() {
		t.Run(k.in.name+"/"+k.name, func(t *testing.T) {
			t.Parallel()
			for _, f := range faults() {
				if !k.asks && f.name != "none" {
					continue // nobody is asked
				}
				t.Run(f.name, func(t *testing.T) {
					b := newBench(t, k)
					if f.timeout > 0 {
						b.timeout = f.timeout
					}
					f.Fault.Times = 1
					b.server.SetFault(f.Fault)
					do(t, b, k, f)
				})
			}
		})
	}
}

// checkAnswer checks what the agent is told after a request that met the fault.
func (b *bench) checkAnswer(k kind, f fault, report job.Report) {
	b.t.Helper()
	requests := b.server.Counts().Requests
	if !k.asks {
		if requests != 0 || report.Err == nil || !errors.Is(report.Err, protocol.ErrConfig) {
			b.t.Errorf("%d requests, %+v: there is nobody to ask", requests, report.Err)
		}
		return
	}
	if requests != 1 {
		b.t.Errorf("%d requests, and one job makes one", requests)
	}
	switch want := k.expects(f); {
	case want == nil:
		if report.Err != nil || !report.Result.Renewed || !b.server.Live(report.Result.Token.Reveal()) {
			b.t.Errorf("got %+v, %v, want a token", report.Result, report.Err)
		}
		return
	case report.Err == nil || !errors.Is(report.Err, want):
		b.t.Errorf("got error %+v, want %v", report.Err, want)
	}
	if !report.Result.Token.Empty() {
		b.t.Errorf("an expired token is served: %+v", report.Result)
	}
	if !k.command && (report.RetryAfter != f.retry || report.Local) {
		b.t.Errorf("to be asked again after %s, want %s; local %v", report.RetryAfter, f.retry, report.Local)
	}
}

// expects is the error that a fault ends in. What a command does with the answer is the command's own affair; and what concerns a
// refresh token concerns nobody who has none.
func (k kind) expects(f fault) error {
	switch {
	case f.name == "a refresh token that is a number" && !k.refreshes:
		return nil
	case k.command && f.want != nil:
		return protocol.ErrUnavailable
	case f.final && k.name != "assertion" && !k.refreshes:
		return protocol.ErrConfig // there is no sign-in to lose, so it speaks of how we ask
	}
	return f.want
}

// goesOn checks that the sign-in was not lost: the next renewal succeeds, and no refresh token was shown twice that the provider
// had taken.
func (b *bench) goesOn(k kind, f fault) {
	b.t.Helper()
	if !k.asks || k.refreshes && f.spends {
		return
	}
	b.timeout = 20 * time.Second
	report := b.renew() // a person who forces it is heard, even where the provider has refused for good
	if report.Err != nil || !b.server.Live(report.Result.Token.Reveal()) {
		b.t.Errorf("then: %+v, %v", report.Result, report.Err)
	}
	if n := b.server.Counts().Reuses; n != 0 {
		b.t.Error("a spent refresh token was sent again")
	}
}

// TestFaults: whatever a provider does, the agent hears what it was, and the sign-in lives.
func TestFaults(t *testing.T) {
	eachFault(t, func(t *testing.T, b *bench, k kind, f fault) {
		b.checkAnswer(k, f, b.renew())
		b.goesOn(k, f)
	})
}

// TestAgentGoes: the same, when the next job is of an agent that knows nothing of the one before.
func TestAgentGoes(t *testing.T) {
	eachFault(t, func(t *testing.T, b *bench, k kind, f fault) {
		if k.memory {
			return // and nothing is left
		}
		b.renew()
		b.forget()
		b.goesOn(k, f)
	})
}

// TestStoreFails: the record's place can't be written to any more once the provider has been asked, so the answer can't be saved.
// It is handed over, saved by the agent's next job, and lives on.
func TestStoreFails(t *testing.T) {
	eachFault(t, func(t *testing.T, b *bench, k kind, f fault) {
		if b.st == nil || !k.asks || !f.brings() {
			return
		}
		undo := func() {}
		b.before = func() { undo = b.block() }
		report := b.renew()
		if k.expects(f) == nil {
			if len(b.handed) != 1 || b.handed[0].Record.Empty() || report.Result.Saved || report.Result.Record.Empty() {
				t.Errorf("handed over %+v, reported %+v: want the record in both, unsaved", b.handed, report)
			}
			if report.Err == nil || !errors.Is(report.Err, protocol.ErrStorage) || !b.server.Live(report.Result.Token.Reveal()) {
				t.Errorf("got %v, %+v", report.Err, report.Result)
			}
		}
		undo()
		if !b.agent.record.Empty() {
			if report = b.run(job.Job{Op: job.Save}); report.Err != nil || !report.Result.Saved {
				t.Errorf("the save: %+v", report)
			}
		}
		b.goesOn(k, f)
	})
}

// TestStoreFailsAndAgentGoes: as TestStoreFails, and the agent ends before it can save. What was spilled is brought home.
func TestStoreFailsAndAgentGoes(t *testing.T) {
	eachFault(t, func(t *testing.T, b *bench, k kind, f fault) {
		if b.st == nil || !k.asks || !f.brings() {
			return
		}
		undo := func() {}
		b.before = func() { undo = b.block() }
		b.renew()
		undo()
		if (k.refreshes || k.expects(f) == nil) && !store.Spilled(b.state, b.st) {
			t.Error("nothing was spilled")
		}
		b.forget()
		b.goesOn(k, f)
	})
}

// eachStored runs do with every kind of provider that has a refresh token in a store, in both settings.
func eachStored(t *testing.T, do func(t *testing.T, b *bench, k kind)) {
	t.Parallel()
	for _, k := range kinds() {
		if !k.refreshes || k.memory {
			continue
		}
		t.Run(k.in.name+"/"+k.name, func(t *testing.T) {
			t.Parallel()
			do(t, newBench(t, k), k)
		})
	}
}

// replace puts another record where b's is, as a program does that takes no lock.
func (b *bench) replace(r store.Record) {
	b.t.Helper()
	dir := b.t.TempDir()
	var other store.Store = store.NewFile(dir, b.profile)
	if b.st.Place().Kind.Traits().Shared {
		other = store.NewClaudeCode(dir)
	}
	if _, err := other.Save(b.t.Context(), r, store.Version{}); err != nil {
		b.t.Fatal(err)
	}
	if err := os.Rename(other.Place().Location, b.st.Place().Location); err != nil {
		b.t.Fatal(err)
	}
}

func theirs(left time.Duration) store.Record {
	return store.Record{AccessToken: protocol.NewSecret("fake-theirs"), RefreshToken: protocol.NewSecret("fake-refresh-theirs"),
		Expiry: time.Now().Add(left).Truncate(time.Millisecond)}
}

// TestOvertaken: another program renews meanwhile, without a lock. What the provider refuses then is an old token, and theirs is
// served.
func TestOvertaken(t *testing.T) {
	eachStored(t, func(t *testing.T, b *bench, _ kind) {
		b.server.SetFault(oauthtest.Fault{Status: 400, Body: `{"error":"invalid_grant"}`})
		b.before = func() { b.replace(theirs(time.Hour)) }
		if report := b.renew(); report.Err != nil || report.Result.Token.Reveal() != "fake-theirs" || !report.Result.Saved {
			t.Errorf("%+v", report)
		}
	})
}

// TestTheirsWins: another program writes while the provider answers. Its record stays, and ours can be restored.
func TestTheirsWins(t *testing.T) {
	eachStored(t, func(t *testing.T, b *bench, _ kind) {
		b.before = func() { b.replace(theirs(time.Hour)) }
		report := b.run(job.Job{Op: job.Renew})
		if report.Err != nil || report.Result.Token.Reveal() != "fake-theirs" || len(b.handed) != 1 {
			t.Errorf("%+v, handed over %d", report, len(b.handed))
		}
		if r, _, err := b.st.Load(t.Context()); err != nil || r.AccessToken.Reveal() != "fake-theirs" {
			t.Errorf("stored: %q, %v", r.AccessToken.Reveal(), err)
		}
		if n := store.CountSetAside(b.state, b.st); n != 1 {
			t.Errorf("%d records are set aside, want ours", n)
		}
	})
}

// TestTheirsIsJudged: what another program has written while the provider answers has expired itself, so it is renewed.
func TestTheirsIsJudged(t *testing.T) {
	eachStored(t, func(t *testing.T, b *bench, _ kind) {
		r := theirs(-time.Minute)
		r.RefreshToken = protocol.NewSecret(b.server.Issue().RefreshToken)
		b.before = func() { b.replace(r) }
		report := b.run(job.Job{Op: job.Renew})
		if report.Err != nil || !report.Result.Saved || !b.server.Live(report.Result.Token.Reveal()) {
			t.Errorf("%+v", report)
		}
		if n := b.server.Refreshes(r.RefreshToken.Reveal()); n != 1 {
			t.Errorf("theirs was renewed %d times", n)
		}
	})
}

// TestAnotherSignIn: another person's sign-in is stored by now, and it can't be renewed. The token of the one before is not
// served any more, though it lives.
func TestAnotherSignIn(t *testing.T) {
	eachStored(t, func(t *testing.T, b *bench, _ kind) {
		report := b.renew()
		if report.Err != nil {
			t.Fatal(report.Err)
		}
		b.replace(theirs(-time.Minute))
		report = b.run(job.Job{Op: job.Renew, Lineage: report.Result.Lineage})
		if report.Err == nil || !report.Result.Gone || !report.Result.Token.Empty() {
			t.Errorf("%+v", report)
		}
	})
}

// TestRefused: a refresh token that the provider has refused counts as spent from then on, and no other error does that.
func TestRefused(t *testing.T) {
	eachStored(t, func(t *testing.T, b *bench, _ kind) {
		for _, refused := range []bool{false, true} {
			body := `{"error":"temporarily_unavailable"}`
			if refused {
				body = `{"error":"invalid_grant"}`
			}
			b.server.SetFault(oauthtest.Fault{Status: 400, Body: body})
			if report := b.renew(); report.Err == nil {
				t.Fatalf("%+v", report)
			}
			past, err := store.NewHistory(b.state, b.st).List(t.Context())
			if err != nil || len(past) != 1 || past[0].Spent != refused {
				t.Errorf("refused %v: %+v, %v", refused, past, err)
			}
		}
	})
}

// TestCancelled: whoever asked is gone when the provider is asked. The renewal is finished and saved.
func TestCancelled(t *testing.T) {
	eachStored(t, func(t *testing.T, b *bench, _ kind) {
		ctx, cancel := context.WithCancel(t.Context())
		b.ctx, b.before = ctx, cancel
		if report := b.renew(); report.Err != nil || !report.Result.Saved || !b.server.Live(report.Result.Token.Reveal()) {
			t.Errorf("%+v", report)
		}
	})
}

// TestOldCopy: a backup brings back a record whose refresh token is spent. It is not sent again; the newest takes its place.
func TestOldCopy(t *testing.T) {
	eachStored(t, func(t *testing.T, b *bench, _ kind) {
		path := b.st.Place().Location
		old, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if report := b.renew(); report.Err != nil {
				t.Fatal(report.Err)
			}
		}
		temp := filepath.Join(t.TempDir(), "old")
		if err := errors.Join(os.WriteFile(temp, old, 0o600), os.Rename(temp, path)); err != nil {
			t.Fatal(err)
		}
		b.forget()
		report := b.run(job.Job{Op: job.Renew})
		if report.Err != nil || !b.server.Live(report.Result.Token.Reveal()) || b.server.Counts().Reuses != 0 {
			t.Errorf("%+v after %+v", report, b.server.Counts())
		}
	})
}

// TestRemoved: after a logout nothing is left that a renewal could find.
func TestRemoved(t *testing.T) {
	eachStored(t, func(t *testing.T, b *bench, _ kind) {
		if report := b.renew(); report.Err != nil {
			t.Fatal(report.Err)
		}
		if report := b.run(job.Job{Op: job.Logout}); report.Err != nil || !report.Result.Saved {
			t.Errorf("%+v", report)
		}
		b.forget()
		asked := b.server.Counts().Requests
		report := b.renew()
		if report.Err == nil || b.server.Counts().Requests != asked {
			t.Errorf("%+v, %d requests", report, b.server.Counts().Requests-asked)
		}
		if _, _, err := b.st.Load(t.Context()); !errors.Is(err, protocol.ErrNotFound) {
			t.Errorf("stored: %v", err)
		}
	})
}

// TestSuiteIsWhole: the suite has every kind of provider, in both settings, and every way of misbehaving that oauthtest has.
func TestSuiteIsWhole(t *testing.T) {
	t.Parallel()
	in := map[string]int{}
	of := map[provider.Kind]bool{}
	for _, k := range kinds() {
		in[k.in.name]++
		if k.settings != nil {
			var s worker.Settings
			k.settings(&bench{t: t, server: oauthtest.New(t, oauthtest.Options{})}, &s)
			of[s.Provider] = true
		}
	}
	for _, kind := range provider.All() {
		if !of[kind] {
			t.Errorf("provider %s is not in the suite", kind)
		}
	}
	if in[inWorker.name] == 0 || in[inEmbed.name] == 0 {
		t.Errorf("kinds by setting: %v", in)
	}
	for _, field := range reflect.VisibleFields(reflect.TypeFor[oauthtest.Fault]()) {
		used := slices.ContainsFunc(faults(), func(f fault) bool {
			return !reflect.ValueOf(f.Fault).FieldByIndex(field.Index).IsZero()
		})
		if !used && field.Name != "Times" { // which each test sets itself
			t.Errorf("no fault has %s", field.Name)
		}
	}
}
