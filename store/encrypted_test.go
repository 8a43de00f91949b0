package store

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"
	"filippo.io/age/armor"
	"golang.org/x/crypto/ssh"

	"github.com/ccagent/ccagent/protocol"
)

// lightWork is a work factor for tests.
func lightWork() int { return 4 }

var (
	passphrase = protocol.NewSecret("fake passphrase")
	another    = protocol.NewSecret("another fake passphrase")
)

func mustIdentity(t *testing.T, key protocol.Secret) Identity {
	t.Helper()
	id, err := ParseIdentity(key)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func newKey(t *testing.T) protocol.Secret {
	t.Helper()
	i, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	return protocol.NewSecret(i.String())
}

func TestEncryptedAtRest(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	key := newKey(t)
	s := NewEncrypted(dir, "Work", mustIdentity(t, key))
	v := mustSave(t, s, fakeRecord(1), Version{})
	path := filepath.Join(dir, "encrypted/work.age")
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(raw, []byte("fake-")) || !bytes.HasPrefix(raw, []byte("age-encryption.org/v1\n")) {
		t.Errorf("the file holds %q", raw)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}

	// Locked: what needs the record says so, and nothing is changed.
	locked := NewEncrypted(dir, "work", Identity{})
	_, _, err = locked.Load(t.Context())
	wantIs(t, err, protocol.ErrLocked)
	if !strings.Contains(protocol.HintOf(err), "ccagent unlock") {
		t.Errorf("hint %q", protocol.HintOf(err))
	}
	_, err = locked.Save(t.Context(), fakeRecord(2), v)
	wantIs(t, err, protocol.ErrLocked)
	wantIs(t, locked.Delete(t.Context(), v), protocol.ErrLocked)
	_, err = NewEncrypted(dir, "new", Identity{}).Save(t.Context(), fakeRecord(2), Version{})
	wantIs(t, err, protocol.ErrLocked)

	// Another identity, and a file that is no longer whole.
	_, _, err = NewEncrypted(dir, "work", mustIdentity(t, newKey(t))).Load(t.Context())
	wantIs(t, err, protocol.ErrStorage)
	for _, broken := range [][]byte{raw[:len(raw)-1], raw[:20], nil, append(bytes.Clone(raw), 'x'),
		bytes.Replace(raw, []byte("/v1\n"), []byte("/v9\n"), 1)} {
		os.WriteFile(path, broken, 0o600)
		_, _, err = s.Load(t.Context())
		wantIs(t, err, protocol.ErrInvalid)
	}
	os.WriteFile(path, raw, 0o600)
	wantRecord(t, s, fakeRecord(1))
}

// TestEncryptedRefusesNewerVersions: what a later ccagent has written stays as it is.
func TestEncryptedRefusesNewerVersions(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	id := mustIdentity(t, newKey(t))
	s := NewEncrypted(dir, "work", id)
	raw, err := encrypt([]byte(`{"version":2,"access_token":"fake-access-1"}`), id.recipients...)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "encrypted/work.age")
	os.MkdirAll(filepath.Dir(path), 0o700)
	os.WriteFile(path, raw, 0o600)
	_, err = s.Save(t.Context(), fakeRecord(2), Version{})
	wantIs(t, err, protocol.ErrInvalid)
	if !strings.Contains(err.Error(), "version 2") {
		t.Errorf("error %v", err)
	}
	if now, _ := os.ReadFile(path); !bytes.Equal(now, raw) {
		t.Error("the file was changed")
	}
}

func TestEncryptedKeepsUnknownKeys(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	id := mustIdentity(t, newKey(t))
	s := NewEncrypted(dir, "work", id)
	v := mustSave(t, s, fakeRecord(1), Version{})
	raw, _ := s.medium.read(t.Context())
	raw, err := setMembers(raw, []member{{"of_tomorrow", []byte(`{"kept":1.50}`)}})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.medium.write(t.Context(), raw, nil); err != nil {
		t.Fatal(err)
	}
	mustSave(t, s, fakeRecord(2), v)
	if raw, _ = s.medium.read(t.Context()); !bytes.Contains(raw, []byte(`"of_tomorrow":{"kept":1.50}`)) {
		t.Errorf("the form is %s", raw)
	}
}

func TestIdentity(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := IdentityPath(dir)
	key, err := createIdentity(t.Context(), path, passphrase, lightWork)
	if err != nil {
		t.Fatal(err)
	}
	raw, _ := os.ReadFile(path)
	if info, _ := os.Stat(path); info.Mode().Perm() != 0o600 || bytes.Contains(raw, []byte("SECRET")) {
		t.Errorf("mode %v, content %q", info.Mode(), raw)
	}
	_, err = createIdentity(t.Context(), path, another, lightWork)
	wantIs(t, err, protocol.ErrConfig)

	mustSave(t, NewEncrypted(dir, "work", mustIdentity(t, key)), fakeRecord(1), Version{})
	opens := func(with protocol.Secret) {
		t.Helper()
		key, err := UnlockIdentity(path, with)
		if err != nil {
			t.Fatal(err)
		}
		wantRecord(t, NewEncrypted(dir, "work", mustIdentity(t, key)), fakeRecord(1))
	}
	opens(passphrase)
	_, err = UnlockIdentity(path, another)
	wantIs(t, err, protocol.ErrDenied)
	_, err = UnlockIdentity(path, protocol.Secret{})
	wantIs(t, err, protocol.ErrLocked)

	_, err = changePassphrase(t.Context(), path, another, passphrase, lightWork)
	wantIs(t, err, protocol.ErrDenied)
	_, err = changePassphrase(t.Context(), path, passphrase, protocol.Secret{}, lightWork)
	wantIs(t, err, protocol.ErrConfig)
	opens(passphrase)
	// It returns what it has opened before, so that nothing can fail once the file has changed.
	changed, err := changePassphrase(t.Context(), path, passphrase, another, lightWork)
	if err != nil {
		t.Fatal(err)
	}
	wantRecord(t, NewEncrypted(dir, "work", mustIdentity(t, changed)), fakeRecord(1))
	opens(another)
	_, err = UnlockIdentity(path, passphrase)
	wantIs(t, err, protocol.ErrDenied)
	_, err = UnlockIdentity(IdentityPath(t.TempDir()), passphrase)
	wantIs(t, err, protocol.ErrNotFound)
}

// TestIdentitiesOfOthers: a key that age-keygen or ssh-keygen made opens the store too.
func TestIdentitiesOfOthers(t *testing.T) {
	t.Parallel()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := ssh.MarshalPrivateKey(private, "fake comment")
	if err != nil {
		t.Fatal(err)
	}
	locked, err := ssh.MarshalPrivateKeyWithPassphrase(private, "", []byte(passphrase.Reveal()))
	if err != nil {
		t.Fatal(err)
	}
	hybrid, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	var armored bytes.Buffer
	recipient, _ := age.NewScryptRecipient(passphrase.Reveal())
	recipient.SetWorkFactor(lightWork())
	w := armor.NewWriter(&armored)
	in, err := age.Encrypt(w, recipient)
	if err != nil {
		t.Fatal(err)
	}
	in.Write([]byte("# created: today\n" + hybrid.String() + "\n"))
	if err := errors.Join(in.Close(), w.Close()); err != nil {
		t.Fatal(err)
	}

	for _, tt := range []struct {
		name   string
		file   []byte
		with   protocol.Secret
		want   error // nil: it opens the store
		wanted bool  // without its passphrase it says so
	}{
		{"age-keygen", []byte("# created: today\n# public key: age1\n" + newKey(t).Reveal() + "\n"), protocol.Secret{}, nil, false},
		{"age-keygen, two keys", []byte(newKey(t).Reveal() + "\n" + newKey(t).Reveal() + "\n"), protocol.Secret{}, nil, false},
		{"post-quantum", []byte(hybrid.String()), protocol.Secret{}, nil, false},
		{"armored, with a passphrase", armored.Bytes(), passphrase, nil, true},
		{"armored, wrong passphrase", armored.Bytes(), another, protocol.ErrDenied, true},
		{"ssh", pem.EncodeToMemory(plain), protocol.Secret{}, nil, false},
		{"ssh with a passphrase", pem.EncodeToMemory(locked), passphrase, nil, true},
		{"ssh, wrong passphrase", pem.EncodeToMemory(locked), another, protocol.ErrDenied, true},
		{"two kinds that age does not mix", []byte(newKey(t).Reveal() + "\n" + hybrid.String() + "\n"), protocol.Secret{},
			protocol.ErrInvalid, false},
		{"a certificate", []byte("-----BEGIN CERTIFICATE-----\nZmFrZQ==\n-----END CERTIFICATE-----\n"), passphrase, protocol.ErrInvalid,
			false},
		{"empty", nil, passphrase, protocol.ErrInvalid, false},
		{"something else", []byte("fake-key\n"), passphrase, protocol.ErrInvalid, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			path := filepath.Join(dir, "key")
			if err := os.WriteFile(path, tt.file, 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := UnlockIdentity(path, protocol.Secret{}); errors.Is(err, protocol.ErrLocked) != tt.wanted {
				t.Errorf("without a passphrase: %v", err)
			}
			key, err := UnlockIdentity(path, tt.with)
			if tt.want != nil {
				wantIs(t, err, tt.want)
				if strings.Contains(err.Error(), "fake-key") {
					t.Errorf("the key is in %q", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			mustSave(t, NewEncrypted(dir, "work", mustIdentity(t, key)), fakeRecord(1), Version{})
			wantRecord(t, NewEncrypted(dir, "work", mustIdentity(t, key)), fakeRecord(1))
		})
	}
}

func TestWorkFactorIsAboutASecond(t *testing.T) {
	t.Parallel()
	for took, want := range map[time.Duration]int{
		time.Microsecond:       maxWork,
		30 * time.Millisecond:  20,
		100 * time.Millisecond: 18,
		time.Second:            minWork,
		time.Minute:            minWork,
	} {
		if got := factorFor(took); got != want {
			t.Errorf("%v for the least: factor %d, want %d", took, got, want)
		}
	}
}

func FuzzIdentity(f *testing.F) {
	f.Add([]byte("AGE-SECRET-KEY-1FAKE"))
	f.Add([]byte("age-encryption.org/v1\n-> scrypt AAAAAAAAAAAAAAAAAAAAAA 30\n"))
	f.Add([]byte(armor.Header + "\n"))
	f.Add([]byte("-----BEGIN OPENSSH PRIVATE KEY-----\nZmFrZQ==\n-----END OPENSSH PRIVATE KEY-----\n"))
	f.Fuzz(func(t *testing.T, src []byte) {
		key, err := unlock("file", src, protocol.Secret{})
		if err == nil {
			_, err = ParseIdentity(key)
		}
		if err != nil && protocol.CodeOf(err) == protocol.CodeInternal {
			t.Errorf("error %v", err)
		}
	})
}

// TestSpillIsEncryptedToo: a record that is spilled because its disk is full is encrypted as it would have been on it.
func TestSpillIsEncryptedToo(t *testing.T) {
	t.Parallel()
	dir, state := t.TempDir(), t.TempDir()
	s := NewEncrypted(dir, "work", FakeIdentity())
	v := mustSave(t, s, fakeRecord(1), Version{})
	if err := Spill(state, s, v, fakeRecord(2)); err != nil {
		t.Fatal(err)
	}
	filepath.WalkDir(state, func(path string, _ os.DirEntry, _ error) error {
		if b, _ := os.ReadFile(path); bytes.Contains(b, []byte("fake-")) {
			t.Errorf("%s holds a secret", path)
		}
		return nil
	})
	locked := NewEncrypted(dir, "work", Identity{})
	wantIs(t, Spill(state, locked, v, fakeRecord(3)), protocol.ErrLocked)
	if Spilled(state, locked) {
		t.Error("a locked store can read its spill")
	}
	if _, err := Recover(t.Context(), state, locked); err != nil && !errors.Is(err, protocol.ErrLocked) {
		t.Errorf("a locked store: %v", err)
	}
	if !Spilled(state, s) {
		t.Fatal("the spill is gone")
	}
	if _, err := Recover(t.Context(), state, s); err != nil {
		t.Fatal(err)
	}
	wantRecord(t, s, fakeRecord(2))
}
