package agent

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

	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/protocol/protocoltest"
)

// newExport serves these profiles of a fake agent, and returns a client of the socket.
func newExport(t *testing.T, profiles ...string) (*protocol.Client, *protocoltest.Fake, string) {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "cce")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	fake := protocoltest.NewFake(protocoltest.Profile{Name: "claude", Token: "fake-claude", Kind: protocol.KindBearer},
		protocoltest.Profile{Name: "other", Token: "fake-other", Kind: protocol.KindBearer})
	x := &Export{Agent: fake, Profiles: profiles, Admit: OnlyUser(uint32(os.Getuid())), Log: slog.New(slog.DiscardHandler)}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- x.Serve(ctx, l) }()
	client := protocol.NewClient(path)
	t.Cleanup(func() {
		client.Close()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return client, fake, path
}

// TestExport gives the tokens of the chosen profiles, and nothing that tells or changes more.
func TestExport(t *testing.T) {
	client, fake, _ := newExport(t, "claude")
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
		last.Home != (protocol.Home{}) {
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

// TestExportBounds has a peer that floods and one that sends nonsense: others are served meanwhile.
func TestExportBounds(t *testing.T) {
	client, _, path := newExport(t, "claude")
	var held []net.Conn
	for range exportConnections + 20 {
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		held = append(held, c)
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

// TestExportRefusesOthers shuts out whom the policy does not let in.
func TestExportRefusesOthers(t *testing.T) {
	dir, err := os.MkdirTemp("/tmp", "cce")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, "s"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	x := &Export{
		Agent:    protocoltest.NewFake(),
		Profiles: []string{"claude"},
		Admit:    OnlyUser(uint32(os.Getuid()) + 1),
		Log:      slog.New(slog.DiscardHandler),
	}
	done := make(chan error, 1)
	go func() { done <- x.Serve(ctx, l) }()
	c, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c.SetReadDeadline(time.Now().Add(20 * time.Second))
	if n, err := c.Read(make([]byte, 1)); err == nil {
		t.Errorf("%d bytes for a stranger", n)
	} else if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("a stranger is kept waiting")
	}
	cancel()
	<-done
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

// TestExportTellsTheConditionAlone: of an error, and of a token, what may cross is made anew.
func TestExportTellsTheConditionAlone(t *testing.T) {
	const private = "fake-password"
	tell := func(a telling, req protocol.TokenRequest) (protocol.Token, error) {
		x := &Export{Agent: a, Profiles: []string{"claude"}}
		return x.restricted().Token(t.Context(), req)
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
	if _, err := tell(telling{err: setUp}, protocol.TokenRequest{Host: protocol.UnnamedHost}); !strings.Contains(
		err.Error(),
		"the host",
	) {
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
