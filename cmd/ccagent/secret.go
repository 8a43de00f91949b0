package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/ccagent/ccagent/protocol"
)

// maxSecret bounds a client secret or an assertion, in bytes.
const maxSecret = 64 << 10

// readSecret reads a secret to the end of a file.
func readSecret(r io.Reader, what string) (protocol.Secret, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxSecret+1))
	if err != nil {
		return protocol.Secret{}, &protocol.Error{
			Code:    protocol.CodeConfig,
			Message: "the " + what + " could not be read: " + err.Error(),
		}
	}
	return checkSecret(string(text), what)
}

func checkSecret(text, what string) (protocol.Secret, error) {
	text = strings.TrimSpace(text)
	problem := ""
	switch {
	case text == "":
		problem = "is empty"
	case len(text) > maxSecret:
		problem = fmt.Sprintf("is longer than %d characters", maxSecret)
	case !printable(text):
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
