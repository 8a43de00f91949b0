package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/ccagent/ccagent/agent"
	"github.com/ccagent/ccagent/agent/provider"
	"github.com/ccagent/ccagent/agent/worker"
	"github.com/ccagent/ccagent/cmd/ccagent/config"
	"github.com/ccagent/ccagent/cmd/ccagent/dial"
	"github.com/ccagent/ccagent/cmd/ccagent/environ"
	"github.com/ccagent/ccagent/cmd/ccagent/source"
	"github.com/ccagent/ccagent/cmd/ccagent/terminal"
	"github.com/ccagent/ccagent/cmd/ccagent/undo"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store"
)

func importCommand() *cli.Command {
	return &cli.Command{
		Name:      "import",
		Usage:     "take over a sign-in from a file or the keyring",
		ArgsUsage: "[FILE|-]",
		Description: `FILE may be Claude Code's credentials file, a profile of the vendor's SDKs, or what "ccagent export"
wrote. The Python predecessor's files have Claude Code's format. Without FILE, import takes the
first of these that exists: ~/.config/ccproxy/credentials.json, Claude Code's own file,
~/.config/claude/.credentials.json, the predecessor's item in the keyring. account.json beside the
predecessor's file tells who is signed in.

A sign-in that renews itself must not be in two places. So what happens to FILE depends on whose it
is. Claude Code's .credentials.json stays where it is, and ccagent uses it together with Claude
Code. The predecessor's file is renamed to credentials.json.imported, and its item in the keyring is
deleted. Any other file is copied from; delete it afterwards. A copy of a sign-in that Claude Code
or another profile here uses is refused.

If the profile named with -p does not exist yet, it is added. A sign-in that expires before the
stored one is refused, unless you say --force.

EXAMPLE:
   ccagent import
   ccagent import ~/.claude-work/.credentials.json -p work
   ssh host cat .claude/.credentials.json | ccagent import - -p host`,
		Flags: []cli.Flag{
			profileFlag(),
			&cli.BoolFlag{Name: "keyring", Usage: "take over the Python predecessor's item in the keyring"},
			&cli.StringFlag{
				Name:      "identity",
				Usage:     "decrypt an export with the age identity or SSH key in `FILE`",
				TakesFile: true,
			},
			&cli.BoolFlag{
				Name:    "force",
				Aliases: []string{"f"},
				Usage:   "replace even a sign-in that expires later, or that Claude Code uses",
			},
			timeoutFlag(),
		},
		Action: importFrom,
	}
}

func importFrom(c *cli.Context) error {
	if err := atMost(c, 1); err != nil {
		return err
	}
	if c.Bool("keyring") && c.Args().Present() {
		return usagef(c, "--keyring can't be used with a file")
	}
	cfg, _, err := config.Load(getenv)
	if err != nil {
		return err
	}
	name := cmp.Or(c.String("profile"), here(cfg))
	if err := protocol.CheckProfile(name); err != nil {
		return err
	}
	profile, exists := config.Find(cfg, name)
	from, err := source.Find(c.Context, getenv, source.Place{
		File: c.Args().First(), Keyring: c.Bool("keyring"), In: c.App.Reader,
		Identity: func() (store.Identity, error) { return importIdentity(c) },
	}, profile)
	if err != nil {
		return err
	}
	if from.Profile != "" && c.String("profile") == "" { // an export names its profile
		name = from.Profile
		if err := protocol.CheckProfile(name); err != nil {
			return err
		}
		profile, exists = config.Find(cfg, name)
	}
	switch kind := cmp.Or(from.Provider, string(provider.Claude)); {
	case exists && profile.Provider != kind:
		return &protocol.Error{Code: protocol.CodeConfig,
			Message: fmt.Sprintf("profile %s has provider %s, but the sign-in is for provider %s", profile.Name, profile.Provider, kind),
			Hint:    "name another profile with -p"}
	case !exists && kind != string(provider.Claude):
		return &protocol.Error{Code: protocol.CodeNotFound,
			Message: fmt.Sprintf("there is no profile %s, and the sign-in needs one with provider %s", name, kind),
			Hint:    "first copy the profile's table from the config.toml of the machine that made the export"}
	}
	if kind := cmp.Or(from.Provider, string(provider.Claude)); provider.Kind(kind).Traits().Key() {
		if err := checkKey(from.Record.AccessToken.Reveal(), "the key in "+from.String()); err != nil {
			return err
		}
	}
	if err := otherHome(c.Context, cfg, from, name); err != nil {
		return err
	}
	if dir := source.ClaudeDir(getenv, from, profile); dir != "" {
		return adopt(c, from, dir, name, profile)
	}
	if exists {
		if err := checkClient(from, profile); err != nil {
			return err
		}
	}
	return take(c, from, name, profile)
}

// checkClient refuses a sign-in that the profile's client could not renew.
func checkClient(from source.Source, profile agent.Profile) error {
	settings, err := config.Settings(profile)
	if err != nil || from.Client == "" || from.Client == settings.ClientID || from.Record.RefreshToken.Empty() {
		return err
	}
	return &protocol.Error{Code: protocol.CodeConfig,
		Message: fmt.Sprintf("the sign-in in %s was made for the client %q, and profile %s has another client, which can't renew it",
			from, from.Client, profile.Name),
		Hint: fmt.Sprintf("name a profile that does not exist yet with -p, or set client_id = %q for this one in config.toml",
			from.Client)}
}

// otherHome refuses a copy of a sign-in that Claude Code or another profile uses already. The first renewal of one copy would
// spend the refresh token of the other.
func otherHome(ctx context.Context, cfg agent.Config, from source.Source, name string) error {
	own, others, err := config.Homes(getenv, cfg, name)
	if err != nil {
		return err
	}
	profile, _ := config.Find(cfg, name)
	var at store.Store
	if dir := source.ClaudeDir(getenv, from, profile); dir != "" {
		at = store.NewClaudeCode(dir)
	}
	return worker.OtherHome(ctx, own, at, from.Record, others)
}

// adopt makes the profile use Claude Code's own file in dir.
func adopt(c *cli.Context, from source.Source, dir, name string, profile agent.Profile) error {
	if profile.Name != "" && !config.Store(profile).MayBe(store.KindClaudeCode) {
		return &protocol.Error{Code: protocol.CodeConfig,
			Message: fmt.Sprintf("%s is Claude Code's own file, and profile %s has store = %q, so the sign-in would be in two places",
				from, name, profile.Store),
			Hint: "choose another profile with -p, or set store = \"claude-code\""}
	}
	conn, err := connect(c, true)
	if err != nil {
		return err
	}
	defer conn.Close()
	var done undo.Steps
	if !config.SameDir(dir, config.ClaudeDir(getenv, profile)) {
		if profile.Name != "" && config.Written(getenv, name) && profile.ConfigDir == "" {
			return &protocol.Error{Code: protocol.CodeConfig,
				Message: fmt.Sprintf("profile %s in config.toml uses the Claude Code directory %s, and not %s", profile.Name,
					config.ClaudeDir(getenv, profile), dir),
				Hint: fmt.Sprintf("set config_dir = %q for it there, or name a profile that does not exist yet: ccagent import %s -p NAME",
					dir, protocol.ShellLine(from.Argument()))}
		}
		if profile.ConfigDir != "" || profile.Name != "" && source.HasSignIn(config.ClaudeDir(getenv, profile)) && !c.Bool("force") {
			return &protocol.Error{Code: protocol.CodeConfig,
				Message: fmt.Sprintf("profile %s already uses the sign-in in %s", name, config.ClaudeDir(getenv, profile)),
				Hint:    fmt.Sprintf("make a profile of its own for %s: ccagent import %s -p NAME", dir, protocol.ShellLine(from.Argument()))}
		}
		edit, err := config.Add(conn.Ctx, getenv, name, config.Table{Provider: string(provider.Claude), ConfigDir: &dir}, false)
		if err != nil {
			return err
		}
		conn.Edited(&done, edit, "ccagent remove "+name+" --yes")
		if err := conn.Reload(); err != nil {
			return done.Fail(c.Context, err)
		}
	}
	// Only the agent knows for sure where the profile's sign-in is, because it may remember another place.
	_, tokenErr := conn.Token(conn.Ctx, protocol.TokenRequest{Profile: name, Quiet: true})
	status, err := conn.Status(conn.Ctx, protocol.StatusRequest{Profile: name})
	if err != nil {
		return done.Fail(c.Context, err)
	}
	if len(status.Profiles) == 1 && slices.Contains(store.Kinds(store.Traits.Ours), store.Kind(status.Profiles[0].Store)) {
		return done.Fail(c.Context, &protocol.Error{Code: protocol.CodeConfig,
			Message: fmt.Sprintf("profile %s has a sign-in of its own in %s", name, status.Profiles[0].Location),
			Hint:    fmt.Sprintf("remove that first (ccagent remove %s), or choose another profile with -p", name)})
	}
	if tokenErr != nil {
		tokenErr = conn.Explain(name, tokenErr)
		io.WriteString(c.App.ErrWriter, protocol.Explain(&protocol.Error{
			Message: "warning: the sign-in gives no token at the moment: " + tokenErr.Error(), Hint: protocol.HintOf(tokenErr)}))
	}
	_, err = fmt.Fprintf(c.App.Writer, "%s: uses %s together with Claude Code (%s)\n", name, from, describe(from.Record))
	return err
}

// take stores a copy of the source, and retires the predecessor's file, because only one copy of a rotating sign-in survives.
func take(c *cli.Context, from source.Source, name string, profile agent.Profile) error {
	if dir := config.ClaudeDir(getenv, profile); profile.Name != "" && config.MayUseClaude(profile) &&
		!c.Bool("force") {
		if other, err := source.Read(environ.ClaudeFile(dir), nil); err == nil && other.Record.Serves(time.Now()) &&
			!sameTokens(other.Record, from.Record) {
			return &protocol.Error{Code: protocol.CodeConfig,
				Message: fmt.Sprintf("profile %s is Claude Code's own sign-in in %s, and that would be replaced", name, other),
				Hint: "to use Claude Code's: " + protocol.ShellLine("ccagent", "import", "-p", name, other.Argument()) +
					"\nto add a profile: " + protocol.ShellLine("ccagent", "import", from.Argument()) + " -p NAME" +
					"\nto replace it: " + protocol.ShellLine("ccagent", "import", "-p", name, "--force", from.Argument())}
		}
	}
	record, err := from.Record.Marshal()
	if err != nil {
		return err
	}
	conn, err := connect(c, true)
	if err != nil {
		return err
	}
	defer conn.Close()
	var done undo.Steps
	if profile.Name == "" {
		table := config.Table{Provider: string(provider.Claude), Store: string(store.KindFile)}
		if from.Client != "" && from.Client != provider.Claude.Traits().Defaults.ClientID && !from.Record.RefreshToken.Empty() {
			table.ClientID = &from.Client
		}
		edit, err := config.Add(conn.Ctx, getenv, name, table, false)
		if err != nil {
			return done.Fail(c.Context, err)
		}
		conn.Edited(&done, edit, "ccagent remove "+name+" --yes")
		if err := conn.Reload(); err != nil {
			return done.Fail(c.Context, err)
		}
	}
	before := ""
	if from.Retires(getenv) {
		if before, err = inForce(conn, name); err != nil {
			return done.Fail(c.Context, err)
		}
	}
	reply, err := conn.Put(conn.Ctx, protocol.PutRequest{Profile: name, Record: record, Force: c.Bool("force")})
	if err != nil {
		return done.FailAt(conn.Ctx, name, err)
	}
	done.Did(undo.Step{
		Back: func(ctx context.Context) error { return putBack(ctx, conn, name, before) },
		Left: "the sign-in is in " + terminal.Sanitize(reply.Location) + " as well", Mend: "ccagent remove " + name + " --yes",
	})
	retired, err := from.Retire(c.Context, getenv, c.App.ErrWriter)
	if err != nil {
		return done.Fail(c.Context, err)
	}
	terminal.Notice(c.App.ErrWriter, reply.Notice)
	if _, err := fmt.Fprintf(c.App.Writer, "%s: took the sign-in of %s into %s (%s)\n", name, from,
		terminal.Sanitize(reply.Location),
		describe(from.Record)); err != nil {
		return err
	}
	if retired != "" {
		_, err = fmt.Fprintln(c.App.Writer, retired)
	}
	return err
}

// inForce returns the id of the sign-in that a profile uses now. It is empty if nothing is stored, or if the store keeps no
// history.
func inForce(conn *dial.Conn, name string) (string, error) {
	reply, err := conn.Keep(conn.Ctx, protocol.KeepRequest{Action: protocol.KeepHistory, Profile: name})
	for _, past := range reply.Past {
		if past.Current {
			return past.ID, nil
		}
	}
	if errors.Is(err, protocol.ErrConfig) { // store memory
		err = nil
	}
	return "", err
}

// putBack restores the sign-in that the profile used before, by its id.
func putBack(ctx context.Context, conn *dial.Conn, name, before string) error {
	var err error
	if before == "" {
		_, err = conn.Control(ctx, protocol.ControlRequest{Command: protocol.CommandRemove, Profile: name})
	} else {
		_, err = conn.Keep(ctx, protocol.KeepRequest{Action: protocol.KeepRestore, Profile: name, SignIn: before})
	}
	return err
}

// describe describes a sign-in without its tokens.
func describe(r store.Record) string {
	parts := []string{terminal.Expires(time.Now(), r.Expiry)}
	if r.Subscription != "" {
		parts = append(parts, "subscription "+r.Subscription)
	}
	if len(r.Scopes) > 0 {
		parts = append(parts, "scopes "+strings.Join(r.Scopes, " "))
	}
	if r.RefreshToken.Empty() {
		parts = append(parts, "without a refresh token")
	}
	return terminal.Sanitize(strings.Join(parts, ", "))
}

func sameTokens(a, b store.Record) bool {
	return a.AccessToken.Reveal() == b.AccessToken.Reveal() && a.RefreshToken.Reveal() == b.RefreshToken.Reveal()
}

// importIdentity returns what decrypts an encrypted export.
func importIdentity(c *cli.Context) (store.Identity, error) {
	path := c.String("identity")
	if path == "" {
		return store.Identity{}, &protocol.Error{
			Code:    protocol.CodeConfig,
			Message: "the input is encrypted",
			Hint:    "name the file with the key: --identity FILE",
		}
	}
	key, err := store.UnlockIdentity(path, protocol.Secret{})
	if errors.Is(err, protocol.ErrLocked) {
		var passphrase protocol.Secret
		if passphrase, err = terminal.AskPassphrase(c.Context, err.Error()); err != nil {
			return store.Identity{}, err
		}
		key, err = store.UnlockIdentity(path, passphrase)
	}
	if err != nil {
		return store.Identity{}, err
	}
	return store.ParseIdentity(key)
}
