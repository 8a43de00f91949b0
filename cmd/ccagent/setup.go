package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/ccagent/ccagent/agent"
	"github.com/ccagent/ccagent/agent/worker"
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
	name     string
	programs []string // any of them is the tool; none: there is nothing to install
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
	links []string // paths that are to lead to cchelper: some tools know a helper by the name of its file alone
	says  []string // what a person should know, or do
	view  bool     // the profile is to have the view anthropic-sdk
	guard bool     // guard claude-code does it
}

// edit is a change of one file.
type edit struct {
	path string
	mode fs.FileMode // of a file that is made
	puts []put
	// check, if not nil, judges the file before and after as the tool will. What it says ends a sentence about the file, unless it is
	// an error for the person already.
	check func(before, after []byte) error
}

// add returns the file with what is put in.
func (e edit) add(src []byte) ([]byte, error) {
	out := src
	var err error
	var byHand []string
	for _, p := range e.puts {
		byHand = append(byHand, p.byHand())
		if err == nil {
			out, err = p.add(out)
		}
	}
	if err == nil && e.check != nil {
		err = e.check(src, out)
	}
	if coded := (*protocol.Error)(nil); err == nil || errors.As(err, &coded) {
		return out, err
	}
	return nil, &protocol.Error{Code: protocol.CodeConfig, Message: e.path + " " + err.Error() + ", and is left alone",
		Hint: "add by hand: " + strings.Join(byHand, "\n")}
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
	dir, err := journalDir(getenv)
	if err != nil {
		return err
	}
	done, err := journalsOf(dir, tools[i].name)
	if err != nil {
		return err
	}
	name := c.String("profile")
	if name == "" {
		name = config.Default
	}
	profile, ok := findProfile(config, name)
	if c.Bool("undo") {
		mine := slices.DeleteFunc(slices.Clone(done), func(j journal) bool {
			return protocol.FoldProfile(j.Profile) != protocol.FoldProfile(name) ||
				c.IsSet("host") && !slices.Equal(j.Hosts, hostsOf(c.StringSlice("host"))) || c.IsSet("name") && j.Name != c.String("name")
		})
		if len(mine) > 0 {
			return unsetup(c, profile, mine, done)
		}
	}
	if !ok {
		return noProfile(name)
	}
	w := wish{profile: profile, hosts: hostsOf(c.StringSlice("host")), name: c.String("name"), by: c.String("by"), env: getenv}
	if w.helper, err = helperPath(); err != nil {
		return err
	}
	if len(w.hosts) == 0 {
		w.hosts = hostsOf(profile.Hosts)
	}
	for _, host := range w.hosts {
		if !slices.Contains(hostsOf(profile.Hosts), withoutPort(host)) {
			return &protocol.Error{Code: protocol.CodeConfig, Message: fmt.Sprintf("profile %s does not list the host %s, and would give it nothing", profile.Name, sanitize(host)),
				Hint: fmt.Sprintf("list its name alone in config.toml, in [profiles.%s]: hosts = [\"git.example.com\"]", profile.Name)}
		}
	}
	p, err := tools[i].plan(w)
	if err != nil {
		return err
	}
	j := newJournal(dir, tools[i].name, w)
	if c.Bool("undo") { // nothing is known of it: what setup would put into files is taken out, and a view may be the person's own
		j.Files, j.Links = map[string]entry{}, map[string]string{}
		for _, e := range p.edits {
			j.Files[e.path] = entry{Puts: e.puts}
		}
		for _, path := range p.links {
			j.Links[path] = w.helper
		}
		return unsetup(c, profile, []journal{j}, done)
	}
	for _, d := range done {
		if d.file == j.file {
			j = d
		}
	}
	if len(tools[i].programs) > 0 && !slices.ContainsFunc(tools[i].programs, w.env.onPath) {
		p.says = append(p.says, "note: there is no "+tools[i].programs[0]+" on PATH; it will find this once it is installed")
	}
	return doSetup(c, j, p, w)
}

// hostsOf are hosts in one spelling, each once: an IPv6 address in brackets, as it is in a URL.
func hostsOf(hosts []string) []string {
	var list []string
	for _, host := range hosts {
		if host = strings.ToLower(host); net.ParseIP(host) != nil && strings.Contains(host, ":") {
			host = "[" + host + "]"
		}
		if !slices.Contains(list, host) {
			list = append(list, host)
		}
	}
	return list
}

// withoutPort is the host of host:port: a tool may know a host by its port, and a profile lists names.
func withoutPort(host string) string {
	if i := strings.LastIndexByte(host, ':'); i > strings.LastIndexByte(host, ']') {
		if _, err := strconv.ParseUint(host[i+1:], 10, 16); err == nil {
			return host[:i]
		}
	}
	return host
}

// viewsOf are a profile's views.
func viewsOf(profile agent.Profile) []string {
	var s worker.Settings
	if err := json.Unmarshal(profile.Settings, &s); err != nil {
		return nil
	}
	return s.Views
}

func doSetup(c *cli.Context, j journal, p plan, w wish) error {
	saysOnly := len(p.edits) == 0 && !p.view && !p.guard
	views := viewsOf(w.profile)
	p.view, p.guard = p.view && !slices.Contains(views, "anthropic-sdk"), p.guard && !slices.Contains(views, "claude-code")
	var changes []change
	j.At, j.Files, j.Links = time.Now().UTC(), maps.Clone(j.Files), maps.Clone(j.Links)
	for _, e := range p.edits {
		before, err := readSettings(e.path)
		if err != nil {
			return err
		}
		if after, err := e.add(before); err == nil && bytes.Equal(before, after) && before != nil {
			continue
		}
		// What the same setup did before is taken back first.
		original, err := before, error(nil)
		if d, ok := j.Files[e.path]; ok {
			if original, err = d.takeOut(before); err != nil {
				original = before
			}
		}
		after, err := e.add(original)
		if err != nil {
			return err
		}
		changes = append(changes, change{path: e.path, mode: e.mode, before: before, after: after})
		if j.Files == nil {
			j.Files = map[string]entry{}
		}
		j.Files[e.path] = entry{digestOf(after), original, e.puts}
	}
	for _, path := range p.links {
		there, err := linkThere(path, w.helper)
		if err != nil {
			return err
		}
		if there != w.helper {
			changes = append(changes, change{path: path, linkBefore: there, link: w.helper})
		}
		if j.Links == nil {
			j.Links = map[string]string{}
		}
		j.Links[path] = w.helper
	}
	j.View, j.Guard = j.View || p.view, j.Guard || p.guard
	for _, ch := range changes {
		ch.show(c)
	}
	if p.view {
		fmt.Fprintf(c.App.ErrWriter, "config.toml: profile %s gets the view anthropic-sdk\n", j.Profile)
	}
	if p.guard {
		fmt.Fprintf(c.App.ErrWriter, "ccagent guard claude-code -p %s: the sign-in moves into a store of the agent, its file keeps the access token\n", j.Profile)
	}
	if c.Bool("dry-run") {
		return say(c, p)
	}
	if changes == nil && !p.view && !p.guard {
		if !saysOnly {
			fmt.Fprintln(c.App.Writer, j.Tool+" is set up already")
		}
		return say(c, p)
	}
	if err := agreed(c); err != nil {
		return err
	}
	if err := j.write(); err != nil {
		return err
	}
	for _, ch := range changes {
		if err := ch.make(); err != nil {
			return &protocol.Error{Code: protocol.CodeStorage, Message: err.Error(), Hint: "take back what was changed before it: " + j.command() + " --undo"}
		}
	}
	if p.view {
		if err := changeViews(c, w.profile, func(views []string) []string { return append(views, "anthropic-sdk") }); err != nil {
			return err
		}
	}
	if p.guard {
		if err := guardProfile(c, w.profile, false); err != nil {
			return err
		}
	}
	if _, err := fmt.Fprintf(c.App.Writer, "%s asks ccagent for profile %s; take it back with --undo\n", j.Tool, j.Profile); err != nil {
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

func agreed(c *cli.Context) error {
	if c.Bool("yes") {
		return nil
	}
	return confirm(c.Context, "change that?", "--yes")
}

// unsetup takes back what the journals say, the latest first; all are those of the tool. Of profile no more than its name is needed.
func unsetup(c *cli.Context, profile agent.Profile, mine, all []journal) error {
	others := slices.DeleteFunc(slices.Clone(all), func(j journal) bool {
		return slices.ContainsFunc(mine, func(m journal) bool { return m.file == j.file })
	})
	before, after := map[string][]byte{}, map[string][]byte{}
	links := map[string]string{}
	view, guarded := false, false
	for _, j := range mine {
		for path, e := range j.Files {
			now, ok := after[path]
			if !ok {
				var err error
				if now, err = readSettings(path); err != nil {
					return err
				}
				before[path] = now
			}
			out, err := e.takeOut(now)
			if err != nil {
				return &protocol.Error{Code: protocol.CodeConfig, Message: path + " " + err.Error() + ", and is left alone", Hint: "take out by hand what leads to ccagent in it"}
			}
			after[path] = out
			// What is set up beside it shall not bring it back.
			for _, other := range others {
				if o, ok := other.Files[path]; ok {
					if out, err := e.takeOut(o.Original); err == nil {
						o.Original = out
						other.Files[path] = o
					}
				}
			}
		}
		for path, to := range j.Links {
			if there, err := linkThere(path, to); err == nil && there != "" && !slices.ContainsFunc(others, func(o journal) bool { return o.Links[path] != "" }) {
				links[path] = there
			}
		}
		view, guarded = view || j.View, guarded || j.Guard
	}
	var changes []change
	for _, path := range slices.Sorted(maps.Keys(after)) {
		if ch := (change{path: path, before: before[path], after: after[path]}); !bytes.Equal(ch.before, ch.after) || (ch.before == nil) != (ch.after == nil) {
			changes = append(changes, ch)
		}
	}
	for _, path := range slices.Sorted(maps.Keys(links)) {
		changes = append(changes, change{path: path, linkBefore: links[path]})
	}
	for _, ch := range changes {
		ch.show(c)
	}
	views := viewsOf(profile)
	view, guarded = view && slices.Contains(views, "anthropic-sdk"), guarded && slices.Contains(views, "claude-code")
	if view {
		fmt.Fprintf(c.App.ErrWriter, "config.toml: profile %s loses the view anthropic-sdk\n", profile.Name)
	}
	if guarded {
		fmt.Fprintf(c.App.ErrWriter, "ccagent guard claude-code -p %s --undo: the sign-in goes back into Claude Code's file\n", profile.Name)
	}
	if c.Bool("dry-run") {
		return nil
	}
	told := "taken back"
	if changes == nil && !view && !guarded {
		told = "there is nothing to take back"
	} else if err := agreed(c); err != nil {
		return err
	}
	for _, ch := range changes {
		if err := ch.make(); err != nil {
			return &protocol.Error{Code: protocol.CodeStorage, Message: err.Error()}
		}
	}
	if view {
		if err := changeViews(c, profile, func(views []string) []string {
			return slices.DeleteFunc(views, func(v string) bool { return v == "anthropic-sdk" })
		}); err != nil {
			return err
		}
	}
	if guarded {
		if err := guardProfile(c, profile, true); err != nil {
			return err
		}
	}
	for _, other := range others {
		if err := other.write(); err != nil {
			return err
		}
	}
	for _, j := range mine {
		if err := j.forget(); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintln(c.App.Writer, told)
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
	if path := environ(getenv).lookPath("cchelper"); path != "" {
		return path, nil
	}
	return "", &protocol.Error{Code: protocol.CodeConfig, Message: "cchelper is neither beside ccagent nor on PATH", Hint: "install both: make install PREFIX=~/.local"}
}

// lookPath is the program of that name on PATH, "" if there is none.
func (e environ) lookPath(name string) string {
	for _, dir := range filepath.SplitList(e("PATH")) {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && filepath.IsAbs(dir) && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return path
		}
	}
	return ""
}

func (e environ) onPath(name string) bool { return e.lookPath(name) != "" }

// shellQuote makes one word of s for a POSIX shell.
func shellQuote(s string) string {
	if s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./=,:@%+", r)
	}) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// change is what becomes of one file, or of one link.
type change struct {
	path             string
	mode             fs.FileMode // of a file that is made
	before, after    []byte      // nil: no file
	linkBefore, link string      // where a link leads; "": no link
}

func (ch change) isLink() bool { return ch.linkBefore != "" || ch.link != "" }

func (ch change) show(c *cli.Context) {
	switch {
	case ch.link != "":
		fmt.Fprintf(c.App.ErrWriter, "link %s to %s\n", sanitize(ch.path), sanitize(ch.link))
	case ch.isLink(), ch.after == nil:
		fmt.Fprintf(c.App.ErrWriter, "remove %s\n", sanitize(ch.path))
	default:
		showDiff(c.App.ErrWriter, ch.path, ch.before, ch.after)
	}
}

// make does it.
func (ch change) make() error {
	if ch.isLink() {
		if ch.linkBefore != "" {
			if err := os.Remove(ch.path); err != nil {
				return err
			}
		}
		if ch.link == "" {
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
	if err := replaceFile(ch.path, ch.after, mode); err != nil {
		return fmt.Errorf("%s can't be written: %w", ch.path, err)
	}
	return nil
}

// maxSettings bounds a file that a person is said to edit, in bytes.
const maxSettings = 16 << 20

// readSettings reads a tool's file, nil where there is none.
func readSettings(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		return nil, &protocol.Error{Code: protocol.CodeStorage, Message: path + " is a link that leads nowhere", Hint: "make the file that it leads to, or remove it"}
	}
	switch {
	case err != nil:
	case !info.Mode().IsRegular():
		err = errors.New(path + " is no file, and is left alone")
	case info.Size() > maxSettings:
		err = errors.New(path + " is larger than 16 MiB, and is left alone")
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

// linkThere is where the link at path leads, "" if nothing is there. Only one that leads to a cchelper is ours.
func linkThere(path, helper string) (string, error) {
	there, err := os.Readlink(path)
	switch {
	case err == nil && filepath.Base(there) == filepath.Base(helper):
		return there, nil
	case errors.Is(err, fs.ErrNotExist):
		return "", nil
	}
	return "", &protocol.Error{Code: protocol.CodeConfig, Message: path + " is there already, and is not ours", Hint: "move it away"}
}
