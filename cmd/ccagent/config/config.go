// Package config reads, checks and edits config.toml. [Load] gives the agent its settings, and [Add], [Remove], [SetStore] and
// [SetViews] change the file and leave all else in it as it is.
//
// Errors are of condition ErrConfig, and name the file, the line and the key.
package config

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/pelletier/go-toml/v2"
	"golang.org/x/sys/unix"

	"github.com/ccagent/ccagent/agent"
	"github.com/ccagent/ccagent/agent/worker"
	"github.com/ccagent/ccagent/cmd/ccagent/environ"
	"github.com/ccagent/ccagent/cmd/ccagent/files"
	"github.com/ccagent/ccagent/cmd/ccagent/terminal"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store"
)

// maxConfig bounds config.toml, in bytes.
const maxConfig = 1 << 20

// BuiltIn is the profile that exists without being written down.
const BuiltIn = "claude"

// The views: files of other programs that are kept fresh with the access token.
const (
	ViewClaude = "claude-code"   // Claude Code's own file of its sign-in
	ViewSDK    = "anthropic-sdk" // a profile of the vendor's SDKs
)

const (
	defaultTimeout      = 30 * time.Second
	defaultLoginTimeout = 5 * time.Minute
)

// File is config.toml.
type File struct {
	DefaultProfile string           `toml:"default_profile"`
	LockOn         []string         `toml:"lock_on"`
	Profiles       map[string]Table `toml:"profiles"`
}

// Table is one [profiles.NAME].
type Table struct {
	Provider  string   `toml:"provider"`
	Store     string   `toml:"store"`
	Hosts     []string `toml:"hosts"`
	Username  *string  `toml:"username"`
	ConfigDir *string  `toml:"config_dir"`
	Identity  *string  `toml:"identity"`
	Views     []string `toml:"views"`

	Issuer        *string `toml:"issuer"`
	Grant         *string `toml:"grant"`
	AuthorizeURL  *string `toml:"authorize_url"`
	TokenURL      *string `toml:"token_url"`
	DeviceURL     *string `toml:"device_url"`
	RevokeURL     *string `toml:"revoke_url"`
	IntrospectURL *string `toml:"introspect_url"`
	ProfileURL    *string `toml:"profile_url"`
	PasteURL      *string `toml:"paste_url"`

	ClientID      *string           `toml:"client_id"`
	ClientAuth    *string           `toml:"client_auth"`
	ClientKeyFile *string           `toml:"client_key_file"`
	Scopes        []string          `toml:"scopes"`
	Audience      *string           `toml:"audience"`
	Resource      []string          `toml:"resource"`
	Params        map[string]string `toml:"params"`
	UserAgent     *string           `toml:"user_agent"`
	Headers       map[string]string `toml:"headers"`

	CAFile     *string `toml:"ca_file"`
	ClientCert *string `toml:"client_cert"`
	ClientKey  *string `toml:"client_key"`
	Proxy      *string `toml:"proxy"`

	AssertionFile    *string  `toml:"assertion_file"`
	AssertionCommand []string `toml:"assertion_command"`

	RedirectHost *string `toml:"redirect_host"`
	RedirectPort *int    `toml:"redirect_port"`
	LoginTimeout *string `toml:"login_timeout"`

	Command []string `toml:"command"`
	TTL     *string  `toml:"ttl"`
	Timeout *string  `toml:"timeout"`

	// Known in order to be refused by its reason: it has no place in this file.
	ClientSecret any `toml:"client_secret"`
}

// Load reads config.toml, fills in every default and checks the whole. A missing file is the default configuration.
// The path is returned also with an error. Errors are of condition ErrConfig and name the file, the line and the key.
func Load(env environ.Vars) (agent.Config, string, error) {
	path, err := env.ConfigFile()
	if err != nil {
		return agent.Config{}, "", err
	}
	text, err := readConfig(path, env("HOME"))
	if err != nil {
		return agent.Config{}, path, err
	}
	doc, err := parseConfig(path, text)
	if err != nil {
		return agent.Config{}, path, err
	}
	if err := checkOwnFolders(env); err != nil {
		return agent.Config{}, path, err
	}
	cfg, err := doc.resolve(env)
	return cfg, path, err
}

// checkOwnFolders refuses a folder of ours that somebody else may write. What lies in there is taken for a sign-in of this
// user's, or for what setup is to write back into any file. It is looked at here because nothing is lost here: what runs goes on
// by the settings that it has.
func checkOwnFolders(env environ.Vars) error {
	for _, place := range []func() (string, error){env.DataDir, env.StateDir} {
		dir, err := place()
		if err != nil { // there is no HOME, and no such folder
			continue
		}
		info, err := os.Stat(dir)
		if err != nil { // it is made where it is needed, and whoever can't make it says so
			continue
		}
		if os.Geteuid() == 0 && info.Mode().Perm()&0o022 == 0 { // root may be at work in somebody's home
			continue
		}
		if err := checkOurs(dir, info); err != nil {
			return err
		}
	}
	return nil
}

// readConfig returns the text of the file, "" when there is none. What somebody else may write is refused: config.toml
// names programs to run.
func readConfig(path, home string) ([]byte, error) {
	// O_NONBLOCK: a FIFO in its place must not hang us.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, &protocol.Error{Code: protocol.CodeConfig, Message: "config.toml: " + err.Error()}
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, &protocol.Error{Code: protocol.CodeConfig, Message: "config.toml: " + err.Error()}
	}
	if !info.Mode().IsRegular() {
		return nil, &protocol.Error{
			Code:    protocol.CodeConfig,
			Message: path + " is not a regular file",
			Hint:    "move away what is there",
		}
	}
	if err := checkOurs(path, info); err != nil {
		return nil, err
	}
	// A symlink, as dotfile managers make them, has two folders in which it can be replaced.
	for _, dir := range configDirs(path) {
		if err := checkDirs(dir, home); err != nil {
			return nil, err
		}
	}
	text, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err != nil {
		return nil, &protocol.Error{Code: protocol.CodeConfig, Message: "config.toml: " + err.Error()}
	}
	if len(text) > maxConfig {
		return nil, &protocol.Error{
			Code:    protocol.CodeConfig,
			Message: path + " is larger than 1 MiB",
			Hint:    "move away what is there",
		}
	}
	return text, nil
}

func configDirs(path string) []string {
	dirs := []string{filepath.Dir(path)}
	if target, err := filepath.EvalSymlinks(path); err == nil && filepath.Dir(target) != dirs[0] {
		dirs = append(dirs, filepath.Dir(target))
	}
	return dirs
}

// checkDirs looks at dir and the folders above it, up to the home or the root.
func checkDirs(dir, home string) error {
	for first := true; ; first = false {
		info, err := os.Stat(dir)
		if err != nil {
			return &protocol.Error{Code: protocol.CodeConfig, Message: "config.toml: " + err.Error()}
		}
		// A group of one's own often may write in the folders above (umask 002), and in a sticky one like /tmp others
		// can't replace what is ours.
		if first {
			err = checkOurs(dir, info)
		} else if info.Mode()&fs.ModeSticky == 0 && info.Mode().Perm()&0o002 != 0 {
			err = writable(dir, info)
		}
		if err != nil {
			return err
		}
		up := filepath.Dir(dir)
		if up == dir || dir == filepath.Clean(home) {
			return nil
		}
		dir = up
	}
}

// checkOurs refuses what belongs to somebody else, or what a group or everybody may write.
func checkOurs(path string, info fs.FileInfo) error {
	if owner, ok := files.Owner(info); ok && owner != uint32(os.Geteuid()) && owner != 0 {
		return &protocol.Error{
			Code:    protocol.CodeConfig,
			Message: fmt.Sprintf("%s belongs to user id %d, so it is not trusted", path, owner),
			Hint:    fmt.Sprintf("remove it, or make it yours: sudo chown %d %s", os.Geteuid(), protocol.ShellLine(path)),
		}
	}
	if info.Mode().Perm()&0o022 != 0 {
		return writable(path, info)
	}
	return nil
}

func writable(path string, info fs.FileInfo) error {
	return &protocol.Error{
		Code:    protocol.CodeConfig,
		Message: fmt.Sprintf("%s may be written by others (mode %04o), so it is not trusted", path, info.Mode().Perm()),
		Hint:    "look through it, then: " + protocol.ShellLine("chmod", "go-w", path),
	}
}

// document is a parsed config.toml.
type document struct {
	File
	path  string
	index tomlIndex
}

// parseConfig decodes the text strictly. What the values mean is checked by resolve.
func parseConfig(path string, text []byte) (*document, error) {
	d := &document{path: path}
	index, indexErr := indexTOML(text)
	d.index = index
	err := toml.NewDecoder(bytes.NewReader(text)).DisallowUnknownFields().Decode(&d.File)
	var unknown *toml.StrictMissingError
	var broken *toml.DecodeError
	switch {
	case errors.As(err, &unknown):
		line, _ := unknown.Errors[0].Position()
		return nil, d.fault(line, "unknown key %s", strings.Join(unknown.Errors[0].Key(), "."))
	case errors.As(err, &broken):
		line, _ := broken.Position()
		message := strings.TrimPrefix(broken.Error(), "toml: ")
		if strings.HasPrefix(message, "cannot ") { // the library's words here name Go types
			message = strings.Join(broken.Key(), ".") + " must be " + wanted(broken.Key())
		}
		return nil, d.fault(line, "%s", message)
	case err != nil || indexErr != nil:
		return nil, d.fault(0, "%s", cmp.Or(err, indexErr))
	}
	// The library matches keys whatever their case; TOML does not.
	for _, key := range d.index.keys {
		if i := len(key.path) - 1; (i == 0 || i == 2 && key.path[0] == "profiles") && key.path[i] != strings.ToLower(key.path[i]) {
			return nil, d.fault(key.line, "unknown key %s", strings.Join(key.path, "."))
		}
	}
	return d, nil
}

// wanted says what a key's value has to be.
func wanted(key []string) string {
	switch {
	case len(key) < 3 && key[0] == "profiles":
		return "a table"
	case len(key) > 3:
		return "a string"
	}
	switch key[len(key)-1] {
	case "hosts", "views", "lock_on", "scopes", "command", "resource", "assertion_command":
		return `a list of strings, like ["a", "b"]`
	case "ttl", "timeout", "login_timeout":
		return `a duration in quotes, like "30m"`
	case "headers", "params":
		return "a table of strings"
	case "redirect_port":
		return "a number"
	}
	return "a string"
}

// fault is an error of config.toml at a line, 0 when it is not known.
func (d *document) fault(line int, format string, args ...any) error {
	where := d.path
	if line > 0 {
		where += fmt.Sprintf(":%d", line)
	}
	return &protocol.Error{Code: protocol.CodeConfig, Message: terminal.Sanitize(where + ": " + fmt.Sprintf(format, args...)),
		Hint: "correct that; what may be there is told by: ccagent help config"}
}

// resolve checks what the document says and fills in what it does not.
func (d *document) resolve(env environ.Vars) (agent.Config, error) {
	claude, err := env.ClaudeFolder()
	cfg := agent.Config{
		Default: d.DefaultProfile,
		Home: protocol.Home{
			Home:            env("HOME"),
			XDGConfigHome:   env("XDG_CONFIG_HOME"),
			ClaudeConfigDir: claude,
		},
	}
	if err != nil {
		return cfg, err
	}
	if err := d.checkLockOn(); err != nil {
		return cfg, err
	}
	cfg.LockOn = d.LockOn
	if len(d.Profiles) > agent.MaxProfiles {
		return cfg, d.fault(0, "%d profiles, and %d is the limit", len(d.Profiles), agent.MaxProfiles)
	}
	r := resolver{document: d, env: env, names: map[string]string{}, claudes: map[string]string{}}
	if r.data, err = env.DataDir(); err != nil {
		return cfg, err
	}
	if r.state, err = env.StateDir(); err != nil {
		return cfg, err
	}
	for _, name := range slices.Sorted(maps.Keys(d.Profiles)) {
		if err := r.add(name); err != nil {
			return cfg, err
		}
	}
	implicit, err := r.addBuiltIn()
	if err != nil {
		return cfg, err
	}
	slices.SortFunc(r.profiles, func(a, b agent.Profile) int { return cmp.Compare(a.Name, b.Name) })
	cfg.Profiles = r.profiles
	cfg.Default = cmp.Or(cfg.Default, implicit)
	known, ok := r.names[strings.ToLower(cfg.Default)]
	if !ok {
		return cfg, d.fault(d.index.line("default_profile"), "default_profile is %q, and there is no such profile", cfg.Default)
	}
	cfg.Default = known
	return cfg, nil
}

// checkLockOn refuses events that can't lock the agent here.
func (d *document) checkLockOn() error {
	for _, event := range d.LockOn {
		switch {
		case event != "suspend" && event != "screen":
			return d.fault(d.index.line("lock_on"), "lock_on: %q is neither suspend nor screen", event)
		case runtime.GOOS != "linux":
			return d.fault(d.index.line("lock_on"), "lock_on needs systemd-logind, which there is on Linux alone")
		}
	}
	return nil
}

// resolver makes the profiles of a document, and sees to it that no two of them are one.
type resolver struct {
	*document
	env         environ.Vars
	data, state string // our folders
	profiles    []agent.Profile
	names       map[string]string // as they are written, by folded name
	claudes     map[string]string // the profile of a Claude Code directory, or of the file in it
}

// add adds a profile that the document has.
func (r *resolver) add(name string) error {
	line := r.index.line("profiles", name)
	if err := protocol.CheckProfile(name); err != nil {
		return r.fault(line, "%s", err)
	}
	if other, ok := r.names[strings.ToLower(name)]; ok {
		return r.fault(line, "profiles %s and %s differ in case alone, which makes them one", other, name)
	}
	r.names[strings.ToLower(name)] = name
	settings, err := r.settings(r.env, name)
	if err != nil {
		return err
	}
	shared := settings.shared()
	for _, at := range shared {
		if other, ok := r.claudes[at]; ok {
			return r.fault(
				line,
				"profiles %s and %s both mean the Claude Code directory %s, or the file in it; give one of them its own config_dir, or "+
					"store = \"file\" and no view there",
				other,
				name,
				settings.ConfigDir,
			)
		}
	}
	for _, at := range shared {
		r.claudes[at] = name
	}
	profile, err := settings.profile(r.data, r.state)
	r.profiles = append(r.profiles, profile)
	return err
}

// addBuiltIn adds the profile that need not be written, unless it is, or another one has its record. It returns the name of the
// one that stands for it.
func (r *resolver) addBuiltIn() (string, error) {
	if _, written := r.names[BuiltIn]; written {
		return BuiltIn, nil
	}
	settings, err := r.settings(r.env, BuiltIn)
	if err != nil {
		return "", err
	}
	for _, at := range settings.shared() {
		if other := r.claudes[at]; other != "" { // a profile of another name stands for the default directory
			return other, nil
		}
	}
	profile, err := settings.profile(r.data, r.state)
	r.profiles = append(r.profiles, profile)
	r.names[BuiltIn] = BuiltIn
	return BuiltIn, err
}

// profileSettings is one profile's settings on their way into an agent.Profile.
type profileSettings struct {
	worker.Settings
	hosts     []string
	username  string // that goes with the token to git and docker
	configDir string // only if config.toml names it
}

func (s *profileSettings) profile(data, state string) (agent.Profile, error) {
	s.DataDir, s.StateDir = data, state
	text, err := json.Marshal(s.Settings)
	return agent.Profile{
		Shown:    len(s.Views) > 0,
		Identity: cmp.Or(s.Identity, store.IdentityPath(data)),
		Name:     s.Name, Provider: string(s.Provider), Store: string(s.Store), Hosts: s.hosts, Username: s.username,
		ConfigDir: s.configDir, Settings: text,
	}, err
}

// shared names the place of SharedDir and of the file in it: two profiles that have one of these in common have one record,
// whatever link leads there.
func (s *profileSettings) shared() []string {
	dir := SharedDir(s.Settings)
	if dir == "" {
		return nil
	}
	names := []string{dir}
	for _, path := range []string{dir, environ.ClaudeFile(dir)} {
		if info, err := os.Stat(path); err == nil {
			if stat, ok := info.Sys().(*syscall.Stat_t); ok {
				names = append(names, fmt.Sprintf("%d:%d", stat.Dev, stat.Ino))
			}
		}
	}
	return names
}

// SharedDir is the Claude Code directory that the profile's record or its view may rest in, its links followed; "" when it has
// none.
func SharedDir(s worker.Settings) string {
	there := s.Store.MayBe(store.KindClaudeCode) || slices.Contains(s.Views, ViewClaude)
	if !s.Provider.Traits().ClaudeCode || s.ConfigDir == "" || !there {
		return ""
	}
	if real, err := filepath.EvalSymlinks(s.ConfigDir); err == nil {
		return real
	}
	return filepath.Clean(s.ConfigDir)
}
