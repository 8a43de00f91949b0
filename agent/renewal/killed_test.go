package renewal_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ccagent/ccagent/agent/job"
	"github.com/ccagent/ccagent/agent/renewal"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store"
)

// killed is the panic by which a step of a task ends it, as a signal ends a worker.
type killed struct{}

// mortal is a journal whose task is killed at a step. It notes which refresh tokens were sent, and what the agent was handed.
type mortal struct {
	journal
	killAt string
	sent   []string
	handed job.Result
	lock   store.Lock
}

func (m *mortal) step(what string) {
	m.note(what)
	if what == m.killAt {
		panic(killed{})
	}
}

func (m *mortal) Lock(ctx context.Context) (store.Lock, error) {
	m.step("lock")
	var err error
	m.lock, err = m.Store.Lock(ctx)
	return m.lock, err
}

func (m *mortal) Save(ctx context.Context, r store.Record, base store.Version) (store.Version, error) {
	m.step("save")
	v, err := m.Store.Save(ctx, r, base)
	m.step("saved")
	return v, err
}

func (m *mortal) Prepare(_ context.Context, r store.Record) (renewal.Request, error) {
	m.step("prepare")
	return renewal.Request{Spends: true, Send: func(context.Context) (store.Record, error) {
		m.step("send")
		m.sent = append(m.sent, r.RefreshToken.Reveal())
		m.step("answered")
		r.AccessToken = protocol.NewSecret(r.AccessToken.Reveal() + "'")
		r.RefreshToken = protocol.NewSecret(r.RefreshToken.Reveal() + "'")
		r.Issued, r.Expiry = time.Now(), time.Now().Add(time.Hour)
		return r, nil
	}}, nil
}

func (m *mortal) Asking() { m.step("asking") }

func (m *mortal) HandOver(r job.Result) {
	m.step("hand over")
	m.handed = r
	m.step("handed over")
}

// do runs a job as the agent asks for it that holds what was handed over, and reports whether it was killed.
func (m *mortal) do(t *testing.T, state string, j job.Job) (o renewal.Outcome, dead bool) {
	t.Helper()
	defer func() {
		if p := recover(); p != nil {
			if _, dead = p.(killed); !dead {
				panic(p)
			}
			if m.lock != nil {
				m.lock.Release() // as the kernel does with those of a process that has ended
			}
		}
	}()
	j.Profile, j.Record, j.Base = "main", m.handed.Record, m.handed.Version
	task := renewal.Task{Job: j, Provider: m, Setting: m, StateDir: state, Token: protocol.KindBearer}
	if j.Op == job.Save {
		return task.Save(t.Context(), m), false
	}
	return task.Renew(t.Context(), m), false
}

// TestKilled kills a renewal at each of its steps. The next job, of the agent that was handed the record or of one that knows
// nothing, brings a token that lives, and no refresh token is sent twice. What can't be healed is listed.
func TestKilled(t *testing.T) {
	t.Parallel()
	steps := []string{"lock", "prepare", "asking", "send", "answered", "hand over", "handed over", "save", "saved"}
	for _, agentLives := range []bool{true, false} {
		for _, at := range steps {
			state := t.TempDir()
			m := &mortal{killAt: at}
			m.Store = expiredRecord(t)
			if _, dead := m.do(t, state, job.Job{Op: job.Renew}); !dead {
				t.Fatalf("%s: it was not killed; it did %q", at, m.did)
			}
			m.killAt = ""
			next := job.Job{Op: job.Renew}
			if !agentLives {
				m.handed = job.Result{}
			} else if !m.handed.Record.Empty() {
				next.Op = job.Save
			}
			o, _ := m.do(t, state, next)
			where := fmt.Sprintf("killed at %q, the agent lives: %v", at, agentLives)
			sent := 1
			switch {
			case at == "answered", at == "hand over", at == "handed over" && !agentLives:
				sent = 2 // nobody can know what the provider has answered
			case at == "save" && !agentLives:
				// The history of a store that is none of package store's has digests alone: it knows that the token is spent, and
				// not what took its place.
				if !errors.Is(o.Err, protocol.ErrLoginRequired) || len(m.sent) != 1 {
					t.Errorf("%s: %v, %d refresh tokens were sent", where, o.Err, len(m.sent))
				}
				continue
			}
			if o.Err != nil || o.Finding != renewal.Stored || o.Result.Token.Reveal() != "fake-access'" {
				t.Errorf("%s: then %v, finding %v, token %q", where, o.Err, o.Finding, o.Result.Token.Reveal())
			}
			stored, _, err := m.Store.Load(t.Context())
			if err != nil || stored.RefreshToken.Reveal() != "fake-refresh'" {
				t.Errorf("%s: stored in the end %q, %v", where, stored.RefreshToken.Reveal(), err)
			}
			if len(m.sent) != sent {
				t.Errorf("%s: %d refresh tokens were sent, want %d", where, len(m.sent), sent)
			}
		}
	}
}

// expiredRecord is a file with a record that is to be renewed.
func expiredRecord(t *testing.T) store.Store {
	t.Helper()
	st := store.NewFile(t.TempDir(), "main")
	r := store.Record{AccessToken: protocol.NewSecret("fake-access"), RefreshToken: protocol.NewSecret("fake-refresh"),
		Expiry: time.Now().Add(-time.Minute)}
	if _, err := st.Save(t.Context(), r, store.Version{}); err != nil {
		t.Fatal(err)
	}
	return st
}

// TestUnusableToken: whatever a provider's code takes for a token is looked at again, and what it has rotated beside one that
// can't be used is kept.
func TestUnusableToken(t *testing.T) {
	t.Parallel()
	for _, token := range []string{"", "fake access", "fake\naccess", "fäke", strings.Repeat("f", 16385)} {
		state, m := t.TempDir(), &mortal{}
		m.Store = expiredRecord(t)
		task := renewal.Task{Job: job.Job{Op: job.Renew, Profile: "main"}, Provider: answering(token), Setting: m, StateDir: state}
		o := task.Renew(t.Context(), m.Store)
		if !errors.Is(o.Err, protocol.ErrUnavailable) || !o.Result.Token.Empty() || o.Result.Renewed || !m.handed.Token.Empty() {
			t.Errorf("%.20q: %+v", token, o)
		}
		if !strings.HasSuffix(o.Err.Error(), "; the refresh token that came with it is kept") {
			t.Errorf("%.20q: %v", token, o.Err)
		}
		if is := "16385 bytes (longer than the 16384"; len(token) > 16384 &&
			(!strings.Contains(o.Err.Error(), is) || protocol.HintOf(o.Err) != protocol.Shorten) {
			t.Errorf("%v, hint %q", o.Err, protocol.HintOf(o.Err))
		}
		if stored, _, err := m.Store.Load(t.Context()); err != nil || stored.RefreshToken.Reveal() != "fake-refresh-2" {
			t.Errorf("%q: stored %q, %v", token, stored.RefreshToken.Reveal(), err)
		}
	}
}

// answering is a provider that rotates, and answers with this access token.
type answering string

func (a answering) Prepare(_ context.Context, r store.Record) (renewal.Request, error) {
	return renewal.Request{Spends: true, Send: func(context.Context) (store.Record, error) {
		r.AccessToken, r.RefreshToken = protocol.NewSecret(string(a)), protocol.NewSecret("fake-refresh-2")
		r.Issued, r.Expiry = time.Now(), time.Now().Add(time.Hour)
		return r, nil
	}}, nil
}
