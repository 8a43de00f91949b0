package protocol

import (
	"errors"
	"fmt"
	"io"
)

// Secret holds a token or key and shows it to nobody who does not ask by name: every fmt verb, text and JSON encoding and
// log handler sees [redacted]. The value hangs behind a pointer, because fmt and reflect walk past methods when a Secret is
// an unexported field. Secrets are immutable; the zero Secret is empty.
type Secret struct{ value *string }

const redacted = "[redacted]"

// NewSecret wraps s.
func NewSecret(s string) Secret { return Secret{&s} }

// Reveal returns the secret itself. Whoever calls it is answerable for where the value goes.
func (s Secret) Reveal() string {
	if s.value == nil {
		return ""
	}
	return *s.value
}

// Empty reports whether there is nothing in s.
func (s Secret) Empty() bool { return s.value == nil || *s.value == "" }

func (s Secret) String() string { return redacted }

// Format writes the redaction for every verb, %d and %x too.
func (s Secret) Format(f fmt.State, _ rune) { io.WriteString(f, redacted) }

// MarshalText refuses the value to encoders, JSON's among them.
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// UnmarshalText refuses, so that a redacted encoding can't come back as a secret.
func (s *Secret) UnmarshalText([]byte) error { return errors.New("a secret is not decoded from text") }
