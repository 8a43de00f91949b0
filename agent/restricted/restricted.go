// Package restricted narrows an agent to the tokens of some profiles: for a container, for another user, or for another machine
// by way of ssh. Whatever would tell more, change something, or make the agent renew on demand is refused.
package restricted

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/ccagent/ccagent/agent/server"
	"github.com/ccagent/ccagent/protocol"
)

// limits are those of a restricted socket (docs/protocol.md §6). Several users may share it, and none of them keeps the others
// out. Its clients can't start an agent, and take a closed connection for a socket with nobody behind it. So a request that
// finds no place is told so.
var limits = server.Limits{Connections: 256, User: 32, Reserved: 32, TellBusy: true, Drain: 5 * time.Second}

// Agent is another agent restricted to the tokens of some profiles. It has no record and no token of its own: each request is put
// to the other agent. What it refuses is ErrDenied. Its methods may be called concurrently.
type Agent struct {
	// Of is the agent that is asked.
	Of protocol.Agent
	// Profiles are those whose tokens may be had; the first is the default. There must be one at least.
	Profiles []string
	// AllowDerived lets clients have derived tokens too (protocol.Derived), in place of the access tokens of the profiles.
	AllowDerived bool
}

// An Agent implements [protocol.Watcher] and [protocol.Keeper] as well, so that it refuses those requests with the reason. An
// agent that does not implement them is taken for an older one.
var (
	_ protocol.Agent   = Agent{}
	_ protocol.Watcher = Agent{}
	_ protocol.Keeper  = Agent{}
)

// Token gives the token of one of the profiles.
func (a Agent) Token(ctx context.Context, req protocol.TokenRequest) (protocol.Token, error) {
	if req.Force {
		return protocol.Token{}, denied("a renewal")
	}
	if req.Derived.Wanted() && !a.AllowDerived {
		return protocol.Token{}, &protocol.Error{Code: protocol.CodeDenied,
			Message: "this socket does not give other tokens of a sign-in than its access token",
			Hint:    "at the machine that it comes from, --derived of `ccagent serve --export` or `ccagent forward` allows it"}
	}
	name := req.Profile
	if name == "" {
		name = a.Profiles[0]
	}
	i := slices.IndexFunc(a.Profiles, func(p string) bool { return protocol.FoldProfile(p) == protocol.FoldProfile(name) })
	if i < 0 {
		return protocol.Token{}, denied("another profile than those that were chosen")
	}
	name = a.Profiles[i]
	// The home of another machine means nothing here. MinTTL is cut to what every request gets, so that nobody out there makes
	// the agent renew at will.
	t, err := a.Of.Token(ctx, protocol.TokenRequest{
		Profile: name, MinTTL: min(req.MinTTL, protocol.Margin), Host: req.Host, Listed: req.Listed, Quiet: true,
		Derived: req.Derived,
	})
	if err != nil {
		return protocol.Token{}, restrictError(err, name, req.Host)
	}
	// The reply is made anew from what may cross. The agent's notice may not: it is meant for the person at this machine.
	out := protocol.Token{Profile: name, Value: t.Value, Expiry: t.Expiry, Kind: restrictKind(t.Kind), Username: t.Username,
		Derived: t.Derived}
	if left := time.Until(t.Expiry); !t.Expiry.IsZero() && left < req.MinTTL {
		out.Notice = "--min-ttl can't be met: the token of profile " + name + " lives " + protocol.Brief(left)
	}
	return out, nil
}

// Server returns a server that answers with a. Its limits are those of a restricted socket.
func (a Agent) Server(log *slog.Logger) *server.Server {
	return &server.Server{Agent: a, Limits: limits, Log: log}
}

// restrictKind returns a kind as it may cross: one of ours.
func restrictKind(k protocol.Kind) protocol.Kind {
	switch k {
	case protocol.KindOAuth, protocol.KindAPIKey, protocol.KindAWS:
		return k
	}
	return protocol.KindBearer
}

// restrictError returns the agent's error as it may cross a restricted socket: its condition and the profile, in words of ours.
// The agent's own words name paths, commands and accounts, and may quote what others said. host is the request's.
func restrictError(err error, profile, host string) error {
	e := &protocol.Error{Code: protocol.CodeOf(err), Hint: "the machine that this socket comes from says more: ccagent status"}
	switch e.Code {
	case protocol.CodeConfig:
		e.Message = "profile " + profile + " is not set up as it should be"
		if host == protocol.UnnamedHost {
			e.Message += ", or wants to know the host, which the tool does not name"
		}
	case protocol.CodeNotFound:
		e.Message = "profile " + profile + " has no sign-in"
	case protocol.CodeLoginRequired, protocol.CodeExpired:
		e.Message = "the sign-in of profile " + profile + " is over"
	case protocol.CodeNoAgent:
		e.Message = "there is no agent behind this socket"
	case protocol.CodeDenied:
		e.Message = "profile " + profile + " gives no token for this request: it may not list the host"
	case protocol.CodeLocked:
		e.Message = "the agent is locked"
	case protocol.CodeUnavailable:
		e.Message = "profile " + profile + " has no token at the moment"
	case protocol.CodeStorage, protocol.CodeInvalid:
		e.Message = "the sign-in of profile " + profile + " can't be read"
	default:
		e.Code, e.Message = protocol.CodeInternal, "profile "+profile+" has no token, by a fault of the agent"
	}
	return e
}

func denied(what string) error {
	return &protocol.Error{Code: protocol.CodeDenied, Message: "this socket does not give " + what,
		Hint: "it gives the tokens of chosen profiles alone; ask at the machine that it comes from"}
}

// Status is refused.
func (Agent) Status(context.Context, protocol.StatusRequest) (protocol.Status, error) {
	return protocol.Status{}, denied("the agent's status")
}

// Put is refused.
func (Agent) Put(context.Context, protocol.PutRequest) (protocol.PutReply, error) {
	return protocol.PutReply{}, denied("a place for a sign-in")
}

// Control is refused.
func (Agent) Control(context.Context, protocol.ControlRequest) (protocol.ControlReply, error) {
	return protocol.ControlReply{}, denied("control of the agent")
}

// Identify is refused.
func (Agent) Identify(context.Context, protocol.IdentifyRequest) (protocol.Identity, error) {
	return protocol.Identity{}, denied("who is signed in")
}

// Watch is refused.
func (Agent) Watch(context.Context, protocol.WatchRequest) (protocol.WatchReply, error) {
	return protocol.WatchReply{}, denied("notice of changes")
}

// Keep is refused.
func (Agent) Keep(context.Context, protocol.KeepRequest) (protocol.KeepReply, error) {
	return protocol.KeepReply{}, denied("a say in where a sign-in rests")
}
