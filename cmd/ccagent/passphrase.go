package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os/exec"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/ccagent/ccagent/cmd/ccagent/process"
	"github.com/ccagent/ccagent/protocol"
)

// askPassphrase asks for a passphrase on the terminal, else with pinentry. why is shown above the prompt there.
func askPassphrase(c *cli.Context, why string) (protocol.Secret, error) {
	line, err := ask(c.Context, "passphrase (not shown):", true)
	if errors.Is(err, errNoTerminal) {
		line, err = pinentry(c.Context, why, "Passphrase:")
	}
	if err != nil {
		return protocol.Secret{}, err
	}
	return checkSecret(line, "passphrase")
}

// newPassphrase asks for one twice, or reads it from standard input with --passphrase-stdin.
func newPassphrase(c *cli.Context, what string) (protocol.Secret, error) {
	if c.Bool("passphrase-stdin") {
		return readSecret(c.App.Reader, "passphrase")
	}
	prompt := func(again string) (string, error) {
		line, err := ask(c.Context, what+again+" (not shown):", true)
		if errors.Is(err, errNoTerminal) {
			return pinentry(c.Context, "A new "+what+" of ccagent", "Passphrase"+again+":")
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
	return checkSecret(first, "passphrase")
}

// changedPassphrase asks for the old one and the new one.
func changedPassphrase(c *cli.Context) (old, next protocol.Secret, err error) {
	if !c.Bool("passphrase-stdin") {
		if old, err = askPassphrase(c, "The passphrase of ccagent's store, to be changed"); err == nil {
			next, err = newPassphrase(c, "new passphrase")
		}
		return old, next, err
	}
	text, err := io.ReadAll(io.LimitReader(c.App.Reader, 2*maxSecret))
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
	if old, err = checkSecret(first, "old passphrase"); err == nil {
		next, err = checkSecret(second, "new passphrase")
	}
	return old, next, err
}

// cancelled reports whether an error of pinentry's says that the person did not want to: the code is in the lower half, the
// program that made it in the upper (libgpg-error's GPG_ERR_CANCELED and GPG_ERR_FULLY_CANCELED).
func cancelled(number string) bool {
	n, err := strconv.ParseUint(number, 10, 32)
	return err == nil && (n&0xffff == 99 || n&0xffff == 198)
}

// pinentry asks with the program of that name, by the Assuan protocol that GnuPG's documentation of pinentry describes.
func pinentry(ctx context.Context, why, prompt string) (string, error) {
	program, err := exec.LookPath("pinentry")
	if err != nil {
		return "", &protocol.Error{
			Code:    protocol.CodeConfig,
			Message: "a passphrase is needed, and there is neither a terminal nor pinentry to ask with",
			Hint:    "run it in a terminal, or give it with --passphrase-stdin",
		}
	}
	cmd := exec.CommandContext(ctx, program)
	in, err := cmd.StdinPipe()
	if err != nil {
		return "", err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", err
	}
	failed := func(what string) error {
		return &protocol.Error{
			Code:    protocol.CodeConfig,
			Message: "pinentry " + what,
			Hint:    "run it in a terminal, or give it with --passphrase-stdin",
		}
	}
	if err := process.AsGiven(cmd.Start); err != nil {
		return "", failed("could not be started: " + err.Error())
	}
	defer cmd.Wait()
	defer in.Close()
	lines := bufio.NewScanner(io.LimitReader(out, maxSecret))
	// reply reads up to OK or ERR, and returns the data line between.
	reply := func() (data string, err error) {
		for lines.Scan() {
			switch verb, rest, _ := strings.Cut(lines.Text(), " "); verb {
			case "OK":
				return data, nil
			case "ERR":
				if number, reason, _ := strings.Cut(rest, " "); !cancelled(number) {
					return "", failed("can't ask: " + sanitize(reason))
				}
				return "", &protocol.Error{Code: protocol.CodeDenied, Message: "no passphrase was given"}
			case "D": // a long one comes in parts
				part, err := url.PathUnescape(rest)
				if err != nil {
					return "", failed("gave an answer that can't be read")
				}
				data += part
			}
		}
		return "", failed("ended without an answer")
	}
	escape := strings.NewReplacer("%", "%25", "\n", "%0A", "\r", "%0D").Replace
	if _, err := reply(); err != nil {
		return "", err
	}
	for _, line := range []string{"SETTITLE ccagent", "SETDESC " + escape(why), "SETPROMPT " + escape(prompt)} {
		fmt.Fprintln(in, line)
		if _, err := reply(); err != nil {
			return "", err
		}
	}
	fmt.Fprintln(in, "GETPIN")
	return reply()
}
