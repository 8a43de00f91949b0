package store_test

import (
	"os"
	"testing"

	"github.com/ccagent/ccagent/store"
	"github.com/ccagent/ccagent/store/storetest"
)

// TestConformance runs the suite for every kind of store in which records rest. A kind that is added needs an entry here.
func TestConformance(t *testing.T) {
	places := map[store.Kind]func(t *testing.T) func() store.Store{
		store.KindClaudeCode: func(t *testing.T) func() store.Store {
			dir := t.TempDir() + "/.claude"
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			return func() store.Store { return store.NewClaudeCode(dir) }
		},
		store.KindFile: func(t *testing.T) func() store.Store {
			dir := t.TempDir() + "/data"
			return func() store.Store { return store.NewFile(dir, "Work") }
		},
		store.KindKeyring: func(t *testing.T) func() store.Store {
			return store.NewFakeKeyring(t.TempDir(), "Work")
		},
		store.KindEncrypted: func(t *testing.T) func() store.Store {
			dir, identity := t.TempDir(), store.FakeIdentity()
			return func() store.Store { return store.NewEncrypted(dir, "Work", identity) }
		},
	}
	for _, kind := range store.Kinds(store.Traits.Rests) {
		t.Run(string(kind), func(t *testing.T) {
			place := places[kind]
			if place == nil {
				t.Fatal("it is not tested here")
			}
			if got := place(t)().Place().Kind; got != kind {
				t.Errorf("a store of kind %s is tested in its place", got)
			}
			storetest.Run(t, place)
		})
	}
	t.Run("claude-code on macOS", func(t *testing.T) {
		storetest.Run(t, func(t *testing.T) func() store.Store {
			dir, items := t.TempDir(), t.TempDir()
			return func() store.Store { return store.NewMacClaudeCode(t, dir, items) }
		})
	})
}
