package protocoltest

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ccagent/ccagent/protocol"
)

// Profile is what an agent under test is to serve: a token, or an error.
type Profile struct {
	Name   string
	Token  string
	Expiry time.Time // zero: never
	Kind   protocol.Kind
	Notice string
	Err    *protocol.Error // what a renewal fails with; the profile has no token then
	Hosts  []string        // where the token may go; none: anywhere
	// Identity is who is signed in; its Profile is Name.
	Identity protocol.Identity
}

// Fake is an [protocol.Agent] in memory. Its first profile is the default one. A record that is put becomes the profile's
// token as it is.
type Fake struct {
	mu       sync.Mutex
	profiles map[string]Profile // by folded name
	first    string
	stopped  bool
	requests []protocol.TokenRequest
	version  uint64
	changed  chan struct{} // closed at the next change; nil: nobody waits

	// Home is the agent's own: a request that names another is refused. The zero Home refuses nothing. Set it before the first
	// request.
	Home protocol.Home
	// Answer, if set, is asked instead of the profiles for each token. Set it before the first request.
	Answer func(context.Context, protocol.TokenRequest) (protocol.Token, error)
}

var (
	_ protocol.Agent   = (*Fake)(nil)
	_ protocol.Watcher = (*Fake)(nil)
)

// NewFake returns a Fake that serves the profiles.
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

// Token answers from the profile.
func (f *Fake) Token(ctx context.Context, req protocol.TokenRequest) (protocol.Token, error) {
	req.Profile, req.Host = strings.Clone(req.Profile), strings.Clone(req.Host)
	req.Home = protocol.Home{
		Home:            strings.Clone(req.Home.Home),
		XDGConfigHome:   strings.Clone(req.Home.XDGConfigHome),
		ClaudeConfigDir: strings.Clone(req.Home.ClaudeConfigDir),
	}
	f.mu.Lock()
	f.requests = append(f.requests, req)
	f.mu.Unlock()
	if f.Answer != nil {
		return f.Answer(ctx, req)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	p, err := f.lookup(req.Profile, req.Home)
	if err != nil {
		return protocol.Token{}, err
	}
	if (req.Listed || req.Host != "" && len(p.Hosts) > 0) &&
		!slices.ContainsFunc(p.Hosts, func(h string) bool { return strings.EqualFold(h, req.Host) }) {
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
	return protocol.Token{
		Profile: p.Name,
		Value:   protocol.NewSecret(p.Token),
		Expiry:  p.Expiry,
		Kind:    p.Kind,
		Notice:  p.Notice,
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
	}}
	profiles := slices.SortedFunc(maps.Values(f.profiles), func(a, b Profile) int { return strings.Compare(a.Name, b.Name) })
	if req.Profile != "" {
		p, err := f.lookup(req.Profile, req.Home)
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
			status.LastError, status.LastCode = p.Err.Message, p.Err.Code
		}
		s.Profiles = append(s.Profiles, status)
	}
	return s, nil
}

// Put makes the record the profile's token.
func (f *Fake) Put(_ context.Context, req protocol.PutRequest) (protocol.PutReply, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p, err := f.lookup(req.Profile, req.Home)
	if err != nil {
		return protocol.PutReply{}, err
	}
	p.Token, p.Expiry, p.Err = req.Record.Reveal(), time.Time{}, nil
	f.set(p)
	return protocol.PutReply{Location: "memory"}, nil
}

// Control removes a profile's token, with a notice where a logout revokes nothing; reloading changes nothing, and stopping
// is noted.
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
		p, err := f.lookup(req.Profile, req.Home)
		if err != nil {
			return reply, err
		}
		p.Token = ""
		p.Err = &protocol.Error{Code: protocol.CodeNotFound, Message: "nothing is stored for profile " + p.Name}
		f.set(p)
		if req.Command == protocol.CommandLogout && req.KeepRemote {
			reply.Notice = "nothing was revoked"
		}
		return reply, nil
	}
	return reply, &protocol.Error{Code: protocol.CodeConfig, Message: "unknown command"}
}

// Identify answers with the profile's Identity.
func (f *Fake) Identify(_ context.Context, req protocol.IdentifyRequest) (protocol.Identity, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p, err := f.lookup(req.Profile, req.Home)
	if err != nil {
		return protocol.Identity{}, err
	}
	if p.Err != nil {
		return protocol.Identity{}, p.Err
	}
	p.Identity.Profile = p.Name
	return p.Identity, nil
}

// Set makes p the profile of its name, and tells those who watch.
func (f *Fake) Set(p Profile) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.set(p)
}

// set is Set. f.mu is held.
func (f *Fake) set(p Profile) {
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
		_, err := f.lookup(req.Profile, req.Home)
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
			return protocol.WatchReply{}, &protocol.Error{Code: protocol.CodeUnavailable, Message: "gave up waiting"}
		}
	}
}

// lookup returns a profile by name, "" for the default one, to a request from that home.
func (f *Fake) lookup(name string, home protocol.Home) (Profile, error) {
	if none := (protocol.Home{}); home != none && f.Home != none && home != f.Home {
		return Profile{}, &protocol.Error{Code: protocol.CodeConfig, Message: "the agent's home is another one"}
	}
	if name == "" {
		name = f.first
	}
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
