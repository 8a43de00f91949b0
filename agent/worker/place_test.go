package worker

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"filippo.io/age"
	"github.com/zalando/go-keyring"

	"github.com/ccagent/ccagent/agent/job"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store"
)

// init takes the keyring away from these tests: it is a person's own. Linux knows it by the bus, macOS by go-keyring.
func init() {
	os.Setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nonexistent/bus")
	keyring.MockInitWithError(errors.New("there is none in tests"))
}

var fakeKey = store.Record{AccessToken: protocol.NewSecret("fake-key-1")}

// TestAutoWithoutKeyring: the reason why a file it is comes once, and the decision stays.
func TestAutoWithoutKeyring(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.settings.Provider, w.settings.TokenURL, w.settings.Store = "static", "", "auto"
	_, _, done := w.run(job.Job{Op: job.Put, Record: mustMarshal(t, fakeKey)})
	if done.Err != nil || done.Result.Store != "file" || !strings.Contains(done.Result.Notice, "the keyring") {
		t.Fatalf("put: %+v, %v", done.Result, done.Err)
	}
	other := store.Record{AccessToken: protocol.NewSecret("fake-key-2")}
	_, _, done = w.run(job.Job{Op: job.Put, Force: true, Record: mustMarshal(t, other)})
	if done.Err != nil || done.Result.Store != "file" || done.Result.Notice != "" {
		t.Errorf("put again: %+v, %v", done.Result, done.Err)
	}
}

// TestRememberedKeyring: a keyring that does not answer is no reason to look elsewhere.
func TestRememberedKeyring(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.settings.Provider, w.settings.TokenURL, w.settings.Store = "static", "", "auto"
	e := newTask(w.settings, job.Job{})
	e.remember(store.NewKeyring(w.settings.StateDir, w.settings.Name))
	for _, op := range []job.Op{job.Renew, job.Put} {
		_, _, done := w.run(job.Job{Op: op, Record: mustMarshal(t, fakeKey)})
		if !is(done.Err, protocol.ErrStorage) || done.Result.Store != "keyring" {
			t.Errorf("op %d: %+v, %v", op, done.Result, done.Err)
		}
	}
}

// TestEncryptedStore: a key file opens it, and without one it is locked.
func TestEncryptedStore(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.settings.Provider, w.settings.TokenURL, w.settings.Store = "static", "", "encrypted"
	_, _, done := w.run(job.Job{Op: job.Put, Record: mustMarshal(t, fakeKey)})
	if !is(done.Err, protocol.ErrLocked) || !strings.Contains(done.Err.Hint, "ccagent unlock") {
		t.Errorf("without an identity: %+v", done.Err)
	}
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	w.settings.Identity = filepath.Join(t.TempDir(), "key")
	_, _, done = w.run(job.Job{Op: job.Put, Record: mustMarshal(t, fakeKey)})
	if !is(done.Err, protocol.ErrConfig) {
		t.Errorf("without the file that is configured: %+v", done.Err)
	}
	if err := os.WriteFile(w.settings.Identity, []byte(identity.String()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, _, done = w.run(job.Job{Op: job.Put, Record: mustMarshal(t, fakeKey)})
	if done.Err != nil || done.Result.Store != "encrypted" {
		t.Fatalf("put: %+v, %v", done.Result, done.Err)
	}
	if _, _, done = w.run(job.Job{Op: job.Renew}); done.Err != nil || done.Result.Token.Reveal() != "fake-key-1" {
		t.Errorf("renew: %+v", done.Err)
	}
	for _, dir := range []string{w.settings.DataDir, w.settings.StateDir} {
		filepath.WalkDir(dir, func(path string, _ os.DirEntry, _ error) error {
			if b, _ := os.ReadFile(path); bytes.Contains(b, []byte("fake-key")) {
				t.Errorf("%s holds the key", path)
			}
			return nil
		})
	}
}

// TestHistoryIsKept: what was stored before can be had again, and goes when the record goes.
func TestHistoryIsKept(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.settings.Provider, w.settings.TokenURL, w.settings.Store = "static", "", "file"
	past := func() int {
		t.Helper()
		all, err := store.NewHistory(w.settings.StateDir, store.NewFile(w.settings.DataDir, w.settings.Name)).List(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return len(all)
	}
	for i, key := range []string{"fake-key-1", "fake-key-2"} {
		r := store.Record{AccessToken: protocol.NewSecret(key)}
		if _, _, done := w.run(job.Job{Op: job.Put, Force: true, Record: mustMarshal(t, r)}); done.Err != nil || past() != i+1 {
			t.Fatalf("put %s: %v, and %d are kept", key, done.Err, past())
		}
	}
	if _, _, done := w.run(job.Job{Op: job.Delete}); done.Err != nil || past() != 0 {
		t.Errorf("delete: %v, and %d are kept", done.Err, past())
	}
}
