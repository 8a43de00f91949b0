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
func (t *task) open(ctx context.Context) (store.Store, error) {
	if !t.traits().Stored {
		return nil, nil
	}
	kind := t.settings.Store
	if kind.Auto() {
		var err error
		if kind, err = t.recall(); err != nil {
			return nil, err
		}
	}
	if kind != "" {
		return t.openKind(kind)
	}
	storing := t.Job.Op == job.Put
	first, last := t.searched()
	if st, err := t.firstHolding(ctx, first); st != nil || err != nil {
		return st, err
	}
	// A keyring that does not answer says nothing about this profile, unless something of it is known to be there.
	keyring := store.NewKeyring(t.settings.StateDir, t.settings.Name)
	if keyring.Known() {
		return keyring, nil
	}
	if !storing || len(last) > 0 {
		if _, _, err := keyring.Load(ctx); err == nil {
			return keyring, nil
		}
	}
	if st, err := t.firstHolding(ctx, last); st != nil || err != nil {
		return st, err
	}
	if !storing {
		if t.usesClaudeCode() { // where a person may sign in next
			t.Watch = append(t.Watch, store.NewClaudeCode(t.settings.ConfigDir).Place().Watch...)
		}
		return t.openKind(store.KindFile)
	}
	kind, err := store.DefaultKind(ctx)
	if err != nil {
		t.notice = "it is kept in a file: " + err.Error()
	}
	return t.openKind(kind)
}

// searched are the kinds of store in which store `auto` looks for a record before it asks the keyring, and after that. What
// Claude Code's file holds may be the view of a record that is elsewhere: then that comes first.
func (t *task) searched() (first, last []store.Kind) {
	own := store.Kinds(func(k store.Traits) bool { return k.Ours() && !k.Service })
	shared := store.Kinds(func(k store.Traits) bool { return k.Shared })
	switch _, view := t.guardedView(); {
	case view != nil:
		return own, shared
	case t.usesClaudeCode():
		return append(shared, own...), nil
	}
	return own, nil
}

// usesClaudeCode reports whether Claude Code's own file may hold the profile's record.
func (t *task) usesClaudeCode() bool { return t.traits().ClaudeCode && t.settings.ConfigDir != "" }

// firstHolding returns the first of the stores that holds something, nil where none does.
func (t *task) firstHolding(ctx context.Context, kinds []store.Kind) (store.Store, error) {
	for _, kind := range kinds {
		st, err := t.openKind(kind)
		if err != nil {
			return nil, err
		}
		if _, _, err := st.Load(ctx); !errors.Is(err, protocol.ErrNotFound) {
			return st, nil
		}
	}
	return nil, nil
}

func (t *task) openKind(kind store.Kind) (store.Store, error) {
	return kind.Open(store.Where{
		Profile: t.settings.Name, DataDir: t.settings.DataDir, StateDir: t.settings.StateDir, ClaudeDir: t.settings.ConfigDir,
		Identity: t.identity,
	})
}

// identity is what opens the encrypted store: what the agent has unlocked, or a key file without a passphrase. Otherwise it is
// the zero Identity, and the store is locked.
func (t *task) identity() (store.Identity, error) {
	if !t.Job.Key.Empty() {
		return store.ParseIdentity(t.Job.Key)
	}
	path := cmp.Or(t.settings.Identity, store.IdentityPath(t.settings.DataDir))
	key, err := store.UnlockIdentity(path, protocol.Secret{})
	switch {
	case errors.Is(err, protocol.ErrLocked), errors.Is(err, protocol.ErrNotFound) && t.settings.Identity == "":
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

func (t *task) choicePath() string {
	return filepath.Join(t.settings.StateDir, "auto", protocol.FoldProfile(t.settings.Name)+".json")
}

// recall returns what `auto` was decided to be, "" when it is not decided yet.
func (t *task) recall() (store.Kind, error) {
	data, err := os.ReadFile(t.choicePath())
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
			Message: fmt.Sprintf("which store profile %s uses can't be read from %s", t.settings.Name, t.choicePath()),
			Hint:    "remove that file, or set store for the profile in config.toml",
		}
	}
	return c.Store, nil
}

// remember keeps what `auto` was decided to be, now that a record rests there. Where that fails the next job decides once more,
// and finds the record where it is.
func (t *task) remember(st store.Store) {
	if !t.settings.Store.Auto() || st == nil {
		return
	}
	kind := st.Place().Kind
	if known, err := t.recall(); err != nil || known == kind {
		return
	}
	t.decide(kind)
}

// decide makes kind what store `auto` is from now on.
func (t *task) decide(kind store.Kind) error {
	data, err := json.Marshal(choice{Version: 1, Store: kind})
	if err == nil {
		err = store.ReplaceFile(t.choicePath(), append(data, '\n'))
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
func Decide(s Settings, kind store.Kind) error { return newTask(s, job.Job{}).decide(kind) }

// Decided returns what store `auto` of a profile is, "" while that is not decided.
func Decided(s Settings) (store.Kind, error) { return newTask(s, job.Job{}).recall() }

// forget undoes remember.
func (t *task) forget() { os.Remove(t.choicePath()) }
