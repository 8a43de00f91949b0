package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/ccagent/ccagent/agent"
	"github.com/ccagent/ccagent/cmd/ccagent/config"
	"github.com/ccagent/ccagent/cmd/ccagent/environ"
	"github.com/ccagent/ccagent/cmd/ccagent/terminal"
	"github.com/ccagent/ccagent/cmd/ccagent/undo"
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
			&cli.StringSliceFlag{
				Name:  "host",
				Usage: "git, docker, bazel: the `HOST` that gets the token (default: those that the profile lists)",
			},
			&cli.StringFlag{
				Name:  "name",
				Usage: "codex: the `NAME` of the model provider; kubectl: of the user; claude-code: of an MCP server whose headers are meant",
			},
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
	env     environ.Vars
	// kind says what the profile's token is, "" where it gives none at present.
	kind func() protocol.Kind
}

// ask is the command that prints a token in the format, for a shell.
func (w wish) ask(format string) string {
	command := protocol.ShellWord(w.helper) + " -p " + w.profile.Name
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
	// check, if not nil, judges the file before and after as the tool will. What it says ends a sentence about the file, unless
	// it is an error for the person already.
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
	cfg, _, err := config.Load(getenv)
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
	name := cmp.Or(c.String("profile"), cfg.Default)
	profile, missing := config.Named(cfg, name)
	if c.Bool("undo") {
		mine := slices.DeleteFunc(slices.Clone(done), func(j journal) bool {
			return protocol.FoldProfile(j.Profile) != protocol.FoldProfile(name) ||
				c.IsSet("host") && !slices.Equal(j.Hosts, hostsOf(c.StringSlice("host"))) || c.IsSet("name") && j.Name != c.String("name")
		})
		if len(mine) > 0 {
			return unsetup(c, profile, mine, done)
		}
	}
	if missing != nil {
		return missing
	}
	w := wish{
		profile: profile,
		hosts:   hostsOf(c.StringSlice("host")),
		name:    c.String("name"),
		by:      c.String("by"),
		env:     getenv,
		kind: func() protocol.Kind {
			if c.Bool("undo") { // what is taken back is the same for any
				return ""
			}
			token, err := tokenOf(c, profile.Name)
			if err != nil {
				return ""
			}
			return token.Kind
		},
	}
	if w.helper, err = getenv.Helper(); err != nil {
		return err
	}
	if len(w.hosts) == 0 {
		w.hosts = hostsOf(profile.Hosts)
	}
	for _, host := range w.hosts {
		if !slices.Contains(hostsOf(profile.Hosts), withoutPort(host)) {
			return &protocol.Error{
				Code: protocol.CodeConfig,
				Message: fmt.Sprintf("profile %s does not list the host %s, and would give it nothing", profile.Name,
					terminal.Sanitize(host)),
				Hint: fmt.Sprintf("list its name alone in config.toml, in [profiles.%s]: hosts = [\"git.example.com\"]", profile.Name),
			}
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
	if len(tools[i].programs) > 0 && !slices.ContainsFunc(tools[i].programs, w.env.OnPath) {
		p.says = append(p.says, "note: there is no "+tools[i].programs[0]+" on PATH; it will find this once it is installed")
	}
	return doSetup(c, j, p, w)
}

// tokenOf asks the agent for a profile's token.
func tokenOf(c *cli.Context, profile string) (protocol.Token, error) {
	conn, err := connect(c, true)
	if err != nil {
		return protocol.Token{}, err
	}
	defer conn.Close()
	return conn.Token(conn.Ctx, protocol.TokenRequest{Profile: profile})
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

func doSetup(c *cli.Context, j journal, p plan, w wish) error {
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
		changes = append(changes, fileChange{e.path, e.mode, before, after})
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
			changes = append(changes, linkChange{path, there, w.helper})
		}
		if j.Links == nil {
			j.Links = map[string]string{}
		}
		j.Links[path] = w.helper
	}
	views := config.Views(w.profile)
	if p.view && !slices.Contains(views, "anthropic-sdk") {
		changes, j.View = append(changes, viewChange{w.profile, true}), true
	}
	if p.guard && !slices.Contains(views, "claude-code") {
		changes, j.Guard = append(changes, guardChange{w.profile, true}), true
	}
	showAll(c, changes)
	switch {
	case c.Bool("dry-run"):
		return say(c, p)
	case changes == nil && p.edits == nil && !p.view && !p.guard: // it only says what to do
		return say(c, p)
	case changes == nil:
		fmt.Fprintln(c.App.Writer, j.Tool+" is set up already")
		return say(c, p)
	}
	if err := agreed(c); err != nil {
		return err
	}
	var done undo.Steps
	if err := writeJournal(&done, j); err != nil {
		return done.Fail(c.Context, err)
	}
	if err := makeAll(&done, c, changes, j.command()+" --undo"); err != nil {
		return done.Fail(c.Context, err)
	}
	if _, err := fmt.Fprintf(c.App.Writer, "%s asks ccagent for profile %s; take it back with --undo\n", j.Tool,
		j.Profile); err != nil {
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
	return terminal.Confirm(c.Context, "change that?", "--yes")
}

// unsetup takes back what the journals say, the latest first; all are those of the tool. Of profile no more than its name is
// needed.
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
				return &protocol.Error{
					Code:    protocol.CodeConfig,
					Message: path + " " + err.Error() + ", and is left alone",
					Hint:    "take out by hand what leads to ccagent in it",
				}
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
			if there, err := linkThere(path, to); err == nil && there != "" &&
				!slices.ContainsFunc(others, func(o journal) bool { return o.Links[path] != "" }) {
				links[path] = there
			}
		}
		view, guarded = view || j.View, guarded || j.Guard
	}
	var changes []change
	for _, path := range slices.Sorted(maps.Keys(after)) {
		if ch := (fileChange{path: path, before: before[path], after: after[path]}); !sameFile(ch.before, ch.after) {
			changes = append(changes, ch)
		}
	}
	for _, path := range slices.Sorted(maps.Keys(links)) {
		changes = append(changes, linkChange{path: path, from: links[path]})
	}
	views := config.Views(profile)
	if view && slices.Contains(views, "anthropic-sdk") {
		changes = append(changes, viewChange{profile, false})
	}
	if guarded && slices.Contains(views, "claude-code") {
		changes = append(changes, guardChange{profile, false})
	}
	showAll(c, changes)
	if c.Bool("dry-run") {
		return nil
	}
	told := "there is nothing to take back"
	if changes != nil {
		told = "taken back"
		if err := agreed(c); err != nil {
			return err
		}
	}
	var done undo.Steps
	if err := makeAll(&done, c, changes, mine[0].command()+" --undo"); err != nil {
		return done.Fail(c.Context, err)
	}
	for _, other := range others {
		if err := writeJournal(&done, other); err != nil {
			return done.Fail(c.Context, err)
		}
	}
	for _, j := range mine {
		if err := forgetJournal(&done, j); err != nil {
			return done.Fail(c.Context, err)
		}
	}
	_, err := fmt.Fprintln(c.App.Writer, told)
	return err
}
