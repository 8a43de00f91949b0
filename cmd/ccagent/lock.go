package main

import (
	"errors"
	"io"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/ccagent/ccagent/cmd/ccagent/terminal"
	"github.com/ccagent/ccagent/protocol"
)

func lockCommand() *cli.Command {
	return &cli.Command{
		Name:  "lock",
		Usage: "stop giving tokens until the agent is unlocked",
		Description: `The agent forgets the tokens and keys that it can load again. Until "ccagent unlock" it gives no
token (exit code 6) and renews nothing. It still stores what a finished sign-in brings, and what
could not be saved before.

The memory is not wiped: root can find copies of tokens, keys and passphrases there for a while. To
get rid of them, end the agent with "ccagent stop --force".

With --passphrase you are asked for a passphrase, and only that unlocks the agent. Without it, the
passphrase of store encrypted is needed if you use that store, and none otherwise. The lock ends
with the agent. It does not protect stored records; their store does.

With lock_on = ["suspend", "screen"] in config.toml the agent locks itself, if systemd-logind tells
it when.

EXAMPLE:
   ccagent lock
   ccagent lock --passphrase`,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "passphrase", Usage: "ask for a passphrase that will unlock the agent"},
			&cli.BoolFlag{Name: "passphrase-stdin", Usage: "read that passphrase from standard input, up to its end"},
			timeoutFlag(),
		},
		Action: func(c *cli.Context) error {
			if err := noArgs(c); err != nil {
				return err
			}
			req := protocol.ControlRequest{Command: protocol.CommandLock}
			if c.Bool("passphrase") || c.Bool("passphrase-stdin") {
				var err error
				if req.NewPassphrase, err = newPassphrase(c, "passphrase to unlock the agent with"); err != nil {
					return err
				}
			}
			conn, err := connectAwake(c, true)
			if err != nil {
				return err
			}
			defer conn.Close()
			reply, err := conn.Control(conn.Ctx, req)
			terminal.Notice(c.App.ErrWriter, reply.Notice)
			return err
		},
	}
}

func unlockCommand() *cli.Command {
	return &cli.Command{
		Name:  "unlock",
		Usage: "unlock the agent and store encrypted",
		Description: `Asks for a passphrase if one is needed: on the terminal, or with pinentry if there is no terminal.
With --passphrase-stdin it is read from standard input. Store encrypted then stays open until
"ccagent lock", until the agent ends, or with --for until no request has needed it for that long.
After a wrong passphrase (exit code 6) further attempts are refused for a while.

--create makes the key (an age identity) that store encrypted encrypts to. --change gives that key
another passphrase.

EXAMPLE:
   ccagent unlock --for 8h
   ccagent unlock --create
   pass show ccagent | ccagent unlock --passphrase-stdin`,
		Flags: []cli.Flag{
			&cli.DurationFlag{
				Name:        "for",
				DefaultText: "never",
				Usage:       "lock store encrypted again after `DURATION` without a request that needs it",
			},
			&cli.BoolFlag{Name: "create", Usage: "make the key of store encrypted"},
			&cli.BoolFlag{Name: "change", Usage: "change its passphrase"},
			&cli.BoolFlag{
				Name:  "passphrase-stdin",
				Usage: "read the passphrase from standard input; with --change a line with the old one, then a line with the new one",
			},
			timeoutFlag(),
		},
		Action: unlock,
	}
}

func unlock(c *cli.Context) error {
	switch {
	case c.Args().Present():
		return noArgs(c)
	case c.Duration("for") < 0:
		return usagef(c, "--for must not be negative; 0 means without end")
	case c.Bool("create") && c.Bool("change"):
		return usagef(c, "--create and --change can't be used together")
	}
	req := protocol.ControlRequest{Command: protocol.CommandUnlock, For: c.Duration("for"), Force: c.Bool("create")}
	var err error
	switch {
	case c.Bool("change"):
		req.Passphrase, req.NewPassphrase, err = changedPassphrase(c)
	case c.Bool("create"):
		req.NewPassphrase, err = newPassphrase(c, "passphrase for store encrypted")
	case c.Bool("passphrase-stdin"):
		req.Passphrase, err = terminal.ReadSecret(c.App.Reader, "passphrase")
	}
	if err != nil {
		return err
	}
	reply, err := control(c, req)
	if protocol.CodeOf(err) == protocol.CodeLocked && req.Passphrase.Empty() {
		if req.Passphrase, err = terminal.AskPassphrase(c.Context, err.Error()); err != nil {
			return err
		}
		reply, err = control(c, req)
	}
	terminal.Notice(c.App.ErrWriter, reply.Notice)
	return err
}

// control opens a connection for one request. A person may take longer to type than the --timeout of an earlier connection.
func control(c *cli.Context, req protocol.ControlRequest) (protocol.ControlReply, error) {
	conn, err := connectAwake(c, true)
	if err != nil {
		return protocol.ControlReply{}, err
	}
	defer conn.Close()
	return conn.Control(conn.Ctx, req)
}

// newPassphrase asks twice for a new passphrase, or reads it from standard input with --passphrase-stdin.
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
			Message: "the two passphrases differ; nothing was changed",
			Hint:    "run the command again, and type the same passphrase twice",
		}
	}
	return terminal.CheckSecret(first, "passphrase")
}

// changedPassphrase asks for the old passphrase and the new one.
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
