package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/ccagent/ccagent/cmd/ccagent/dial"
	"github.com/ccagent/ccagent/cmd/ccagent/environ"
	"github.com/ccagent/ccagent/cmd/ccagent/terminal"
	"github.com/ccagent/ccagent/protocol"
)

func envCommand() *cli.Command {
	return &cli.Command{
		Name:  "env",
		Usage: "print the command that tells your shell the agent's address, and start an agent",
		Description: `Prints a line that sets CCAGENT_SOCK in your shell, and starts an agent in the background if none
answers. You may run it as often as you like.

Tools find the default address by themselves. Put this line into your shell's start-up file only if
tools run where XDG_RUNTIME_DIR or TMPDIR differ from those in your shell. If you have set
CCAGENT_SOCK to an address of your own, no agent is started: run "ccagent serve" there. If nobody
answers there, standard error says so.

In csh and tcsh the characters * ? [ ~ { in an address keep their special meaning in later commands.
Quote "$CCAGENT_SOCK" there, or choose an address without them.

EXAMPLE:
   eval "$(ccagent env)"              sh, bash, zsh
   ccagent env | source               fish
   eval ` + "`ccagent env --shell csh`" + `    csh, tcsh
   ccagent env --shell powershell | Out-String | Invoke-Expression
   eval "$(ccagent env --kill)"       stops the agent and unsets CCAGENT_SOCK`,
		Flags: []cli.Flag{
			&cli.StringFlag{
				Name:    "shell",
				EnvVars: []string{"CCAGENT_SHELL"},
				Usage:   "print it for `SHELL`: " + shellNames(", ") + " (default: guessed from $SHELL)",
			},
			&cli.BoolFlag{Name: "no-start", Usage: "do not start an agent"},
			&cli.BoolFlag{Name: "kill", Aliases: []string{"k"}, Usage: "stop the agent, and print the command that unsets the variable"},
			timeoutFlag(),
		},
		Action: func(c *cli.Context) error {
			if err := noArgs(c); err != nil {
				return err
			}
			name := c.String("shell")
			if name == "" {
				name = environ.GuessShell(getenv("SHELL"))
			}
			shell, ok := environ.Shells[name]
			if !ok {
				return usagef(c, "unknown shell %q; there are %s", name, shellNames(", "))
			}
			if c.Bool("kill") {
				if err := stopAgent(c, false); err != nil {
					return err
				}
				_, err := fmt.Fprintf(c.App.Writer, shell.Unset+"\n", "CCAGENT_SOCK")
				return err
			}
			path, isDefault, err := protocol.SocketPath()
			if err != nil {
				return err
			}
			if !terminal.Printable(path) {
				return &protocol.Error{
					Code:    protocol.CodeConfig,
					Message: "the path of the socket contains control characters: " + terminal.Sanitize(path),
					Hint:    "choose another path with XDG_RUNTIME_DIR or CCAGENT_SOCK",
				}
			}
			if isDefault && !c.Bool("no-start") {
				conn, err := connectAwake(c, true)
				if err != nil {
					return err
				}
				defer conn.Close()
				if err := dial.Start(conn.Ctx, conn); err != nil {
					return err
				}
			}
			if !isDefault && !c.Bool("no-start") {
				if err := answering(c); err != nil {
					return err
				}
			}
			_, err = fmt.Fprintf(c.App.Writer, shell.Set+"\n", "CCAGENT_SOCK", shell.Quote(path))
			return err
		},
	}
}

// answering says on standard error if nobody answers at an address of the person's own, where no agent is started. An agent that
// is there and fails in another way is no business of this command's.
func answering(c *cli.Context) error {
	conn, err := connectAwake(c, false)
	if err == nil {
		defer conn.Close()
		err = dial.Start(conn.Ctx, conn)
	}
	if errors.Is(err, protocol.ErrNoAgent) {
		_, err := io.WriteString(c.App.ErrWriter, protocol.Explain(err))
		return err
	}
	return nil
}

// shellNames lists the shells whose syntax is known.
func shellNames(separator string) string {
	return strings.Join(slices.Sorted(maps.Keys(environ.Shells)), separator)
}
