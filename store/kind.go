package store

import (
	"context"
	"fmt"
	"strings"

	"github.com/ccagent/ccagent/protocol"
)

// Kind names a kind of store, as config.toml, the protocol and [Place] write it. [Kind.Traits] says how it differs from the
// others. A store of somebody else's making has a Kind of its own, with the zero Traits.
type Kind string

const (
	KindClaudeCode Kind = "claude-code"
	KindFile       Kind = "file"
	KindKeyring    Kind = "keyring"
	KindEncrypted  Kind = "encrypted"
	KindMemory     Kind = "memory"

	// KindAuto is a setting and no store. It stands for the kind in which the profile's record is found, and for [DefaultKind] if
	// there is none.
	KindAuto Kind = "auto"
)

// Traits is what differs between the kinds of store. The zero Traits are those of a store that is ours alone, and about which
// nothing else is known.
type Traits struct {
	// Memory: the agent alone holds the record, and it ends with the agent. There is no [Store].
	Memory bool
	// Shared: Claude Code keeps its sign-in there. It reads the record, and writes and removes it as well; so one that is gone
	// may be a sign-out. The record has no room for who is signed in.
	Shared bool
	// Plain: the record is in a file that can be read without a key and without asking another program.
	Plain bool
	// Service: another program answers for the store. It may be missing, or wait for a person, so it is asked after the others.
	// Where it fails for one profile it fails for all.
	Service bool
	// Sealed: the record is encrypted to an identity, which the agent holds while it is unlocked.
	Sealed bool
	// Unlock is what a person does about ErrLocked, "" where the store is never locked.
	Unlock string

	open  func(Where) (Store, error)
	probe func(context.Context) error // nil: the store works if it answers
}

// Ours reports whether records rest there between runs, and no other program uses them.
func (t Traits) Ours() bool { return !t.Memory && !t.Shared }

// Rests reports whether records rest there between runs.
func (t Traits) Rests() bool { return !t.Memory }

// Private reports whether no other program uses what is there.
func (t Traits) Private() bool { return !t.Shared }

// kinds is the table of all kinds. Lists that a person reads are in its order.
var kinds = []struct {
	kind Kind
	Traits
}{
	{KindClaudeCode, Traits{
		Shared: true,
		Plain:  true,
		open: func(w Where) (Store, error) {
			if w.ClaudeDir == "" {
				return nil, &protocol.Error{
					Code:    protocol.CodeConfig,
					Message: "HOME is not set to an absolute path, so Claude Code's directory is not known",
					Hint:    "set HOME, or config_dir in config.toml",
				}
			}
			return NewClaudeCode(w.ClaudeDir), nil
		},
	}},
	{KindFile, Traits{
		Plain: true,
		open:  func(w Where) (Store, error) { return NewFile(w.DataDir, w.Profile), nil },
	}},
	{KindKeyring, Traits{
		Service: true,
		Unlock:  "unlock the keyring at the desktop",
		open:    func(w Where) (Store, error) { return NewKeyring(w.StateDir, w.Profile), nil },
		probe:   probeKeyring,
	}},
	{KindEncrypted, Traits{
		Sealed: true,
		Unlock: "ccagent unlock",
		open: func(w Where) (Store, error) {
			identity, err := w.Identity()
			if err != nil {
				return nil, err
			}
			return NewEncrypted(w.DataDir, w.Profile, identity), nil
		},
	}},
	{KindMemory, Traits{
		Memory: true,
		open:   func(Where) (Store, error) { return nil, nil },
	}},
}

// Where is what the kinds need to know to open a profile's store.
type Where struct {
	Profile   string                   // a valid profile name
	DataDir   string                   // $XDG_DATA_HOME/ccagent, absolute
	StateDir  string                   // $XDG_STATE_HOME/ccagent, absolute
	ClaudeDir string                   // Claude Code's directory, absolute; "" where it is not known
	Identity  func() (Identity, error) // what opens a Sealed store, the zero Identity while it is locked; others don't ask for it
}

// Kinds returns the kinds for whose traits have is true, as in Kinds(Traits.Ours), in the order of the table. Kinds(nil) returns
// all.
func Kinds(have func(Traits) bool) []Kind {
	var found []Kind
	for _, row := range kinds {
		if have == nil || have(row.Traits) {
			found = append(found, row.kind)
		}
	}
	return found
}

// ListKinds writes kinds as a sentence does: "file, keyring and encrypted".
func ListKinds(kinds []Kind) string {
	var b strings.Builder
	for i, kind := range kinds {
		switch {
		case i > 0 && i == len(kinds)-1:
			b.WriteString(" and ")
		case i > 0:
			b.WriteString(", ")
		}
		b.WriteString(string(kind))
	}
	return b.String()
}

// Traits is k's row of the table.
func (k Kind) Traits() Traits {
	for _, row := range kinds {
		if row.kind == k {
			return row.Traits
		}
	}
	return Traits{}
}

// MayBe reports whether a profile whose setting store is k may have its record in a store of that kind: if kind is k, or k is
// auto.
func (k Kind) MayBe(kind Kind) bool { return k == kind || k.Auto() }

// Auto reports whether k is [KindAuto]. "" counts as that.
func (k Kind) Auto() bool { return k == KindAuto || k == "" }

// Open returns the store of that kind, nil for [KindMemory]. It fails (ErrConfig) for a name that is not in the table, and where
// w lacks what the kind needs.
func (k Kind) Open(w Where) (Store, error) {
	open := k.Traits().open
	if open == nil {
		return nil, &protocol.Error{Code: protocol.CodeConfig, Message: fmt.Sprintf("unknown store %q", string(k))}
	}
	return open(w)
}

// Probe reports why a store of that kind could not store a record, nil if it could. It tries that only if the kind is a
// [Traits.Service].
func (k Kind) Probe(ctx context.Context) error {
	if probe := k.Traits().probe; probe != nil {
		return probe(ctx)
	}
	return nil
}

// DefaultKind is the kind of store for the first record of a profile whose store is auto: the keyring, or a file if the keyring
// does not work. Then err says why it does not.
func DefaultKind(ctx context.Context) (kind Kind, err error) {
	if err := KindKeyring.Probe(ctx); err != nil {
		return KindFile, err
	}
	return KindKeyring, nil
}
