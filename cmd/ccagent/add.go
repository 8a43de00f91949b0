package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/ccagent/ccagent/agent/provider"
	"github.com/ccagent/ccagent/cmd/ccagent/config"
	"github.com/ccagent/ccagent/cmd/ccagent/dial"
	"github.com/ccagent/ccagent/cmd/ccagent/terminal"
	"github.com/ccagent/ccagent/cmd/ccagent/undo"
	"github.com/ccagent/ccagent/lookalike"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store"
)

func addCommand() *cli.Command {
	return &cli.Command{
		Name:      "add",
		Usage:     "add a profile",
		ArgsUsage: "NAME --provider PROVIDER [-- PROGRAM ARGUMENTS]",
		Description: `Writes a table for the profile into config.toml, leaves the rest of the file as it is, and tells the
agent.

The key of a static profile is read from standard input, or asked for on the terminal without being
shown. It is never taken from an argument, because other users can see arguments. What "claude
setup-token" prints is added in the same way. It is an OAuth token, not an API key: Claude Code
takes it from "ccagent exec", but not from apiKeyHelper.

If config.toml has a profile of that name already, its table stays as it is, as long as no option
says something else; a key is stored where none was. With --force, the table or the key is replaced.

EXAMPLE:
   ccagent add gateway --provider static < key.txt
   ccagent add ci --provider static < setup-token.txt
   ccagent add vault --provider command --ttl 30m -- vault print token
   ccagent add work --provider claude --config-dir ~/.claude-work`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "provider", Usage: "where its tokens come from: `PROVIDER` is static, command or claude"},
			&cli.StringFlag{
				Name: "store",
				Usage: "where its key or sign-in is stored: " + storeWords(provider.Claude.Traits().Stores) +
					" (claude-code: only with provider claude)",
			},
			&cli.StringFlag{Name: "ttl", Usage: "command: how long a token without an expiry lives: `DURATION`, like 30m"},
			&cli.StringFlag{Name: "run-timeout", Usage: "command, claude: how long a run or a request may take: `DURATION`, like 30s"},
			&cli.StringFlag{Name: "config-dir", Usage: "claude: the `DIRECTORY` of Claude Code"},
			&cli.StringFlag{Name: "token-url", Usage: "claude: the token endpoint's `URL`"},
			&cli.StringFlag{Name: "client-id", Usage: "claude: the `ID` of the client at the token endpoint"},
			&cli.StringSliceFlag{Name: "host", Usage: "a `HOST` that its token may be sent to (may be repeated)"},
			&cli.BoolFlag{Name: "force", Aliases: []string{"f"}, Usage: "replace a profile of that name, or its key"},
			timeoutFlag(),
		},
		Action: add,
	}
}

func add(c *cli.Context) error {
	name := c.Args().First()
	if name == "" {
		return usagef(c, "which NAME?")
	}
	if err := protocol.CheckProfile(name); err != nil {
		return err
	}
	table, err := addTable(c)
	if err != nil {
		return err
	}
	traits := provider.Kind(table.Provider).Traits()
	var key, record protocol.Secret
	var kind protocol.Kind
	if traits.Key() { // what can't be read must not leave a profile behind
		if key, err = readKey(c, name); err != nil {
			return err
		}
		kind = protocol.KindOf(key, protocol.KindAPIKey)
		record, err = store.Record{Kind: kind, AccessToken: key, Issued: time.Now().Truncate(time.Millisecond)}.Marshal()
		if err != nil {
			return err
		}
	}

	if traits.ClaudeCode {
		if err := checkHome(c, name, table); err != nil {
			return err
		}
	}
	conn, err := connect(c, traits.Key())
	if err != nil {
		return err
	}
	defer conn.Close()
	// Nobody who gives a key means to lose the profile's hosts.
	keep := func(old config.Table) bool {
		return traits.Key() && old.Provider == table.Provider && reflect.DeepEqual(table, config.Table{Provider: table.Provider})
	}
	edit, kept, err := config.AddUnless(conn.Ctx, getenv, name, table, c.Bool("force"), keep)
	if err != nil {
		return err
	}
	var done undo.Steps
	conn.Edited(&done, edit, "ccagent remove "+name+" --yes")
	if err := conn.Reload(); err != nil {
		return done.Fail(c.Context, err)
	}
	switch {
	case !traits.Key() && kept:
		_, err = fmt.Fprintf(c.App.Writer, "%s is in %s already\n", name, edit.Path)
		return err
	case !traits.Key():
		_, err = fmt.Fprintf(c.App.Writer, "added %s to %s\n", name, edit.Path)
		return err
	case !c.Bool("force"):
		if err := otherKey(conn, name, key); err != nil {
			return done.Fail(conn.Ctx, err)
		}
	}
	reply, err := conn.Put(conn.Ctx, protocol.PutRequest{Profile: name, Record: record, Force: c.Bool("force")})
	if err != nil {
		return done.FailAt(conn.Ctx, name, err)
	}
	terminal.Notice(c.App.ErrWriter, reply.Notice)
	what := "key"
	if kind == protocol.KindOAuth {
		what = "token"
		terminal.Notice(c.App.ErrWriter,
			"it is an OAuth token of Claude (a setup token), which works by: ccagent exec -p "+name+" -- claude; not by apiKeyHelper")
	}
	if kept {
		_, err = fmt.Fprintf(c.App.Writer, "the %s of %s is in %s now\n", what, name, terminal.Sanitize(reply.Location))
		return err
	}
	_, err = fmt.Fprintf(c.App.Writer, "added %s to %s; its %s is in %s\n", name, edit.Path, what, terminal.Sanitize(reply.Location))
	return err
}

// otherKey refuses a key for a profile that has another one.
func otherKey(conn *dial.Conn, name string, key protocol.Secret) error {
	stored, err := conn.Token(conn.Ctx, protocol.TokenRequest{Profile: name})
	switch {
	case err == nil && stored.Value.Reveal() != key.Reveal():
		return &protocol.Error{
			Code:    protocol.CodeConfig,
			Message: fmt.Sprintf("another key is stored for profile %s already", stored.Profile),
			Hint: "replace the key with --force: ccagent add " + stored.Profile + " --provider static --force" +
				"\nor choose another name",
		}
	case err == nil, errors.Is(err, protocol.ErrNotFound):
		return nil
	case errors.Is(err, protocol.ErrInvalid), errors.Is(err, protocol.ErrStorage): // whoever stores the key says more of it
		return nil
	}
	return conn.Explain(name, err)
}

// checkHome refuses a new profile whose sign-in would be Claude Code's own, where another profile has that.
func checkHome(c *cli.Context, name string, table config.Table) error {
	cfg, err := config.Plan(getenv, name, table, c.Bool("force"))
	if err != nil {
		return err
	}
	profile, _ := config.Find(cfg, name)
	if dir := config.ClaudeDir(getenv, profile); dir != "" && config.MayUseClaude(profile) {
		if err := config.SoleClaude(c.Context, getenv, cfg, name, dir); err != nil {
			return err
		}
	}
	return nil
}

// addTable is the table that the flags describe. What they mean is checked with the whole of config.toml.
func addTable(c *cli.Context) (config.Table, error) {
	t := config.Table{
		Provider:  c.String("provider"),
		Store:     c.String("store"),
		ConfigDir: given(c, "config-dir"),
		TokenURL:  given(c, "token-url"),
		ClientID:  given(c, "client-id"),
		TTL:       given(c, "ttl"),
		Timeout:   given(c, "run-timeout"),
		Hosts:     c.StringSlice("host"),
	}
	if len(t.Hosts) == 0 {
		t.Hosts = nil
	}
	traits := provider.Kind(t.Provider).Traits()
	program := slices.Clone(c.Args().Tail())
	if len(program) > 0 {
		t.Command = program
	}
	switch {
	case t.Provider == "":
		return t, usagef(c, "--provider is missing: static, command or claude")
	case traits.SignsIn && !traits.ClaudeCode:
		e := usagef(c, "a profile of provider %s begins with a sign-in", t.Provider).(*protocol.Error)
		e.Hint = "make it with: " + protocol.ShellLine("ccagent", "login", c.Args().First(), "--provider", t.Provider)
		return t, e
	case traits.Key() && len(program) > 0:
		return t, usagef(c, "%q is one argument too many: a key is read from standard input", "...")
	case slices.Contains(traits.Keys, "command") && len(program) == 0:
		return t, usagef(c, "which program? ccagent add NAME --provider command -- PROGRAM ARGUMENTS")
	}
	// The shell's folder is not the agent's.
	if t.ConfigDir != nil && *t.ConfigDir != "" && !strings.HasPrefix(*t.ConfigDir, "~") {
		dir, err := filepath.Abs(*t.ConfigDir)
		if err != nil {
			return t, err
		}
		t.ConfigDir = &dir
	}
	if len(program) > 0 && strings.Contains(program[0], "/") && !strings.HasPrefix(program[0], "~/") {
		var err error
		if program[0], err = filepath.Abs(program[0]); err != nil {
			return t, err
		}
	}
	for _, value := range []*string{t.ConfigDir, t.TokenURL, t.ClientID, t.TTL, t.Timeout} {
		if value != nil && !config.Encodable(*value) {
			return t, usagef(c, "%q is not UTF-8, which config.toml must be", *value)
		}
	}
	if !config.Encodable(program...) || !config.Encodable(t.Hosts...) || !config.Encodable(t.Provider, t.Store) {
		return t, usagef(c, "an argument is not UTF-8, which config.toml must be")
	}
	return t, nil
}

// maxKeyInput bounds what is read of standard input, in bytes. It is much more than a key may have, so that an error can say how
// long a text is.
const maxKeyInput = 1 << 20

// readKey reads a static key: from standard input, or where that is a terminal from a hidden prompt.
func readKey(c *cli.Context, name string) (protocol.Secret, error) {
	var text string
	if terminal.Of(c.App.Reader) != nil {
		line, err := terminal.Ask(c.Context, "key of "+name+" (not shown):", true)
		if err != nil {
			return protocol.Secret{}, err
		}
		text = line
	} else {
		read, err := io.ReadAll(io.LimitReader(c.App.Reader, maxKeyInput))
		if err != nil {
			return protocol.Secret{}, fmt.Errorf("standard input could not be read: %w", err)
		}
		text = string(read)
	}
	if err := checkKey(text, "that"); err != nil {
		return protocol.Secret{}, err
	}
	return protocol.NewSecret(strings.TrimSpace(text)), nil
}

// checkKey refuses what is no key, and what holds one and more: it would be handed out as it is. what begins the sentence that
// says so.
func checkKey(text, what string) error {
	is := lookalike.Of(text)
	if is == nil {
		info, err := os.Stat(strings.TrimSpace(text))
		if err != nil || !info.Mode().IsRegular() {
			return nil
		}
		is = &lookalike.Text{Kind: lookalike.Path, What: "the name of a file that is here"}
	}
	e := &protocol.Error{Code: protocol.CodeConfig, Message: what + " is " + is.What + ", and not a key", Hint: "give the key alone"}
	switch is.Kind {
	case lookalike.Empty:
		e.Message = "the key is empty"
		e.Hint = "give it on standard input, as in: ccagent add NAME --provider static < key.txt"
	case lookalike.Encoding:
		e.Hint = "save it as UTF-8 without a BOM; PowerShell 7 does so with: Out-File -Encoding utf8NoBOM"
	case lookalike.Word:
		e.Hint = "whatever printed it had no key: run that by itself, and look at what it says"
	case lookalike.Placeholder:
		e.Hint = "give the key that the service has shown when you made it; if it is hidden there now, make a new one"
	case lookalike.Variable:
		e.Hint = "in a shell, give what the variable holds: printf %s \"$NAME\" | ccagent add NAME --provider static"
	case lookalike.Object:
		e.Hint = "give the key itself, as jq -r prints it; a file with a sign-in is taken over by: ccagent import FILE"
	case lookalike.List, lookalike.Quoted:
		e.Hint = "give the key itself, without quotes, as jq -r prints it"
	case lookalike.Assignment:
		e.Hint = "give what follows the = alone"
	case lookalike.Header:
		e.Hint = "give what follows Bearer alone"
	case lookalike.Armoured:
		e.Hint = "name its file in config.toml, as client_key_file or identity: ccagent help config"
	case lookalike.Lines:
		e.Hint = "give the line with the key alone, as in: sed -n 1p FILE | ccagent add NAME --provider static"
	case lookalike.Path:
		e.Hint = "give what is in the file: ccagent add NAME --provider static < FILE"
	case lookalike.Address:
		e.Hint = "give the key alone; where it may be sent is set with --host"
	case lookalike.Refresh:
		e.Hint = "a refresh token brings tokens only from its provider: sign in with ccagent login, or take the whole sign-in over: " +
			"ccagent import FILE"
		if strings.HasSuffix(is.What, " Claude") {
			e.Hint = "make a token for programs with: claude setup-token; or take the whole sign-in over: ccagent import FILE"
		}
	case lookalike.Long:
		e.Hint = protocol.Shorten
	case lookalike.Other:
		e.Hint = "a key is " + protocol.TokenForm
	}
	return e
}
