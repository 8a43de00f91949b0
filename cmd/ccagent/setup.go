package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/ccagent/ccagent/agent"
	"github.com/ccagent/ccagent/protocol"
)

func setupCommand() *cli.Command {
	return &cli.Command{
		Name:      "setup",
		Usage:     "connect a tool: edit its settings so that it asks ccagent",
		ArgsUsage: "TOOL",
		Description: `TOOL is ` + strings.Join(toolNames(), ", ") + `.

The tool's own settings are shown as they would be, and written once you agree; all else in them stays as it is, and
a copy is kept. --undo brings back exactly what was there, or where the file has changed since, takes out what
setup put in. Settings that cannot be parsed are left alone.

EXAMPLE:
   ccagent setup claude-code -p gateway
   ccagent setup git -p work --host git.example.com
   ccagent setup git -p work --host git.example.com --undo`,
		Flags: []cli.Flag{
			profileFlag(),
			&cli.StringSliceFlag{Name: "host", Usage: "git, docker, bazel: the `HOST` that gets the token (default: those that the profile lists)"},
			&cli.StringFlag{Name: "name", Usage: "codex: the `NAME` of the model provider; kubectl: of the user; claude-code: of an MCP server whose headers are meant"},
			&cli.StringFlag{Name: "by", Usage: "claude-code with an OAuth sign-in: the `WAY`, guard (default), sdk or exec"},
			&cli.BoolFlag{Name: "undo", Usage: "take it back"},
			&cli.BoolFlag{Name: "dry-run", Aliases: []string{"n"}, Usage: "show what would be changed, and change nothing"},
			&cli.BoolFlag{Name: "yes", Aliases: []string{"y"}, Usage: "do not ask"},
			timeoutFlag(),
		},
		Action: setup,
	}
}

// tool is a program that can be told to ask us.
type tool struct {
	name string
	// plan says what is to be edited for a wish. A plan without edits only says what to do.
	plan func(w wish) (plan, error)
}

// wish is what a person wants of setup.
type wish struct {
	profile agent.Profile
	helper  string // cchelper, absolute
	hosts   []string
	name    string
	by      string
	env     environ
}

// ask is the command that prints a token in the format, for a shell.
func (w wish) ask(format string) string {
	command := shellQuote(w.helper) + " -p " + w.profile.Name
	if format != "" {
		command += " -f " + format
	}
	return command
}

// plan is what setup does.
type plan struct {
	edits []edit
	says  []string // what a person should know, or do
	views bool     // the profile is to have the view anthropic-sdk
	guard bool     // guard claude-code does it
}

// edit is a change of one file, or a link.
type edit struct {
	path string
	mode fs.FileMode // of a file that is made
	// add returns the file with the change, cut without it; nil stands for no file. An error of add's says what to add by hand.
	add, cut func(src []byte) ([]byte, error)
	link     string // not "": the path is to be a link to it
}

func setup(c *cli.Context) error {
	if c.Args().Len() != 1 {
		return usagef(c, "which TOOL? one of %s", strings.Join(toolNames(), ", "))
	}
	i := slices.IndexFunc(tools, func(t tool) bool { return t.name == c.Args().First() })
	if i < 0 {
		return usagef(c, "no tool %q: there are %s", c.Args().First(), strings.Join(toolNames(), ", "))
	}
	config, _, err := loadConfig(getenv)
	if err != nil {
		return err
	}
	name := c.String("profile")
	if name == "" {
		name = config.Default
	}
	profile, ok := findProfile(config, name)
	if !ok {
		return noProfile(name)
	}
	w := wish{profile: profile, hosts: c.StringSlice("host"), name: c.String("name"), by: c.String("by"), env: getenv}
	if w.helper, err = helperPath(); err != nil {
		return err
	}
	if len(w.hosts) == 0 {
		w.hosts = profile.Hosts
	}
	for _, host := range w.hosts {
		name, _, _ := strings.Cut(host, ":") // the tool may know it by its port; a profile lists names
		if !slices.ContainsFunc(profile.Hosts, func(h string) bool { return strings.EqualFold(h, name) }) {
			return &protocol.Error{Code: protocol.CodeConfig, Message: fmt.Sprintf("profile %s does not list the host %s, and would give it nothing", profile.Name, host),
				Hint: fmt.Sprintf("list it in config.toml, in [profiles.%s]: hosts = [%q]", profile.Name, host)}
		}
	}
	p, err := tools[i].plan(w)
	if err != nil {
		return err
	}
	state, err := environ(getenv).stateDir()
	if err != nil {
		return err
	}
	id := strings.Join(slices.DeleteFunc([]string{tools[i].name, profile.Name, strings.Join(w.hosts, "+"), w.name}, func(s string) bool { return s == "" }), "_")
	if strings.ContainsAny(id, "/\x00") || len(id) > 200 {
		return usagef(c, "%q is no name for it", id)
	}
	j := journal{dir: filepath.Join(state, "setup"), id: id}
	if c.Bool("undo") {
		return unsetup(c, j, p, profile)
	}
	return doSetup(c, j, p, tools[i].name, profile)
}

func doSetup(c *cli.Context, j journal, p plan, name string, profile agent.Profile) error {
	done, err := j.read()
	if err != nil {
		return err
	}
	var changes []change
	for _, e := range p.edits {
		ch, err := e.change(done)
		if err != nil {
			return err
		}
		if !ch.same() {
			changes = append(changes, ch)
		}
	}
	for _, ch := range changes {
		ch.show(c)
	}
	if p.views {
		fmt.Fprintf(c.App.ErrWriter, "config.toml: profile %s gets the view anthropic-sdk\n", profile.Name)
	}
	if p.guard {
		fmt.Fprintf(c.App.ErrWriter, "ccagent guard claude-code -p %s: the sign-in moves into a store of the agent, its file keeps the access token\n", profile.Name)
	}
	if c.Bool("dry-run") {
		return say(c, p)
	}
	if changes == nil && !p.views && !p.guard {
		if len(p.edits) > 0 {
			fmt.Fprintln(c.App.Writer, name+" is set up already")
		}
		return say(c, p)
	}
	if !c.Bool("yes") {
		if err := confirm(c.Context, "change that?", "--yes"); err != nil {
			return err
		}
	}
	if err := j.write(done, changes); err != nil {
		return err
	}
	for _, ch := range changes {
		if err := ch.make(); err != nil {
			return &protocol.Error{Code: protocol.CodeStorage, Message: err.Error(), Hint: "take back what was changed before it: ccagent setup " + name + " --undo"}
		}
	}
	if p.views {
		if err := changeViews(c, profile, func(views []string) []string {
			if slices.Contains(views, "anthropic-sdk") {
				return views
			}
			return append(views, "anthropic-sdk")
		}); err != nil {
			return err
		}
	}
	if p.guard {
		if err := guardProfile(c, profile, false); err != nil {
			return err
		}
	}
	if _, err := fmt.Fprintf(c.App.Writer, "%s asks ccagent for profile %s; take it back with --undo\n", name, profile.Name); err != nil {
		return err
	}
	return say(c, p)
}

func say(c *cli.Context, p plan) error {
	for _, line := range p.says {
		if _, err := fmt.Fprintln(c.App.Writer, line); err != nil {
			return err
		}
	}
	return nil
}

func unsetup(c *cli.Context, j journal, p plan, profile agent.Profile) error {
	done, err := j.read()
	if err != nil {
		return err
	}
	var changes []change
	for _, e := range slices.Backward(p.edits) {
		ch, err := e.undo(done)
		if err != nil {
			return err
		}
		if !ch.same() {
			changes = append(changes, ch)
		}
	}
	for _, ch := range changes {
		ch.show(c)
	}
	if c.Bool("dry-run") {
		return nil
	}
	if changes == nil && !p.views && !p.guard {
		_, err := fmt.Fprintln(c.App.Writer, "there is nothing to take back")
		return errors.Join(err, j.forget())
	}
	if !c.Bool("yes") {
		if err := confirm(c.Context, "change that?", "--yes"); err != nil {
			return err
		}
	}
	for _, ch := range changes {
		if err := ch.make(); err != nil {
			return &protocol.Error{Code: protocol.CodeStorage, Message: err.Error()}
		}
	}
	if p.views {
		if err := changeViews(c, profile, func(views []string) []string {
			return slices.DeleteFunc(views, func(v string) bool { return v == "anthropic-sdk" })
		}); err != nil {
			return err
		}
	}
	if p.guard {
		if err := guardProfile(c, profile, true); err != nil {
			return err
		}
	}
	if err := j.forget(); err != nil {
		return err
	}
	_, err = fmt.Fprintln(c.App.Writer, "taken back")
	return err
}

// changeViews changes a profile's views, and tells the agent.
func changeViews(c *cli.Context, profile agent.Profile, change func([]string) []string) error {
	conn, err := connect(c, true)
	if err != nil {
		return err
	}
	defer conn.close()
	edit, err := setViews(conn.ctx, getenv, profile.Name, profile.Provider, "", change)
	if err != nil {
		return err
	}
	if err := reload(conn); err != nil {
		return undone(c, conn, edit, err)
	}
	return nil
}

// helperPath is cchelper beside this program, else on PATH.
func helperPath() (string, error) {
	if exe, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(exe), "cchelper")
		if info, err := os.Stat(beside); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return beside, nil
		}
	}
	for _, dir := range filepath.SplitList(getenv("PATH")) {
		path := filepath.Join(dir, "cchelper")
		if info, err := os.Stat(path); err == nil && filepath.IsAbs(dir) && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", &protocol.Error{Code: protocol.CodeConfig, Message: "cchelper is neither beside ccagent nor on PATH", Hint: "install both: make install PREFIX=~/.local"}
}

// shellQuote makes one word of s for a POSIX shell.
func shellQuote(s string) string {
	if s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./=,:@%+", r)
	}) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// change is an edit worked out.
type change struct {
	edit
	before, after []byte // nil: no file
	original      []byte // what undo brings back
	linkBefore    string
}

func (ch change) same() bool {
	if ch.link != "" {
		return ch.linkBefore == ch.link && ch.after != nil || ch.linkBefore == "" && ch.after == nil
	}
	return bytes.Equal(ch.before, ch.after) && (ch.before == nil) == (ch.after == nil)
}

func (ch change) show(c *cli.Context) {
	switch {
	case ch.link != "" && ch.after != nil:
		fmt.Fprintf(c.App.ErrWriter, "link %s to %s\n", sanitize(ch.path), sanitize(ch.link))
	case ch.link != "", ch.after == nil:
		fmt.Fprintf(c.App.ErrWriter, "remove %s\n", sanitize(ch.path))
	default:
		showDiff(c.App.ErrWriter, ch.path, ch.before, ch.after)
	}
}

// make does it.
func (ch change) make() error {
	if ch.link != "" {
		if ch.linkBefore != "" {
			if err := os.Remove(ch.path); err != nil {
				return err
			}
		}
		if ch.after == nil {
			return nil
		}
		if err := os.MkdirAll(filepath.Dir(ch.path), 0o755); err != nil {
			return err
		}
		return os.Symlink(ch.link, ch.path)
	}
	now, err := readSettings(ch.path)
	switch {
	case err != nil:
		return err
	case !bytes.Equal(now, ch.before) || (now == nil) != (ch.before == nil):
		return errors.New(ch.path + " has changed since it was shown, and is left alone")
	case ch.after == nil:
		return os.Remove(ch.path)
	}
	mode := ch.mode
	if info, err := os.Stat(ch.path); err == nil {
		mode = info.Mode().Perm()
	}
	if err := os.MkdirAll(filepath.Dir(ch.path), 0o700); err != nil {
		return err
	}
	return replaceFile(ch.path, ch.after, mode)
}

// readSettings reads a tool's file, nil where there is none.
func readSettings(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil && (!info.Mode().IsRegular() || info.Size() > 16<<20) {
		err = errors.New(path + " is no file that could be edited")
	}
	var src []byte
	if err == nil {
		src, err = os.ReadFile(path)
	}
	if err != nil {
		return nil, &protocol.Error{Code: protocol.CodeStorage, Message: err.Error()}
	}
	if src == nil {
		src = []byte{}
	}
	return src, nil
}

// change works an edit out. What setup did before is taken to be taken back first.
func (e edit) change(done map[string]entry) (change, error) {
	ch := change{edit: e}
	if e.link != "" {
		return ch, ch.lookAtLink(true)
	}
	var err error
	if ch.before, err = readSettings(e.path); err != nil {
		return ch, err
	}
	ch.original = ch.before
	if d, ok := done[e.path]; ok && d.digest(ch.before) {
		ch.original = d.Original
	}
	ch.after, err = e.add(ch.original)
	return ch, err
}

// undo works out how to take an edit back.
func (e edit) undo(done map[string]entry) (change, error) {
	ch := change{edit: e}
	if e.link != "" {
		return ch, ch.lookAtLink(false)
	}
	var err error
	if ch.before, err = readSettings(e.path); err != nil || ch.before == nil {
		return ch, err
	}
	if d, ok := done[e.path]; ok && d.digest(ch.before) {
		ch.after = d.Original
		return ch, nil
	}
	ch.after, err = e.cut(ch.before)
	return ch, err
}

// lookAtLink finds out what is there. Something else of that name stays.
func (ch *change) lookAtLink(wanted bool) error {
	there, err := os.Readlink(ch.path)
	switch {
	case err == nil && (there == ch.link || filepath.Base(there) == filepath.Base(ch.link)):
		ch.linkBefore = there
	case errors.Is(err, fs.ErrNotExist):
	case wanted:
		return &protocol.Error{Code: protocol.CodeConfig, Message: ch.path + " is there already, and is not ours", Hint: "move it away"}
	}
	if wanted {
		ch.after = []byte{}
	}
	return nil
}

// journal remembers what setup did for one tool, so that it can be taken back exactly.
type journal struct{ dir, id string }

// entry is one file in it. Original is nil where there was none.
type entry struct {
	Digest   string `json:"digest"` // of the file as setup left it
	Original []byte `json:"original"`
}

func digestOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func (e entry) digest(data []byte) bool { return data != nil && e.Digest == digestOf(data) }

func (j journal) path() string { return filepath.Join(j.dir, j.id+".json") }

func (j journal) read() (map[string]entry, error) {
	data, err := os.ReadFile(j.path())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var doc struct {
		Version int              `json:"version"`
		Files   map[string]entry `json:"files"`
	}
	if err == nil {
		err = json.Unmarshal(data, &doc)
	}
	if err == nil && doc.Version != 1 {
		err = errors.New("it is of another version")
	}
	if err != nil {
		return nil, &protocol.Error{Code: protocol.CodeStorage, Message: fmt.Sprintf("what setup did before can't be read from %s: %s", j.path(), err),
			Hint: "move that file away; --undo then takes out what setup put in, line by line"}
	}
	return doc.Files, nil
}

// write notes what is about to be changed. It is 0600: settings may hold secrets.
func (j journal) write(done map[string]entry, changes []change) error {
	files := maps.Clone(done)
	if files == nil {
		files = map[string]entry{}
	}
	for _, ch := range changes {
		if ch.link == "" {
			files[ch.path] = entry{Digest: digestOf(ch.after), Original: ch.original}
		}
	}
	data, err := json.Marshal(map[string]any{"version": 1, "files": files})
	if err == nil {
		err = os.MkdirAll(j.dir, 0o700)
	}
	if err == nil {
		err = replaceFile(j.path(), append(data, '\n'), 0o600)
	}
	if err != nil {
		return &protocol.Error{Code: protocol.CodeStorage, Message: "no copy of the settings could be kept: " + err.Error(), Hint: "nothing was changed"}
	}
	return nil
}

func (j journal) forget() error {
	if err := os.Remove(j.path()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
