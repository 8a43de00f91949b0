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

// AskPassphrase asks for a passphrase on the terminal or, if there is none, with pinentry. pinentry shows why above its prompt.
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

// cancelled reports whether an error of pinentry says that the person has cancelled. The lower 16 bits of its number are the
// code: GPG_ERR_CANCELED or GPG_ERR_FULLY_CANCELED of libgpg-error. The upper bits name the program that reports it.
func cancelled(number string) bool {
	n, err := strconv.ParseUint(number, 10, 32)
	return err == nil && (n&0xffff == 99 || n&0xffff == 198)
}

// Pinentry asks with the program pinentry. GnuPG's documentation of pinentry describes the protocol, Assuan. The error is
// ErrDeclined if the person cancels, and ErrInterrupted if ctx ends.
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
	// reply reads lines up to OK or ERR, and returns the data in them.
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
			case "D": // long data comes in several lines
				part, err := url.PathUnescape(rest)
				if err != nil {
					return "", failed("gave an answer that can't be read")
				}
				data += part
			}
		}
		if ctx.Err() != nil { // Ctrl-C ends pinentry too
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
