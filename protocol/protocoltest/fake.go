package protocoltest

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ccagent/ccagent/hosts"
	"github.com/ccagent/ccagent/protocol"
)

// Profile is a profile of an agent under test: a token, or an error.
type Profile struct {
	Name   string
	Token  string
	Expiry time.Time // of the token; zero: never
	Kind   protocol.Kind
	Notice string
	Err    *protocol.Error // the error of its renewals; then it has no token
	Hosts  []string        // the hosts that the token may be sent to; none: any
	// Identity is who is signed in; its Profile is Name.
	Identity protocol.Identity
	// Username goes with the token.
	Username string
	// IDToken is the ID token of its sign-in, which expires as the token does; "": it has none.
	IDToken string
}

// Fake is a [protocol.Agent] and a [protocol.Watcher] in memory. Its first profile is the default one. A record that is put
// becomes the profile's token. All methods may be called concurrently.
type Fake struct {
	mu       sync.Mutex
	profiles map[string]Profile // by their names in lower case
	first    string
	stopped  bool
	requests []protocol.TokenRequest
	version  uint64
	changed  chan struct{} // closed at the next change; nil: nobody waits

	// Home is the agent's home: a request with another one is refused. If it is zero, none is. Set it before the first request.
	Home protocol.Home
	// Uses are the profiles of requests that name none, by their working directory. Set it before the first request.
	Uses map[string]string
	// Answer, if set, is called for each token instead of looking at the profiles. Set it before the first request.
	Answer func(context.Context, protocol.TokenRequest) (protocol.Token, error)
}

var (
	_ protocol.Agent   = (*Fake)(nil)
	_ protocol.Watcher = (*Fake)(nil)
)

// NewFake returns a Fake with these profiles.
func NewFake(profiles ...Profile) *Fake {
	f := &Fake{profiles: map[string]Profile{}, version: uint64(time.Now().UnixNano())}
	for _, p := range profiles {
		f.profiles[protocol.FoldProfile(p.Name)] = p
	}
	if len(profiles) > 0 {
		f.first = profiles[0].Name
	}
	return f
}

// Requests returns the token requests so far.
func (f *Fake) Requests() []protocol.TokenRequest {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.requests)
}

// Stopped reports whether the Fake was told to stop.
func (f *Fake) Stopped() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.stopped
}

// Token returns the profile's token or error.
func (f *Fake) Token(ctx context.Context, req protocol.TokenRequest) (protocol.Token, error) {
	req.Profile, req.Host = strings.Clone(req.Profile), strings.Clone(req.Host)
	req.Username = strings.Clone(req.Username)
	req.Derived = protocol.Derived{IDToken: req.Derived.IDToken, Scope: strings.Clone(req.Derived.Scope),
		Audience: strings.Clone(req.Derived.Audience), Resource: strings.Clone(req.Derived.Resource)}
	req.Home = protocol.Home{
		Home:            strings.Clone(req.Home.Home),
		XDGConfigHome:   strings.Clone(req.Home.XDGConfigHome),
		ClaudeConfigDir: strings.Clone(req.Home.ClaudeConfigDir),
		Dir:             strings.Clone(req.Home.Dir),
	}
	f.mu.Lock()
	f.requests = append(f.requests, req)
	f.mu.Unlock()
	if f.Answer != nil {
		return f.Answer(ctx, req)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	p, err := f.lookupLocked(req.Profile, req.Home)
	if err != nil {
		return protocol.Token{}, err
	}
	if (req.Listed || req.Host != "" && len(p.Hosts) > 0) &&
		!hosts.Listed(p.Hosts, req.Host) {
		if req.Host == protocol.UnnamedHost {
			return protocol.Token{}, &protocol.Error{
				Code:    protocol.CodeConfig,
				Message: "profile " + p.Name + " lists hosts, and the tool does not name the one that it asks for",
			}
		}
		return protocol.Token{}, &protocol.Error{Code: protocol.CodeDenied, Message: "profile " + p.Name + " does not list this host"}
	}
	if p.Err != nil {
		return protocol.Token{}, p.Err
	}
	if req.Derived.Wanted() && !req.Derived.IDToken { // a token that says what it is for
		return protocol.Token{Profile: p.Name, Kind: protocol.KindBearer, Expiry: p.Expiry, Derived: true,
			Value: protocol.NewSecret("fake-for-" + strings.ReplaceAll(cmp.Or(req.Derived.Scope, req.Derived.Audience,
				req.Derived.Resource), " ", "+"))}, nil
	}
	if req.Derived.Wanted() {
		if p.IDToken == "" {
			return protocol.Token{}, &protocol.Error{Code: protocol.CodeConfig, Message: "profile " + p.Name + " has no ID token"}
		}
		return protocol.Token{Profile: p.Name, Value: protocol.NewSecret(p.IDToken), Expiry: p.Expiry, Kind: protocol.KindBearer,
			Notice: p.Notice, Username: p.Username, Derived: true}, nil
	}
	return protocol.Token{
		Profile: p.Name,
		Value:   protocol.NewSecret(p.Token),
		Expiry:  p.Expiry,
		Kind:    p.Kind,
		Notice:  p.Notice, Username: p.Username,
	}, nil
}

// Status lists the profiles, all on one page.
func (f *Fake) Status(_ context.Context, req protocol.StatusRequest) (protocol.Status, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := protocol.Status{Agent: protocol.AgentStatus{
		PID:            1,
		Version:        "fake",
		Requests:       uint64(len(f.requests)),
		DefaultProfile: f.first,
		Here:           f.chosen("", req.Home),
	}}
	profiles := slices.SortedFunc(maps.Values(f.profiles), func(a, b Profile) int { return strings.Compare(a.Name, b.Name) })
	if req.Profile != "" {
		p, err := f.lookupLocked(req.Profile, req.Home)
		if err != nil {
			return protocol.Status{}, err
		}
		profiles = []Profile{p}
	}
	for _, p := range profiles {
		if p.Name <= req.After {
			continue
		}
		status := protocol.ProfileStatus{Name: p.Name, Provider: "static", State: protocol.StateLive, Kind: p.Kind,
			HasToken: true, Expiry: p.Expiry, Store: "memory", Location: "memory"}
		if p.Err != nil {
			status.State, status.HasToken = protocol.StateFailed, false
			status.LastError, status.LastHint, status.LastCode = p.Err.Message, p.Err.Hint, p.Err.Code
		}
		s.Profiles = append(s.Profiles, status)
	}
	return s, nil
}

// Put makes the record the profile's token.
func (f *Fake) Put(_ context.Context, req protocol.PutRequest) (protocol.PutReply, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p, err := f.lookupLocked(req.Profile, req.Home)
	if err != nil {
		return protocol.PutReply{}, err
	}
	p.Token, p.Expiry, p.Err = req.Record.Reveal(), time.Time{}, nil
	f.setLocked(p)
	return protocol.PutReply{Location: "memory"}, nil
}

// Control removes a profile's token, with a notice if a logout is to revoke nothing. A reload changes nothing, and after a stop
// [Fake.Stopped] is true.
func (f *Fake) Control(_ context.Context, req protocol.ControlRequest) (reply protocol.ControlReply, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch req.Command {
	case protocol.CommandReload:
		return reply, nil
	case protocol.CommandStop:
		f.stopped = true
		return reply, nil
	case protocol.CommandLogout, protocol.CommandRemove:
		p, err := f.lookupLocked(req.Profile, req.Home)
		if err != nil {
			return reply, err
		}
		p.Token = ""
		p.Err = &protocol.Error{Code: protocol.CodeNotFound, Message: "nothing is stored for profile " + p.Name}
		f.setLocked(p)
		if req.Command == protocol.CommandLogout && req.KeepRemote {
			reply.Notice = "nothing was revoked"
		}
		return reply, nil
	}
	return reply, &protocol.Error{Code: protocol.CodeConfig, Message: "unknown command"}
}

// Identify returns the profile's Identity.
func (f *Fake) Identify(_ context.Context, req protocol.IdentifyRequest) (protocol.Identity, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p, err := f.lookupLocked(req.Profile, req.Home)
	if err != nil {
		return protocol.Identity{}, err
	}
	if p.Err != nil {
		return protocol.Identity{}, p.Err
	}
	p.Identity.Profile = p.Name
	return p.Identity, nil
}

// Set adds p, or replaces the profile of its name, and ends the waits of all watchers.
func (f *Fake) Set(p Profile) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.setLocked(p)
}

// setLocked is Set. f.mu is held.
func (f *Fake) setLocked(p Profile) {
	f.profiles[protocol.FoldProfile(p.Name)] = p
	f.version++
	if f.changed != nil {
		close(f.changed)
		f.changed = nil
	}
}

// Watch waits until any profile is another, or ctx ends.
func (f *Fake) Watch(ctx context.Context, req protocol.WatchRequest) (protocol.WatchReply, error) {
	for {
		f.mu.Lock()
		version := f.version
		_, err := f.lookupLocked(req.Profile, req.Home)
		if f.changed == nil {
			f.changed = make(chan struct{})
		}
		changed := f.changed
		f.mu.Unlock()
		if err != nil || version != req.Known {
			return protocol.WatchReply{Version: version}, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return protocol.WatchReply{}, &protocol.Error{Code: protocol.CodeUnavailable, Message: "the wait was given up"}
		}
	}
}

// chosen returns the profile that a request means, which may name none.
func (f *Fake) chosen(name string, home protocol.Home) string {
	return cmp.Or(name, f.Uses[home.Dir], f.first)
}

// lookupLocked returns a profile by name, "" for the default one, for a request from that home. f.mu is held.
func (f *Fake) lookupLocked(name string, home protocol.Home) (Profile, error) {
	if none := (protocol.Home{}); home != none && f.Home != none && home.Place() != f.Home {
		return Profile{}, &protocol.Error{Code: protocol.CodeConfig, Message: "the agent's home is another one"}
	}
	name = f.chosen(name, home)
	p, ok := f.profiles[protocol.FoldProfile(name)]
	if !ok {
		return Profile{}, &protocol.Error{
			Code:    protocol.CodeNotFound,
			Message: "there is no profile " + name,
			Hint:    "see `ccagent list`",
		}
	}
	return p, nil
}
