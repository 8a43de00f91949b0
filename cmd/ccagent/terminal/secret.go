package terminal

import (
	"fmt"
	"io"
	"strings"

	"github.com/ccagent/ccagent/protocol"
)

// MaxSecret bounds a client secret or an assertion, in bytes.
const MaxSecret = 64 << 10

// ReadSecret reads a secret to the end of a file.
func ReadSecret(r io.Reader, what string) (protocol.Secret, error) {
	text, err := io.ReadAll(io.LimitReader(r, MaxSecret+1))
	if err != nil {
		return protocol.Secret{}, &protocol.Error{
			Code:    protocol.CodeConfig,
			Message: "the " + what + " could not be read: " + err.Error(),
		}
	}
	return CheckSecret(string(text), what)
}

// CheckSecret takes a secret that was typed: one line of printable text. what is its name in an error (ErrConfig).
func CheckSecret(text, what string) (protocol.Secret, error) {
	text = strings.TrimSpace(text)
	problem := ""
	switch {
	case text == "":
		problem = "is empty"
	case len(text) > MaxSecret:
		problem = fmt.Sprintf("is longer than %d characters", MaxSecret)
	case !Printable(text):
		problem = "is more than one line, or holds control characters"
	default:
		return protocol.NewSecret(text), nil
	}
	return protocol.Secret{}, &protocol.Error{
		Code:    protocol.CodeConfig,
		Message: "the " + what + " " + problem,
		Hint:    "give it as one line of printable text",
	}
}
