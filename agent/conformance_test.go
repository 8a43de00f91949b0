package agent

import (
	"context"
	"sync"
	"testing"

	"github.com/ccagent/ccagent/agent/job"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/protocol/protocoltest"
)

// fixed is a Runner whose store holds what the suite wants served.
type fixed struct {
	mu       sync.Mutex
	profiles map[string]protocoltest.Profile
}

func (f *fixed) Run(_ context.Context, j job.Job, _ func(job.Result)) (job.Report, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if j.Op.Removes() {
		delete(f.profiles, j.Profile)
		return job.Report{Kind: job.Done}, nil
	}
	p, ok := f.profiles[j.Profile]
	if !ok {
		return job.Report{Kind: job.Done, Err: &protocol.Error{Code: protocol.CodeNotFound, Message: "nothing stored"}}, nil
	}
	if j.Op == job.Identify {
		return job.Report{Kind: job.Done, Result: job.Result{Identity: p.Identity}}, nil
	}
	if j.Op == job.Derive {
		if p.IDToken == "" {
			return job.Report{Kind: job.Done, Err: &protocol.Error{Code: protocol.CodeConfig, Message: "no ID token"}}, nil
		}
		return job.Report{Kind: job.Done, Result: job.Result{Token: protocol.NewSecret(p.IDToken), Kind: protocol.KindBearer,
			Expiry: p.Expiry}}, nil
	}
	r := job.Result{Store: "file", Location: "a file", Version: job.Version{1}, Saved: true}
	if p.Err == nil {
		r.Token, r.Kind, r.Expiry = protocol.NewSecret(p.Token), p.Kind, p.Expiry
		r.Renewed = true // nothing in the suite lives as long as it asks for
	}
	return job.Report{Kind: job.Done, Result: r, Err: p.Err}, nil
}

func fixture(t *testing.T, profiles []protocoltest.Profile) *Agent {
	f := &fixed{profiles: map[string]protocoltest.Profile{}}
	var names []string
	for _, p := range profiles {
		f.profiles[p.Name] = p
		names = append(names, p.Name)
	}
	a := New(Options{Load: func() (Config, error) {
		c := config(names...)
		c.Home = protocoltest.Home
		for i, p := range profiles {
			c.Profiles[i].Hosts, c.Profiles[i].Username = p.Hosts, p.Username
		}
		return c, nil
	}, Runner: f, Build: "test"})
	t.Cleanup(func() { a.Close(context.Background()) })
	return a
}

func TestConformance(t *testing.T) {
	t.Run("in process", func(t *testing.T) {
		protocoltest.Run(t, func(t *testing.T, p []protocoltest.Profile) protocol.Agent { return fixture(t, p) })
	})
	t.Run("over a socket", func(t *testing.T) {
		protocoltest.Run(t, func(t *testing.T, p []protocoltest.Profile) protocol.Agent {
			c := protocol.NewClient(serve(t, fixture(t, p), me()))
			t.Cleanup(func() { c.Close() })
			return c
		})
	})
}
