package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ccagent/ccagent/agent"
	"github.com/ccagent/ccagent/agent/oauth"
	"github.com/ccagent/ccagent/agent/provider"
	"github.com/ccagent/ccagent/agent/worker"
	"github.com/ccagent/ccagent/cmd/ccagent/build"
	"github.com/ccagent/ccagent/cmd/ccagent/config"
	"github.com/ccagent/ccagent/cmd/ccagent/signin"
	"github.com/ccagent/ccagent/cmd/ccagent/terminal"
	"github.com/ccagent/ccagent/cmd/ccagent/undo"
	"github.com/ccagent/ccagent/hosts"
	"github.com/ccagent/ccagent/protocol"
)

// This file signs in to an MCP server, as its authorization specification has it (docs/facts.md): the server says where one signs
// in to it, and ccagent registers itself there, unless the person gives the id of a client.

// mcpSignIn is what a sign-in to an MCP server knows beyond others.
type mcpSignIn struct {
	found  bool               // this run has asked the server where one signs in
	client oauth.Registration // the client that is registered, as far as it is kept
	old    oauth.Registration // the one before it, which the server need not keep
	fresh  bool               // client was registered by this run, and is not written anywhere yet
}

// unregistered is the client id of a profile that is planned, until ccagent has registered itself. It is never written.
const unregistered = "not-registered-yet"

// mcpTable returns the table of a new profile for the MCP server of --mcp. It returns nil for a profile that is that server's
// already.
func (s *signIn) mcpTable(ctx context.Context, cfg agent.Config, path, name string) (*config.Table, error) {
	address := s.c.String("mcp")
	for _, flag := range []string{"profile-from", "provider", "grant", "authorize-url", "token-url", "device-url"} {
		if s.c.IsSet(flag) {
			return nil, usagef(s.c, "--%s has no meaning with --mcp, where the server says how one signs in to it", flag)
		}
	}
	switch {
	case name == "":
		return nil, usagef(s.c, "name the PROFILE that --mcp is to make: ccagent login NAME --mcp URL")
	case s.c.IsSet("client-auth") && !s.c.IsSet("client-id"):
		return nil, usagef(s.c, "--client-auth has no meaning without --client-id: ccagent registers itself")
	case s.c.Bool("client-secret-stdin") && !s.c.IsSet("client-id"):
		return nil, usagef(s.c, "--client-secret-stdin has no meaning without --client-id: ccagent registers itself")
	}
	if old, exists := config.Find(cfg, name); exists && s.describes(old) {
		return nil, nil
	}
	if err := s.mayMake(cfg, path, name); err != nil {
		return nil, err
	}
	settings := worker.Settings{Name: name, UserAgent: "ccagent/" + build.Version(), MCPURL: address}
	if file, err := s.authorities(); err != nil {
		return nil, err
	} else if file != nil {
		settings.CAFile = *file
	}
	client, err := worker.ClientOf(settings, protocol.Secret{})
	if err != nil {
		return nil, err
	}
	client.Command = typed()
	resource, err := client.FindResource(ctx, address)
	if err != nil {
		return nil, err
	}
	if len(resource.Issuers) == 0 && !s.c.IsSet("issuer") {
		resource.Issuers = ownIssuer(ctx, *client, address)
	}
	if client.Issuer, err = s.issuerOf(ctx, address, resource); err != nil {
		return nil, err
	}
	if err := client.Discover(ctx); err != nil {
		return nil, err
	}
	s.mcp.found = true
	s.announce(address, client.Issuer, resource.ID)
	return s.tableOf(client, resource, address)
}

// ownIssuer returns the site of an MCP server that names no authorization server, if it is one. Each had to be that before
// servers described themselves (docs/facts.md).
func ownIssuer(ctx context.Context, client oauth.Client, address string) []string {
	var err error
	if client.Issuer, err = oauth.Origin(address); err != nil || client.Discover(ctx) != nil {
		return nil
	}
	return []string{client.Issuer}
}

// describes reports whether --mcp and the flags beside it describe a profile as it is.
func (s *signIn) describes(profile agent.Profile) bool {
	settings, err := config.Settings(profile)
	if err != nil || settings.MCPURL != s.c.String("mcp") {
		return false
	}
	if file, err := s.authorities(); err != nil || file != nil && *file != settings.CAFile {
		return false
	}
	for flag, is := range map[string]string{
		"issuer": settings.Issuer, "client-id": settings.ClientID, "client-auth": settings.ClientAuth, "store": string(settings.Store),
	} {
		if s.c.IsSet(flag) && s.c.String(flag) != is {
			return false
		}
	}
	return true
}

// tableOf is the table of a profile for an MCP server.
func (s *signIn) tableOf(client *oauth.Client, resource oauth.Resource, address string) (*config.Table, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	host, err := hosts.Pattern(u.Host)
	if err != nil {
		return nil, usagef(s.c, "the host of %s can't be written into hosts: %s", address, err)
	}
	id := s.c.String("client-id")
	t := &config.Table{
		Provider: string(provider.OAuth2), Store: s.c.String("store"), Issuer: &client.Issuer, MCPURL: &address,
		ClientID: &id, ClientAuth: given(s.c, "client-auth"), Resource: []string{resource.ID}, Hosts: []string{host},
		Scopes: slices.Clone(resource.Scopes),
	}
	for _, scope := range s.c.StringSlice("scope") {
		if !slices.Contains(t.Scopes, scope) {
			t.Scopes = append(t.Scopes, scope)
		}
	}
	// MCP leaves it to the authorization server whether there are refresh tokens, and this scope is how one asks.
	if len(t.Scopes) > 0 && client.SupportsScope("offline_access") && !slices.Contains(t.Scopes, "offline_access") {
		t.Scopes = append(t.Scopes, "offline_access")
	}
	switch {
	case !s.c.IsSet("client-id"):
		if err := client.CanRegister(); err != nil {
			return nil, err
		}
		yes := true
		id, t.Registered = unregistered, &yes
	case t.ClientAuth == nil && s.c.Bool("client-secret-stdin"):
		auth := string(client.DefaultAuth())
		t.ClientAuth = &auth
	}
	for _, value := range []string{id, t.Store, address, client.Issuer, resource.ID} {
		if !config.Encodable(value) {
			return nil, usagef(s.c, "%q is not UTF-8, which config.toml must be", value)
		}
	}
	return t, nil
}

// issuerOf chooses one of the authorization servers that an MCP server names.
func (s *signIn) issuerOf(ctx context.Context, address string, r oauth.Resource) (string, error) {
	listed := terminal.Sanitize(strings.Join(r.Issuers, ", "))
	switch wanted := s.c.String("issuer"); {
	case wanted != "" && (len(r.Issuers) == 0 || hasIssuer(r.Issuers, wanted)):
		return wanted, nil
	case wanted != "":
		return "", &protocol.Error{Code: protocol.CodeConfig,
			Message: fmt.Sprintf("%s does not name the authorization server %s", address, terminal.Sanitize(wanted)),
			Hint:    "leave out --issuer, or give what it names: " + listed}
	case len(r.Issuers) == 0:
		return "", &protocol.Error{Code: protocol.CodeConfig,
			Message: address + " wants a token, and does not say where one signs in to it (RFC 9728)",
			Hint:    "if you know its authorization server, name it with --issuer URL"}
	case len(r.Issuers) == 1:
		return r.Issuers[0], nil
	case !terminal.CanAsk():
		return "", &protocol.Error{Code: protocol.CodeConfig,
			Message: address + " names several authorization servers, and there is no terminal to ask on: " + listed,
			Hint:    "choose one with --issuer URL"}
	}
	text := address + " names several authorization servers:\n\n"
	for i, issuer := range r.Issuers {
		text += fmt.Sprintf("  %d  %s\n", i+1, terminal.Sanitize(issuer))
	}
	s.Screen.Say(text)
	answer, err := terminal.Ask(ctx, fmt.Sprintf("at which do you sign in? [1-%d]", len(r.Issuers)), false)
	if err != nil {
		return "", err
	}
	n, err := strconv.Atoi(answer)
	if err != nil || n < 1 || n > len(r.Issuers) {
		return "", &protocol.Error{Code: protocol.CodeConfig, Message: fmt.Sprintf("%q is none of these numbers", answer),
			Hint: "type the command again, or choose one with --issuer URL"}
	}
	return r.Issuers[n-1], nil
}

// announce says where the sign-in goes, and for what, where that is not the address that the person gave.
func (s *signIn) announce(address, issuer, id string) {
	own, _ := oauth.Origin(address)
	if there, err := oauth.Origin(issuer); err == nil && there != own {
		s.Screen.Say(terminal.Sanitize(fmt.Sprintf("%s has you sign in at %s", own, issuer)))
	}
	if strings.TrimSuffix(id, "/") != strings.TrimSuffix(address, "/") {
		s.Screen.Say(terminal.Sanitize("the token will be good for all of " + id))
	}
}

// knowMCP sees to it that ccagent is a client that the authorization server of an MCP server knows. It does nothing for other
// profiles. All that can fail on this machine comes before it.
func (s *signIn) knowMCP(ctx context.Context) error {
	if s.Settings.MCPURL == "" {
		return nil
	}
	client, err := worker.ClientOf(s.Settings, protocol.Secret{})
	if err != nil {
		return err
	}
	if s.table != nil {
		client.Command = typed()
	}
	if !s.mcp.found { // the profile is there already
		if err := s.sameServer(ctx, client); err != nil {
			return err
		}
		s.stepUp(ctx)
	}
	if !s.Settings.Registered {
		return nil
	}
	if err := client.Discover(ctx); err != nil {
		return err
	}
	free := portIsFree(s.Settings.RedirectPort)
	if s.Settings.ClientID != unregistered {
		client.Secret = s.secret
		known := s.Settings.ClientAuth == "" || s.Settings.ClientAuth == "none" || !s.secret.Empty()
		if free && known && !client.Forgotten(ctx, s.redirect(s.Settings.RedirectPort)) {
			return nil
		}
		s.mcp.old = s.mcp.client
	}
	port := s.Settings.RedirectPort
	if port == 0 || !free {
		if port, err = freePort(); err != nil {
			return err
		}
	}
	registration, err := client.Register(ctx, s.redirect(port))
	if err != nil {
		return err
	}
	if s.Settings.ClientID != unregistered {
		terminal.Notice(s.c.App.ErrWriter, "this client is registered anew at "+terminal.Sanitize(s.Settings.Issuer))
	}
	s.mcp.client, s.mcp.fresh, s.secret = registration, true, registration.Secret
	s.Settings.ClientID, s.Settings.ClientAuth, s.Settings.RedirectPort = registration.ClientID, string(registration.Auth), port
	if s.table != nil {
		s.table.ClientID, s.table.RedirectPort = &registration.ClientID, &port
		if registration.Auth != oauth.None {
			auth := string(registration.Auth)
			s.table.ClientAuth = &auth
		}
	}
	return nil
}

// sameServer fails where an MCP server has changed what the profile was made from. A client is one of a single authorization
// server, and must not be used with another.
func (s *signIn) sameServer(ctx context.Context, client *oauth.Client) error {
	resource, err := client.FindResource(ctx, s.Settings.MCPURL)
	if err != nil {
		return err
	}
	changed := ""
	switch {
	case len(resource.Issuers) > 0 && !hasIssuer(resource.Issuers, s.Settings.Issuer):
		changed = "the authorization server " + strings.Join(resource.Issuers, ", ") + ", and no longer " + s.Settings.Issuer
	case len(resource.Issuers) > 0 && !slices.Contains(s.Settings.Resource, resource.ID):
		changed = "itself " + resource.ID + ", and no longer " + strings.Join(s.Settings.Resource, ", ")
	}
	if changed == "" {
		return nil
	}
	return &protocol.Error{Code: protocol.CodeConfig, Message: terminal.Sanitize(s.Settings.MCPURL + " now names " + changed),
		Hint: "if that is right, make the profile anew: " +
			protocol.ShellLine("ccagent", "remove", s.Settings.Name) + " && " +
			protocol.ShellLine("ccagent", "login", "--mcp", s.Settings.MCPURL, s.Settings.Name)}
}

// hasIssuer reports whether an issuer is among others.
func hasIssuer(issuers []string, issuer string) bool {
	return slices.ContainsFunc(issuers, func(s string) bool { return oauth.SameIssuer(s, issuer) })
}

// readTime bounds the look at the record of the sign-in before.
const readTime = 10 * time.Second

// stepUp takes over from the sign-in before what this one still needs: what the client was registered with, and with --scope the
// scopes that were granted, so that one more is not one less.
func (s *signIn) stepUp(ctx context.Context) {
	reading, cancel := context.WithTimeout(ctx, readTime)
	defer cancel()
	old, err := worker.Read(reading, s.Settings, protocol.Secret{})
	if err != nil {
		return // there is none, or it is locked: then the client is registered anew where it needs a secret
	}
	if s.Settings.Registered {
		s.secret = old.ClientSecret
		s.mcp.client = oauth.Registration{
			ClientID: s.Settings.ClientID, Secret: old.ClientSecret, URL: old.RegistrationURL, Token: old.RegistrationToken,
		}
	}
	if s.c.IsSet("scope") {
		for _, scope := range old.Scopes {
			if config.ScopeToken(scope) && !slices.Contains(s.Settings.Scopes, scope) {
				s.Settings.Scopes = append(s.Settings.Scopes, scope)
			}
		}
	}
}

// redirect is the address that the browser comes back to at a port.
func (s *signIn) redirect(port int) string {
	return oauth.RedirectURI(s.Settings.RedirectHost, port, s.Settings.RedirectPath)
}

// portIsFree reports whether the port of a registration can be had; 0 is any port.
func portIsFree(port int) bool {
	l, err := net.Listen("tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return false
	}
	l.Close()
	return true
}

// freePort returns a port that nobody has now. A registration is for one port, because some servers compare it.
func freePort() (int, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return 0, &protocol.Error{Code: protocol.CodeConfig, Message: "no port can be opened for the browser's answer: " + err.Error()}
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// settled ends what a registration has begun, after the sign-in is stored: the server may forget the client before.
func (s *signIn) settled(ctx context.Context) {
	s.unregister(ctx, s.mcp.old)
	s.mcp.fresh = false
}

// giveUp has the server forget a client that was registered for a sign-in which has failed. Where something of the sign-in is
// left, the client stays too.
func (s *signIn) giveUp(ctx context.Context, failed error) {
	if s.mcp.fresh && !undo.Left(failed) {
		s.unregister(ctx, s.mcp.client)
	}
}

// unregister has the server forget a client that nobody will use. It need not, and where it can't be asked nothing is lost.
func (s *signIn) unregister(ctx context.Context, client oauth.Registration) {
	asking, cancel := context.WithTimeout(context.WithoutCancel(ctx), signin.ProbeTime)
	defer cancel()
	if c, err := worker.ClientOf(s.Settings, protocol.Secret{}); err == nil {
		c.Unregister(asking, client)
	}
}

// checkMCP asks the MCP server whether it takes the token, and says what to do where it doesn't. The sign-in is stored either
// way.
func (s *signIn) checkMCP(ctx context.Context, access protocol.Secret) {
	if s.Settings.MCPURL == "" {
		return
	}
	asking, cancel := context.WithTimeout(ctx, signin.ProbeTime)
	defer cancel()
	if err := s.Client.CheckResource(asking, s.Settings.MCPURL, access); err != nil {
		io.WriteString(s.c.App.ErrWriter, protocol.Explain(err))
	}
}
