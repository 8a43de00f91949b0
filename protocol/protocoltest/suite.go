// Package protocoltest is for tests of the protocol: one suite that every [protocol.Agent] passes, a [Fake] agent in memory, and
// [Serve], which serves an agent on a socket.
package protocoltest

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/ccagent/ccagent/protocol"
)

// Home is the home of the agents under test.
var Home = protocol.Home{Home: "/home/fake", XDGConfigHome: "/home/fake/.config", ClaudeConfigDir: "/home/fake/.claude"}

// Run is the conformance suite. start returns an agent whose home is [Home] and whose profiles are the given ones, the first of
// them the default one, until the test ends. It is called anew for each part of the suite.
func Run(t *testing.T, start func(t *testing.T, profiles []Profile) protocol.Agent) {
	s := newSuite(start)
	for _, part := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"token", s.tokens},
		{"derived tokens", s.derived},
		{"hosts", s.hosts},
		{"home", s.homes},
		{"identify", s.identities},
		{"watch", s.watches},
		{"logout", s.logouts},
		{"concurrent", s.concurrency},
		{"status", s.statuses},
		{"many profiles", s.manyProfiles},
		{"put and remove", s.putsAndRemoves},
		{"control", s.commands},
		{"ended context", s.endedContext},
	} {
		t.Run(part.name, part.run)
	}
}

// suite is what the parts of Run share.
type suite struct {
	start    func(t *testing.T, profiles []Profile) protocol.Agent
	expiry   time.Time // of main's token
	profiles []Profile
	names    []string // of profiles, sorted
}

func newSuite(start func(t *testing.T, profiles []Profile) protocol.Agent) suite {
	expiry := time.Now().Add(3 * time.Hour).Truncate(time.Millisecond)
	profiles := []Profile{
		{Name: "main", Token: "fake-access-1", Expiry: expiry, Kind: protocol.KindOAuth},
		{Name: "Robot.2", Token: "fake-key-2", Kind: protocol.KindAPIKey},
		{
			Name:   "gateway",
			Token:  "fake-bearer-3",
			Expiry: expiry.Add(time.Hour),
			Kind:   protocol.KindBearer,
			Hosts:  []string{"llm.example.com"}, Username: "alice",
			IDToken: "fake-id-3",
			Identity: protocol.Identity{
				Account: "user-1",
				Email:   "alice@example.com",
				Scopes:  []string{"openid"},
				Fetched: time.UnixMilli(1767225600123),
			},
		},
		{Name: "signed-out", Kind: protocol.KindOAuth, Err: &protocol.Error{
			Code:    protocol.CodeLoginRequired,
			Message: "the sign-in was revoked",
			Hint:    "sign in again",
		}},
		{Name: "outage", Kind: protocol.KindOAuth, Err: &protocol.Error{
			Code:    protocol.CodeUnavailable,
			Message: "the provider answered 503",
			Hint:    "try again", // an agent may put its own hint where there is none
		}},
	}
	names := []string{"Robot.2", "gateway", "main", "outage", "signed-out"}
	return suite{start, expiry, profiles, names}
}

func (s suite) tokens(t *testing.T) {
	agent := s.start(t, s.profiles)
	for _, p := range s.profiles {
		for _, name := range []string{p.Name, protocol.FoldProfile(p.Name)} {
			token, err := agent.Token(t.Context(), protocol.TokenRequest{Profile: name})
			if p.Err != nil {
				wantError(t, err, p.Err)
				continue
			}
			wantToken(t, token, err, p)
		}
	}
	token, err := agent.Token(t.Context(), protocol.TokenRequest{})
	wantToken(t, token, err, s.profiles[0])

	// A token that a renewal has just brought is the answer, however short it lives.
	token, err = agent.Token(t.Context(), protocol.TokenRequest{Profile: "main", MinTTL: 24 * time.Hour})
	wantToken(t, token, err, s.profiles[0])

	_, err = agent.Token(t.Context(), protocol.TokenRequest{Profile: "nobody"})
	wantCode(t, err, protocol.ErrNotFound)
}

// derived asks for ID tokens, and for the access token between.
func (s suite) derived(t *testing.T) {
	agent := s.start(t, s.profiles)
	gateway := s.profiles[2]
	for _, host := range []string{"llm.example.com", "", "llm.example.com"} {
		token, err := agent.Token(t.Context(), protocol.TokenRequest{Profile: "gateway", Host: host})
		wantToken(t, token, err, gateway)
		if token.Derived {
			t.Error("the access token is said to be another")
		}
		id := gateway
		id.Token = gateway.IDToken
		token, err = agent.Token(t.Context(), protocol.TokenRequest{
			Profile: "gateway", Host: host, Derived: protocol.Derived{IDToken: true},
		})
		wantToken(t, token, err, id)
		if !token.Derived {
			t.Error("the ID token is not said to be one")
		}
	}
	for profile, want := range map[string]error{"main": protocol.ErrConfig, "signed-out": protocol.ErrLoginRequired} {
		_, err := agent.Token(t.Context(), protocol.TokenRequest{Profile: profile, Derived: protocol.Derived{IDToken: true}})
		wantCode(t, err, want)
	}
	_, err := agent.Token(t.Context(), protocol.TokenRequest{
		Profile: "gateway", Host: "other.example.com", Derived: protocol.Derived{IDToken: true},
	})
	wantCode(t, err, protocol.ErrDenied)
}

func (s suite) hosts(t *testing.T) {
	agent := s.start(t, s.profiles)
	for host, want := range map[string]error{"": nil, "llm.example.com": nil, "LLM.Example.com": nil,
		"example.com": protocol.ErrDenied, "llm.example.com.evil.example": protocol.ErrDenied,
		protocol.UnnamedHost: protocol.ErrConfig} {
		token, err := agent.Token(t.Context(), protocol.TokenRequest{Profile: "gateway", Host: host})
		if want != nil {
			wantCode(t, err, want)
		} else {
			wantToken(t, token, err, s.profiles[2])
		}
	}
	if _, err := agent.Token(t.Context(), protocol.TokenRequest{Profile: "main", Host: "any.example",
		Listed: true}); !errors.Is(err, protocol.ErrDenied) {
		t.Errorf("a host that must be listed, of a profile that lists none: %v", err)
	}
	for _, host := range []string{"any.example", protocol.UnnamedHost} {
		token, err := agent.Token(t.Context(), protocol.TokenRequest{Profile: "main", Host: host})
		wantToken(t, token, err, s.profiles[0])
	}
}

func (s suite) homes(t *testing.T) {
	agent := s.start(t, s.profiles)
	token, err := agent.Token(t.Context(), protocol.TokenRequest{Home: Home})
	wantToken(t, token, err, s.profiles[0])
	for _, other := range []protocol.Home{
		{Home: "/home/other", XDGConfigHome: Home.XDGConfigHome, ClaudeConfigDir: Home.ClaudeConfigDir},
		{Home: Home.Home, XDGConfigHome: "/elsewhere", ClaudeConfigDir: Home.ClaudeConfigDir},
	} {
		_, err := agent.Token(t.Context(), protocol.TokenRequest{Home: other})
		wantCode(t, err, protocol.ErrConfig)
		_, err = agent.Status(t.Context(), protocol.StatusRequest{Profile: "main", Home: other})
		wantCode(t, err, protocol.ErrConfig)
		_, err = agent.Put(t.Context(), protocol.PutRequest{Profile: "main", Record: protocol.NewSecret("fake-record"), Home: other})
		wantCode(t, err, protocol.ErrConfig)
		_, err = agent.Control(t.Context(), protocol.ControlRequest{Command: protocol.CommandRemove, Profile: "main", Home: other})
		wantCode(t, err, protocol.ErrConfig)
		_, err = agent.Identify(t.Context(), protocol.IdentifyRequest{Profile: "main", Home: other})
		wantCode(t, err, protocol.ErrConfig)
	}
}

func (s suite) identities(t *testing.T) {
	agent := s.start(t, s.profiles)
	want := s.profiles[2].Identity
	want.Profile = "gateway"
	for _, req := range []protocol.IdentifyRequest{{Profile: "GATEWAY"}, {Profile: "gateway", Refresh: true},
		{Profile: "gateway", Check: true}} {
		if got, err := agent.Identify(t.Context(), req); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%+v: %+v, %v; want %+v", req, got, err, want)
		}
	}
	_, err := agent.Identify(t.Context(), protocol.IdentifyRequest{Profile: "nobody"})
	wantCode(t, err, protocol.ErrNotFound)
	_, err = agent.Identify(t.Context(), protocol.IdentifyRequest{Profile: "signed-out"})
	wantCode(t, err, protocol.ErrLoginRequired)
}

func (s suite) watches(t *testing.T) {
	agent := s.start(t, s.profiles)
	w, ok := agent.(protocol.Watcher)
	if !ok {
		t.Skip("it can't be watched")
	}
	if _, err := agent.Token(t.Context(), protocol.TokenRequest{Profile: "main"}); err != nil {
		t.Fatal(err)
	}
	first, err := w.Watch(t.Context(), protocol.WatchRequest{Profile: "MAIN"})
	if err != nil || first.Version == 0 {
		t.Fatalf("%+v, %v", first, err)
	}
	told := make(chan protocol.WatchReply)
	go func() {
		reply, err := w.Watch(t.Context(), protocol.WatchRequest{Profile: "main", Known: first.Version})
		if err != nil {
			t.Error(err)
		}
		told <- reply
	}()
	if _, err := agent.Control(t.Context(), protocol.ControlRequest{Command: protocol.CommandRemove, Profile: "main"}); err != nil {
		t.Error(err)
	}
	if second := <-told; second.Version == 0 || second.Version == first.Version {
		t.Errorf("version %d after %d", second.Version, first.Version)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	last, err := w.Watch(t.Context(), protocol.WatchRequest{Profile: "main"})
	if err != nil {
		t.Error(err)
	}
	_, err = w.Watch(ctx, protocol.WatchRequest{Profile: "main", Known: last.Version})
	wantCode(t, err, protocol.ErrUnavailable)
	_, err = w.Watch(t.Context(), protocol.WatchRequest{Profile: "nobody"})
	wantCode(t, err, protocol.ErrNotFound)
	_, err = w.Watch(t.Context(), protocol.WatchRequest{Profile: "main", Home: protocol.Home{Home: "/home/other"}})
	wantCode(t, err, protocol.ErrConfig)
}

func (s suite) logouts(t *testing.T) {
	agent := s.start(t, s.profiles)
	if _, err := agent.Control(t.Context(), protocol.ControlRequest{Command: protocol.CommandLogout,
		Profile: "gateway"}); err != nil {
		t.Error(err)
	}
	_, err := agent.Token(t.Context(), protocol.TokenRequest{Profile: "gateway"})
	wantCode(t, err, protocol.ErrNotFound)
}

func (s suite) concurrency(t *testing.T) {
	agent := s.start(t, s.profiles)
	var wg sync.WaitGroup
	for i := range 48 {
		p := s.profiles[i%3]
		wg.Go(func() {
			token, err := agent.Token(t.Context(), protocol.TokenRequest{Profile: p.Name})
			wantToken(t, token, err, p)
		})
	}
	wg.Wait()
}

func (s suite) statuses(t *testing.T) {
	agent := s.start(t, s.profiles)
	if _, err := agent.Token(t.Context(), protocol.TokenRequest{Profile: "main"}); err != nil {
		t.Fatal(err)
	}
	all, err := protocol.StatusAll(t.Context(), agent, protocol.StatusRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if got := namesOf(all); !slices.Equal(got, s.names) {
		t.Errorf("profiles are %q, want %q", got, s.names)
	}
	if a := all.Agent; a.PID == 0 || a.Version == "" || a.Requests == 0 || a.DefaultProfile != "main" {
		t.Errorf("agent says %+v of itself", a)
	}
	if p := all.Profiles[2]; !p.HasToken || !p.Expiry.Equal(s.expiry) || p.State != protocol.StateLive ||
		p.Kind != protocol.KindOAuth {
		t.Errorf("main is %+v", p)
	}

	rest, err := protocol.StatusAll(t.Context(), agent, protocol.StatusRequest{After: "gateway"})
	if got := namesOf(rest); err != nil || !slices.Equal(got, s.names[2:]) {
		t.Errorf("profiles after gateway are %q, %v; want %q", got, err, s.names[2:])
	}
	one, err := agent.Status(t.Context(), protocol.StatusRequest{Profile: "ROBOT.2"})
	if got := namesOf(one); err != nil || !slices.Equal(got, s.names[:1]) {
		t.Errorf("status of one profile is of %q, %v", got, err)
	}
	_, err = agent.Status(t.Context(), protocol.StatusRequest{Profile: "nobody"})
	wantCode(t, err, protocol.ErrNotFound)
}

func (s suite) manyProfiles(t *testing.T) {
	var many []Profile
	var want []string
	for i := range 1000 {
		name := "profile-with-a-name-of-some-length-" + strconv.Itoa(1000+i)
		many = append(many, Profile{Name: name, Token: "fake-access-" + strconv.Itoa(i), Kind: protocol.KindBearer})
		want = append(want, name)
	}
	all, err := protocol.StatusAll(t.Context(), s.start(t, many), protocol.StatusRequest{})
	if got := namesOf(all); err != nil || !slices.Equal(got, want) {
		t.Errorf("got %d profiles, %v; want %d", len(got), err, len(want))
	}
}

func (s suite) putsAndRemoves(t *testing.T) {
	agent := s.start(t, s.profiles)
	reply, err := agent.Put(t.Context(), protocol.PutRequest{
		Profile: "main",
		Record:  protocol.NewSecret("fake-record"),
		Force:   true,
	})
	if err != nil || reply.Location == "" {
		t.Errorf("put: %+v, %v", reply, err)
	}
	_, err = agent.Put(t.Context(), protocol.PutRequest{Profile: "nobody", Record: protocol.NewSecret("fake-record")})
	wantCode(t, err, protocol.ErrNotFound)

	if _, err := agent.Control(t.Context(), protocol.ControlRequest{Command: protocol.CommandRemove,
		Profile: "gateway"}); err != nil {
		t.Error(err)
	}
	_, err = agent.Token(t.Context(), protocol.TokenRequest{Profile: "gateway"})
	wantCode(t, err, protocol.ErrNotFound)
	_, err = agent.Control(t.Context(), protocol.ControlRequest{Command: protocol.CommandRemove, Profile: "nobody"})
	wantCode(t, err, protocol.ErrNotFound)
}

func (s suite) commands(t *testing.T) {
	agent := s.start(t, s.profiles)
	if _, err := agent.Control(t.Context(), protocol.ControlRequest{Command: protocol.CommandReload}); err != nil {
		t.Error(err)
	}
	_, err := agent.Control(t.Context(), protocol.ControlRequest{Command: 9999})
	wantCode(t, err, protocol.ErrConfig)
	if _, err := agent.Control(t.Context(), protocol.ControlRequest{Command: protocol.CommandStop, Force: true}); err != nil {
		t.Error(err)
	}
}

func (s suite) endedContext(t *testing.T) {
	agent := s.start(t, s.profiles)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	// An agent may give an answer that it has all the same. If there is an error, it is ErrUnavailable.
	if _, err := agent.Token(ctx, protocol.TokenRequest{Profile: "main"}); err != nil {
		wantCode(t, err, protocol.ErrUnavailable)
	}
}

func namesOf(s protocol.Status) (names []string) {
	for _, p := range s.Profiles {
		names = append(names, p.Name)
	}
	return names
}

func wantToken(t *testing.T, token protocol.Token, err error, want Profile) {
	t.Helper()
	if err != nil {
		t.Errorf("%s: %v", want.Name, err)
		return
	}
	if token.Profile != want.Name || token.Value.Reveal() != want.Token || !token.Expiry.Equal(want.Expiry) ||
		token.Kind != want.Kind || token.Username != want.Username {
		t.Errorf("token %q of %q, kind %q, expiry %v; want %+v",
			token.Value.Reveal(), token.Profile, token.Kind, token.Expiry, want)
	}
}

func wantError(t *testing.T, err error, want *protocol.Error) {
	t.Helper()
	var got *protocol.Error
	if !errors.As(err, &got) || got.Code != want.Code || got.Message != want.Message || got.Hint != want.Hint {
		t.Errorf("error %#v, want %#v", err, want)
	}
}

func wantCode(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("error %v, want %v", err, want)
	}
}
