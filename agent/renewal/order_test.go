package renewal_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/ccagent/ccagent/agent/job"
	"github.com/ccagent/ccagent/agent/renewal"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store"
)

// journal writes down in which order a task does what it does. It is the store, the provider and the setting of one.
type journal struct {
	store.Store
	did      []string
	lost     bool   // the lock is lost
	loseWhen string // what loses it
}

func (j *journal) note(what string) {
	j.did = append(j.did, what)
	if what == j.loseWhen {
		j.lost = true
	}
}

func (j *journal) Lock(ctx context.Context) (store.Lock, error) {
	j.note("lock")
	l, err := j.Store.Lock(ctx)
	return journalLock{l, j}, err
}

func (j *journal) Save(ctx context.Context, r store.Record, base store.Version) (store.Version, error) {
	j.note("save")
	return j.Store.Save(ctx, r, base)
}

type journalLock struct {
	store.Lock
	j *journal
}

func (l journalLock) Check() error {
	l.j.note("check the lock")
	if l.j.lost {
		return &protocol.Error{Code: protocol.CodeUnavailable, Message: "the lock was lost"}
	}
	return l.Lock.Check()
}

func (l journalLock) Reserve(ctx context.Context) error {
	l.j.note("reserve")
	return l.Lock.Reserve(ctx)
}

func (l journalLock) Release() error {
	l.j.note("release")
	return l.Lock.Release()
}

func (j *journal) Prepare(_ context.Context, r store.Record) (renewal.Request, error) {
	j.note("prepare")
	return renewal.Request{Spends: !r.RefreshToken.Empty(), Send: func(context.Context) (store.Record, error) {
		j.note("send")
		r.AccessToken, r.RefreshToken = protocol.NewSecret("fake-access-2"), protocol.NewSecret("fake-refresh-2")
		r.Issued, r.Expiry = time.Now(), time.Now().Add(time.Hour)
		return r, nil
	}}, nil
}

func (j *journal) Asking()             { j.note("asking") }
func (j *journal) HandOver(job.Result) { j.note("hand over") }
func (j *journal) Rests(store.Store)   {}

func (j *journal) Holds(context.Context, store.Home, store.Record) bool {
	j.note("look at the other home")
	return false
}

func (j *journal) Missing(context.Context, store.Store, store.Version, error) (renewal.Outcome, bool) {
	return renewal.Outcome{}, false
}

// renewOnce renews an expired record that another profile seems to have too.
func (j *journal) renewOnce(t *testing.T, refresh string) renewal.Outcome {
	t.Helper()
	state, file := t.TempDir(), store.NewFile(t.TempDir(), "main")
	r := store.Record{AccessToken: protocol.NewSecret("fake-access-1"), Expiry: time.Now().Add(-time.Minute)}
	if refresh != "" {
		r.RefreshToken = protocol.NewSecret(refresh)
	}
	if _, err := file.Save(t.Context(), r, store.Version{}); err != nil {
		t.Fatal(err)
	}
	other := store.HomeOf(store.NewFile(t.TempDir(), "other"), "other", r)
	store.NewHomes(state).Claim(t.Context(), other, r, func(store.Home) bool { return true })
	j.Store = file
	task := renewal.Task{
		Job: job.Job{Op: job.Renew, Profile: "main"}, Provider: j, Setting: j, StateDir: state, Token: protocol.KindBearer,
	}
	return task.Renew(t.Context(), j)
}

// TestOrder: what a renewal does, in this order.
func TestOrder(t *testing.T) {
	t.Parallel()
	j := &journal{}
	if o := j.renewOnce(t, "fake-refresh-1"); o.Err != nil || o.Finding != renewal.Stored {
		t.Fatalf("%+v", o)
	}
	want := []string{
		"lock", "prepare", "look at the other home", "reserve", "check the lock", "asking", "send", "hand over", "save", "release",
	}
	if !slices.Equal(j.did, want) {
		t.Errorf("it did\n%q, want\n%q", j.did, want)
	}
}

// TestLockIsLost: whatever takes long enough for the lock to be lost, nothing is sent after that.
func TestLockIsLost(t *testing.T) {
	t.Parallel()
	for _, refresh := range []string{"fake-refresh-1", ""} {
		for _, when := range []string{"lock", "prepare", "look at the other home", "reserve"} {
			j := &journal{loseWhen: when}
			o := j.renewOnce(t, refresh)
			if !j.lost {
				continue // without a refresh token there is nothing to reserve, and no other home
			}
			if !errors.Is(o.Err, protocol.ErrUnavailable) || slices.Contains(j.did, "send") {
				t.Errorf("refresh token %q, lost in %q: %v, it did %q", refresh, when, o.Err, j.did)
			}
		}
	}
}
