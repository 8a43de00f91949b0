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

// open returns the profile's store, nil for memory. Store `auto` is the remembered one; failing that the first that holds
// something (a record that is corrupt, locked or signed out counts: it is the profile's); failing that, for a record about
// to be put, the keyring if it works, else a file. What is remembered stays: a store that does not answer is an error, never
// a reason to look elsewhere.
func (e *errand) open(ctx context.Context) (store.Store, error) {
	kind := e.settings.Store
	if kind == "auto" || kind == "" {
		var err error
		if kind, err = e.recall(); err != nil {
			return nil, err
		}
	}
	if kind != "" {
		return e.openKind(kind)
	}
	holding := func(kinds ...string) (store.Store, error) {
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
	// What Claude Code's file holds may be the view of a record that is elsewhere: then that comes first.
	first, last := []string{"file", "encrypted"}, []string(nil)
	switch _, view := e.guardedView(); {
	case view != nil:
		last = []string{"claude-code"}
	case e.traits().ClaudeCode && e.settings.ConfigDir != "":
		first = []string{"claude-code", "file", "encrypted"}
	}
	if st, err := holding(first...); st != nil || err != nil {
		return st, err
	}
	// A keyring that does not answer says nothing about this profile, unless something of it is known to be there.
	keyring := store.NewKeyring(e.settings.StateDir, e.settings.Name)
	if keyring.Known() {
		return keyring, nil
	}
	if e.job.Op != job.Put || last != nil {
		if _, _, err := keyring.Load(ctx); err == nil {
			return keyring, nil
		}
	}
	if st, err := holding(last...); st != nil || err != nil {
		return st, err
	}
	if e.job.Op != job.Put {
		return e.openKind("file")
	}
	if err := store.ProbeKeyring(ctx); err != nil {
		e.notice = "it is kept in a file: " + err.Error()
		return e.openKind("file")
	}
	return keyring, nil
}

func (e *errand) openKind(kind string) (store.Store, error) {
	switch kind {
	case "memory":
		return nil, nil
	case "file":
		return store.NewFile(e.settings.DataDir, e.settings.Name), nil
	case "keyring":
		return store.NewKeyring(e.settings.StateDir, e.settings.Name), nil
	case "encrypted":
		identity, err := e.identity()
		return store.NewEncrypted(e.settings.DataDir, e.settings.Name, identity), err
	case "claude-code":
		if e.settings.ConfigDir == "" {
			return nil, &protocol.Error{
				Code:    protocol.CodeConfig,
				Message: "HOME is not set to an absolute path, so Claude Code's directory is not known",
				Hint:    "set HOME, or config_dir in config.toml",
			}
		}
		return store.NewClaudeCode(e.settings.ConfigDir), nil
	}
	return nil, &protocol.Error{Code: protocol.CodeConfig, Message: fmt.Sprintf("unknown store %q", kind)}
}

// identity is what opens the encrypted store: what the agent has unlocked, or a key file without a passphrase. Else, and while
// there is none yet, the store is locked.
func (e *errand) identity() (store.Identity, error) {
	if !e.job.Key.Empty() {
		return store.ParseIdentity(e.job.Key)
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

// remembered are the stores that `auto` may have been decided to be.
var remembered = []string{"file", "claude-code", "keyring", "encrypted"}

// choice is the file in which the decision of store `auto` is kept.
type choice struct {
	Version int    `json:"version"`
	Store   string `json:"store"`
}

func (e *errand) choicePath() string {
	return filepath.Join(e.settings.StateDir, "auto", protocol.FoldProfile(e.settings.Name)+".json")
}

// recall returns what `auto` was decided to be, "" when it is not decided yet.
func (e *errand) recall() (string, error) {
	data, err := os.ReadFile(e.choicePath())
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	var c choice
	if err == nil {
		err = json.Unmarshal(data, &c)
	}
	if err == nil && (c.Version != 1 || !slices.Contains(remembered, c.Store)) {
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
	if e.settings.Store != "auto" && e.settings.Store != "" || st == nil {
		return
	}
	kind := string(st.Place().Kind)
	if known, err := e.recall(); err != nil || known == kind {
		return
	}
	e.decide(kind)
}

// decide makes kind what store `auto` is from now on.
func (e *errand) decide(kind string) error {
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
func Decide(s Settings, kind string) error { return (&errand{settings: s}).decide(kind) }

// Decided returns what store `auto` of a profile is, "" while that is not decided.
func Decided(s Settings) (string, error) { return (&errand{settings: s}).recall() }

// forget undoes remember.
func (e *errand) forget() { os.Remove(e.choicePath()) }
