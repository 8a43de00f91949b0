package store

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/ccagent/ccagent/store/keyring"
)

// Keyring stores one profile's record in the keyring of the operating system: the Secret Service on Linux, the Keychain on macOS.
// A record that is larger than an item may be is split. Each call of the keyring ends after 10 seconds, even if its service hangs
// or waits for a person. A write that was given up on may still be carried out later, and then does no harm.
//
// It is for a process that ends soon, like a worker: a call that hangs stays in the process.
type Keyring struct {
	own
	ring *ring
}

var _ Store = (*Keyring)(nil)

// NewKeyring returns the store of that profile in the system's keyring. In the state directory are its lock, and a small file
// that tells the newest record from older ones that come back. profile is a valid profile name, in whatever case.
func NewKeyring(stateDir, profile string) *Keyring {
	return newKeyring(keyring.System{}, stateDir, profile)
}

func newKeyring(sys system, stateDir, profile string) *Keyring {
	name := strings.ToLower(profile)
	m := newRing(sys, stateDir, name)
	return &Keyring{
		own: own{
			medium: m,
			place: Place{
				Kind:     KindKeyring,
				Location: "the system's keyring, " + keyring.Service + " " + name,
				Watch:    []string{m.state}, // written by each save of ours; nobody can watch the keyring itself
			},
			lockPath: filepath.Join(stateDir, "keyring", name+".lock"),
		},
		ring: m,
	}
}

func newRing(sys system, stateDir, name string) *ring {
	return &ring{sys: sys, service: keyring.Service, name: name, state: filepath.Join(stateDir, "keyring", name+".json")}
}

// Lock also removes what a write that came late has left in the keyring.
func (s *Keyring) Lock(ctx context.Context) (Lock, error) {
	l, err := s.own.Lock(ctx)
	if err == nil {
		s.ring.mend(ctx)
	}
	return l, err
}

// Known reports whether a record was saved in the keyring and not deleted since, without asking the keyring.
func (s *Keyring) Known() bool {
	w, err := readGenerations(s.ring.state)
	return err != nil || w.Saved > 0 && !w.Deleted
}

// probeLimit bounds probeKeyring.
const probeLimit = 3 * time.Second

// probeKeyring writes, reads and deletes an item in the system's keyring, and returns nil if all of that worked within
// 3 seconds. Otherwise the error says why a record is better kept elsewhere (ErrLocked, ErrStorage).
func probeKeyring(ctx context.Context) error { return probe(ctx, keyring.System{}, probeLimit) }

func probe(ctx context.Context, sys system, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return (&ring{sys: sys, service: keyring.Service}).try(ctx, fmt.Sprintf("probe/%d", time.Now().UnixNano()))
}
