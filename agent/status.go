package agent

import (
	"context"
	"os"
	"strings"
	"time"

	"github.com/ccagent/ccagent/protocol"
)

// Status implements [protocol.Agent].
func (a *Agent) Status(_ context.Context, req protocol.StatusRequest) (protocol.Status, error) {
	a.noteActivity()
	a.reloadIfChanged()
	t := a.table.Load()
	s := protocol.Status{Agent: protocol.AgentStatus{
		PID: os.Getpid(), Version: a.opts.Build, Socket: a.socket(), Started: a.started,
		Requests: a.requests.Load(), Renewals: a.renewals.Load(), Connections: a.server.Connections(), Memory: resident(),
		DefaultProfile: t.config.Default, Here: t.here(req.Home), Locked: a.lockState.on.Load(),
	}}
	if req.After == "" {
		s.Agent.Environment = protocol.Environment()
	}
	if err := a.configError(); err != nil {
		s.Agent.ConfigError, s.Agent.ConfigHint = err.Message, err.Hint
	}
	if req.Profile != "" {
		e, err := a.entry(req.Profile, req.Home)
		if err != nil && !a.mayServe(e, req.Home) {
			return protocol.Status{}, err
		}
		s.Profiles = append(s.Profiles, e.status())
		return s, nil
	}
	if err := t.checkHome(req.Home, nil); err != nil {
		return protocol.Status{}, err
	}
	// A page stays well inside a frame, because what is said of one profile is bounded (see statusSize).
	room := protocol.MaxFrame / 2
	for _, e := range t.byName {
		if e.name() <= req.After && req.After != "" {
			continue
		}
		p := e.status()
		if room -= statusSize(p); room < 0 && len(s.Profiles) > 0 {
			s.Next = s.Profiles[len(s.Profiles)-1].Name
			break
		}
		s.Profiles = append(s.Profiles, p)
	}
	return s, nil
}

func (a *Agent) socket() string {
	if a.opts.Socket == nil {
		return ""
	}
	return a.opts.Socket()
}

// statusSize is about how many bytes of a frame a profile takes.
func statusSize(p protocol.ProfileStatus) int {
	n := 256 + len(p.Name) + len(p.Location) + len(p.LastError) + len(p.LastHint) + len(p.Note) + len(p.Subscription)
	for _, s := range p.Scopes {
		n += 4 + len(s)
	}
	return n
}

// status describes the profile.
func (e *entry) status() protocol.ProfileStatus {
	p := e.profile.Load()
	now := e.agent.now()
	cached := e.cached.Load()
	e.mu.Lock()
	defer e.mu.Unlock()
	s := protocol.ProfileStatus{
		Name: p.Name, Provider: p.Provider, Store: e.place.store, Location: shorten(e.place.location),
		Subscription: shorten(e.place.subscription), LastRenewal: e.lastRenewal, Note: shorten(e.note),
	}
	if s.Store == "" {
		s.Store = p.Store
	}
	for _, scope := range e.place.scopes[:min(len(e.place.scopes), 32)] {
		s.Scopes = append(s.Scopes, shorten(scope))
	}
	if used := e.lastUsed.Load(); used != 0 {
		s.LastUsed = time.Unix(used, 0)
	}
	if cached != nil {
		s.HasToken, s.Expiry, s.Issued, s.Kind = true, cached.expiry, cached.issued, cached.kind
		s.SignInEnds, s.RemindFrom = cached.toTell.end, cached.toTell.from
	}
	if e.failure != nil {
		s.LastError, s.LastHint = shorten(e.failure.err.Message), shorten(e.failure.err.Hint)
		s.LastCode, s.Retry = e.failure.err.Code, e.failure.retry.at
	}
	if e.unsaved != nil && e.unsaved.err != nil {
		s.LastError, s.LastHint = shorten(e.unsaved.err.Message), shorten(e.unsaved.err.Hint)
		s.LastCode, s.Retry = e.unsaved.err.Code, e.unsaved.at
	}
	switch {
	case e.agent.lockState.on.Load():
		s.State = protocol.StateLocked
	case e.running != nil && e.running.renews(cached, now):
		s.State = protocol.StateRenew
	case e.unsaved != nil:
		s.State = protocol.StateUnsaved
	case e.failure != nil:
		s.State = stateOf(e.failure.err)
	case cached == nil:
		s.State = protocol.StateIdle
	case cached.fresh(now, 0, false):
		s.State = protocol.StateLive
	default:
		s.State = protocol.StateDue
	}
	return s
}

// stateOf is the state of a profile whose last job has failed.
func stateOf(err *protocol.Error) protocol.State {
	switch err.Code {
	case protocol.CodeUnavailable:
		return protocol.StateBackoff
	case protocol.CodeLoginRequired, protocol.CodeExpired, protocol.CodeNotFound:
		return protocol.StateSignIn
	case protocol.CodeLocked:
		return protocol.StateLocked
	default:
		return protocol.StateFailed
	}
}

// maxShown bounds each text of a status, so that a page fits a frame.
const maxShown = 1024

// shorten cuts s for a status.
func shorten(s string) string {
	if len(s) <= maxShown {
		return s
	}
	return strings.ToValidUTF8(s[:maxShown-3], "") + "..."
}
