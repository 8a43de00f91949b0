package httpauth_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ccagent/ccagent/agent"
	"github.com/ccagent/ccagent/agent/embed"
	"github.com/ccagent/ccagent/agent/httpauth"
	"github.com/ccagent/ccagent/agent/socket"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/protocol/protocoltest"
	"github.com/ccagent/ccagent/store"
)

const herd = 1000

// mint is a provider, and also the server that knows its tokens. As a RoundTripper it refuses a token that has expired.
type mint struct {
	latency time.Duration

	mu      sync.Mutex
	n       int
	ends    map[string]time.Time
	revoked bool // the first token is
	late    []string
	sent    int
}

func (m *mint) Renew(_ context.Context, old store.Record) (store.Record, error) {
	time.Sleep(m.latency)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.n++
	now := time.Now().Truncate(time.Millisecond)
	old.AccessToken = protocol.NewSecret(fmt.Sprintf("fake-access-%d", m.n))
	old.Issued, old.Expiry = now.Add(-2*time.Hour), now.Add(time.Hour) // so that a request for more than what is left renews
	m.ends[old.AccessToken.Reveal()] = old.Expiry
	return old, nil
}

func (m *mint) RoundTrip(req *http.Request) (*http.Response, error) {
	token := strings.TrimPrefix(req.Header.Get("Authorization"), "Bearer ")
	m.mu.Lock()
	m.sent++
	end, known := m.ends[token]
	if live := known && time.Now().Before(end); !live {
		m.late = append(m.late, token)
	}
	status := http.StatusOK
	if m.revoked && token == "fake-access-1" {
		status = http.StatusUnauthorized
	}
	m.mu.Unlock()
	time.Sleep(time.Second) // the answer takes its time, so that requests overlap
	return &http.Response{StatusCode: status, Body: http.NoBody, Header: http.Header{}}, nil
}

func (m *mint) revoke() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.revoked = true
}

func start(m *mint) *agent.Agent {
	return agent.New(agent.Options{
		Runner: &embed.Runner{Profiles: map[string]embed.Profile{"main": {Provider: m}}},
		Load: func() (agent.Config, error) {
			return agent.Config{Default: "main", Profiles: []agent.Profile{{Name: "main"}}}, nil
		},
	})
}

// get makes one request, which must succeed.
func get(t *testing.T, client *http.Client) {
	t.Helper()
	resp, err := client.Get("https://llm.example.com/")
	if err != nil {
		t.Error(err)
		return
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("status %d", resp.StatusCode)
	}
}

// TestHerdAcrossRenewal: a thousand requests run while the token is renewed. Each carries a valid token, and there is one
// renewal.
func TestHerdAcrossRenewal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := &mint{latency: 3 * time.Second, ends: map[string]time.Time{}}
		a := start(m)
		defer a.Close(context.Background())
		auth := httpauth.NewAgent(a, "")
		defer auth.Close()
		client := &http.Client{Transport: &httpauth.Transport{Agent: auth, Base: m}}
		get(t, client)
		// The agent renews at a random moment between 9 and 6 minutes before the expiry. So we ask all the time from 10 to 5
		// minutes before.
		time.Sleep(50 * time.Minute)
		var requests sync.WaitGroup
		for n := range herd {
			requests.Go(func() {
				time.Sleep(time.Duration(n) * 5 * time.Minute / herd)
				get(t, client)
			})
		}
		requests.Wait()
		if m.n != 2 || m.sent != herd+1 || len(m.late) > 0 {
			t.Errorf("%d tokens made, %d requests sent, %d with a dead token; want 2, %d, 0", m.n, m.sent, len(m.late), herd+1)
		}
	})
}

// TestHerdAfterRevocation: the server refuses the token of a thousand requests. There is one renewal, and each request is
// sent again once.
func TestHerdAfterRevocation(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := &mint{latency: 3 * time.Second, ends: map[string]time.Time{}}
		a := start(m)
		defer a.Close(context.Background())
		auth := httpauth.NewAgent(a, "")
		defer auth.Close()
		client := &http.Client{Transport: &httpauth.Transport{Agent: auth, Base: m}}
		get(t, client)
		time.Sleep(10 * time.Minute)
		m.revoke()
		var requests sync.WaitGroup
		for range herd {
			requests.Go(func() { get(t, client) })
		}
		requests.Wait()
		if m.n != 2 || m.sent != 2*herd+1 || len(m.late) > 0 {
			t.Errorf("%d tokens made, %d requests sent, %d with a dead token; want 2, %d, 0", m.n, m.sent, len(m.late), 2*herd+1)
		}
	})
}

// TestHerdOverSocket is the same over a real socket and with a real clock. The first requests cause one renewal, and a
// renewal that somebody else causes is noticed.
func TestHerdOverSocket(t *testing.T) {
	t.Parallel()
	m := &mint{ends: map[string]time.Time{}}
	a := start(m)
	defer a.Close(context.Background())
	l, err := socket.Listen(t.Context(), filepath.Join(protocoltest.SocketDir(t), "s", "agent.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Release()
	served := make(chan error)
	go func() { served <- a.Serve(l, socket.OnlyUser(uint32(os.Geteuid()))) }()
	pool := protocol.NewPool(protocol.NewClient(l.Path()), 0)
	defer pool.Close()
	auth := httpauth.NewAgent(pool, "main")
	defer auth.Close()
	var requests sync.WaitGroup
	for range herd {
		requests.Go(func() {
			if _, err := auth.AccessToken(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	requests.Wait()
	if m.n != 1 {
		t.Errorf("%d tokens made, want 1", m.n)
	}
	if _, err := a.Token(t.Context(), protocol.TokenRequest{MinTTL: 2 * time.Hour}); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		want, err := a.Token(t.Context(), protocol.TokenRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if token, err := auth.AccessToken(t.Context()); err == nil && token.Reveal() == want.Value.Reveal() {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the change was not noticed")
		}
	}
	a.Stop()
	if err := <-served; err != nil {
		t.Error(err)
	}
}
