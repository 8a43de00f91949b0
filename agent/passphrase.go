package agent

import (
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"

	"github.com/ccagent/ccagent/protocol"
)

// verifier recognizes a passphrase without storing it.
type verifier struct {
	salt [16]byte
	hash []byte
}

func newVerifier(p protocol.Secret) (*verifier, error) {
	v := &verifier{}
	rand.Read(v.salt[:]) // never fails
	var err error
	v.hash, err = v.derive(p)
	return v, err
}

// derive takes some tenths of a second and hardly any memory, of which the agent has little.
func (v *verifier) derive(p protocol.Secret) ([]byte, error) {
	return pbkdf2.Key(sha256.New, p.Reveal(), v.salt[:], 600_000, sha256.Size)
}

func (v *verifier) matches(p protocol.Secret) bool {
	hash, err := v.derive(p)
	return err == nil && subtle.ConstantTimeCompare(hash, v.hash) == 1
}
