package agent

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ccagent/ccagent/agent/job"
	"github.com/ccagent/ccagent/protocol"
)

// A profile that others read views of is loaded and renewed though nobody asks, also after failures, and keeps the agent running.
func TestShownProfileIsKeptFresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &provider{lifetime: time.Hour}
		p.fail = &protocol.Error{Code: protocol.CodeUnavailable, Message: "no network"}
		time.AfterFunc(5*time.Minute, func() {
			p.set(func() { p.fail, p.local = &protocol.Error{Code: protocol.CodeConfig, Message: "no key file"}, true })
		})
		a := New(Options{Runner: p, IdleTimeout: time.Hour, Load: func() (Config, error) {
			return Config{Default: "work", Profiles: []Profile{
				{Name: "quiet", Provider: "claude", Store: "file", Settings: []byte("{}")},
				{Name: "work", Provider: "claude", Store: "file", Settings: []byte("{}"), Shown: true},
			}}, nil
		}})
		defer a.Close(context.Background())
		time.Sleep(10 * time.Minute)
		p.set(func() { p.fail = nil })
		time.Sleep(72 * time.Hour)
		if n := p.renewed(); n < 72 || n > 100 {
			t.Errorf("%d renewals of an hour's token in three days", n)
		}
		for _, j := range p.all() {
			if j.Profile == "quiet" {
				t.Error("the profile without views was renewed, and nobody had asked")
			}
		}
		if n := p.count(job.Renew); n > 130 {
			t.Errorf("%d jobs", n)
		}
		select {
		case <-a.stopping:
			t.Error("the agent ended as if it were idle")
		default:
		}
	})
}

// A failure that only a person or another program can end is no reason to start a worker again and again.
func TestShownProfileWaits(t *testing.T) {
	for _, tt := range []struct {
		code protocol.Code
		most int
	}{
		{protocol.CodeNotFound, 1}, {protocol.CodeLocked, 1}, {protocol.CodeLoginRequired, 1}, {protocol.CodeStorage, 62 * 2},
		{protocol.CodeUnavailable, 30},
	} {
		synctest.Test(t, func(t *testing.T) {
			p := &provider{lifetime: time.Hour}
			p.fail = &protocol.Error{Code: tt.code, Message: "fake"}
			a := New(Options{Runner: p, Load: func() (Config, error) {
				return Config{
					Default:  "work",
					Profiles: []Profile{{Name: "work", Provider: "claude", Store: "file", Settings: []byte("{}"), Shown: true}},
				}, nil
			}})
			defer a.Close(context.Background())
			time.Sleep(time.Hour)
			if n := p.count(job.Renew); n < 1 || n > tt.most {
				t.Errorf("code %d: %d jobs in an hour", tt.code, n)
			}
		})
	}
}

// newShown is an agent with one profile that has views.
func newShown(p *provider) *Agent {
	return New(Options{Runner: p, Load: func() (Config, error) {
		return Config{
			Default:  "work",
			Profiles: []Profile{{Name: "work", Provider: "claude", Store: "file", Settings: []byte("{}"), Shown: true}},
		}, nil
	}})
}

// A view that could not be written is behind, and soon runs out: it is written again without waiting for the next renewal.
func TestViewBehindIsWrittenAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &provider{lifetime: 8 * time.Hour, behind: true}
		a := newShown(p)
		defer a.Close(context.Background())
		time.Sleep(10 * time.Minute)
		if n := p.count(job.Renew); n < 10 || n > 60 {
			t.Errorf("%d jobs in ten minutes", n)
		}
		p.set(func() { p.behind = false })
		time.Sleep(time.Minute)
		before := p.count(job.Renew)
		time.Sleep(time.Hour)
		if n := p.count(job.Renew); n != before || p.renewed() != 1 {
			t.Errorf("%d jobs more, %d renewals, though nothing is behind", n-before, p.renewed())
		}
	})
}

// A store that refuses the record for long is no reason to let the views run out.
func TestShownProfileIsRenewedUnsaved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &provider{lifetime: time.Hour, saveErr: &protocol.Error{Code: protocol.CodeLocked, Message: "fake lock"}}
		a := newShown(p)
		defer a.Close(context.Background())
		time.Sleep(10 * time.Hour)
		if n := p.renewed(); n < 10 || n > 14 {
			t.Errorf("%d renewals of an hour's token in ten hours", n)
		}
	})
}

// A lock removes views, and so does whoever takes the profile or its views out of the configuration. What a job has written
// after the lock is removed too.
func TestViewsAreHidden(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &provider{lifetime: time.Hour, latency: time.Second}
		work := Profile{Name: "work", Provider: "claude", Store: "file", Settings: []byte("{}"), Shown: true}
		c := Config{Default: "work", Profiles: []Profile{work}}
		a := New(Options{Runner: p, Load: func() (Config, error) { return c, nil }})
		defer a.Close(context.Background())
		hides := func(what string, do func(), want int, then job.Op) {
			t.Helper()
			before := p.count(job.Hide)
			do()
			time.Sleep(10 * time.Second)
			if n := p.count(job.Hide) - before; n != want {
				t.Errorf("%s: views were removed %d times, want %d", what, n, want)
			}
			if jobs := p.all(); then != 0 && jobs[len(jobs)-1].Op != then {
				t.Errorf("%s: the last job is %d", what, jobs[len(jobs)-1].Op)
			}
		}
		hides("start", func() {}, 0, job.Renew)
		hides("lock", func() {
			if err := a.Lock(protocol.Secret{}); err != nil || p.count(job.Hide) != 1 {
				t.Errorf("%v, and the lock did not wait", err)
			}
		}, 1, job.Hide)
		hides("unlock", func() { a.Control(t.Context(), protocol.ControlRequest{Command: protocol.CommandUnlock}) }, 0, job.Renew)
		hides("lock while a renewal is under way", func() {
			p.set(func() { p.latency = 5 * time.Second })
			go a.Token(context.Background(), protocol.TokenRequest{Force: true})
			time.Sleep(time.Second)
			a.Lock(protocol.Secret{})
		}, 1, job.Hide)
		p.set(func() { p.latency = time.Second })
		a.Control(t.Context(), protocol.ControlRequest{Command: protocol.CommandUnlock})
		time.Sleep(10 * time.Second)
		reload := func() {
			if _, err := a.Control(t.Context(), protocol.ControlRequest{Command: protocol.CommandReload}); err != nil {
				t.Error(err)
			}
		}
		hides("views lost", func() {
			work.Shown, work.Settings = false, []byte(`{"b":1}`)
			c = Config{Default: "work", Profiles: []Profile{work}}
			reload()
		}, 1, job.Hide)
		work.Shown, work.Settings = true, []byte("{}")
		hides("views gained", func() {
			c = Config{Default: "work", Profiles: []Profile{work}}
			reload()
		}, 0, job.Renew)
		hides("profile removed", func() {
			c = Config{}
			reload()
			if _, err := a.Token(t.Context(), protocol.TokenRequest{Profile: "work"}); protocol.CodeOf(err) != protocol.CodeNotFound {
				t.Errorf("a request for it: %v", err)
			}
		}, 1, job.Hide)
	})
}
