package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/ccagent/ccagent/cmd/ccagent/dial"
	"github.com/ccagent/ccagent/cmd/ccagent/environ"
	"github.com/ccagent/ccagent/cmd/ccagent/terminal"
	"github.com/ccagent/ccagent/protocol"
)

func envCommand() *cli.Command {
	return &cli.Command{
		Name:  "env",
		Usage: "print the shell's export of the agent's address, and start an agent",
		Description: `Prints a line that sets CCAGENT_SOCK in your shell, and starts an agent in the background if none answers.
Doing it again changes nothing. Tools find the default address by themselves: put this line into your shell's
start-up file when they run where XDG_RUNTIME_DIR and TMPDIR are not what they are in your shell. With an
address of your own in CCAGENT_SOCK no agent is started for you: run ccagent serve. csh and tcsh can't keep * ? [ ~ {
in an address from meaning something of their own in later commands: quote "$CCAGENT_SOCK" there, or avoid them.

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
				Usage:   "write for `SHELL`: sh, bash, zsh, fish, csh, tcsh, powershell (default: guessed from $SHELL)",
			},
			&cli.BoolFlag{Name: "no-start", Usage: "start no agent"},
			&cli.BoolFlag{Name: "kill", Aliases: []string{"k"}, Usage: "stop the agent, and print what unsets the variable"},
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
				return usagef(c, "unknown shell %q: sh, bash, zsh, fish, csh, tcsh or powershell", name)
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
					Message: "the socket's path holds control characters: " + terminal.Sanitize(path),
					Hint:    "choose another with XDG_RUNTIME_DIR or CCAGENT_SOCK",
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
			_, err = fmt.Fprintf(c.App.Writer, shell.Set+"\n", "CCAGENT_SOCK", shell.Quote(path))
			return err
		},
	}
}
