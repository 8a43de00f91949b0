package config

import (
	"cmp"
	"errors"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ccagent/ccagent/agent/provider"
	"github.com/ccagent/ccagent/agent/worker"
	"github.com/ccagent/ccagent/cmd/ccagent/environ"
	"github.com/ccagent/ccagent/cmd/ccagent/terminal"
	"github.com/ccagent/ccagent/hosts"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store"
)

// settings checks one profile's table and fills in its provider's defaults. A missing table counts as an empty one.
func (d *document) settings(env environ.Vars, name string) (*profileSettings, error) {
	t := d.Profiles[name]
	fault := func(key, format string, args ...any) error {
		return d.fault(d.index.line("profiles", name, key), "profiles."+name+": "+format, args...)
	}
	if t.Provider == "" && strings.EqualFold(name, BuiltIn) {
		t.Provider = string(provider.Claude)
	}
	kind := provider.Kind(t.Provider)
	switch {
	case t.Provider == "":
		return nil, fault("provider", "provider is missing: it is one of %s", provider.Names())
	case !kind.Known():
		return nil, fault("provider", "unknown provider %q: it is one of %s", t.Provider, provider.Names())
	}
	traits := kind.Traits()
	rests := cmp.Or(store.Kind(t.Store), traits.Stores[0])
	if !slices.Contains(traits.Stores, rests) {
		return nil, fault("store", "store is %q: with provider %s it must be one of %s", rests, kind, Joined(traits.Stores, ", "))
	}
	if err := d.checkKeys(name, traits, rests, fault); err != nil {
		return nil, err
	}
	s := &profileSettings{Settings: worker.Settings{Name: name, Provider: kind, Store: rests}}
	err := s.takeHosts(t, fault)
	if err == nil {
		err = s.takeViews(env, d, name)
	}
	if t.Username != nil && err == nil {
		if s.username = *t.Username; s.username == "" || !terminal.Printable(s.username) || strings.Contains(s.username, ":") {
			err = fault("username", "username is %q: it must be printable text without a colon", s.username) // RFC 7617 §2
		}
	}
	if err != nil {
		return nil, err
	}
	if t.Identity != nil {
		s.Identity = env.Expand(*t.Identity)
		if s.Identity == "" || !terminal.Printable(s.Identity) {
			return nil, fault("identity", "identity is %q: it must be an absolute path, or one below ~/ where HOME is set", *t.Identity)
		}
		if err := ofOthers("identity", s.Identity, fault); err != nil {
			return nil, err
		}
	}
	if s.Timeout, err = duration(t.Timeout, defaultTimeout); err != nil {
		return nil, fault("timeout", "timeout: %s", err)
	}
	switch {
	case traits.ClaudeCode:
		if err = s.claude(env, t, fault); err == nil {
			err = s.signIn(env, t, fault)
		}
	case traits.SignsIn:
		err = s.signIn(env, t, fault)
	case kind == provider.Command:
		err = s.command(env, t, fault)
	case !traits.Renewable:
		s.Timeout = 0 // no provider is asked
	}
	return s, err
}

// ofOthers returns an error if a key names a file in which another program keeps a sign-in of its own. What is in such a file
// must not be sent, and nothing may be written over it.
func ofOthers(key, path string, fault faulty) error {
	named := store.CheckName(path)
	if named == nil {
		return nil
	}
	e := fault(key, "%s: %s", key, named).(*protocol.Error)
	e.Hint = "name another file there; " + protocol.HintOf(named)
	return e
}

// checkKeys returns an error for a key that has no meaning for the profile.
func (d *document) checkKeys(name string, traits provider.Traits, rests store.Kind, fault faulty) error {
	for _, key := range d.index.below("profiles", name) {
		if slices.Contains([]string{"provider", "store", "hosts", "username", "views"}, key) || slices.Contains(traits.Keys, key) ||
			key == "identity" && rests.MayBe(store.KindEncrypted) {
			continue
		}
		switch key {
		case "identity":
			return fault(key, "identity has no meaning for store %s", rests)
		case "client_secret":
			e := fault(key, "client_secret is a secret, and secrets may not be in this file").(*protocol.Error)
			e.Hint = "remove it here and give it to: ccagent login " + name + " --client-secret-stdin"
			return e
		}
		return fault(key, "%s has no meaning for provider %s", key, traits.Kind)
	}
	return nil
}

func (s *profileSettings) takeHosts(t Table, fault faulty) error {
	for _, host := range t.Hosts {
		pattern, err := hostPattern(host, fault)
		if err != nil {
			return err
		}
		s.hosts = append(s.hosts, pattern)
	}
	return nil
}

// hostPattern reads one of the hosts of a list.
func hostPattern(written string, fault faulty) (string, error) {
	pattern, err := hosts.Pattern(written)
	if err == nil {
		return pattern, nil
	}
	if at := strings.LastIndexByte(written, '@'); at >= 0 { // a password may be before it
		written = "…" + written[at:]
	}
	return "", fault("hosts", "hosts: %q matches no host: %s", written, err)
}

// command reads the command that prints a token, and how long such a token lives.
func (s *profileSettings) command(env environ.Vars, t Table, fault faulty) error {
	if len(t.Command) == 0 || t.Command[0] == "" {
		return fault("command", `command is missing: a list like ["vault", "print", "token"]`)
	}
	if slices.ContainsFunc(t.Command, func(arg string) bool { return strings.ContainsRune(arg, 0) }) {
		return fault("command", "command contains a NUL character")
	}
	s.Command = slices.Clone(t.Command)
	if s.Command[0] = env.Program(t.Command[0]); s.Command[0] == "" {
		return fault("command", environ.NotProgram, "command", t.Command[0])
	}
	var err error
	if s.TTL, err = duration(t.TTL, 0); err != nil {
		return fault("ttl", "ttl: %s", err)
	}
	return nil
}

// claude reads where Claude Code's files are.
func (s *profileSettings) claude(env environ.Vars, t Table, fault faulty) error {
	s.ConfigDir = env.ClaudeDir()
	if t.ConfigDir != nil {
		s.configDir = env.Spell(*t.ConfigDir)
		if s.configDir == "" || !terminal.Printable(s.configDir) {
			return fault("config_dir", "config_dir is %q: it must be an absolute path, or one below ~/ where HOME is set", *t.ConfigDir)
		}
		s.ConfigDir = s.configDir
	}
	if settings, err := env.ClaudeSettingsDir(); err == nil && s.ConfigDir != "" &&
		filepath.Clean(s.ConfigDir) == filepath.Clean(env.ClaudeDir()) &&
		settings != filepath.Clean(s.ConfigDir) {
		s.AccountFile = env.ClaudeAccounts()
	}
	return nil
}

// text returns the value, or the fallback if the key is not set.
func text(value *string, fallback string) string {
	if value == nil {
		return fallback
	}
	return *value
}

// duration parses the value, which must be positive, or returns the fallback if the key is not set.
func duration(value *string, fallback time.Duration) (time.Duration, error) {
	if value == nil {
		return fallback, nil
	}
	d, err := time.ParseDuration(*value)
	if err != nil || d <= 0 {
		return 0, errors.New(strconv.Quote(*value) + ` is not a duration like "30m"`)
	}
	return d, nil
}

// Joined joins the names of kinds with the separator.
func Joined[K ~string](kinds []K, separator string) string {
	names := make([]string, len(kinds))
	for i, kind := range kinds {
		names[i] = string(kind)
	}
	return strings.Join(names, separator)
}
