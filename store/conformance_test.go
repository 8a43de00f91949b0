package store_test

import (
	"os"
	"testing"

	"github.com/ccagent/ccagent/store"
	"github.com/ccagent/ccagent/store/storetest"
)

func TestConformance(t *testing.T) {
	t.Run("claude-code", func(t *testing.T) {
		storetest.Run(t, func(t *testing.T) func() store.Store {
			dir := t.TempDir() + "/.claude"
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			return func() store.Store { return store.NewClaudeCode(dir) }
		})
	})
	t.Run("file", func(t *testing.T) {
		storetest.Run(t, func(t *testing.T) func() store.Store {
			dir := t.TempDir() + "/data"
			return func() store.Store { return store.NewFile(dir, "Work") }
		})
	})
	t.Run("keyring", func(t *testing.T) {
		storetest.Run(t, func(t *testing.T) func() store.Store {
			return store.NewFakeKeyring(t.TempDir(), "Work")
		})
	})
	t.Run("encrypted", func(t *testing.T) {
		storetest.Run(t, func(t *testing.T) func() store.Store {
			dir, identity := t.TempDir(), store.FakeIdentity()
			return func() store.Store { return store.NewEncrypted(dir, "Work", identity) }
		})
	})
	t.Run("claude-code on macOS", func(t *testing.T) {
		storetest.Run(t, func(t *testing.T) func() store.Store {
			dir, items := t.TempDir(), t.TempDir()
			return func() store.Store { return store.NewMacClaudeCode(t, dir, items) }
		})
	})
}
