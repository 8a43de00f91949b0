package terminal

import (
	"fmt"
	"io"
	"strings"

	"github.com/ccagent/ccagent/lookalike"
	"github.com/ccagent/ccagent/protocol"
)

// MaxSecret is the maximum length of a secret that is typed or read from a file, in bytes.
const MaxSecret = 64 << 10

// ReadSecret reads a secret up to the end of r. what is its name in an error (ErrConfig).
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

// CheckSecret returns the text as a secret if it is one line of printable characters. It removes blanks around it. what is its
// name in an error (ErrConfig).
func CheckSecret(text, what string) (protocol.Secret, error) {
	text = strings.TrimSpace(text)
	problem, hint := "", "give it as one line of printable text"
	marked := lookalike.Marked([]byte(text))
	switch {
	case marked != "":
		problem, hint = marked, lookalike.Unmark
	case text == "":
		problem = "is empty"
	case len(text) > MaxSecret:
		problem = fmt.Sprintf("is longer than %d characters", MaxSecret)
	case !Printable(text):
		problem = "has more than one line, or contains control characters"
	default:
		return protocol.NewSecret(text), nil
	}
	return protocol.Secret{}, &protocol.Error{
		Code:    protocol.CodeConfig,
		Message: "the " + what + " " + problem,
		Hint:    hint,
	}
}
