package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"

	"github.com/ccagent/ccagent/cmd/ccagent/environ"
	"github.com/ccagent/ccagent/cmd/ccagent/limits"
	"github.com/ccagent/ccagent/cmd/ccagent/terminal"
	"github.com/ccagent/ccagent/protocol"
)

func execCommand() *cli.Command {
	return &cli.Command{
		Name:      "exec",
		Usage:     "run a program with a token in its environment",
		ArgsUsage: "-- PROGRAM [ARGUMENTS]",
		Description: `Asks for a token with at least half of its lifetime left and puts it into an environment variable.
Variables that tools would prefer to that one are removed. Then ccagent becomes the program, so its
exit code and its signals are the program's own. The program can't ask again when the token expires.
If a tool can run a command to get its token, use cchelper instead.

The variable depends on the token:
   CLAUDE_CODE_OAUTH_TOKEN   for a sign-in of provider claude, and for what "claude setup-token" prints
   ANTHROPIC_API_KEY         for a static key, unless it is known to be another vendor's
   ANTHROPIC_AUTH_TOKEN      for everything else

If the program is not found, the exit code is 127. If it can't be run, it is 126.

EXAMPLE:
   ccagent exec -- claude -p 'hello'
   ccagent exec -p vault --env VAULT_TOKEN -- vault status`,
		Flags: []cli.Flag{
			profileFlag(),
			&cli.StringFlag{Name: "env", Usage: "put the token into the variable `NAME`"},
			timeoutFlag(),
		},
		Action: func(c *cli.Context) error {
			argv := c.Args().Slice()
			if len(argv) == 0 {
				return usagef(c, "name the program to run")
			}
			name := c.String("env")
			if c.IsSet("env") && !environ.VariableName(name) {
				return usagef(c, "--env: %q is not the name of a variable", name)
			}
			program, err := exec.LookPath(argv[0])
			if err != nil && !errors.Is(err, exec.ErrDot) {
				return cannotRun(argv[0], err)
			}
			token, err := askToken(c, protocol.TokenRequest{HalfLife: true})
			if err != nil {
				return err
			}
			if name == "" {
				if name, err = token.Variable(); err != nil {
					return err
				}
			}
			if name == "CLAUDE_CODE_OAUTH_TOKEN" {
				warnOutranked(c.App.ErrWriter, getenv)
			}
			environment := tokenEnvironment(os.Environ(), name, token.Value.Reveal())
			err = limits.AsGiven(func() error { return syscall.Exec(program, argv, environment) }) // it returns only if it failed
			return cannotRun(argv[0], err)
		},
	}
}

func cannotRun(program string, err error) error {
	code := 126
	var looked *exec.Error
	switch {
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, fs.ErrNotExist):
		code, err = 127, errors.New("not found")
	case errors.Is(err, fs.ErrPermission):
		err = errors.New("permission denied")
	case errors.As(err, &looked):
		err = looked.Err // without the name, which it repeats
	}
	return &exitError{fmt.Errorf("%s: %w", program, err), code}
}

// tokenEnvironment returns the environment with the token in it, and without the variables that tools prefer to it.
func tokenEnvironment(environment []string, name, token string) []string {
	drop := []string{name}
	if rank := slices.Index(environ.TokenVariables, name); rank > 0 {
		drop = append(drop, environ.TokenVariables[:rank]...)
	}
	kept := slices.DeleteFunc(slices.Clone(environment), func(pair string) bool {
		variable, _, _ := strings.Cut(pair, "=")
		return slices.Contains(drop, variable)
	})
	return append(kept, name+"="+token)
}

// warnOutranked warns of what Claude Code prefers to an OAuth token in the environment: a helper, and what its settings set.
func warnOutranked(stderr io.Writer, env environ.Vars) {
	user, _ := env.ClaudeSettings()
	dir, _ := os.Getwd()
	c := env.ClaudeCode(environ.ManagedClaude(), dir, user)
	if settings := c.Helper(); settings.Helper != "" {
		terminal.Warn(stderr, "Claude Code will use the apiKeyHelper in %s, and not the token that it is given here", settings.Path)
	}
	for _, name := range environ.TokenVariables {
		if value, in := c.Variable(name); value != "" && in.Path != "" {
			terminal.Warn(stderr, "Claude Code will use the %s in %s, and not the token that it is given here", name, in.Path)
		}
	}
	for _, o := range c.OtherServices("the token that it is given here") {
		terminal.Warn(stderr, "%s; to mend it: %s", o.What, o.Mend)
	}
}
