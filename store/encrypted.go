package store

import (
	"bytes"
	"context"
	"errors"
	"io"
	"path/filepath"
	"strings"

	"filippo.io/age"

	"github.com/ccagent/ccagent/disk"
	"github.com/ccagent/ccagent/protocol"
)

// Encrypted stores one profile's record in a file that is encrypted with age, `<data dir>/encrypted/<profile>.age`, in the form
// of [Record.Marshal]. Without an identity it is locked: whatever needs the record returns ErrLocked.
type Encrypted struct{ own }

var _ Store = (*Encrypted)(nil)

// NewEncrypted returns the store of that profile in the data directory. identity is the user's, or the zero Identity while it is
// locked. profile is a valid profile name, in whatever case.
func NewEncrypted(dataDir, profile string, identity Identity) *Encrypted {
	base := filepath.Join(dataDir, "encrypted", strings.ToLower(profile))
	path := base + ".age"
	return &Encrypted{own{
		medium:   sealed{file(path), identity},
		place:    Place{Kind: KindEncrypted, Location: path, Watch: []string{path}},
		lockPath: base + ".lock",
	}}
}

func (s *Encrypted) seal(form []byte) ([]byte, error) {
	m := s.medium.(sealed)
	if len(m.identity.recipients) == 0 {
		return nil, m.locked()
	}
	return encrypt(form, m.identity.recipients...)
}

func (s *Encrypted) unseal(name string, data []byte) ([]byte, error) {
	m := s.medium.(sealed)
	if len(m.identity.identities) == 0 {
		return nil, m.locked()
	}
	return decrypt(name, data, m.identity)
}

// sealed is the medium that is a file encrypted with age.
type sealed struct {
	file     file
	identity Identity
}

func (m sealed) path() string { return m.file.path() }

func (m sealed) read(ctx context.Context) ([]byte, error) {
	src, err := m.file.read(ctx)
	if err != nil {
		return nil, err
	}
	if len(m.identity.identities) == 0 {
		return nil, m.locked()
	}
	return decrypt(string(m.file), src, m.identity)
}

// sealing is how much longer a form becomes by being encrypted to a few recipients, in bytes, whatever its length.
const sealing = 4 << 10

func (m sealed) ready(_ context.Context, src []byte) (*disk.Draft, error) {
	if len(m.identity.recipients) == 0 {
		return nil, m.locked()
	}
	return m.file.prepare(len(src) + spare + sealing)
}

func (m sealed) write(ctx context.Context, data []byte, d *disk.Draft) error {
	if len(m.identity.recipients) == 0 {
		return m.locked()
	}
	src, err := encrypt(data, m.identity.recipients...)
	if err != nil {
		return err
	}
	return m.file.write(ctx, src, d)
}

func (m sealed) remove(ctx context.Context) error { return m.file.remove(ctx) }

func (m sealed) locked() error {
	return &protocol.Error{Code: protocol.CodeLocked, Message: string(m.file) + " is encrypted, and locked", Hint: unlockHint}
}

// encrypt returns data in age's format.
func encrypt(data []byte, to ...age.Recipient) ([]byte, error) {
	var b bytes.Buffer
	w, err := age.Encrypt(&b, to...)
	if err == nil {
		_, err = w.Write(data)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return nil, &protocol.Error{Code: protocol.CodeStorage, Message: "encrypting the record: " + err.Error()}
	}
	return b.Bytes(), nil
}

// decrypt returns what is encrypted in src. name begins the errors.
func decrypt(name string, src []byte, identity Identity) ([]byte, error) {
	var wrong *age.NoIdentityMatchError
	plain, err := age.Decrypt(bytes.NewReader(src), identity.identities...)
	switch {
	case errors.As(err, &wrong):
		return nil, &protocol.Error{
			Code:    protocol.CodeStorage,
			Message: name + " is encrypted to another identity than the one that is unlocked",
			Hint:    "unlock with that identity, or move the file away and sign in again",
		}
	case err != nil:
		return nil, invalid(name, "is not a whole file of age, or of a version that this ccagent does not know")
	}
	data, err := io.ReadAll(io.LimitReader(plain, MaxFile+1))
	switch {
	case err != nil:
		return nil, invalid(name, "is not a whole file of age")
	case len(data) > MaxFile:
		return nil, invalid(name, "holds more than 4 MiB")
	}
	return data, nil
}
