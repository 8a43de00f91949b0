// Command ccagent keeps credentials in an agent and serves tokens from it: see `ccagent help`.
//
// Its files turn arguments into requests of package protocol, answers into text, and errors into exit codes. Each command is in
// the file of its name; the packages beside them do the work. Only the code below this folder reads config.toml.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"

	"github.com/urfave/cli/v2"

	"github.com/ccagent/ccagent/cmd/ccagent/build"
	"github.com/ccagent/ccagent/cmd/ccagent/environ"
	"github.com/ccagent/ccagent/cmd/ccagent/limits"
	"github.com/ccagent/ccagent/cmd/ccagent/terminal"
	"github.com/ccagent/ccagent/cmd/ccagent/undo"
	"github.com/ccagent/ccagent/protocol"
)

func main() {
	if err := limits.Harden(os.Args); err != nil {
		terminal.PrintError(os.Stderr, err)
		os.Exit(protocol.ExitCode(err))
	}
	if bus := getenv.SessionBus(); bus != "" {
		os.Setenv("DBUS_SESSION_BUS_ADDRESS", bus)
	}
	os.Exit(run(context.Background(), os.Args, os.Stdin, os.Stdout, os.Stderr))
}

// run is the whole program, and returns the exit code. The code is 0 only if standard output was written completely.
func run(parent context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	if profile, ok := prompt(args); ok {
		writePrompt(parent, stdout, profile)
		return 0
	}
	ctx, stop := signal.NotifyContext(parent, os.Interrupt)
	defer stop()

	out := &terminal.Output{Writer: stdout}
	app := newApp(stdin, out, stderr)
	args, err := permute(app, args)
	if err == nil {
		err = app.RunContext(ctx, args)
	}
	if err == nil && out.Err != nil || errors.Is(err, out.Err) && err != nil {
		err = fmt.Errorf("standard output could not be written: %w", out.Err)
	}
	if err == nil {
		return 0
	}
	if ctx.Err() != nil && parent.Err() == nil { // Ctrl-C
		if undo.Told(err) || declined(err) {
			terminal.PrintError(stderr, err)
		}
		return exitDeclined
	}
	if declined(err) {
		err = &exitError{err, exitDeclined}
	}
	var own *exitError
	if errors.As(err, &own) {
		terminal.PrintError(stderr, own.error)
		return own.code
	}
	// An error of the cli package is about wrong usage. It implements ExitCoder, and so does the error of a program that failed.
	var usage cli.ExitCoder
	var program *exec.ExitError
	if errors.As(err, &usage) && !errors.As(err, &program) {
		err = usageError(app.Name, err)
	}
	terminal.PrintError(stderr, err)
	return protocol.ExitCode(err)
}

// exitDeclined is the exit code of a command that the person ended, by answering no or by Ctrl-C. Shells use it for Ctrl-C.
const exitDeclined = 130

// declined reports whether the person ended the command before it had changed anything.
func declined(err error) bool {
	return errors.Is(err, terminal.ErrDeclined) || errors.Is(err, terminal.ErrInterrupted)
}

// exitError is an error with an exit code that package protocol does not know.
type exitError struct {
	error
	code int
}

func newApp(stdin io.Reader, stdout, stderr io.Writer) *cli.App {
	app := &cli.App{
		Name:      "ccagent",
		Usage:     "an ssh-agent for API tokens",
		UsageText: "ccagent COMMAND [OPTIONS]",
		Description: `Keeps credentials in memory, renews them ahead of time, and serves live tokens to the tools that ask.
The tools ask with cchelper; with ccagent you look after the agent and its profiles.

EXAMPLE:
   eval "$(ccagent env)"
   ccagent status`,
		Version:        build.Version(),
		Reader:         stdin,
		Writer:         stdout,
		ErrWriter:      stderr,
		ExitErrHandler: func(*cli.Context, error) {}, // the default one ends the process
		OnUsageError: func(_ *cli.Context, err error, _ bool) error {
			return badOption(nil, usageError("ccagent", err))
		},
		Commands: commands(),
		Flags:    []cli.Flag{cli.HelpFlag}, // otherwise the cli package adds a help command as well
		Action: func(c *cli.Context) error {
			if !c.Args().Present() {
				return cli.ShowAppHelp(c)
			}
			return unknownCommand(c.App, c.Args().First())
		},
	}
	for _, command := range app.Commands {
		name := "ccagent " + command.Name
		for _, flag := range command.Flags {
			if f, ok := flag.(*cli.BoolFlag); ok {
				f.DisableDefaultText = true // do not show "(default: false)"
			}
		}
		command.HideHelpCommand = true
		flags := command.VisibleFlags()
		command.OnUsageError = func(_ *cli.Context, err error, _ bool) error { return badOption(flags, usageError(name, err)) }
	}
	return app
}

// commands returns all commands, in the order in which the help lists them.
func commands() []*cli.Command {
	return []*cli.Command{
		loginCommand(),
		logoutCommand(),
		whoamiCommand(),
		envCommand(),
		statusCommand(),
		listCommand(),
		useCommand(),
		addCommand(),
		removeCommand(),
		importCommand(),
		moveCommand(),
		exportCommand(),
		restoreCommand(),
		tokenCommand(),
		refreshCommand(),
		validateCommand(),
		execCommand(),
		runCommand(),
		gatewayCommand(),
		guardCommand(),
		lockCommand(),
		unlockCommand(),
		stopCommand(),
		completionCommand(),
		setupCommand(),
		forwardCommand(),
		installCommand(),
		uninstallCommand(),
		doctorCommand(),
		demoCommand(),
		helpCommand(),
		versionCommand(),
		serveCommand(),
		workerCommand(),
		sandboxCommand(),
	}
}

// getenv is the environment of this process.
var getenv environ.Vars = os.Getenv
