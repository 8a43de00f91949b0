package store

import (
	"testing"

	"filippo.io/age"
)

// NewFakeKeyring returns a maker of keyring stores that share one keyring in memory.
func NewFakeKeyring(stateDir, profile string) func() Store {
	sys := &fakeKeyring{}
	return func() Store { return newKeyring(sys, stateDir, profile) }
}

// FakeIdentity returns an identity for tests.
func FakeIdentity() Identity {
	i, err := age.GenerateX25519Identity()
	if err != nil {
		return Identity{}
	}
	return Identity{[]age.Identity{i}, []age.Recipient{i.Recipient()}}
}

// NewMacClaudeCode returns the store of Claude Code's directory as it is on macOS, with a Keychain of its own.
func NewMacClaudeCode(t *testing.T, dir, items string) Store {
	s := NewClaudeCode(dir)
	onMac(t, s, items)
	return s
}
