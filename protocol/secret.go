package protocol

import (
	"errors"
	"fmt"
	"io"
)

// Secret holds a token or a key. Only [Secret.Reveal] returns it: every fmt verb, text and JSON encoding, and log handler gets
// "[redacted]". The value is behind a pointer, because fmt does not call the methods of an unexported field. A Secret never
// changes; the zero Secret is empty.
type Secret struct{ value *string }

const redacted = "[redacted]"

// NewSecret wraps s.
func NewSecret(s string) Secret { return Secret{&s} }

// Reveal returns the secret itself. The caller is responsible for where it goes.
func (s Secret) Reveal() string {
	if s.value == nil {
		return ""
	}
	return *s.value
}

// Empty reports whether s is the empty string.
func (s Secret) Empty() bool { return s.value == nil || *s.value == "" }

func (s Secret) String() string { return redacted }

// Format writes "[redacted]" for every verb.
func (s Secret) Format(f fmt.State, _ rune) { io.WriteString(f, redacted) }

// MarshalText returns "[redacted]", to encoding/json too.
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// UnmarshalText fails, so that "[redacted]" can't be read back as a secret.
func (s *Secret) UnmarshalText([]byte) error { return errors.New("a secret is not decoded from text") }
