package terminal

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

	"github.com/ccagent/ccagent/cmd/ccagent/limits"
	"github.com/ccagent/ccagent/protocol"
)

// AskPassphrase asks for a passphrase on the terminal, else with pinentry. why is shown above the prompt there.
func AskPassphrase(ctx context.Context, why string) (protocol.Secret, error) {
	line, err := Ask(ctx, "passphrase (not shown):", true)
	if errors.Is(err, ErrNone) {
		line, err = Pinentry(ctx, why, "Passphrase:")
	}
	if err != nil {
		return protocol.Secret{}, err
	}
	return CheckSecret(line, "passphrase")
}

// cancelled reports whether an error of pinentry's says that the person did not want to: the code is in the lower half, the
// program that made it in the upper (libgpg-error's GPG_ERR_CANCELED and GPG_ERR_FULLY_CANCELED).
func cancelled(number string) bool {
	n, err := strconv.ParseUint(number, 10, 32)
	return err == nil && (n&0xffff == 99 || n&0xffff == 198)
}

// Pinentry asks with the program of that name, by the Assuan protocol that GnuPG's documentation of pinentry describes.
func Pinentry(ctx context.Context, why, prompt string) (string, error) {
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
	if err := limits.AsGiven(cmd.Start); err != nil {
		return "", failed("could not be started: " + err.Error())
	}
	defer cmd.Wait()
	defer in.Close()
	lines := bufio.NewScanner(io.LimitReader(out, MaxSecret))
	// reply reads up to OK or ERR, and returns the data line between.
	reply := func() (data string, err error) {
		for lines.Scan() {
			switch verb, rest, _ := strings.Cut(lines.Text(), " "); verb {
			case "OK":
				return data, nil
			case "ERR":
				if number, reason, _ := strings.Cut(rest, " "); !cancelled(number) {
					return "", failed("can't ask: " + Sanitize(reason))
				}
				return "", ErrDeclined
			case "D": // a long one comes in parts
				part, err := url.PathUnescape(rest)
				if err != nil {
					return "", failed("gave an answer that can't be read")
				}
				data += part
			}
		}
		if ctx.Err() != nil { // Ctrl-C ends it as well
			return "", ErrInterrupted
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
