package worker

import (
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/ccagent/ccagent/agent/oauth"
	"github.com/ccagent/ccagent/agent/renewal"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store"
)

// keepTime bounds the wait for a record in which who is signed in is to be kept: the answer is there already.
const keepTime = 5 * time.Second

// identify says who is signed in. It takes no lock until it has its answer, and only to keep that: nobody's renewal waits for
// the provider's user profile.
func (t *task) identify(ctx context.Context) renewal.Outcome {
	st, err := t.open(ctx)
	if err != nil {
		return renewal.Outcome{Err: err}
	}
	s, err := t.Current(ctx, st)
	if err != nil {
		return renewal.Outcome{Err: err}
	}
	o := renewal.Outcome{Result: t.About(s.Store)}
	o.Result.Identity = t.complete(s.Record, t.kept(s))
	if o.Result.Identity.Fetched.IsZero() || t.Job.Force || t.Job.Check {
		identity, err := t.inquire(ctx, s.Record)
		if err != nil {
			return o.WithError(err)
		}
		if !identity.Fetched.IsZero() {
			t.note(ctx, s, identity)
			o.Result.Identity = t.complete(s.Record, identity)
		}
	}
	return o
}

// complete fills in from the record what the provider did not say.
func (t *task) complete(r store.Record, i protocol.Identity) protocol.Identity {
	i.Profile = t.Job.Profile
	i.Subscription = cmp.Or(i.Subscription, r.Subscription)
	if i.Scopes == nil {
		i.Scopes = slices.Clone(r.Scopes)
	}
	return i
}

// inquire asks the provider who has signed in, and with Check whether the token is good. The zero Identity says that there
// is nobody to ask.
func (t *task) inquire(ctx context.Context, r store.Record) (protocol.Identity, error) {
	cannot := &protocol.Error{
		Code:    protocol.CodeUnavailable,
		Message: "provider " + string(t.settings.Provider) + " can't be asked whether the token is good",
		Hint:    "set introspect_url or profile_url in config.toml, where the provider has one",
	}
	if !t.traits().SignsIn {
		if t.Job.Check {
			cannot.Hint = ""
			return protocol.Identity{}, cannot
		}
		return protocol.Identity{}, nil
	}
	c, _, err := t.client(ctx, r)
	if err != nil {
		return protocol.Identity{}, err
	}
	if t.Job.Check && t.settings.MCPURL != "" { // the server that the token is for knows best
		return protocol.Identity{}, c.CheckResource(ctx, t.settings.MCPURL, r.AccessToken)
	}
	if t.Job.Check && c.IntrospectURL != "" && t.settings.IntrospectURL != "" {
		return protocol.Identity{}, c.Introspect(ctx, r.AccessToken)
	}
	if c.ProfileURL == "" && t.settings.TokenURL != "" { // else the issuer has been asked already
		if err := c.Discover(ctx); err != nil {
			return protocol.Identity{}, err
		}
	}
	switch {
	case c.EndpointError(oauth.UserinfoEndpoint) != nil && t.Job.Check && c.IntrospectURL != "":
		return protocol.Identity{}, c.Introspect(ctx, r.AccessToken)
	case c.EndpointError(oauth.UserinfoEndpoint) != nil:
		return protocol.Identity{}, c.EndpointError(oauth.UserinfoEndpoint)
	case c.ProfileURL != "":
		i, err := c.Identify(ctx, r.AccessToken)
		if err == nil && i.Account == "" && r.Identity.Account != "" {
			return r.Identity, nil // it does not say whose it is, so it can't be used, and what is known stays
		}
		if err == nil {
			err = t.sameAccount(r.Identity, i)
		}
		return i, err
	case t.Job.Check:
		return protocol.Identity{}, cannot
	}
	return protocol.Identity{}, nil
}

// sameAccount fails where a user profile is not of the account that signed in, as its ID token said or the profile did before:
// what it says is then not to be used (OpenID Connect Core section 5.3.2).
func (t *task) sameAccount(signedIn, profile protocol.Identity) error {
	if signedIn.Account == "" || profile.Account == signedIn.Account {
		return nil
	}
	return &protocol.Error{Code: protocol.CodeLoginRequired,
		Message: "the provider's user profile is of another account than the one that signed in",
		Hint: "sign in again: " + protocol.ShellLine("ccagent", "login", t.settings.Name) +
			"\nif that does not help, tell whoever runs the provider"}
}

// identityNote is who is signed in where the record itself has no room for it: a file of ours, about one version of the record.
// What another program writes may be another person's.
type identityNote struct {
	Version  int               `json:"version"`
	Record   string            `json:"record"` // its store.Version in hexadecimal
	Identity protocol.Identity `json:"identity"`
}

func (t *task) identityPath() string {
	return filepath.Join(t.settings.StateDir, "identity", protocol.FoldProfile(t.settings.Name)+".json")
}

// roomless reports whether st's records have no room for who is signed in.
func roomless(st store.Store) bool { return st != nil && st.Place().Kind.Traits().Shared }

// kept is who is signed in as far as it is kept, the zero Identity where it is not.
func (t *task) kept(s renewal.State) protocol.Identity {
	if s.Unsaved || !roomless(s.Store) {
		return s.Record.Identity
	}
	return t.readNote(s.Version)
}

func (t *task) readNote(v store.Version) protocol.Identity {
	data, err := readSmall(t.identityPath())
	var n identityNote
	if err != nil || json.Unmarshal(data, &n) != nil || n.Version != 1 || n.Record != hex.EncodeToString(v[:]) {
		return protocol.Identity{}
	}
	return n.Identity
}

func (t *task) writeNote(v store.Version, i protocol.Identity) {
	data, err := json.Marshal(identityNote{Version: 1, Record: hex.EncodeToString(v[:]), Identity: i})
	if err == nil {
		store.ReplaceFile(t.identityPath(), append(data, '\n'))
	}
}

// note keeps who is signed in with the record for which that was asked, if it is still there. Where that fails, the provider is
// asked once more. For an unsaved record the agent keeps it.
func (t *task) note(ctx context.Context, s renewal.State, i protocol.Identity) {
	switch {
	case s.Store == nil || s.Unsaved:
		return
	case roomless(s.Store):
		t.writeNote(s.Version, i)
		return
	}
	waiting, cancel := context.WithTimeout(ctx, keepTime)
	defer cancel()
	lock, err := s.Store.Lock(waiting)
	if err != nil {
		return
	}
	defer lock.Release()
	r, version, err := s.Store.Load(ctx)
	if err == nil && r.SignIn == s.Record.SignIn && !store.Spilled(t.settings.StateDir, s.Store) {
		r.Identity = i
		s.Store.Save(context.WithoutCancel(ctx), r, version)
	}
}

// sameAs carries the note about who is signed in over to a renewed record.
func (t *task) sameAs(old, renewed store.Version) {
	if old == renewed {
		return
	}
	if i := t.readNote(old); !i.Fetched.IsZero() {
		t.writeNote(renewed, i)
	}
}

func (t *task) forgetIdentity() { os.Remove(t.identityPath()) }
