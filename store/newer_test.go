package store

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ccagent/ccagent/protocol"
)

// TestNewerVersion puts what a later version of ours has written into each store of our own. It is refused with its version, and
// stays as it is.
func TestNewerVersion(t *testing.T) {
	t.Parallel()
	keyring, _ := NewFakeKeyring(t.TempDir(), "Work")().(*Keyring)
	for name, s := range map[string]Store{
		"file":      NewFile(t.TempDir(), "Work"),
		"encrypted": NewEncrypted(t.TempDir(), "Work", FakeIdentity()),
		"keyring":   keyring,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var m medium
			switch s := s.(type) {
			case *File:
				m = s.medium
			case *Encrypted:
				m = s.medium
			case *Keyring:
				m = s.medium
			}
			v, err := s.Save(t.Context(), fakeRecord(1), Version{})
			if err != nil {
				t.Fatal(err)
			}
			src, err := m.read(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			newer := bytes.Replace(src, []byte(`"version":1`), []byte(`"version":7`), 1)
			if err := m.write(t.Context(), newer, nil); err != nil {
				t.Fatal(err)
			}
			if _, _, err := s.Load(t.Context()); !errors.Is(err, protocol.ErrInvalid) || !strings.Contains(err.Error(), "version 7") {
				t.Errorf("load: %v", err)
			}
			if _, err := s.Save(t.Context(), fakeRecord(2), v); !errors.Is(err, protocol.ErrInvalid) {
				t.Errorf("save: %v", err)
			}
			if err := s.Delete(t.Context(), v); !errors.Is(err, protocol.ErrInvalid) {
				t.Errorf("delete: %v", err)
			}
			if now, err := m.read(t.Context()); err != nil || !bytes.Equal(now, newer) {
				t.Errorf("it was changed: %v", err)
			}
		})
	}
	t.Run("spill", func(t *testing.T) {
		t.Parallel()
		state, s := t.TempDir(), NewFile(t.TempDir(), "Work")
		if err := Spill(state, s, Version{}, fakeRecord(1)); err != nil {
			t.Fatal(err)
		}
		files, _ := filepath.Glob(filepath.Join(state, "spill", "*"))
		found := false
		for _, path := range files {
			src, err := os.ReadFile(path)
			if err != nil || !bytes.Contains(src, []byte(`"version":1`)) {
				continue
			}
			found = true
			newer := bytes.ReplaceAll(src, []byte(`"version":1`), []byte(`"version":7`))
			os.WriteFile(path, newer, 0o600)
			if _, err := Recover(t.Context(), state, s); !errors.Is(err, protocol.ErrInvalid) ||
				!strings.Contains(err.Error(), "version 7") {
				t.Errorf("recover: %v", err)
			}
			if now, _ := os.ReadFile(path); !bytes.Equal(now, newer) {
				t.Error("it was changed")
			}
		}
		if !found {
			t.Errorf("no spill among %q", files)
		}
	})
}
