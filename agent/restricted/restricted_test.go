package restricted

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ccagent/ccagent/agent/socket"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/protocol/protocoltest"
)

// serve answers with a on a socket until the test's end, and returns its path.
func serve(t *testing.T, a Agent, admit func(protocol.Peer) error) string {
	t.Helper()
	l, err := socket.Listen(t.Context(), filepath.Join(protocoltest.SocketDir(t), "s", "agent.sock"))
	if err != nil {
		t.Fatal(err)
	}
	stop, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- a.Server(slog.New(slog.DiscardHandler)).Serve(l, admit, stop) }()
	t.Cleanup(func() {
		close(stop)
		if err := errors.Join(<-done, l.Release()); err != nil {
			t.Error(err)
		}
	})
	return l.Path()
}

func me() func(protocol.Peer) error { return socket.OnlyUser(uint32(os.Geteuid())) }

// start serves these profiles of a fake agent, and returns a client of the socket.
func start(t *testing.T, profiles ...string) (*protocol.Client, *protocoltest.Fake, string) {
	t.Helper()
	fake := protocoltest.NewFake(protocoltest.Profile{Name: "claude", Token: "fake-claude", Kind: protocol.KindBearer},
		protocoltest.Profile{Name: "other", Token: "fake-other", Kind: protocol.KindBearer})
	path := serve(t, Agent{Of: fake, Profiles: profiles}, me())
	client := protocol.NewClient(path)
	t.Cleanup(func() { client.Close() })
	return client, fake, path
}

func dial(t *testing.T, path string) net.Conn {
	t.Helper()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	return c
}

// request connects and asks for the default profile's token.
func request(t *testing.T, path string) net.Conn {
	t.Helper()
	frame, err := protocol.AppendTokenRequest(nil, protocol.TokenRequest{})
	if err != nil {
		t.Fatal(err)
	}
	c := dial(t, path)
	if _, err := c.Write(frame); err != nil {
		t.Fatal(err)
	}
	return c
}

// TestTokensAlone gives the tokens of the chosen profiles, and nothing that tells or changes more.
func TestTokensAlone(t *testing.T) {
	client, fake, _ := start(t, "claude")
	ctx := t.Context()
	for _, name := range []string{"", "claude", "Claude"} {
		got, err := client.Token(
			ctx,
			protocol.TokenRequest{
				Profile:  name,
				MinTTL:   100 * time.Hour,
				HalfLife: true,
				Home:     protocol.Home{Home: "/another/machine"},
			},
		)
		if err != nil || got.Value.Reveal() != "fake-claude" {
			t.Errorf("%q: %q, %v", name, got.Value.Reveal(), err)
		}
	}
	requests := fake.Requests()
	if last := requests[len(requests)-1]; last.Profile != "claude" || last.MinTTL > 10*time.Minute || last.HalfLife ||
		last.Home != (protocol.Home{}) || !last.Quiet {
		t.Errorf("the agent was asked %+v", last)
	}
	_, force := client.Token(ctx, protocol.TokenRequest{Force: true})
	_, other := client.Token(ctx, protocol.TokenRequest{Profile: "other"})
	_, absent := client.Token(ctx, protocol.TokenRequest{Profile: "absent"})
	_, status := client.Status(ctx, protocol.StatusRequest{})
	_, put := client.Put(ctx, protocol.PutRequest{Profile: "claude", Record: protocol.NewSecret("fake-record")})
	_, control := client.Control(ctx, protocol.ControlRequest{Command: protocol.CommandStop, Force: true})
	_, who := client.Identify(ctx, protocol.IdentifyRequest{Profile: "claude"})
	_, watch := client.Watch(ctx, protocol.WatchRequest{})
	_, keep := client.Keep(ctx, protocol.KeepRequest{Action: protocol.KeepHistory})
	for name, err := range map[string]error{"force": force, "other": other, "absent": absent, "status": status, "put": put,
		"control": control, "identify": who,
		"watch": watch, "keep": keep} {
		if !errors.Is(err, protocol.ErrDenied) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestDerived: other tokens of a sign-in than the access token are for those whom the owner lets have them.
func TestDerived(t *testing.T) {
	fake := protocoltest.NewFake(
		protocoltest.Profile{Name: "claude", Token: "fake-claude", IDToken: "fake-id", Hosts: []string{"a.example"}},
	)
	for _, allowed := range []bool{false, true} {
		client := protocol.NewClient(serve(t, Agent{Of: fake, Profiles: []string{"claude"}, AllowDerived: allowed}, me()))
		t.Cleanup(func() { client.Close() })
		req := protocol.TokenRequest{Derived: protocol.Derived{IDToken: true}}
		got, err := client.Token(t.Context(), req)
		given := err == nil && got.Value.Reveal() == "fake-id" && got.Derived
		if given != allowed || !allowed && !errors.Is(err, protocol.ErrDenied) {
			t.Errorf("allowed %v: %+v, %v", allowed, got, err)
		}
		req.Host = "b.example"
		if _, err := client.Token(t.Context(), req); !errors.Is(err, protocol.ErrDenied) {
			t.Errorf("allowed %v, for another host: %v", allowed, err)
		}
	}
}

// TestBounds has a peer that floods and one that sends nonsense: others are served meanwhile.
func TestBounds(t *testing.T) {
	client, _, path := start(t, "claude")
	var held []net.Conn
	for range limits.Connections + 20 {
		held = append(held, dial(t, path))
	}
	held[0].Write([]byte{255, 255, 255, 255, 1, 1})
	for _, c := range held {
		c.Close()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := client.Token(ctx, protocol.TokenRequest{}); err != nil {
		t.Error(err)
	}
}

// TestSaysThatItIsBusy: who has a request in each of his places gets an error for one more, and not just the end of the
// connection, which a client takes for a socket with nobody behind it.
func TestSaysThatItIsBusy(t *testing.T) {
	hang, asked := make(chan struct{}), make(chan struct{})
	fake := protocoltest.NewFake()
	fake.Answer = func(context.Context, protocol.TokenRequest) (protocol.Token, error) {
		asked <- struct{}{}
		<-hang
		return protocol.Token{}, protocol.ErrUnavailable
	}
	path := serve(t, Agent{Of: fake, Profiles: []string{"claude"}}, me())
	t.Cleanup(func() { close(hang) }) // before the server is waited for
	client := protocol.NewClient(path)
	defer client.Close()
	for range limits.User {
		request(t, path)
		<-asked
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for range 2 * limits.Reserved {
		_, err := client.Token(ctx, protocol.TokenRequest{})
		if !errors.Is(err, protocol.ErrUnavailable) || !strings.Contains(err.Error(), "too many requests wait") {
			t.Fatalf("one more request: %v", err)
		}
	}
}

// TestRefusesOthers shuts out whom the policy does not let in.
func TestRefusesOthers(t *testing.T) {
	path := serve(t, Agent{Of: protocoltest.NewFake(), Profiles: []string{"claude"}}, socket.OnlyUser(uint32(os.Getuid())+1))
	if n, err := dial(t, path).Read(make([]byte, 1)); err == nil {
		t.Errorf("%d bytes for a stranger", n)
	} else if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("a stranger is kept waiting")
	}
}

// TestNoticesHangUps: a peer that is gone takes no place for as long as the agent takes.
func TestNoticesHangUps(t *testing.T) {
	fake := protocoltest.NewFake()
	came, left := make(chan struct{}), make(chan struct{})
	fake.Answer = func(ctx context.Context, _ protocol.TokenRequest) (protocol.Token, error) {
		close(came)
		<-ctx.Done()
		close(left)
		return protocol.Token{}, ctx.Err()
	}
	c := request(t, serve(t, Agent{Of: fake, Profiles: []string{"claude"}}, me()))
	<-came
	c.Close()
	select {
	case <-left:
	case <-time.After(20 * time.Second):
		t.Error("the request goes on")
	}
}

// telling is an agent whose every answer tells more than may cross.
type telling struct {
	protocol.Agent
	err   error
	token protocol.Token
}

func (a telling) Token(context.Context, protocol.TokenRequest) (protocol.Token, error) {
	return a.token, a.err
}

// TestTellsTheConditionAlone: of an error, and of a token, what may cross is made anew.
func TestTellsTheConditionAlone(t *testing.T) {
	const private = "fake-password"
	tell := func(a telling, req protocol.TokenRequest) (protocol.Token, error) {
		return Agent{Of: a, Profiles: []string{"claude"}}.Token(t.Context(), req)
	}
	for code := protocol.Code(0); code <= protocol.CodeCallback+1; code++ {
		for _, err := range []error{
			&protocol.Error{Code: code, Message: "the command /home/alice/login failed: " + private, Hint: "see /home/alice/" + private,
				Detail: private},
			fmt.Errorf("%s: %w", private, &protocol.Error{Code: code, Message: private, Hint: private, Detail: private}),
		} {
			_, got := tell(telling{err: err}, protocol.TokenRequest{})
			var e *protocol.Error
			if !errors.As(got, &e) {
				t.Fatalf("code %d: %v", code, got)
			}
			if text := string(protocol.AppendError(nil, got)); strings.Contains(text, private) || strings.Contains(text, "alice") {
				t.Errorf("code %d crosses as %q", code, text)
			}
			if want := protocol.ExitCode(err); protocol.ExitCode(got) != want && protocol.ExitCode(err) != 9 {
				t.Errorf("code %d becomes %d", code, e.Code)
			}
			if e.Message == "" {
				t.Errorf("code %d says nothing", code)
			}
		}
	}
	setUp := &protocol.Error{Code: protocol.CodeConfig, Message: private}
	_, err := tell(telling{err: setUp}, protocol.TokenRequest{Host: protocol.UnnamedHost})
	if !strings.Contains(err.Error(), "the host") {
		t.Errorf("a tool that names no host is told %v", err)
	}
	if _, err := tell(telling{err: errors.New(private)}, protocol.TokenRequest{}); protocol.CodeOf(err) != protocol.CodeInternal ||
		strings.Contains(err.Error(), private) {
		t.Errorf("an error of no code: %v", err)
	}

	token := protocol.Token{
		Profile: private,
		Value:   protocol.NewSecret("fake-token"),
		Kind:    private,
		Notice:  private,
		Expiry:  time.Now().Add(5 * time.Minute),
	}
	got, err := tell(telling{token: token}, protocol.TokenRequest{})
	if want := (protocol.Token{Profile: "claude", Value: token.Value, Kind: protocol.KindBearer,
		Expiry: token.Expiry}); err != nil ||
		got != want {
		t.Errorf("a token crosses as %+v, %v", got, err)
	}
	if got, err = tell(telling{token: token}, protocol.TokenRequest{MinTTL: 6 * time.Minute}); err != nil ||
		!strings.HasPrefix(got.Notice, "--min-ttl can't be met: the token of profile claude lives ") {
		t.Errorf("notice %q, %v", got.Notice, err)
	}
}
