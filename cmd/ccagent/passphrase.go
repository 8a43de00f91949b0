package main

import (
	"errors"
	"io"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/ccagent/ccagent/cmd/ccagent/terminal"
	"github.com/ccagent/ccagent/protocol"
)

// newPassphrase asks for one twice, or reads it from standard input with --passphrase-stdin.
func newPassphrase(c *cli.Context, what string) (protocol.Secret, error) {
	if c.Bool("passphrase-stdin") {
		return terminal.ReadSecret(c.App.Reader, "passphrase")
	}
	prompt := func(again string) (string, error) {
		line, err := terminal.Ask(c.Context, what+again+" (not shown):", true)
		if errors.Is(err, terminal.ErrNone) {
			return terminal.Pinentry(c.Context, "A new "+what+" of ccagent", "Passphrase"+again+":")
		}
		return line, err
	}
	first, err := prompt("")
	if err != nil {
		return protocol.Secret{}, err
	}
	second, err := prompt(", again")
	switch {
	case err != nil:
		return protocol.Secret{}, err
	case first != second:
		return protocol.Secret{}, &protocol.Error{
			Code:    protocol.CodeConfig,
			Message: "the two are not the same: nothing was changed",
			Hint:    "run it again, and type the same twice",
		}
	}
	return terminal.CheckSecret(first, "passphrase")
}

// changedPassphrase asks for the old one and the new one.
func changedPassphrase(c *cli.Context) (old, next protocol.Secret, err error) {
	if !c.Bool("passphrase-stdin") {
		if old, err = terminal.AskPassphrase(c.Context, "The passphrase of ccagent's store, to be changed"); err == nil {
			next, err = newPassphrase(c, "new passphrase")
		}
		return old, next, err
	}
	text, err := io.ReadAll(io.LimitReader(c.App.Reader, 2*terminal.MaxSecret))
	if err != nil {
		return old, next, &protocol.Error{Code: protocol.CodeConfig, Message: "the passphrases could not be read: " + err.Error()}
	}
	first, second, ok := strings.Cut(strings.TrimRight(string(text), "\n"), "\n")
	if !ok {
		return old, next, &protocol.Error{
			Code:    protocol.CodeConfig,
			Message: "standard input must hold two lines: the old passphrase, then the new one",
		}
	}
	if old, err = terminal.CheckSecret(first, "old passphrase"); err == nil {
		next, err = terminal.CheckSecret(second, "new passphrase")
	}
	return old, next, err
}
