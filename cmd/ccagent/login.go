package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/ccagent/ccagent/agent/oauth"
	"github.com/ccagent/ccagent/agent/provider"
	"github.com/ccagent/ccagent/agent/worker"
	"github.com/ccagent/ccagent/cmd/ccagent/config"
	"github.com/ccagent/ccagent/cmd/ccagent/dial"
	"github.com/ccagent/ccagent/cmd/ccagent/signin"
	"github.com/ccagent/ccagent/cmd/ccagent/terminal"
	"github.com/ccagent/ccagent/cmd/ccagent/undo"
	"github.com/ccagent/ccagent/lookalike"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store"
)

// saveTime is how long the agent may take to store a finished sign-in.
const saveTime = 2 * time.Minute

func loginCommand() *cli.Command {
	return &cli.Command{
		Name:      "login",
		Usage:     "sign in",
		ArgsUsage: "[PROFILE]",
		Description: `Signs in with the browser. If there is none (over ssh, without a display), you enter a code on
another device, or paste. A grant for machines asks nobody. Your earlier sign-in stays until the new
one is complete.

A profile that does not exist yet is made from the options, or from a fragment of config.toml that a
team shares (--profile-from). It is written to config.toml when the sign-in is complete. A client
secret is asked for, or read from standard input. It is never taken from an argument, because other
users can see arguments. For a profile that is signed in, --client-secret-stdin changes the client
secret alone: the sign-in is renewed with it at once, and keeps the old one if that fails.

The vendor's terms reserve signing in with a Claude subscription (provider claude) for the vendor's
own applications. Use a gateway, your company's identity provider or an API key, unless the vendor
has allowed you to do this.

EXAMPLE:
   ccagent login
   ccagent login gateway --provider oidc --issuer https://sso.example.com --client-id llm-gateway
   ccagent login docs --mcp https://mcp.example.com/mcp
   ccagent login robot --client-secret-stdin < secret.txt
   ccagent login --profile-from https://example.com/ccagent.toml`,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "browser", Usage: "open the browser, even if there seems to be none"},
			&cli.BoolFlag{Name: "no-browser", Usage: "do not open a browser; use a code for another device, else paste"},
			&cli.BoolFlag{Name: "device", Usage: "show a code that you enter on another device"},
			&cli.BoolFlag{Name: "paste", Usage: "print the address, and read what you paste from the browser"},
			&cli.StringSliceFlag{Name: "scope", Usage: "ask for this `SCOPE` too (may be repeated)"},
			&cli.BoolFlag{Name: "force", Aliases: []string{"f"}, Usage: "do not ask before a sign-in that still works is replaced"},
			&cli.DurationFlag{
				Name:        "timeout",
				EnvVars:     []string{"CCAGENT_LOGIN_TIMEOUT"},
				DefaultText: "login_timeout, else 5m",
				Usage:       "wait at most `DURATION` for you to sign in",
			},
			&cli.BoolFlag{
				Name:  "client-secret-stdin",
				Usage: "read the client secret from standard input, or ask for it; of a profile that is signed in, change it alone",
			},
			&cli.IntFlag{
				Name:        "assertion-fd",
				Value:       -1,
				DefaultText: "none",
				Usage:       "grant jwt-bearer: read the assertion from this file `DESCRIPTOR`",
			},
			&cli.StringFlag{
				Name:      "profile-from",
				Usage:     "make the profile from the fragment of config.toml at this `URL` or in this file",
				TakesFile: true,
			},
			&cli.BoolFlag{
				Name:    "yes",
				Aliases: []string{"y"},
				Usage:   "do not ask before the profile of --profile-from is added",
			},
			&cli.StringFlag{
				Name:  "mcp",
				Usage: "new profile: sign in to the MCP server at this `URL`, which says where; ccagent registers itself there",
			},
			&cli.StringFlag{Name: "provider", Usage: "new profile: `PROVIDER` is oidc, oauth2 or claude"},
			&cli.StringFlag{Name: "issuer", Usage: "new profile: the `URL` of the issuer"},
			&cli.StringFlag{Name: "client-id", Usage: "new profile: the `ID` under which ccagent is registered at the provider"},
			&cli.StringFlag{
				Name:  "client-auth",
				Usage: "new profile: how the client authenticates: `METHOD` is one of " + strings.Join(config.ClientAuths, ", "),
			},
			&cli.StringFlag{
				Name:  "grant",
				Usage: "new profile: `GRANT` is one of " + strings.Join(config.Grants, ", "),
			},
			&cli.StringFlag{Name: "authorize-url", Usage: "new profile: the `URL` of the authorize endpoint"},
			&cli.StringFlag{Name: "token-url", Usage: "new profile: the `URL` of the token endpoint"},
			&cli.StringFlag{Name: "device-url", Usage: "new profile: the `URL` of the device authorization endpoint"},
			&cli.StringFlag{
				Name:      "ca-file",
				Usage:     "new profile: judge the provider's servers by the certificate authorities in this `FILE`",
				TakesFile: true,
			},
			&cli.StringFlag{
				Name: "store",
				Usage: "new profile: where the sign-in is stored: " + storeWords(provider.Claude.Traits().Stores) +
					" (claude-code: only with provider claude)",
			},
		},
		Action: login,
	}
}

// signIn is one run of `ccagent login`.
type signIn struct {
	signin.Flow
	c       *cli.Context
	table   *config.Table // of a profile that is not written yet
	replace bool
	living  string          // the profile whose sign-in is about to be replaced; empty: none
	secret  protocol.Secret // the client secret
	mcp     mcpSignIn       // where the profile is that of an MCP server
	saving  bool            // the sign-in is complete, and Ctrl-C no longer ends it
}

func login(c *cli.Context) error {
	ctx, stop := signal.NotifyContext(c.Context, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	s := &signIn{c: c, Flow: signin.Flow{
		Screen: signin.NewScreen(c.App.ErrWriter, getenv), In: c.App.Reader, Err: c.App.ErrWriter, Env: getenv,
	}}
	err := s.run(ctx)
	if err != nil {
		s.giveUp(ctx, err)
	}
	if err != nil && ctx.Err() != nil && !s.saving {
		return terminal.ErrInterrupted
	}
	return err
}

func (s *signIn) run(ctx context.Context) error {
	if err := s.checkFlags(); err != nil {
		return err
	}
	if err := s.profile(ctx); err != nil {
		return err
	}
	client, err := protocol.ClientFromEnv(true)
	if err != nil {
		return err
	}
	defer client.Close()
	if err := dial.Awake(ctx, client); err != nil { // a silent agent could not store the sign-in
		return err
	}
	if s.forSecretAlone() {
		if done, err := s.changeSecret(ctx, client); done || err != nil {
			return err
		}
	}
	if err := s.mayReplace(ctx, client); err != nil {
		return err
	}
	if err := s.knowMCP(ctx); err != nil {
		return err
	}
	if err := s.secrets(ctx); err != nil {
		return err
	}
	if s.Client, err = worker.ClientOf(s.Settings, s.secret); err != nil {
		return err
	}
	if s.table != nil { // the profile is not written yet, so its name alone would not do
		s.Client.Command = typed()
	}

	wait := s.Settings.LoginTimeout
	if s.c.IsSet("timeout") {
		wait = s.c.Duration("timeout")
	}
	waiting, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	reply, finish, err := s.Obtain(waiting)
	if err != nil {
		if ctx.Err() == nil && waiting.Err() != nil {
			err = s.tooLate(wait)
		}
		if s.c.Bool("client-secret-stdin") && s.table == nil && config.MachineGrant(s.Settings.Grant) {
			err = secretKept(err)
		}
		finish(err)
		return err
	}
	s.saving = true // from here on there is something to lose
	saving, cancelSaving := context.WithTimeout(context.WithoutCancel(ctx), saveTime)
	defer cancelSaving()
	saved, err := s.save(saving, client, reply)
	finish(err)
	if err != nil {
		return err
	}
	s.settled(saving)
	s.notice(saving, client, saved.Notice)
	if missing := s.withoutRefreshToken(time.Now(), reply); missing != nil {
		io.WriteString(s.c.App.ErrWriter, protocol.Explain(missing))
	}
	s.checkMCP(ctx, reply.AccessToken)
	who := s.who(ctx, client, reply)
	if who != "" {
		who = " as " + terminal.Sanitize(who)
	}
	_, err = fmt.Fprintf(s.c.App.Writer, "signed in to %s%s; kept in %s\n", s.Settings.Name, who,
		terminal.Sanitize(cmp.Or(saved.Location, "memory")))
	return err
}

// tooLate is the error of a person who has not signed in for so long.
func (s *signIn) tooLate(wait time.Duration) error {
	e := &protocol.Error{Code: protocol.CodeLogin, Message: "the sign-in was not completed within " + terminal.Span(wait),
		Hint: "start again: " + s.Client.Login() + "\n--timeout gives you more time"}
	if s.Check != "" {
		e.Hint += "\n" + s.Check
	}
	return e
}

// who says who has signed in, "" if nobody says so.
func (s *signIn) who(ctx context.Context, client *protocol.Client, reply oauth.Reply) string {
	named := cmp.Or(reply.Identity.Email, reply.Identity.Name)
	if s.Client.ProfileURL == "" || config.MachineGrant(s.Settings.Grant) {
		return named
	}
	asking, cancel := context.WithTimeout(ctx, signin.ProbeTime)
	defer cancel()
	// An ID token may hold neither a name nor an email. Then the endpoint is asked, although something is known already.
	id, err := client.Identify(asking, protocol.IdentifyRequest{Profile: s.Settings.Name, Refresh: named == ""})
	if err != nil {
		return named
	}
	return cmp.Or(id.Email, id.Name, id.Account, named)
}

// typed is the command as it was typed.
func typed() string { return protocol.ShellLine(append([]string{"ccagent"}, os.Args[1:]...)...) }

// notice prints what the agent says of a sign-in that it has taken. If it could not save that, a folder or a bus that this shell
// knows and the agent does not may be the reason.
func (s *signIn) notice(ctx context.Context, client *protocol.Client, text string) {
	if !strings.HasPrefix(text, protocol.NotSavedYet) {
		terminal.Notice(s.c.App.ErrWriter, text)
		return
	}
	err := protocol.Elsewhere(ctx, client, &protocol.Error{Code: protocol.CodeStorage, Message: text})
	if hint := protocol.HintOf(err); hint != "" {
		err.(*protocol.Error).Hint = hint + "\nit refuses to end while it alone holds the sign-in: `ccagent stop --force` gives " +
			"that up, then sign in again"
	}
	io.WriteString(s.c.App.ErrWriter, protocol.Explain(err))
}

// checkFlags refuses flags that contradict each other.
func (s *signIn) checkFlags() error {
	c := s.c
	if err := atMost(c, 1); err != nil {
		return err
	}
	ways := 0
	for flag, way := range map[string]signin.Way{
		"browser": signin.Browser, "no-browser": signin.NoBrowser, "device": signin.Device, "paste": signin.Paste,
	} {
		if c.Bool(flag) {
			s.Way = way
			ways++
		}
	}
	switch {
	case ways > 1:
		return usagef(c, "give at most one of --browser, --no-browser, --device and --paste")
	case c.IsSet("timeout") && c.Duration("timeout") <= 0:
		return usagef(c, "--timeout must be more than 0")
	case c.IsSet("assertion-fd") && c.Int("assertion-fd") < 0:
		return usagef(c, "--assertion-fd must not be negative")
	case c.Bool("paste") && c.Bool("client-secret-stdin"):
		return usagef(c, "--client-secret-stdin and --paste both read standard input")
	}
	for _, scope := range c.StringSlice("scope") {
		if !config.ScopeToken(scope) {
			return usagef(c, "--scope %q is not one scope", scope)
		}
	}
	return nil
}

// mayReplace asks before a sign-in that still works is replaced. It does not ask for a machine's sign-in, because the same
// request would bring it again.
func (s *signIn) mayReplace(ctx context.Context, client *protocol.Client) error {
	if s.c.Bool("force") || s.living == "" || config.MachineGrant(s.Settings.Grant) {
		return dial.Start(ctx, client) // no sign-in begins without an agent to store it
	}
	asking, cancel := context.WithTimeout(ctx, signin.ProbeTime)
	defer cancel()
	token, err := client.Token(asking, protocol.TokenRequest{Profile: s.living, Quiet: true})
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, protocol.ErrNoAgent), errors.Is(err, protocol.ErrLocked), errors.Is(err, protocol.ErrDenied):
		return err
	case err != nil:
		return nil // there is no sign-in to lose
	}
	err = terminal.Confirm(ctx,
		fmt.Sprintf("%s is signed in, and its token %s; replace it?", s.living, terminal.Expires(time.Now(), token.Expiry)), "--force")
	if err != nil && protocol.CodeOf(err) == protocol.CodeConfig {
		return &protocol.Error{
			Code:    protocol.CodeConfig,
			Message: s.living + " is signed in already, and there is no terminal to ask on",
			Hint:    "replace the sign-in with --force",
		}
	}
	return err
}

// forSecretAlone reports whether the command asks for no more than another client secret. A machine's sign-in is made with the
// secret alone, so there it is tried and stored by signing in.
func (s *signIn) forSecretAlone() bool {
	c := s.c
	return c.Bool("client-secret-stdin") && !c.Bool("force") && s.table == nil && s.Way == signin.Fitting && !c.IsSet("scope") &&
		!config.MachineGrant(s.Settings.Grant)
}

// changeSecret has the agent renew the sign-in with the new client secret, and keep that one with it. done is false without an
// error where there is no sign-in that could be renewed: then the person signs in with the new secret.
func (s *signIn) changeSecret(ctx context.Context, client *protocol.Client) (done bool, err error) {
	if err := s.secrets(ctx); err != nil {
		return false, err
	}
	saving, cancel := context.WithTimeout(context.WithoutCancel(ctx), saveTime)
	defer cancel()
	reply, err := dial.Over(saving, client).Keep(saving, protocol.KeepRequest{
		Action: protocol.KeepSecret, Profile: s.Settings.Name, Secret: s.secret,
	})
	switch protocol.CodeOf(err) {
	case protocol.CodeNotFound:
		return false, nil
	case protocol.CodeLoginRequired, protocol.CodeExpired:
		terminal.Notice(s.c.App.ErrWriter, err.Error()+"; sign in with the new client secret")
		s.living = "" // whose token may live still: nothing that could go on is replaced
		return false, nil
	}
	if err != nil {
		return false, secretKept(err)
	}
	s.notice(saving, client, reply.Notice)
	_, err = fmt.Fprintf(s.c.App.Writer, "renewed %s with the new client secret; kept in %s\n", s.Settings.Name,
		terminal.Sanitize(cmp.Or(reply.Location, "memory")))
	return true, err
}

// secretKept is err, with the word that the client secret is still the one from before.
func secretKept(err error) error {
	return &protocol.Error{
		Code: protocol.CodeOf(err), Message: "the client secret was not changed: " + err.Error(), Hint: protocol.HintOf(err),
		Detail: protocol.DetailOf(err),
	}
}

// secrets reads what the client authenticates with.
func (s *signIn) secrets(ctx context.Context) error {
	fromStdin := s.c.Bool("client-secret-stdin")
	asks := terminal.Of(s.c.App.Reader) != nil // without an echo
	switch {
	case s.Settings.Registered && fromStdin:
		return usagef(s.c, "ccagent has registered the client of profile %s itself, and has its secret", s.Settings.Name)
	case s.Settings.Registered: // its secret came with the registration
	case fromStdin && !config.WantsSecret(s.Settings.Grant, s.Settings.ClientAuth):
		return usagef(s.c, "the client_auth of profile %s takes no client secret", s.Settings.Name)
	case !s.secret.Empty(): // it was read before
	case fromStdin && !asks:
		secret, err := terminal.ReadSecret(s.c.App.Reader, "client secret")
		if err != nil {
			return err
		}
		s.secret = secret
	case config.WantsSecret(s.Settings.Grant, s.Settings.ClientAuth):
		line, err := terminal.Ask(ctx, "client secret of "+s.Settings.Name+" (not shown):", true)
		if errors.Is(err, terminal.ErrNone) {
			return &protocol.Error{
				Code:    protocol.CodeConfig,
				Message: "this needs a client secret, and there is no terminal to ask on",
				Hint:    "give it on standard input with --client-secret-stdin",
			}
		}
		if err != nil {
			return err
		}
		if s.secret, err = terminal.CheckSecret(line, "client secret"); err != nil {
			return err
		}
	}
	// A client secret may be any text. These are none that a provider has made.
	if is := lookalike.Of(s.secret.Reveal()); is != nil && slices.Contains(
		[]lookalike.Kind{lookalike.Word, lookalike.Variable, lookalike.Object, lookalike.Assignment}, is.Kind) {
		return &protocol.Error{Code: protocol.CodeConfig, Message: "that is " + is.What + ", and not a client secret",
			Hint: "give the client secret alone, as the provider shows it"}
	}
	if s.Settings.Grant != "jwt-bearer" {
		if s.c.IsSet("assertion-fd") {
			return usagef(s.c, "--assertion-fd can only be used with grant jwt-bearer")
		}
		return nil
	}
	if !s.c.IsSet("assertion-fd") {
		return nil // the settings say where the assertion comes from
	}
	f := os.NewFile(uintptr(s.c.Int("assertion-fd")), "assertion")
	if f == nil {
		return usagef(s.c, "--assertion-fd %d is not open", s.c.Int("assertion-fd"))
	}
	defer f.Close()
	var err error
	s.Assertion, err = terminal.ReadSecret(f, "assertion")
	return err
}

// save has the agent store the sign-in. The table of a new profile is written first, and removed again if the agent refuses.
func (s *signIn) save(ctx context.Context, client *protocol.Client, reply oauth.Reply) (protocol.PutReply, error) {
	record, err := s.record(reply)
	if err != nil {
		return protocol.PutReply{}, err
	}
	var done undo.Steps
	conn := dial.Over(ctx, client)
	edit, err := s.write(ctx)
	if err != nil {
		return protocol.PutReply{}, done.Fail(ctx, err)
	}
	if edit != nil {
		conn.Edited(&done, edit, "ccagent remove "+s.Settings.Name+" --yes")
		if err := conn.Reload(); err != nil {
			return protocol.PutReply{}, done.Fail(ctx, err)
		}
	}
	saved, err := conn.Put(ctx, protocol.PutRequest{Profile: s.Settings.Name, Record: record, SignIn: true, Force: true})
	if err != nil {
		return saved, done.FailAt(conn.Ctx, s.Settings.Name, err)
	}
	return saved, nil
}

// write writes into config.toml what a new profile is, or which client an old one is now. It returns nil where nothing changes.
func (s *signIn) write(ctx context.Context) (*config.Edit, error) {
	switch {
	case s.table != nil:
		return config.Add(ctx, getenv, s.Settings.Name, *s.table, s.replace)
	case s.mcp.fresh:
		return config.SetClient(ctx, getenv, s.Settings.Name, s.Settings.ClientID, s.Settings.ClientAuth, s.Settings.RedirectPort)
	}
	return nil, nil
}

func (s *signIn) record(reply oauth.Reply) (protocol.Secret, error) {
	origin, err := oauth.Origin(s.Client.TokenURL)
	if err != nil {
		return protocol.Secret{}, err
	}
	r := store.Record{
		Kind:        s.Settings.Provider.Traits().Token,
		AccessToken: reply.AccessToken, RefreshToken: reply.RefreshToken,
		Expiry: reply.Expiry.Truncate(
			time.Millisecond,
		), Issued: reply.Issued.Truncate(time.Millisecond), GrantExpiry: reply.GrantExpiry,
		Scopes: reply.Scopes, TokenOrigin: origin, ClientSecret: s.secret, Assertion: s.Assertion, Identity: reply.Identity,
		Subscription: reply.Identity.Subscription, IDToken: reply.IDToken, IDTokenExpiry: reply.IDTokenExpiry,
		RegistrationURL: s.mcp.client.URL, RegistrationToken: s.mcp.client.Token,
	}
	if !r.IDToken.Empty() {
		r.IDTokenIssued = r.Issued
	}
	if !r.GrantExpiry.IsZero() {
		r.GrantSince = r.Issued
	}
	if s.Settings.Issuer != "" {
		for _, site := range s.Client.Sites() {
			r.Origins = append(r.Origins, site.Origin)
		}
	}
	if r.Scopes == nil {
		r.Scopes = s.Settings.Scopes // RFC 6749 section 5.1: a reply without scopes grants those that were asked for
	}
	return r.Marshal()
}

// withoutRefreshToken says until when a sign-in lasts that nothing can renew, and hints at what may bring a refresh token. It is
// nil where one came, or none is needed.
func (s *signIn) withoutRefreshToken(now time.Time, reply oauth.Reply) error {
	if !reply.RefreshToken.Empty() || config.MachineGrant(s.Settings.Grant) {
		return nil
	}
	missing := &protocol.Error{
		Message: "no refresh token came with this sign-in, so it ends with its token, which " + terminal.Expires(now, reply.Expiry),
		Hint: "many providers give a refresh token for the scope offline_access: " +
			protocol.ShellLine("ccagent", "login", "--force", "--scope", "offline_access", s.Settings.Name) +
			"\nwhat others want is in docs/login.md",
	}
	switch {
	case slices.Contains(s.Settings.Scopes, "offline_access"):
		missing.Hint = "offline_access was asked for: have the provider allow refresh tokens to this client (docs/login.md)"
	case s.Settings.MCPURL != "" && !s.Client.SupportsScope("offline_access"): // asked for, it might be refused
		missing.Hint = "the server's provider lists no scope that brings one; sign in again then: " +
			protocol.ShellLine("ccagent", "login", s.Settings.Name)
	}
	return missing
}
