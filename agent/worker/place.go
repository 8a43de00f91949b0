package worker

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/ccagent/ccagent/agent/job"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store"
)

// open returns the profile's store, nil for memory and for a provider whose tokens are stored nowhere. Store `auto` is the
// remembered one; failing that the first that holds something (a record that is corrupt, locked or signed out counts: it is the
// profile's); failing that, for a record about to be put, the keyring if it works, else a file. What is remembered stays: a
// store that does not answer is an error, never a reason to look elsewhere.
func (e *errand) open(ctx context.Context) (store.Store, error) {
	if !e.traits().Stored {
		return nil, nil
	}
	kind := e.settings.Store
	if kind.Auto() {
		var err error
		if kind, err = e.recall(); err != nil {
			return nil, err
		}
	}
	if kind != "" {
		return e.openKind(kind)
	}
	storing := e.Job.Op == job.Put
	first, last := e.searched()
	if st, err := e.firstHolding(ctx, first); st != nil || err != nil {
		return st, err
	}
	// A keyring that does not answer says nothing about this profile, unless something of it is known to be there.
	keyring := store.NewKeyring(e.settings.StateDir, e.settings.Name)
	if keyring.Known() {
		return keyring, nil
	}
	if !storing || len(last) > 0 {
		if _, _, err := keyring.Load(ctx); err == nil {
			return keyring, nil
		}
	}
	if st, err := e.firstHolding(ctx, last); st != nil || err != nil {
		return st, err
	}
	if !storing {
		return e.openKind(store.KindFile)
	}
	kind, err := store.DefaultKind(ctx)
	if err != nil {
		e.notice = "it is kept in a file: " + err.Error()
	}
	return e.openKind(kind)
}

// searched are the kinds of store in which store `auto` looks for a record before it asks the keyring, and after that. What
// Claude Code's file holds may be the view of a record that is elsewhere: then that comes first.
func (e *errand) searched() (first, last []store.Kind) {
	own := store.Kinds(func(t store.Traits) bool { return t.Ours() && !t.Service })
	shared := store.Kinds(func(t store.Traits) bool { return t.Shared })
	switch _, view := e.guardedView(); {
	case view != nil:
		return own, shared
	case e.usesClaudeCode():
		return append(shared, own...), nil
	}
	return own, nil
}

// usesClaudeCode reports whether Claude Code's own file may hold the profile's record.
func (e *errand) usesClaudeCode() bool { return e.traits().ClaudeCode && e.settings.ConfigDir != "" }

// firstHolding returns the first of the stores that holds something, nil where none does.
func (e *errand) firstHolding(ctx context.Context, kinds []store.Kind) (store.Store, error) {
	for _, kind := range kinds {
		st, err := e.openKind(kind)
		if err != nil {
			return nil, err
		}
		if _, _, err := st.Load(ctx); !errors.Is(err, protocol.ErrNotFound) {
			return st, nil
		}
	}
	return nil, nil
}

func (e *errand) openKind(kind store.Kind) (store.Store, error) {
	return kind.Open(store.Where{
		Profile: e.settings.Name, DataDir: e.settings.DataDir, StateDir: e.settings.StateDir, ClaudeDir: e.settings.ConfigDir,
		Identity: e.identity,
	})
}

// identity is what opens the encrypted store: what the agent has unlocked, or a key file without a passphrase. Else, and while
// there is none yet, the store is locked.
func (e *errand) identity() (store.Identity, error) {
	if !e.Job.Key.Empty() {
		return store.ParseIdentity(e.Job.Key)
	}
	path := cmp.Or(e.settings.Identity, store.IdentityPath(e.settings.DataDir))
	key, err := store.UnlockIdentity(path, protocol.Secret{})
	switch {
	case errors.Is(err, protocol.ErrLocked), errors.Is(err, protocol.ErrNotFound) && e.settings.Identity == "":
		return store.Identity{}, nil
	case errors.Is(err, protocol.ErrNotFound):
		return store.Identity{}, &protocol.Error{Code: protocol.CodeConfig, Message: "identity: there is no " + path,
			Hint: "name an age identity or an SSH private key of type ed25519 or RSA"}
	case err != nil:
		return store.Identity{}, err
	}
	return store.ParseIdentity(key)
}

// choice is the file in which the decision of store `auto` is kept.
type choice struct {
	Version int        `json:"version"`
	Store   store.Kind `json:"store"`
}

func (e *errand) choicePath() string {
	return filepath.Join(e.settings.StateDir, "auto", protocol.FoldProfile(e.settings.Name)+".json")
}

// recall returns what `auto` was decided to be, "" when it is not decided yet.
func (e *errand) recall() (store.Kind, error) {
	data, err := os.ReadFile(e.choicePath())
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	var c choice
	if err == nil {
		err = json.Unmarshal(data, &c)
	}
	if err == nil && (c.Version != 1 || !slices.Contains(store.Kinds(store.Traits.Rests), c.Store)) {
		err = errors.New("it is of another version")
	}
	if err != nil {
		return "", &protocol.Error{
			Code:    protocol.CodeStorage,
			Message: fmt.Sprintf("which store profile %s uses can't be read from %s", e.settings.Name, e.choicePath()),
			Hint:    "remove that file, or set store for the profile in config.toml",
		}
	}
	return c.Store, nil
}

// remember keeps what `auto` was decided to be, now that a record rests there. Failing at it costs nothing but another
// decision, which the record itself will settle the same way.
func (e *errand) remember(st store.Store) {
	if !e.settings.Store.Auto() || st == nil {
		return
	}
	kind := st.Place().Kind
	if known, err := e.recall(); err != nil || known == kind {
		return
	}
	e.decide(kind)
}

// decide makes kind what store `auto` is from now on.
func (e *errand) decide(kind store.Kind) error {
	data, err := json.Marshal(choice{Version: 1, Store: kind})
	if err == nil {
		err = store.ReplaceFile(e.choicePath(), append(data, '\n'))
	}
	if err != nil {
		return &protocol.Error{
			Code:    protocol.CodeStorage,
			Message: "which store the profile uses could not be written down: " + err.Error(),
			Hint:    protocol.HintOf(err),
		}
	}
	return nil
}

// Decide makes kind what store `auto` of a profile is, as a job that stores its record there would.
func Decide(s Settings, kind store.Kind) error { return newErrand(s, job.Job{}).decide(kind) }

// Decided returns what store `auto` of a profile is, "" while that is not decided.
func Decided(s Settings) (store.Kind, error) { return newErrand(s, job.Job{}).recall() }

// forget undoes remember.
func (e *errand) forget() { os.Remove(e.choicePath()) }
