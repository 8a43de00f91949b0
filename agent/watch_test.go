package agent

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ccagent/ccagent/protocol"
)

// watched starts a watch and returns what it will say.
func watched(t *testing.T, a protocol.Watcher, known uint64) <-chan protocol.WatchReply {
	t.Helper()
	told := make(chan protocol.WatchReply, 1)
	go func() {
		defer close(told)
		if reply, err := a.Watch(t.Context(), protocol.WatchRequest{Known: known}); err == nil {
			told <- reply
		} else if !errors.Is(err, protocol.ErrUnavailable) {
			t.Errorf("Watch: %v", err)
		}
	}()
	return told
}

// TestWatch: whoever watches is told of each change of what a request would be answered with, and of nothing else.
func TestWatch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &provider{lifetime: 8 * time.Hour}
		names := []string{"main"}
		a := New(Options{Load: func() (Config, error) { return config(names...), nil }, Runner: p, Build: "test"})
		defer a.Close(context.Background())
		token := func(req protocol.TokenRequest) string {
			t.Helper()
			got, err := a.Token(t.Context(), req)
			if err != nil {
				t.Fatal(err)
			}
			return got.Value.Reveal()
		}
		token(protocol.TokenRequest{})
		now, err := a.Watch(t.Context(), protocol.WatchRequest{})
		if err != nil || now.Version == 0 {
			t.Fatalf("%+v, %v", now, err)
		}

		for _, change := range []struct {
			name string
			make func()
		}{
			{"a forced renewal", func() {
				time.Sleep(freshRenewal)
				if token(protocol.TokenRequest{Force: true}) == token(protocol.TokenRequest{}) {
					return
				}
				t.Error("the renewal brought nothing")
			}},
			{"a reload", func() { a.Control(t.Context(), protocol.ControlRequest{Command: protocol.CommandReload}) }},
			{"another profile, which becomes the default", func() {
				names = []string{"other", "main"}
				a.Control(t.Context(), protocol.ControlRequest{Command: protocol.CommandReload})
			}},
		} {
			told := watched(t, a, now.Version)
			synctest.Wait()
			select {
			case reply := <-told:
				t.Fatalf("told of %+v before %s", reply, change.name)
			default:
			}
			change.make()
			synctest.Wait()
			select {
			case reply := <-told:
				if reply.Version == now.Version {
					t.Errorf("%s: the version is the same", change.name)
				}
				now = reply
			default:
				t.Fatalf("%s: nobody is told", change.name)
			}
			if now, err = a.Watch(t.Context(), protocol.WatchRequest{}); err != nil {
				t.Fatal(err)
			}
		}

		// Without a change the reply comes after half a minute, and says so.
		told, began := watched(t, a, now.Version), time.Now()
		if reply := <-told; reply != now || time.Since(began) != watchTime {
			t.Errorf("%+v after %v, want %+v after %v", reply, time.Since(began), now, watchTime)
		}

		// An agent that stops lets nobody wait.
		told = watched(t, a, now.Version)
		synctest.Wait()
		a.Stop()
		if reply, ok := <-told; ok {
			t.Errorf("%+v from an agent that stops", reply)
		}
	})
}

// TestWatchTellsAgentsApart: versions of one agent mean nothing to the next.
func TestWatchTellsAgentsApart(t *testing.T) {
	t.Parallel()
	version := func() uint64 {
		a := New(Options{Load: func() (Config, error) { return config("main"), nil }, Runner: &provider{}})
		defer a.Close(context.Background())
		reply, err := a.Watch(t.Context(), protocol.WatchRequest{})
		if err != nil {
			t.Fatal(err)
		}
		return reply.Version
	}
	if first, second := version(), version(); first == second {
		t.Errorf("both agents are at version %d", first)
	}
}
