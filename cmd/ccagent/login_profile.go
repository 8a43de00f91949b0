package main

import (
	"context"
	"errors"
	"fmt"
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

// newProfileFlags describe a profile; one that exists is described by config.toml.
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

// profile finds or describes the profile that is meant.
func (s *signIn) profile(ctx context.Context) error {
	cfg, path, err := config.Load(getenv)
	if err != nil {
		return err
	}
	name := s.c.Args().First()
	described := slices.IndexFunc(newProfileFlags, s.c.IsSet)
	from := s.c.String("profile-from")
	switch {
	case from != "" && described >= 0:
		return usagef(s.c, "--profile-from and --%s both describe the profile", newProfileFlags[described])
	case from != "":
		if name, s.table, err = config.Fragment(ctx, from, name); err != nil {
			return err
		}
	case described >= 0:
		if name == "" {
			return usagef(s.c, "which PROFILE? --%s makes a new one", newProfileFlags[described])
		}
		if s.table, err = s.flagTable(); err != nil {
			return err
		}
	}
	if s.table == nil {
		profile, err := oneProfile(s.c, cfg)
		if errors.Is(err, protocol.ErrNotFound) {
			return &protocol.Error{Code: protocol.CodeNotFound, Message: err.Error(),
				Hint: "make it with: " + protocol.ShellLine(
					"ccagent",
					"login",
					name,
				) + " --provider oidc --issuer URL --client-id ID\nsee the others with: ccagent list"}
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
	if old, exists := config.Find(cfg, name); exists && from == "" && !s.c.Bool("force") &&
		!strings.EqualFold(name, config.BuiltIn) {
		return &protocol.Error{Code: protocol.CodeConfig, Message: fmt.Sprintf("there is a profile %s already", old.Name),
			Hint: fmt.Sprintf(
				"sign in to it without --provider and the like (ccagent login %s), replace it with --force, or edit %s",
				old.Name,
				path,
			)}
	}
	s.replace = s.c.Bool("force") && from == ""
	planned, err := config.Plan(getenv, name, *s.table, s.replace || from != "")
	if err != nil {
		return err
	}
	var more []string // scopes; of the flags' profile they are in the table
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

// sameRecord returns the profile that has the record of a new one already: Claude Code's, which the new one would take over.
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

// use takes up a profile that the agent knows, or is about to.
func (s *signIn) use(profile agent.Profile, more []string) error {
	if !config.Provider(profile).SignsIn {
		return &protocol.Error{
			Code:    protocol.CodeConfig,
			Message: fmt.Sprintf("nobody signs in to %s: it is of provider %s", profile.Name, profile.Provider),
			Hint:    "a static key is stored with: ccagent add NAME --provider static",
		}
	}
	var err error
	if s.Settings, err = config.Settings(profile); err != nil {
		return fmt.Errorf("the settings of %s can't be read: %w", profile.Name, err)
	}
	if len(more) > 0 && config.MachineGrant(s.Settings.Grant) {
		return &protocol.Error{
			Code:    protocol.CodeConfig,
			Message: "grant " + s.Settings.Grant + " asks for its scopes again at each renewal, so --scope would be lost",
			Hint:    "add it to scopes in config.toml",
		}
	}
	for _, scope := range more {
		if !slices.Contains(s.Settings.Scopes, scope) {
			s.Settings.Scopes = append(s.Settings.Scopes, scope)
		}
	}
	return nil
}

// flagTable is the table that the flags describe.
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
		return nil, usagef(s.c, "--provider %q: one signs in to oidc, oauth2 or claude", t.Provider)
	}
	if scopes := s.c.StringSlice("scope"); len(scopes) > 0 {
		t.Scopes = scopes
		if traits.NeedsIssuer && (t.Grant == nil || !config.MachineGrant(*t.Grant)) && !slices.Contains(scopes, "openid") {
			t.Scopes = append([]string{"openid", "offline_access"}, scopes...) // --scope adds
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

// mayAdd refuses a fragment's profile that is there already, whatever its case, or that would stand in the place of one that is:
// others may say what is new here, and never what is ours. Then it shows the profile, and asks.
func (s *signIn) mayAdd(ctx context.Context, from, name string, before, planned agent.Config) error {
	for _, old := range before.Profiles {
		now, stays := config.Find(planned, old.Name)
		if strings.EqualFold(old.Name, name) || !stays || !reflect.DeepEqual(now, old) {
			return &protocol.Error{Code: protocol.CodeConfig,
				Message: fmt.Sprintf("%s would take the place of profile %s, which no fragment from elsewhere may do",
					terminal.Sanitize(from), old.Name),
				Hint: "sign in to yours without --profile-from: " + protocol.ShellLine("ccagent", "login", old.Name) +
					"\nfor the other one, have the fragment give it a name and a store of its own (store = \"file\")"}
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
