package agent

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ccagent/ccagent/agent/job"
	"github.com/ccagent/ccagent/protocol"
)

// runner is a Runner that is one function.
type runner func(j job.Job, handOver func(job.Result)) (job.Report, error)

func (r runner) Run(_ context.Context, j job.Job, handOver func(job.Result)) (job.Report, error) {
	return r(j, handOver)
}

func startRunner(t *testing.T, r runner) *Agent {
	t.Helper()
	a := New(Options{Load: func() (Config, error) { return config("claude"), nil }, Runner: r, Build: "test"})
	t.Cleanup(func() { a.Close(context.Background()) })
	return a
}

// TestSignIn puts a fresh sign-in into a profile that needed one, with a store that refuses it, works, or loses its worker.
func TestSignIn(t *testing.T) {
	full := &protocol.Error{Code: protocol.CodeStorage, Message: "no space left"}
	for name, end := range map[string]func(r job.Result) (job.Report, error){
		"saved": func(r job.Result) (job.Report, error) {
			r.Saved, r.Record = true, protocol.Secret{}
			return job.Report{Kind: job.Done, Result: r}, nil
		},
		"disk full": func(r job.Result) (job.Report, error) {
			r.Notice = "it could not be saved yet"
			return job.Report{Kind: job.Done, Result: r, Err: full}, nil
		},
		"worker gone": func(job.Result) (job.Report, error) { return job.Report{}, errors.New("killed") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fresh := job.Result{
					Store:    "file",
					Location: "a file",
					Token:    protocol.NewSecret("fake-access-2"),
					Kind:     protocol.KindBearer,
					Expiry:   time.Now().Add(8 * time.Hour),
					Issued:   time.Now(),
					Record:   protocol.NewSecret("fake-record"),
					Renewed:  true,
				}
				saves := 0
				a := startRunner(t, func(j job.Job, handOver func(job.Result)) (job.Report, error) {
					switch j.Op {
					case job.Put:
						if !j.SignIn || !j.Force {
							t.Errorf("the worker is not told that this is a sign-in: %+v", j)
						}
						handOver(fresh)
						return end(fresh)
					case job.Save:
						saves++
						r := fresh
						r.Saved, r.Record = true, protocol.Secret{}
						return job.Report{Kind: job.Done, Result: r}, nil
					}
					return job.Report{Kind: job.Done, Err: &protocol.Error{Code: protocol.CodeLoginRequired, Message: "signed out"}}, nil
				})
				if _, err := a.Token(t.Context(), protocol.TokenRequest{}); !errors.Is(err, protocol.ErrLoginRequired) {
					t.Fatal(err)
				}
				reply, err := a.Put(t.Context(), protocol.PutRequest{Record: protocol.NewSecret("fake-record"), SignIn: true})
				if err != nil || (reply.Notice == "") != (name == "saved") {
					t.Fatalf("put: %+v, %v", reply, err)
				}
				if got := ask(t, a, protocol.TokenRequest{}); got != "fake-access-2" {
					t.Errorf("got %s", got)
				}
				s := profileOf(t, a)
				if want := map[bool]protocol.State{true: protocol.StateLive,
					false: protocol.StateUnsaved}[name == "saved"]; s.State != want ||
					name == "saved" && s.LastError != "" {
					t.Errorf("state %q (%s), want %q", s.State, s.LastError, want)
				}
				time.Sleep(maxSaveBackoff)
				if s := profileOf(t, a); s.State != protocol.StateLive || (saves == 0) != (name == "saved") {
					t.Errorf("state %q after %d saves", s.State, saves)
				}
				if st, _ := a.Status(t.Context(), protocol.StatusRequest{}); st.Agent.Renewals != 0 {
					t.Error("a sign-in is counted as a renewal")
				}
			})
		})
	}
}

// TestForcedAfterSignIn asks for a renewal right after a sign-in has taken the place of one that was just renewed. The provider
// is asked: the new sign-in has not been renewed, although the one before it has.
func TestForcedAfterSignIn(t *testing.T) {
	put := func(req protocol.PutRequest) func(context.Context, *Agent) error {
		return func(ctx context.Context, a *Agent) error {
			req.Record = protocol.NewSecret("fake-record")
			_, err := a.Put(ctx, req)
			return err
		}
	}
	for name, signIn := range map[string]func(context.Context, *Agent) error{
		"login":       put(protocol.PutRequest{SignIn: true}),
		"slow store":  put(protocol.PutRequest{SignIn: true}),
		"import, add": put(protocol.PutRequest{Force: true}),
		"restore": func(ctx context.Context, a *Agent) error {
			_, err := a.Keep(ctx, protocol.KeepRequest{Action: protocol.KeepRestore, SignIn: "fake-id"})
			return err
		},
		"unlock": func(ctx context.Context, a *Agent) error {
			for _, command := range []protocol.Command{protocol.CommandLock, protocol.CommandUnlock} {
				if _, err := a.Control(ctx, protocol.ControlRequest{Command: command}); err != nil {
					return err
				}
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &provider{lifetime: 8 * time.Hour}
				a := startRunner(t, func(j job.Job, handOver func(job.Result)) (job.Report, error) {
					if !j.Op.SignsIn() {
						return p.Run(context.Background(), j, handOver)
					}
					r := job.Result{Store: "file", Location: "a file", Token: protocol.NewSecret("fake-access-of-sign-in"),
						Kind: protocol.KindOAuth, Issued: time.Now(), Expiry: time.Now().Add(8 * time.Hour)}
					if r.Renewed = j.SignIn; j.SignIn {
						handOver(r)
					}
					if name == "slow store" {
						time.Sleep(freshRenewal / 2)
					}
					r.Saved = true
					return job.Report{Kind: job.Done, Result: r}, nil
				})
				ask(t, a, protocol.TokenRequest{})
				signing := make(chan error)
				go func() { signing <- signIn(t.Context(), a) }()
				synctest.Wait() // with a slow store it is handed over by now, and not saved
				time.Sleep(time.Millisecond)
				if name != "unlock" {
					if s := profileOf(t, a); !s.LastRenewal.IsZero() {
						t.Errorf("a sign-in that is new was last renewed at %v", s.LastRenewal)
					}
				}
				got := ask(t, a, protocol.TokenRequest{Force: true, Since: time.Now()})
				if err := <-signing; err != nil {
					t.Fatal(err)
				}
				if got != "fake-access-2" || p.renewed() != 2 {
					t.Errorf("got %s after %d renewals, want that of the second", got, p.renewed())
				}
				if s := profileOf(t, a); s.LastRenewal.IsZero() {
					t.Error("the renewal is not shown")
				}
			})
		})
	}
}

// TestIdentifyStandsInNobodysWay asks a provider that is slow to say who is signed in, and renews meanwhile.
func TestIdentifyStandsInNobodysWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &provider{lifetime: time.Hour, store: "memory"}
		asked := 0
		a := startRunner(t, func(j job.Job, handOver func(job.Result)) (job.Report, error) {
			if j.Op != job.Identify {
				return p.Run(context.Background(), j, handOver)
			}
			asked++
			if j.Token.Empty() {
				t.Error("the worker does not get the cached token")
			}
			time.Sleep(30 * time.Second)
			return job.Report{
				Kind:   job.Done,
				Result: job.Result{Identity: protocol.Identity{Account: "user-1", Fetched: time.Now()}},
			}, nil
		})
		for range 3 { // they share one question
			go func() {
				if i, err := a.Identify(context.Background(), protocol.IdentifyRequest{}); err != nil || i.Account != "user-1" ||
					i.Profile != "claude" {
					t.Errorf("got %+v, %v", i, err)
				}
			}()
		}
		synctest.Wait()
		began := time.Now()
		time.Sleep(3 * time.Second)
		if got := ask(t, a, protocol.TokenRequest{Force: true}); got != "fake-access-2" || time.Since(began) > 10*time.Second {
			t.Errorf("got %s after %v: the renewal waited for the question", got, time.Since(began))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := a.Identify(ctx, protocol.IdentifyRequest{}); !errors.Is(err, protocol.ErrUnavailable) {
			t.Errorf("a caller that gives up: %v", err)
		}
		time.Sleep(time.Minute)
		if asked != 1 {
			t.Errorf("%d questions, want one", asked)
		}
		// What is known of a record in memory is known for as long as that is there.
		for want, req := range []protocol.IdentifyRequest{{}, {Refresh: true}} {
			if _, err := a.Identify(t.Context(), req); err != nil || asked != want+1 {
				t.Errorf("%+v: %v, %d questions", req, err, asked)
			}
		}
	})
}

// TestIdentifyAfterAnExchange: the question under way is about the sign-in of before, and no answer for who asks later.
func TestIdentifyAfterAnExchange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		account := "account-b"
		a := startRunner(t, func(j job.Job, _ func(job.Result)) (job.Report, error) {
			if j.Op == job.Identify {
				time.Sleep(10 * time.Second)
				who := protocol.Identity{Account: j.Lineage, Fetched: time.Now()}
				return job.Report{Kind: job.Done, Result: job.Result{Identity: who}}, nil
			}
			return job.Report{Kind: job.Done, Result: job.Result{Token: protocol.NewSecret("fake-" + account), Lineage: account,
				Saved: true, Expiry: time.Now().Add(time.Hour), Store: "file", Location: "a file"}}, nil
		})
		go a.Identify(context.Background(), protocol.IdentifyRequest{})
		synctest.Wait()
		account = "account-a"
		ask(t, a, protocol.TokenRequest{Force: true})
		if i, err := a.Identify(t.Context(), protocol.IdentifyRequest{}); err != nil || i.Account != "account-a" {
			t.Errorf("got %+v, %v", i, err)
		}
	})
}

// TestForcedOnce repeats a forced request: what was issued since it was first made is its answer.
func TestForcedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &provider{}
		a := start(t, p)
		req := protocol.TokenRequest{Force: true, Since: time.Now()}
		for range 3 {
			if got := ask(t, a, req); got != "fake-access-1" {
				t.Errorf("got %s", got)
			}
			time.Sleep(5 * time.Second)
		}
		req.Since = time.Now()
		if got := ask(t, a, req); got != "fake-access-2" {
			t.Errorf("got %s for a new request", got)
		}
	})
}

// TestDeadOnArrival never hands out a token that has expired, not even one that was just brought.
func TestDeadOnArrival(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := start(t, &provider{lifetime: -time.Second})
		for _, req := range []protocol.TokenRequest{{}, {Force: true}, {MinTTL: time.Hour}} {
			if tok, err := a.Token(t.Context(), req); !errors.Is(err, protocol.ErrUnavailable) {
				t.Errorf("%+v: got %+v, %v", req, tok, err)
			}
			time.Sleep(5 * time.Second)
		}
	})
}
