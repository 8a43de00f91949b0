package main

import (
	"cmp"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"

	"github.com/ccagent/ccagent/cmd/ccagent/config"
	"github.com/ccagent/ccagent/cmd/ccagent/limits"
	"github.com/ccagent/ccagent/cmd/ccagent/sandbox"
	"github.com/ccagent/ccagent/cmd/ccagent/session"
	"github.com/ccagent/ccagent/cmd/ccagent/terminal"
	"github.com/ccagent/ccagent/cmd/ccagent/tool"
	"github.com/ccagent/ccagent/process"
	"github.com/ccagent/ccagent/protocol"
)

func runCommand() *cli.Command {
	return &cli.Command{
		Name:      "run",
		Usage:     "run a tool that uses a token and never holds it",
		ArgsUsage: "-- TOOL [ARGUMENTS]",
		Description: `Starts a gateway for the tool, and gives the tool the addresses of the gateway and stand-ins for the tokens. A
stand-in is worthless anywhere else. The gateway puts the live token into each request, renews it when
the service refuses it, and ends with the tool. Variables with a token that the tool would prefer are
removed. Then ccagent becomes the tool, so its exit code and its signals are the tool's own.

Where a tool may go are routes: the tables [gateway.routes.NAME] of config.toml, and presets. Without
--routes these are all that have a table, and the preset of the profile's provider.
ccagent help docs/gateway.md says more.

With --sandbox the tool has no network but the gateway. Of the files it has the system and its own program to
read, and the working directory to read and write. Its home directory is empty, but for what home in [sandbox]
of config.toml lists. Variables with secrets are removed, but for those that env in [sandbox] lists.

If the tool is not found, the exit code is 127. If it can't be run, it is 126.

EXAMPLE:
   ccagent run -- claude -p 'hello'
   ccagent run --sandbox -- claude
   ccagent run -p gateway --routes llm -- ./batch.py`,
		Flags: []cli.Flag{
			profileFlag(),
			routesFlag(),
			&cli.BoolFlag{Name: "sandbox", Usage: "let the tool reach nothing but the gateway (Linux, with bubblewrap)"},
			timeoutFlag(),
		},
		Action: runTool,
	}
}

func runTool(c *cli.Context) error {
	argv := c.Args().Slice()
	if len(argv) == 0 {
		return usagef(c, "name the tool to run")
	}
	if err := checkConnect(c); err != nil {
		return err
	}
	program, err := exec.LookPath(argv[0])
	if err != nil && !errors.Is(err, exec.ErrDot) {
		return cannotRun(argv[0], err)
	}
	g, err := config.LoadGateway(getenv)
	if err != nil {
		return err
	}
	self, ok := process.Of(int32(os.Getpid()))
	if !ok {
		return &protocol.Error{Code: protocol.CodeInternal, Message: "this system says nothing of this process"}
	}
	request := session.Request{
		Tool: self.ID, Program: filepath.Base(argv[0]),
		Profile: cmp.Or(c.String("profile"), here(g.Config)), Chosen: c.String("profile") != "",
		Routes: c.StringSlice("routes"), Wait: c.Duration("timeout"),
	}
	if c.Bool("sandbox") {
		return runInSandbox(c, g, program, argv, request)
	}
	ready, err := session.Start(c.Context, request)
	if err != nil {
		return err
	}
	terminal.Warn(c.App.ErrWriter, "this is no boundary: a program of the same user can still ask the agent for a token")
	return becomeTool(c, program, argv, ready)
}

// becomeTool replaces this process by a tool that a gateway serves. It returns only if it failed.
func becomeTool(c *cli.Context, program string, argv []string, ready session.Ready) error {
	if ready.Notice != "" {
		terminal.Warn(c.App.ErrWriter, "%s", ready.Notice)
	}
	environment := tool.Environment(os.Environ(), ready)
	if slices.ContainsFunc(environment, func(pair string) bool { return strings.HasPrefix(pair, "CLAUDE_CODE_OAUTH_TOKEN=") }) {
		warnOutranked(c.App.ErrWriter, getenv)
	}
	err := limits.AsGiven(func() error { return syscall.Exec(program, argv, environment) })
	return cannotRun(argv[0], err)
}

// runInSandbox replaces this process by a sandbox with a tool in it. It returns only if it failed.
func runInSandbox(c *cli.Context, g config.Gateway, program string, argv []string, request session.Request) error {
	listed, err := g.Sandbox(getenv)
	if err != nil {
		return err
	}
	if program, err = filepath.Abs(program); err != nil {
		return err
	}
	dir, err := os.Getwd()
	if err != nil {
		return err
	}
	o := sandbox.Options{
		Program: program, Argv: argv, Env: getenv, Vars: os.Environ(), Dir: dir, Config: g.Config,
		Home: listed.Home, Hidden: listed.Hidden, Keep: listed.Env,
	}
	if err := sandbox.Check(c.Context, o); err != nil {
		return err
	}
	s, err := sandbox.New(o)
	if err != nil {
		return err
	}
	gateway, err := session.Prepare(c.Context, request)
	if err != nil {
		return err
	}
	return limits.AsGiven(func() error { return s.Become(gateway) })
}

// sandboxCommand is the first program in a sandbox, which becomes the tool.
func sandboxCommand() *cli.Command {
	return &cli.Command{
		Name:   "sandbox",
		Usage:  "become the tool in the sandbox that ccagent run has made",
		Hidden: true,
		Flags: []cli.Flag{
			&cli.IntFlag{Name: "plan", Usage: "read what the tool is from the open file `NUMBER`"},
			&cli.IntFlag{Name: "gateway", Usage: "speak to the gateway over the open file `NUMBER`"},
		},
		Action: func(c *cli.Context) error {
			if err := noArgs(c); err != nil {
				return err
			}
			if !c.IsSet("plan") || !c.IsSet("gateway") {
				return usagef(c, "it needs --plan and --gateway, which ccagent run --sandbox gives it")
			}
			t, err := sandbox.Enter(c.Int("plan"), c.Int("gateway"))
			if err != nil {
				return err
			}
			return becomeTool(c, t.Program, t.Argv, t.Ready)
		},
	}
}
