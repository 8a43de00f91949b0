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

If the tool is not found, the exit code is 127. If it can't be run, it is 126.

EXAMPLE:
   ccagent run -- claude -p 'hello'
   ccagent run -p gateway --routes llm -- ./batch.py`,
		Flags: []cli.Flag{
			profileFlag(),
			routesFlag(),
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
	cfg, _, err := config.Load(getenv)
	if err != nil {
		return err
	}
	self, ok := process.Of(int32(os.Getpid()))
	if !ok {
		return &protocol.Error{Code: protocol.CodeInternal, Message: "this system says nothing of this process"}
	}
	ready, err := session.Start(c.Context, session.Request{
		Tool: self.ID, Program: filepath.Base(argv[0]),
		Profile: cmp.Or(c.String("profile"), here(cfg)), Chosen: c.String("profile") != "",
		Routes: c.StringSlice("routes"), Wait: c.Duration("timeout"),
	})
	if err != nil {
		return err
	}
	if ready.Notice != "" {
		terminal.Warn(c.App.ErrWriter, "%s", ready.Notice)
	}
	environment := tool.Environment(os.Environ(), ready)
	terminal.Warn(c.App.ErrWriter, "this is no boundary: a program of the same user can still ask the agent for a token")
	if slices.ContainsFunc(environment, func(pair string) bool { return strings.HasPrefix(pair, "CLAUDE_CODE_OAUTH_TOKEN=") }) {
		warnOutranked(c.App.ErrWriter, getenv)
	}
	err = limits.AsGiven(func() error { return syscall.Exec(program, argv, environment) }) // it returns only if it failed
	return cannotRun(argv[0], err)
}
