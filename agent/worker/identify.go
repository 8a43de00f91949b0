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
func (e *errand) identify(ctx context.Context) renewal.Outcome {
	st, err := e.open(ctx)
	if err != nil {
		return renewal.Outcome{Err: err}
	}
	s, err := e.Current(ctx, st)
	if err != nil {
		return renewal.Outcome{Err: err}
	}
	o := renewal.Outcome{Result: e.About(s.Store)}
	o.Result.Identity = e.complete(s.Record, e.kept(s))
	if o.Result.Identity.Fetched.IsZero() || e.Job.Force || e.Job.Check {
		identity, err := e.inquire(ctx, s.Record)
		if err != nil {
			return o.WithError(err)
		}
		if !identity.Fetched.IsZero() {
			e.note(ctx, s, identity)
			o.Result.Identity = e.complete(s.Record, identity)
		}
	}
	return o
}

// complete fills in from the record what the provider did not say.
func (e *errand) complete(r store.Record, i protocol.Identity) protocol.Identity {
	i.Profile = e.Job.Profile
	i.Subscription = cmp.Or(i.Subscription, r.Subscription)
	if i.Scopes == nil {
		i.Scopes = slices.Clone(r.Scopes)
	}
	return i
}

// inquire asks the provider who has signed in, and with Check whether the token is good. The zero Identity says that there
// is nobody to ask.
func (e *errand) inquire(ctx context.Context, r store.Record) (protocol.Identity, error) {
	cannot := &protocol.Error{
		Code:    protocol.CodeUnavailable,
		Message: "provider " + string(e.settings.Provider) + " can't be asked whether the token is good",
		Hint:    "set introspect_url or profile_url in config.toml, where the provider has one",
	}
	if !e.traits().SignsIn {
		if e.Job.Check {
			cannot.Hint = ""
			return protocol.Identity{}, cannot
		}
		return protocol.Identity{}, nil
	}
	c, _, err := e.client(ctx, r)
	if err != nil {
		return protocol.Identity{}, err
	}
	if e.Job.Check && c.IntrospectURL != "" && e.settings.IntrospectURL != "" {
		return protocol.Identity{}, c.Introspect(ctx, r.AccessToken)
	}
	if c.ProfileURL == "" && e.settings.TokenURL != "" { // else the issuer has been asked already
		if err := c.Discover(ctx); err != nil {
			return protocol.Identity{}, err
		}
	}
	switch {
	case c.EndpointError(oauth.UserinfoEndpoint) != nil:
		return protocol.Identity{}, c.EndpointError(oauth.UserinfoEndpoint)
	case c.ProfileURL != "":
		i, err := c.Identify(ctx, r.AccessToken)
		if err == nil {
			err = e.sameAccount(r.Identity, i)
		}
		return i, err
	case e.Job.Check:
		return protocol.Identity{}, cannot
	}
	return protocol.Identity{}, nil
}

// sameAccount fails where a user profile is not of the account that signed in, as its ID token said or the profile did before:
// what it says is then not to be used (OpenID Connect Core section 5.3.2).
func (e *errand) sameAccount(signedIn, profile protocol.Identity) error {
	if signedIn.Account == "" || profile.Account == signedIn.Account {
		return nil
	}
	return &protocol.Error{Code: protocol.CodeLoginRequired,
		Message: "the provider's user profile is of another account than the one that signed in",
		Hint: "sign in again: " + protocol.ShellLine("ccagent", "login", e.settings.Name) +
			"\nif that does not help, tell whoever runs the provider"}
}

// identityNote is who is signed in where the record itself has no room for it: a file of ours, about one version of the record.
// What another program writes may be another person's.
type identityNote struct {
	Version  int               `json:"version"`
	Record   string            `json:"record"` // its store.Version in hexadecimal
	Identity protocol.Identity `json:"identity"`
}

func (e *errand) identityPath() string {
	return filepath.Join(e.settings.StateDir, "identity", protocol.FoldProfile(e.settings.Name)+".json")
}

// roomless reports whether st's records have no room for who is signed in.
func roomless(st store.Store) bool { return st != nil && st.Place().Kind.Traits().Shared }

// kept is who is signed in as far as it is kept, the zero Identity where it is not.
func (e *errand) kept(s renewal.State) protocol.Identity {
	if s.Unsaved || !roomless(s.Store) {
		return s.Record.Identity
	}
	return e.readNote(s.Version)
}

func (e *errand) readNote(v store.Version) protocol.Identity {
	data, err := readSmall(e.identityPath())
	var n identityNote
	if err != nil || json.Unmarshal(data, &n) != nil || n.Version != 1 || n.Record != hex.EncodeToString(v[:]) {
		return protocol.Identity{}
	}
	return n.Identity
}

func (e *errand) writeNote(v store.Version, i protocol.Identity) {
	data, err := json.Marshal(identityNote{Version: 1, Record: hex.EncodeToString(v[:]), Identity: i})
	if err == nil {
		store.ReplaceFile(e.identityPath(), append(data, '\n'))
	}
}

// note keeps who is signed in with the record that it was asked for, if that is still there. To fail at it costs another
// question. An unsaved record's is kept by the agent.
func (e *errand) note(ctx context.Context, s renewal.State, i protocol.Identity) {
	switch {
	case s.Store == nil || s.Unsaved:
		return
	case roomless(s.Store):
		e.writeNote(s.Version, i)
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
	if err == nil && r.SignIn == s.Record.SignIn && !store.Spilled(e.settings.StateDir, s.Store) {
		r.Identity = i
		s.Store.Save(context.WithoutCancel(ctx), r, version)
	}
}

// sameAs carries a note over a renewal: whoever was signed in is.
func (e *errand) sameAs(old, renewed store.Version) {
	if old == renewed {
		return
	}
	if i := e.readNote(old); !i.Fetched.IsZero() {
		e.writeNote(renewed, i)
	}
}

func (e *errand) forgetIdentity() { os.Remove(e.identityPath()) }
