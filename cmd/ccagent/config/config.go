// Package config reads, checks and edits config.toml. [Load] returns the settings for the agent. [Add], [Remove], [SetStore],
// [SetViews], [SetUse] and [SetDefault] change one thing in the file and leave everything else in it as it is.
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
	"github.com/ccagent/ccagent/lookalike"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store"
)

// maxConfig bounds config.toml, in bytes.
const maxConfig = 1 << 20

// BuiltIn is the profile that exists although config.toml does not name it.
const BuiltIn = "claude"

const (
	defaultTimeout      = 30 * time.Second
	defaultLoginTimeout = 5 * time.Minute
)

// File is config.toml.
type File struct {
	DefaultProfile string           `toml:"default_profile"`
	LockOn         []string         `toml:"lock_on"`
	Profiles       map[string]Table `toml:"profiles"`
	Use            []UseTable       `toml:"use"`
	Gateway        *GatewayTable    `toml:"gateway"`
	Sandbox        *SandboxTable    `toml:"sandbox"`
}

// Table is one [profiles.NAME].
type Table struct {
	Provider  string   `toml:"provider"`
	Store     string   `toml:"store"`
	Hosts     []string `toml:"hosts"`
	Username  *string  `toml:"username"`
	ConfigDir *string  `toml:"config_dir"`
	Identity  *string  `toml:"identity"`
	Views     []View   `toml:"-"` // read from WrittenViews

	// WrittenViews are the views as the TOML library decodes them, nil once they are read.
	WrittenViews any `toml:"views"`

	Issuer        *string `toml:"issuer"`
	MCPURL        *string `toml:"mcp_url"`
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
	Registered    *bool             `toml:"client_registered"`
	Scopes        []string          `toml:"scopes"`
	Audience      *string           `toml:"audience"`
	Resource      []string          `toml:"resource"`
	Params        map[string]string `toml:"params"`
	TokenExchange *bool             `toml:"token_exchange"`

	AuthorizeParams map[string]string `toml:"authorize_params"`
	TokenParams     map[string]string `toml:"token_params"`
	RefreshParams   map[string]string `toml:"refresh_params"`

	UserAgent *string           `toml:"user_agent"`
	Headers   map[string]string `toml:"headers"`

	CAFile     *string `toml:"ca_file"`
	ClientCert *string `toml:"client_cert"`
	ClientKey  *string `toml:"client_key"`
	Proxy      *string `toml:"proxy"`

	AssertionFile    *string  `toml:"assertion_file"`
	AssertionCommand []string `toml:"assertion_command"`

	RedirectHost *string `toml:"redirect_host"`
	RedirectPort *int    `toml:"redirect_port"`
	RedirectPath *string `toml:"redirect_path"`
	LoginTimeout *string `toml:"login_timeout"`

	Command []string `toml:"command"`
	TTL     *string  `toml:"ttl"`
	Timeout *string  `toml:"timeout"`

	// ClientSecret is not allowed in this file. It is decoded so that the error can say why.
	ClientSecret any `toml:"client_secret"`
}

// Load reads config.toml, fills in every default and checks the result. If there is no file, it returns the default
// configuration. It returns the path with an error too. Errors are of condition ErrConfig and name the file, the line and the
// key.
func Load(env environ.Vars) (agent.Config, string, error) {
	cfg, doc, err := load(env)
	return cfg, doc.path, err
}

// load is Load, which returns the document as well; with an error, no more than its path may be known.
func load(env environ.Vars) (agent.Config, *document, error) {
	path, err := env.ConfigFile()
	if err != nil {
		return agent.Config{}, &document{}, err
	}
	text, err := readConfig(path, env("HOME"))
	if err != nil {
		return agent.Config{}, &document{path: path}, err
	}
	doc, err := parseConfig(path, text)
	if err != nil {
		return agent.Config{}, &document{path: path}, err
	}
	if err := checkOwnFolders(env); err != nil {
		return agent.Config{}, doc, err
	}
	cfg, err := doc.resolve(env)
	return cfg, doc, err
}

// WithoutFile returns the configuration of somebody who has no config.toml.
func WithoutFile(env environ.Vars) (agent.Config, error) {
	doc, err := parseConfig("", nil)
	if err != nil {
		return agent.Config{}, err
	}
	return doc.resolve(env)
}

// checkOwnFolders returns an error if somebody else may write one of ccagent's folders. ccagent trusts what is in them: sign-ins
// of this user, and what setup is to write back into files. The check is made when settings are loaded, because an error does no
// harm at that point: an agent that runs keeps the settings it has.
func checkOwnFolders(env environ.Vars) error {
	for _, place := range []func() (string, error){env.DataDir, env.StateDir} {
		dir, err := place()
		if err != nil { // there is no HOME, so there is no such folder
			continue
		}
		info, err := os.Stat(dir)
		if err != nil { // it is created when it is needed, and a failure is reported then
			continue
		}
		if os.Geteuid() == 0 && info.Mode().Perm()&0o022 == 0 { // root may work in the home of somebody else
			continue
		}
		if err := checkOurs(dir, info); err != nil {
			return err
		}
	}
	return nil
}

// readConfig returns the text of the file, or nothing if there is no file. It returns an error if somebody else may write the
// file, because config.toml names programs to run.
func readConfig(path, home string) ([]byte, error) {
	// O_NONBLOCK: if there is a FIFO in its place, opening it must not hang.
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
	// Dotfile managers make a symlink of it. It can be replaced in the folder of the link and in the folder of the target.
	for _, dir := range configDirs(path) {
		if err := checkDirs(dir, home); err != nil {
			return nil, err
		}
	}
	text, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err != nil {
		return nil, &protocol.Error{Code: protocol.CodeConfig, Message: "config.toml: " + err.Error()}
	}
	if marked := lookalike.Marked(text); marked != "" {
		return nil, &protocol.Error{Code: protocol.CodeConfig, Message: path + " " + marked, Hint: lookalike.Unmark}
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

// configDirs returns the folder of config.toml, and that of its target if it is a link.
func configDirs(path string) []string {
	dirs := []string{filepath.Dir(path)}
	if target, err := filepath.EvalSymlinks(path); err == nil && filepath.Dir(target) != dirs[0] {
		dirs = append(dirs, filepath.Dir(target))
	}
	return dirs
}

// checkDirs checks dir and the folders above it, up to the home directory or the root.
func checkDirs(dir, home string) error {
	for first := true; ; first = false {
		info, err := os.Stat(dir)
		if err != nil {
			return &protocol.Error{Code: protocol.CodeConfig, Message: "config.toml: " + err.Error()}
		}
		// The folders above may be writable for a group, because with umask 002 that is the user's own group. In a sticky folder
		// like /tmp others can't replace our files.
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

// checkOurs returns an error if the file or folder belongs to another user than root, or if a group or everybody may write it.
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

// writable is the error for a file or folder that others may write.
func writable(path string, info fs.FileInfo) error {
	return &protocol.Error{
		Code:    protocol.CodeConfig,
		Message: fmt.Sprintf("%s may be written by others (mode %04o), so it is not trusted", path, info.Mode().Perm()),
		Hint:    "check what is in it, then: " + protocol.ShellLine("chmod", "go-w", path),
	}
}

// document is a parsed config.toml.
type document struct {
	File
	path  string
	index tomlIndex
}

// parseConfig decodes the text, and returns an error for a key that it does not know. resolve checks what the values mean.
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
		if strings.HasPrefix(message, "cannot ") { // the library's message would name Go types
			message = strings.Join(broken.Key(), ".") + " must be " + wanted(broken.Key())
		}
		return nil, d.fault(line, "%s", message)
	case err != nil || indexErr != nil:
		return nil, d.fault(0, "%s", cmp.Or(err, indexErr))
	}
	if err := d.readViews(); err != nil {
		return nil, err
	}
	// The library ignores the case of keys. In TOML it counts.
	for _, key := range d.index.keys {
		i := len(key.path) - 1
		ours := i == 0 || i == 1 && slices.Contains([]string{"use", "gateway", "sandbox"}, key.path[0]) ||
			i == 2 && key.path[0] == "profiles" || i == 3 && key.path[0] == "gateway"
		if ours && key.path[i] != strings.ToLower(key.path[i]) {
			return nil, d.fault(key.line, "unknown key %s", strings.Join(key.path, "."))
		}
	}
	return d, nil
}

// wanted describes what the value of a key must be, for an error about a value of another type.
func wanted(key []string) string {
	switch {
	case len(key) < 3 && key[0] == "profiles", len(key) < 4 && key[0] == "gateway", len(key) < 2 && key[0] == "sandbox":
		return "a table"
	case len(key) == 1 && key[0] == "use":
		return `one table for each folder: [[use]], and below it dir = "~/work/**" and profile = "NAME"`
	case len(key) > 3 && key[0] != "gateway", len(key) > 4:
		return "a string"
	case key[0] == "sandbox":
		return `a list of strings, like ["a", "b"]`
	}
	switch key[len(key)-1] {
	case "hosts", "lock_on", "scopes", "command", "resource", "assertion_command", "allow", "deny":
		return `a list of strings, like ["a", "b"]`
	case "ttl", "timeout", "login_timeout":
		return `a duration in quotes, like "30m"`
	case "headers", "params", "authorize_params", "token_params", "refresh_params", "env":
		return "a table of strings"
	case "token_exchange", "private":
		return "true or false"
	case "renew_on":
		return "a list of numbers, like [401, 403]"
	case "redirect_port":
		return "a number"
	}
	return "a string"
}

// fault returns an error about a line of config.toml. The line is 0 if it is not known.
func (d *document) fault(line int, format string, args ...any) error {
	where, what := d.path, "file"
	if line > 0 {
		where, what = fmt.Sprintf("%s:%d", where, line), "line"
	}
	return &protocol.Error{Code: protocol.CodeConfig, Message: terminal.Sanitize(where + ": " + fmt.Sprintf(format, args...)),
		Hint: "fix that " + what + `; "ccagent help config" lists the settings`}
}

// resolve checks the settings of the document and fills in the defaults.
func (d *document) resolve(env environ.Vars) (agent.Config, error) {
	following := d.following(env)
	claude, err := following.ClaudeFolder()
	if _, asGiven := env.ClaudeFolder(); asGiven != nil { // a folder that nobody can find is an error, whoever has it
		err = asGiven
	}
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
		return cfg, d.fault(0, "there are %d profiles, and the limit is %d", len(d.Profiles), agent.MaxProfiles)
	}
	r := resolver{document: d, env: env, following: following,
		names: map[string]string{}, claudes: map[string]string{}, resting: map[string]bool{},
		records: map[string]string{}, views: map[string]string{}}
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
	if err := r.checkViews(); err != nil {
		return cfg, err
	}
	implicit, err := r.addBuiltIn()
	if err != nil {
		return cfg, err
	}
	setClaudeDirs(r.profiles, r.resting)
	slices.SortFunc(r.profiles, func(a, b agent.Profile) int { return cmp.Compare(a.Name, b.Name) })
	cfg.Profiles = r.profiles
	cfg.Default = cmp.Or(cfg.Default, implicit)
	known, ok := r.names[strings.ToLower(cfg.Default)]
	if !ok {
		return cfg, d.fault(d.index.line("default_profile"), "default_profile is %q, and there is no such profile", cfg.Default)
	}
	cfg.Default = known
	if cfg.Uses, err = d.uses(env, r.names); err != nil {
		return cfg, err
	}
	if _, err := d.sandbox(env); err != nil {
		return cfg, err
	}
	return cfg, d.checkGateway(env, cfg)
}

// following is the environment for profiles without a config_dir. They follow the Claude Code directory of the environment, but
// not to one that is another profile's, or in which a profile has a view: then they mean the default one. So it makes no
// difference from which profile's shell the agent is started, or a command is run.
func (d *document) following(env environ.Vars) environ.Vars {
	dir := env.ClaudeDir()
	for _, table := range d.Profiles {
		if dir == "" || !slices.ContainsFunc(table.claudeDirs(env), func(other string) bool {
			return followLinks(filepath.Clean(other)) == followLinks(filepath.Clean(dir))
		}) {
			continue
		}
		return func(name string) string {
			if name == "CLAUDE_CONFIG_DIR" || name == "CLAUDE_SECURESTORAGE_CONFIG_DIR" {
				return ""
			}
			return env(name)
		}
	}
	return env
}

// claudeDirs returns the Claude Code directories that the table names.
func (t Table) claudeDirs(env environ.Vars) (dirs []string) {
	if t.ConfigDir != nil {
		dirs = append(dirs, env.Spell(*t.ConfigDir))
	}
	for _, v := range t.Views {
		if v.Kind == ViewClaude && v.Dir != "" {
			dirs = append(dirs, env.Expand(v.Dir))
		}
	}
	return slices.DeleteFunc(dirs, func(dir string) bool { return dir == "" })
}

// setClaudeDirs says which Claude Code directories mean which profile (agent.Profile.ClaudeDirs). resting are the profiles whose
// record or view is in their config_dir.
func setClaudeDirs(profiles []agent.Profile, resting map[string]bool) {
	home := map[string]bool{} // directories with a record or a view
	views := make([][]string, len(profiles))
	for i := range profiles {
		p := &profiles[i]
		if p.ConfigDir != "" {
			p.ClaudeDirs = spellings(p.ConfigDir)
		}
		for _, v := range Views(*p) {
			if v.Kind == ViewClaude && !v.Guards() {
				views[i] = append(views[i], spellings(v.Dir)...)
			}
		}
		for _, dir := range views[i] {
			home[dir] = true
		}
		if resting[p.Name] {
			for _, dir := range p.ClaudeDirs {
				home[dir] = true
			}
		}
	}
	for i := range profiles {
		p := &profiles[i]
		if !resting[p.Name] {
			p.ClaudeDirs = slices.DeleteFunc(p.ClaudeDirs, func(dir string) bool { return home[dir] })
		}
		p.ClaudeDirs = append(p.ClaudeDirs, views[i]...)
	}
}

// spellings returns the path as it is written, and with its links followed if it has any.
func spellings(dir string) []string {
	dir = filepath.Clean(dir)
	if real := followLinks(dir); real != dir {
		return []string{dir, real}
	}
	return []string{dir}
}

// checkLockOn returns an error for an event that can't lock the agent on this system.
func (d *document) checkLockOn() error {
	for _, event := range d.LockOn {
		switch {
		case event != "suspend" && event != "screen":
			return d.fault(d.index.line("lock_on"), "lock_on: %q is neither suspend nor screen", event)
		case runtime.GOOS != "linux":
			return d.fault(d.index.line("lock_on"), "lock_on needs systemd-logind, which exists only on Linux")
		}
	}
	return nil
}

// resolver makes the profiles of a document, and finds pairs of profiles that would share a name or a record.
type resolver struct {
	*document
	env         environ.Vars
	following   environ.Vars // for profiles without a config_dir
	data, state string       // ccagent's own folders
	profiles    []agent.Profile
	names       map[string]string // the name as it is written, by the name in lower case
	claudes     map[string]string // the name of the profile, by its Claude Code directory and by the file in it: see shared
	resting     map[string]bool   // the profiles whose record or view is in their Claude Code directory
	records     map[string]string // the name of the profile, by its Claude Code's own file
	views       map[string]string // the name of the profile, by the place of its view
	placed      []placedView
}

// add adds a profile of the document.
func (r *resolver) add(name string) error {
	line := r.index.line("profiles", name)
	if err := protocol.CheckProfile(name); err != nil {
		return r.fault(line, "%s", err)
	}
	if other, ok := r.names[strings.ToLower(name)]; ok {
		return r.fault(line, "the names of profiles %s and %s differ only in case, so they name the same profile", other, name)
	}
	r.names[strings.ToLower(name)] = name
	env := r.following
	if r.Profiles[name].ConfigDir != nil {
		env = r.env
	}
	settings, err := r.settings(env, name)
	if err != nil {
		return err
	}
	shared := settings.shared()
	r.resting[name] = shared != nil
	for _, at := range shared {
		if other, ok := r.claudes[at]; ok {
			return r.fault(
				line,
				"profiles %s and %s both use the Claude Code directory %s, or the file in it; give one of them its own config_dir, or "+
					"store = \"file\" and no view claude-code",
				other,
				name,
				settings.ConfigDir,
			)
		}
	}
	for _, at := range shared {
		r.claudes[at] = name
	}
	if settings.ConfigDir != "" {
		for _, at := range identities(followLinks(environ.ClaudeFile(settings.ConfigDir))) {
			r.records[at] = name
		}
	}
	if err := r.addViews(name, settings); err != nil {
		return err
	}
	profile, err := settings.profile(r.data, r.state)
	r.profiles = append(r.profiles, profile)
	return err
}

// addBuiltIn adds the built-in profile, unless the document has a profile of that name or one that uses the same record. It
// returns the name of the profile that is used in its place.
func (r *resolver) addBuiltIn() (string, error) {
	if _, written := r.names[BuiltIn]; written {
		return BuiltIn, nil
	}
	settings, err := r.settings(r.following, BuiltIn)
	if err != nil {
		return "", err
	}
	for _, at := range settings.shared() {
		if other := cmp.Or(r.claudes[at], r.views[at]); other != "" { // a profile of another name uses the default directory
			return other, nil
		}
	}
	profile, err := settings.profile(r.data, r.state)
	r.profiles = append(r.profiles, profile)
	r.names[BuiltIn] = BuiltIn
	return BuiltIn, err
}

// profileSettings collects the settings of one profile, until they become an agent.Profile.
type profileSettings struct {
	worker.Settings
	hosts     []string
	username  string // the user name that git and docker get with the token
	configDir string // "" if config.toml does not set it
}

// profile returns the settings as the agent has them.
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

// shared identifies SharedDir and the file in it, by path and by inode. Two profiles that have one of these in common use the
// same record, through whatever links.
func (s *profileSettings) shared() []string {
	dir := SharedDir(s.Settings)
	if dir == "" {
		return nil
	}
	return append(identities(dir), identities(environ.ClaudeFile(dir))...)
}

// identities identifies a file or folder by its path and, if it exists, by its inode.
func identities(path string) []string {
	names := []string{path}
	if info, err := os.Stat(path); err == nil {
		if stat, ok := info.Sys().(*syscall.Stat_t); ok {
			names = append(names, fmt.Sprintf("%d:%d", stat.Dev, stat.Ino))
		}
	}
	return names
}

// SharedDir returns the Claude Code directory in which the profile's record or its view may be, with links resolved. It returns
// "" if there is none.
func SharedDir(s worker.Settings) string {
	there := s.Store.MayBe(store.KindClaudeCode) || slices.ContainsFunc(s.Views, store.ViewPlace.Guards)
	if !s.Provider.Traits().ClaudeCode || s.ConfigDir == "" || !there {
		return ""
	}
	if real, err := filepath.EvalSymlinks(s.ConfigDir); err == nil {
		return real
	}
	return filepath.Clean(s.ConfigDir)
}
