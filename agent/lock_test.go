package agent

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ccagent/ccagent/agent/job"
	"github.com/ccagent/ccagent/protocol"
)

// vault is a provider whose records rest in store encrypted, behind a passphrase.
type vault struct {
	*provider
	passphrase string
}

func (v *vault) Run(ctx context.Context, j job.Job, handOver func(job.Result)) (job.Report, error) {
	switch {
	case j.Op == job.Unlock && j.Passphrase.Empty():
		return job.Report{Err: &protocol.Error{Code: protocol.CodeLocked, Message: "it needs its passphrase"}}, nil
	case j.Op == job.Unlock && j.Passphrase.Reveal() != v.passphrase:
		return job.Report{Err: &protocol.Error{Code: protocol.CodeDenied, Message: "the passphrase does not open it"}}, nil
	case j.Op == job.Unlock:
		return job.Report{Result: job.Result{Key: protocol.NewSecret("fake-identity")}}, nil
	case j.Key.Reveal() != "fake-identity":
		return job.Report{Err: &protocol.Error{Code: protocol.CodeLocked, Message: "the record is encrypted, and locked"}}, nil
	}
	return v.provider.Run(ctx, j, handOver)
}

func (v *vault) agent(t *testing.T) *Agent {
	a := New(Options{Runner: v, Load: func() (Config, error) {
		return Config{
			Default: "work",
			Profiles: []Profile{
				{Name: "work", Provider: "claude", Store: "encrypted", Identity: "/fake/identity", Settings: []byte("{}")},
			},
		}, nil
	}})
	t.Cleanup(func() { a.Close(context.Background()) })
	return a
}

func unlockWith(a *Agent, passphrase string, idle time.Duration) error {
	_, err := a.Control(context.Background(),
		protocol.ControlRequest{Command: protocol.CommandUnlock, Passphrase: protocol.NewSecret(passphrase), For: idle})
	return err
}

func command(a *Agent, c protocol.Command, passphrase string) error {
	_, err := a.Control(context.Background(), protocol.ControlRequest{Command: c, NewPassphrase: protocol.NewSecret(passphrase)})
	return err
}

func request(a *Agent) error {
	_, err := a.Token(context.Background(), protocol.TokenRequest{})
	return err
}

func TestEncryptedStoreUnlocked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &vault{&provider{lifetime: 30 * 24 * time.Hour, store: "encrypted"}, "fake passphrase"}
		a := v.agent(t)
		if err := request(a); !errors.Is(err, protocol.ErrLocked) {
			t.Fatalf("before: %v", err)
		}
		if s, _ := a.Status(t.Context(), protocol.StatusRequest{}); s.Agent.Locked || s.Profiles[0].State != protocol.StateLocked {
			t.Errorf("%+v", s)
		}
		if err := unlockWith(a, "", 0); !errors.Is(err, protocol.ErrLocked) {
			t.Errorf("without a passphrase: %v", err)
		}
		if err := unlockWith(a, "fake passphrase", 8*time.Hour); err != nil {
			t.Fatal(err)
		}
		if err := request(a); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Hour)
		if err := request(a); err != nil {
			t.Fatal(err)
		}
		time.Sleep(8*time.Hour - time.Minute)
		if err := request(a); err != nil {
			t.Errorf("in use, and locked: %v", err)
		}
		time.Sleep(8*time.Hour + time.Minute)
		if err := request(a); !errors.Is(err, protocol.ErrLocked) {
			t.Errorf("nothing needed it for longer than it may be kept: %v", err)
		}
	})
}

func TestLock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &vault{&provider{lifetime: time.Hour, store: "encrypted"}, "fake passphrase"}
		a := v.agent(t)
		if err := unlockWith(a, "fake passphrase", 0); err != nil {
			t.Fatal(err)
		}
		if err := request(a); err != nil {
			t.Fatal(err)
		}
		if err := command(a, protocol.CommandLock, ""); err != nil {
			t.Fatal(err)
		}
		renewed := v.renewed()
		time.Sleep(3 * time.Hour)
		if v.renewed() != renewed {
			t.Error("a locked agent renews")
		}
		if err := request(a); !errors.Is(err, protocol.ErrLocked) {
			t.Errorf("a locked agent answers: %v", err)
		}
		if _, err := a.Identify(t.Context(), protocol.IdentifyRequest{}); !errors.Is(err, protocol.ErrLocked) {
			t.Errorf("a locked agent says who is signed in: %v", err)
		}
		for _, c := range []protocol.Command{protocol.CommandStop, protocol.CommandRemove, protocol.CommandLogout} {
			if err := command(a, c, ""); !errors.Is(err, protocol.ErrLocked) {
				t.Errorf("a locked agent takes command %d: %v", c, err)
			}
		}
		if s, _ := a.Status(t.Context(), protocol.StatusRequest{}); !s.Agent.Locked || s.Profiles[0].State != protocol.StateLocked ||
			s.Profiles[0].HasToken {
			t.Errorf("%+v", s)
		}
		if err := command(a, protocol.CommandLock, "another"); !errors.Is(err, protocol.ErrLocked) {
			t.Errorf("the lock's passphrase was replaced: %v", err)
		}
		if err := unlockWith(a, "", 0); !errors.Is(err, protocol.ErrLocked) {
			t.Errorf("unlocked without what opens the store: %v", err)
		}
		if err := unlockWith(a, "fake passphrase", 0); err != nil {
			t.Fatal(err)
		}
		if err := request(a); err != nil {
			t.Error(err)
		}
	})
}

func TestWrongPassphrases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &vault{&provider{lifetime: time.Hour, store: "encrypted"}, "fake passphrase"}
		a := v.agent(t)
		for _, wait := range []time.Duration{time.Second, 2 * time.Second, 4 * time.Second} {
			if err := unlockWith(a, "guess", 0); !errors.Is(err, protocol.ErrDenied) || protocol.HintOf(err) == "" {
				t.Fatalf("%v", err)
			}
			time.Sleep(wait - time.Millisecond)
			jobs := v.count(job.Unlock)
			if err := unlockWith(a, "fake passphrase", 0); !errors.Is(err, protocol.ErrDenied) ||
				!strings.Contains(err.Error(), "in 1s") {
				t.Fatalf("the right one, too early: %v", err)
			}
			if v.count(job.Unlock) != jobs {
				t.Error("one that came too early was tried")
			}
			time.Sleep(time.Millisecond)
		}
		if err := unlockWith(a, "fake passphrase", 0); err != nil {
			t.Fatal(err)
		}
		unlockWith(a, "guess", 0)
		time.Sleep(time.Second)
		if err := unlockWith(a, "fake passphrase", 0); err != nil {
			t.Errorf("the time did not begin anew after a right one: %v", err)
		}
	})
}

// A lock with a passphrase of its own is ended by that alone; the store's stays locked until its own is given.
func TestLockPassphrase(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &vault{&provider{lifetime: time.Hour, store: "encrypted"}, "fake passphrase"}
		a := v.agent(t)
		if err := command(a, protocol.CommandLock, "screen"); err != nil {
			t.Fatal(err)
		}
		if err := unlockWith(a, "fake passphrase", 0); !errors.Is(err, protocol.ErrDenied) {
			t.Errorf("the store's passphrase ended the lock: %v", err)
		}
		time.Sleep(time.Second)
		reply, err := a.Control(t.Context(),
			protocol.ControlRequest{Command: protocol.CommandUnlock, Passphrase: protocol.NewSecret("screen")})
		if err != nil || !strings.Contains(reply.Notice, "still locked") {
			t.Fatalf("%+v, %v", reply, err)
		}
		if s, _ := a.Status(t.Context(), protocol.StatusRequest{}); s.Agent.Locked {
			t.Error("still locked")
		}
		if err := unlockWith(a, "fake passphrase", 0); err != nil {
			t.Fatal(err)
		}
		if err := request(a); err != nil {
			t.Error(err)
		}
	})
}

// The token of a renewal that was under way when the agent was locked is neither served nor cached.
func TestLockDuringRenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &provider{lifetime: time.Hour, latency: 10 * time.Second}
		a := New(Options{Runner: p, Load: func() (Config, error) {
			return Config{
				Default:  "claude",
				Profiles: []Profile{{Name: "claude", Provider: "claude", Store: "file", Settings: []byte("{}")}},
			}, nil
		}})
		defer a.Close(context.Background())
		answer := make(chan error)
		go func() { answer <- request(a) }()
		synctest.Wait()
		if err := a.Lock(protocol.Secret{}); err != nil {
			t.Fatal(err)
		}
		if err := <-answer; !errors.Is(err, protocol.ErrLocked) {
			t.Errorf("served after the lock: %v", err)
		}
		if p.renewed() != 1 || a.table.Load().find("", ours).cached.Load() != nil {
			t.Errorf("%d renewals; cached: %v", p.renewed(), a.table.Load().find("", ours).cached.Load())
		}
		if err := unlockWith(a, "", 0); err != nil {
			t.Fatal(err)
		}
		if err := request(a); err != nil {
			t.Error(err)
		}
	})
}

// What was rotated and is not saved yet is saved under a lock, or left by an agent that ends locked; the key that this takes
// opens nothing else.
func TestLockKeepsUnsaved(t *testing.T) {
	full := &protocol.Error{Code: protocol.CodeStorage, Message: "no space left on device"}
	unsaved := func(t *testing.T) (*vault, *Agent) {
		v := &vault{&provider{lifetime: time.Hour, store: "encrypted", saveErr: full}, "fake passphrase"}
		a := v.agent(t)
		if err := unlockWith(a, "fake passphrase", 0); err != nil {
			t.Fatal(err)
		}
		if err := request(a); err != nil {
			t.Fatal(err)
		}
		return v, a
	}
	t.Run("saved later", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			v, a := unsaved(t)
			reply, err := a.Control(t.Context(),
				protocol.ControlRequest{Command: protocol.CommandLock, NewPassphrase: protocol.NewSecret("screen")})
			if err != nil || !strings.Contains(reply.Notice, "work is saved") {
				t.Errorf("%+v, %v", reply, err)
			}
			if _, err := a.Control(t.Context(), protocol.ControlRequest{Command: protocol.CommandUnlock,
				Passphrase: protocol.NewSecret("screen")}); err != nil {
				t.Fatal(err)
			}
			if _, err := a.Token(t.Context(), protocol.TokenRequest{Force: true}); !errors.Is(err, protocol.ErrLocked) {
				t.Errorf("a key that was kept for a save serves: %v", err)
			}
			if reply, err := a.Control(t.Context(), protocol.ControlRequest{Command: protocol.CommandLock}); err != nil ||
				!strings.Contains(reply.Notice, "work is saved") {
				t.Errorf("locked again: %+v, %v", reply, err)
			}
			v.set(func() { v.saveErr = nil })
			time.Sleep(maxSaveBackoff + time.Second)
			if a.table.Load().find("", ours).aloneHasRecord() {
				t.Error("it was not saved")
			}
			if a.lockState.keys.forSaving["/fake/identity"] != (protocol.Secret{}) {
				t.Error("the key is kept for nothing")
			}
			if reply, err := a.Control(t.Context(), protocol.ControlRequest{Command: protocol.CommandLock}); err != nil ||
				reply.Notice != "" {
				t.Errorf("%+v, %v", reply, err)
			}
		})
	})
	t.Run("left at the end", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			v, a := unsaved(t)
			if err := a.Lock(protocol.Secret{}); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			v.set(func() { v.saveErr = nil })
			if err := a.Close(t.Context()); err != nil || v.count(job.Spill) != 1 {
				t.Errorf("%d spills, %v", v.count(job.Spill), err)
			}
		})
	})
	t.Run("renewed meanwhile", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			v := &vault{&provider{lifetime: time.Hour, store: "encrypted", saveErr: full, latency: 10 * time.Second}, "fake passphrase"}
			a := v.agent(t)
			if err := unlockWith(a, "fake passphrase", 0); err != nil {
				t.Fatal(err)
			}
			go request(a)
			synctest.Wait()
			if err := a.Lock(protocol.Secret{}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
			v.set(func() { v.saveErr = nil })
			time.Sleep(2 * maxSaveBackoff)
			if v.renewed() != 1 || a.table.Load().find("", ours).aloneHasRecord() {
				t.Errorf("%d renewals, and it was not saved", v.renewed())
			}
		})
	})
}

// A lock without a passphrase can be ended although an identity is broken. Jobs ask for keys while the clock looks for unused
// ones.
func TestUnlockBesideABrokenIdentity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &broken{&provider{lifetime: time.Hour}}
		a := New(Options{Runner: p, Load: func() (Config, error) {
			return Config{
				Default: "claude",
				Profiles: []Profile{
					{Name: "claude", Provider: "claude", Store: "file", Identity: "/fake/identity", Settings: []byte("{}")},
				},
			}, nil
		}})
		defer a.Close(context.Background())
		if err := command(a, protocol.CommandLock, ""); err != nil {
			t.Fatal(err)
		}
		if err := unlockWith(a, "", 0); err != nil {
			t.Fatal(err)
		}
		if err := request(a); err != nil {
			t.Error(err)
		}
		_, err := a.Control(t.Context(),
			protocol.ControlRequest{Command: protocol.CommandUnlock, Force: true, NewPassphrase: protocol.NewSecret("fake")})
		if !errors.Is(err, protocol.ErrConfig) {
			t.Errorf("making an identity that can't be made: %v", err)
		}
	})
}

// broken is a provider beside an identity that can't be used.
type broken struct{ *provider }

func (b *broken) Run(ctx context.Context, j job.Job, handOver func(job.Result)) (job.Report, error) {
	if j.Op == job.Unlock {
		return job.Report{Err: &protocol.Error{Code: protocol.CodeConfig, Message: "identity: there is no such file"}}, nil
	}
	return b.provider.Run(ctx, j, handOver)
}
