package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/ccagent/ccagent/agent"
	"github.com/ccagent/ccagent/agent/provider"
	"github.com/ccagent/ccagent/agent/worker"
	"github.com/ccagent/ccagent/cmd/ccagent/config"
	"github.com/ccagent/ccagent/cmd/ccagent/terminal"
	"github.com/ccagent/ccagent/protocol"
)

// newProfileFlags are the flags that describe a new profile. An existing profile is described by config.toml.
var newProfileFlags = []string{
	"provider",
	"issuer",
	"client-id",
	"client-auth",
	"grant",
	"authorize-url",
	"token-url",
	"device-url",
	"store",
}

// profile finds the profile to sign in to, or makes it from the flags.
func (s *signIn) profile(ctx context.Context) error {
	cfg, path, err := config.Load(getenv)
	if err != nil {
		return err
	}
	name := s.c.Args().First()
	described := slices.IndexFunc(newProfileFlags, s.c.IsSet)
	from := s.c.String("profile-from")
	switch {
	case s.c.IsSet("mcp"):
		if s.table, err = s.mcpTable(ctx, cfg, path, name); err != nil {
			return err
		}
	case from != "" && described >= 0:
		return usagef(s.c, "--profile-from and --%s both describe the profile", newProfileFlags[described])
	case from != "":
		if name, s.table, err = config.Fragment(ctx, from, name); err != nil {
			return err
		}
	case described >= 0:
		if name == "" {
			return usagef(s.c, "name the PROFILE that --%s describes", newProfileFlags[described])
		}
		if s.table, err = s.flagTable(); err != nil {
			return err
		}
	}
	if err := s.judgedBy(name); err != nil {
		return err
	}
	if s.table == nil {
		profile, err := oneProfile(s.c, cfg)
		if errors.Is(err, protocol.ErrNotFound) {
			return &protocol.Error{Code: protocol.CodeNotFound, Message: err.Error(),
				Hint: "make it with: " + protocol.ShellLine("ccagent", "login", name) +
					" --provider oidc --issuer URL --client-id ID\nfor an MCP server: " +
					protocol.ShellLine("ccagent", "login", name) + " --mcp URL\nto see the existing profiles: ccagent list"}
		}
		if err != nil {
			return err
		}
		s.living = profile.Name
		return s.use(profile, s.c.StringSlice("scope"))
	}
	if err := protocol.CheckProfile(name); err != nil {
		return err
	}
	if old, exists := config.Find(cfg, name); exists && from == "" {
		if same, err := config.Plan(getenv, name, *s.table, true); err == nil && reflect.DeepEqual(same, cfg) {
			s.table, s.living = nil, old.Name // it is described as it is
			return s.use(old, nil)
		}
	}
	if from == "" {
		if err := s.mayMake(cfg, path, name); err != nil {
			return err
		}
	}
	s.replace = s.c.Bool("force") && from == ""
	planned, err := config.Plan(getenv, name, *s.table, s.replace || from != "")
	if err != nil {
		return err
	}
	var more []string // scopes; if flags describe the profile, its table has them
	if from != "" {
		if err := s.mayAdd(ctx, from, name, cfg, planned); err != nil {
			return err
		}
		more = s.c.StringSlice("scope")
	}
	profile, ok := config.Find(planned, name)
	if !ok {
		return fmt.Errorf("profile %s is missing from what would be written", name)
	}
	if err := s.use(profile, more); err != nil {
		return err
	}
	s.living = sameRecord(cfg, s.Settings)
	return nil
}

// judgedBy adds to the table of a new profile by which authorities its servers are judged.
func (s *signIn) judgedBy(name string) error {
	file, err := s.authorities()
	switch {
	case err != nil || file == nil:
		return err
	case s.table != nil:
		s.table.CAFile = file
		return nil
	case s.c.IsSet("mcp"): // the profile is there, and has this file
		return nil
	}
	return &protocol.Error{Code: protocol.CodeConfig, Message: "--ca-file is for a profile that does not exist yet",
		Hint: fmt.Sprintf("write into [profiles.%s] of config.toml: %s", cmp.Or(name, "NAME"), protocol.AuthorityKey(*file))}
}

// authorities returns the file of --ca-file by its whole path; nil if none is given.
func (s *signIn) authorities() (*string, error) {
	if !s.c.IsSet("ca-file") {
		return nil, nil
	}
	file := s.c.String("ca-file")
	if file == "" || !config.Encodable(file) {
		return nil, usagef(s.c, "--ca-file %q is not the path of a file", file)
	}
	file, err := filepath.Abs(file)
	return &file, err
}

// mayMake refuses a name that no profile can have, or that another profile has.
func (s *signIn) mayMake(cfg agent.Config, path, name string) error {
	if err := protocol.CheckProfile(name); err != nil {
		return err
	}
	old, exists := config.Find(cfg, name)
	if !exists || s.c.Bool("force") || strings.EqualFold(name, config.BuiltIn) {
		return nil
	}
	return &protocol.Error{Code: protocol.CodeConfig, Message: fmt.Sprintf("there is already a profile %s", old.Name),
		Hint: fmt.Sprintf("sign in to it without such options (ccagent login %s), replace it with --force, or edit %s", old.Name,
			path)}
}

// sameRecord returns the profile that already uses the same Claude Code sign-in as the new profile would. It is empty if there is
// none.
func sameRecord(cfg agent.Config, planned worker.Settings) string {
	dir := config.SharedDir(planned)
	for _, old := range cfg.Profiles {
		settings, err := config.Settings(old)
		if dir != "" && err == nil && config.SharedDir(settings) == dir {
			return old.Name
		}
	}
	return ""
}

// use takes the settings from a profile, which the agent may not know yet.
func (s *signIn) use(profile agent.Profile, more []string) error {
	if !config.Provider(profile).SignsIn {
		return &protocol.Error{
			Code:    protocol.CodeConfig,
			Message: fmt.Sprintf("there is nothing to sign in to: profile %s has provider %s", profile.Name, profile.Provider),
			Hint:    "to store a static key: ccagent add NAME --provider static",
		}
	}
	var err error
	if s.Settings, err = config.Settings(profile); err != nil {
		return fmt.Errorf("the settings of %s can't be read: %w", profile.Name, err)
	}
	if len(more) > 0 && config.MachineGrant(s.Settings.Grant) {
		return &protocol.Error{
			Code:    protocol.CodeConfig,
			Message: "grant " + s.Settings.Grant + " asks for its scopes at each renewal, so --scope would be lost",
			Hint:    "add the scope to scopes in config.toml",
		}
	}
	for _, scope := range more {
		if !slices.Contains(s.Settings.Scopes, scope) {
			s.Settings.Scopes = append(s.Settings.Scopes, scope)
		}
	}
	return nil
}

// flagTable returns the table that the flags describe.
func (s *signIn) flagTable() (*config.Table, error) {
	t := &config.Table{
		Provider: s.c.String("provider"), Store: s.c.String("store"), Issuer: given(s.c, "issuer"), Grant: given(s.c, "grant"),
		AuthorizeURL: given(s.c, "authorize-url"), TokenURL: given(s.c, "token-url"), DeviceURL: given(s.c, "device-url"),
		ClientID: given(s.c, "client-id"), ClientAuth: given(s.c, "client-auth"),
	}
	if t.Provider == "" {
		t.Provider = string(provider.OAuth2)
		if t.Issuer != nil {
			t.Provider = string(provider.OIDC)
		}
	}
	traits := provider.Kind(t.Provider).Traits()
	if !traits.SignsIn {
		return nil, usagef(s.c, "--provider %q: you can sign in to oidc, oauth2 or claude", t.Provider)
	}
	if scopes := s.c.StringSlice("scope"); len(scopes) > 0 {
		t.Scopes = scopes
		if traits.NeedsIssuer && (t.Grant == nil || !config.MachineGrant(*t.Grant)) && !slices.Contains(scopes, "openid") {
			t.Scopes = append([]string{"openid", "offline_access"}, scopes...) // --scope adds to the default
		}
		if defaults := traits.Defaults.Scopes; defaults != nil {
			t.Scopes = slices.Concat(defaults, scopes)
		}
	}
	byDefault := t.Grant != nil && config.WantsSecret(*t.Grant, "")
	if t.ClientAuth == nil && s.c.Bool("client-secret-stdin") && !byDefault {
		basic := "client_secret_basic"
		t.ClientAuth = &basic
	}
	for _, value := range []*string{&t.Provider, &t.Store, t.Issuer, t.Grant, t.AuthorizeURL, t.TokenURL, t.DeviceURL, t.ClientID,
		t.ClientAuth} {
		if value != nil && !config.Encodable(*value) {
			return nil, usagef(s.c, "%q is not UTF-8, which config.toml must be", *value)
		}
	}
	return t, nil
}

// mayAdd refuses a fragment if its profile exists already, in whatever case, or if it would change a profile that exists. A
// fragment from elsewhere may only add. Then mayAdd shows the profile, and asks.
func (s *signIn) mayAdd(ctx context.Context, from, name string, before, planned agent.Config) error {
	for _, old := range before.Profiles {
		now, stays := config.Find(planned, old.Name)
		if strings.EqualFold(old.Name, name) || !stays || !reflect.DeepEqual(now, old) {
			return &protocol.Error{Code: protocol.CodeConfig,
				Message: fmt.Sprintf("%s would replace profile %s, and a fragment from elsewhere may not do that",
					terminal.Sanitize(from), old.Name),
				Hint: "to sign in to yours: " + protocol.ShellLine("ccagent", "login", old.Name) +
					"\nto add the other one, have the fragment give it another name, and a store of its own (store = \"file\")"}
		}
	}
	if s.c.Bool("yes") {
		return nil
	}
	var b strings.Builder
	for line := range strings.Lines(string(config.AppendTable(nil, name, *s.table))) {
		b.WriteString("  " + terminal.Sanitize(strings.TrimSuffix(line, "\n")) + "\n")
	}
	s.Screen.Say(terminal.Sanitize(from) + " says:\n\n" + b.String())
	return terminal.Confirm(ctx, "add this profile, and sign in to it?", "--yes")
}
