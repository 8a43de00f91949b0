// Package setup connects a tool: it edits the tool's settings so that the tool asks ccagent for its token. It can also undo that.
// A journal of what was done lets it restore exactly what was there, even long after.
package setup

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ccagent/ccagent/agent"
	"github.com/ccagent/ccagent/cmd/ccagent/config"
	"github.com/ccagent/ccagent/cmd/ccagent/environ"
	"github.com/ccagent/ccagent/cmd/ccagent/terminal"
	"github.com/ccagent/ccagent/cmd/ccagent/undo"
	"github.com/ccagent/ccagent/hosts"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store"
)

// Request is what a person asks setup to do.
type Request struct {
	Tool    string
	Profile string   // its name, "" for the default one; with Undo it need not exist any more
	Hosts   []string // the hosts that get the token; if there are none, those that the profile lists
	Name    *string  // the name of something in the tool's settings; nil if none was given
	MCP     bool     // claude-code: add the MCP server that the profile is for
	Project bool     // with MCP: to the settings of the project in the working directory
	folder  string   // of the project
	By      string   // which way to connect the tool, if it has several
	IDToken bool     // kubectl gets ID tokens
	Undo    bool
	DryRun  bool
	Yes     bool // make the changes without asking
}

// Session is what setup needs besides the request.
type Session struct {
	Env      environ.Vars
	Out, Err io.Writer // Out gets the answer, Err the changes that are shown
	Agent    Agent
}

// Agent does the parts of setup that need the agent.
type Agent interface {
	// Kind returns the kind of the profile's token, or "" if the profile has no token at present.
	Kind(profile string) protocol.Kind
	// View adds a view to the profile, or removes it. A view that is added is written if the profile has a token.
	View(profile agent.Profile, view config.View, gives bool) error
	// Guard guards Claude Code's sign-in, or undoes that.
	Guard(profile string, guards bool) error
}

// tool is a program that can be set up to ask ccagent.
type tool struct {
	name     string
	programs []string // programs that use these settings; if there are none, no program has to be installed
	// plan says what to edit for a wish. A plan without edits only tells the person what to do.
	plan func(w wish) (plan, error)
}

// wish is a request with its defaults filled in. A tool makes its plan from it.
type wish struct {
	profile agent.Profile
	helper  string // the absolute path of cchelper
	hosts   []string
	name    string
	mcp     bool
	undo    bool   // the plan is of what is to be taken out
	project string // the folder of the project whose settings are meant; "": the person's own settings
	by      string
	idToken bool
	env     environ.Vars
	// kind returns the kind of the profile's token, or "" if the profile has no token at present.
	kind func() protocol.Kind
}

// ask returns the command, for a shell, that prints a token in the format.
func (w wish) ask(format string) string {
	command := protocol.ShellWord(w.helper) + " -p " + w.profile.Name
	if format != "" {
		command += " -f " + format
	}
	return command
}

// plan is what setup is to do.
type plan struct {
	edits []edit
	links []string             // paths of links to cchelper: some tools find a helper only by the name of its file
	says  []string             // lines that tell the person what else to know or do
	warns []environ.Outranking // what Claude Code would prefer to what it is told; said before anything is changed
	views []config.View        // to add to the profile
	guard bool                 // run guard claude-code
}

// edit is a change of one file.
type edit struct {
	path string
	mode fs.FileMode // for a file that is created
	puts []put
	// check, if not nil, checks the content before and after the edit, as the tool will. The message of its error continues a
	// sentence that begins with the path of the file, unless the error is a *protocol.Error, which is complete.
	check func(before, after []byte) error
}

// add returns the content of the file with the puts added.
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
		err = e.check(unmarked(src), unmarked(out))
	}
	if coded := (*protocol.Error)(nil); err == nil || errors.As(err, &coded) {
		return out, err
	}
	return nil, &protocol.Error{Code: protocol.CodeConfig, Message: e.path + " " + err.Error() + ", so it was not edited",
		Hint: "add by hand: " + strings.Join(byHand, "\n")}
}

// Do connects the tool, or undoes that. The request's tool has to be one of Names.
func (s *Session) Do(ctx context.Context, r Request) error {
	cfg, _, err := config.Load(s.Env)
	if err != nil {
		return err
	}
	dir, err := JournalDir(s.Env)
	if err != nil {
		return err
	}
	done, err := journalsOf(dir, r.Tool)
	if err != nil {
		return err
	}
	r.Profile = cmp.Or(r.Profile, cfg.Default)
	r.Hosts = hostsOf(r.Hosts)
	if r.Project {
		if r.folder, err = projectHere(s.Env("HOME")); err != nil {
			return err
		}
	}
	profile, missing := config.Named(cfg, r.Profile)
	if r.Undo {
		mine := slices.DeleteFunc(slices.Clone(done), func(j Journal) bool { return !r.means(j) })
		if len(mine) > 0 {
			return s.takeBack(ctx, r, profile, mine, done)
		}
	}
	if missing != nil && r.MCP {
		hint := "sign in to the server first: " + protocol.ShellLine("ccagent", "login", r.Profile) + " --mcp URL"
		if strings.Contains(r.Profile, "://") {
			hint = "name the profile, not the address of the server; to make one: " +
				protocol.ShellLine("ccagent", "login", "--mcp", r.Profile) + " NAME"
		}
		return &protocol.Error{Code: protocol.CodeOf(missing), Message: missing.Error(), Hint: hint}
	}
	if missing != nil {
		return missing
	}
	t := toolOf(r.Tool)
	w, err := s.wish(r, profile)
	if err != nil {
		return err
	}
	p, err := t.plan(w)
	if err != nil {
		return err
	}
	j := newJournal(dir, t.name, w)
	if r.Undo { // no journal tells what was done: remove what setup would add to files; a view stays, it may be the person's own
		j.Files, j.Links = map[string]Entry{}, map[string]string{}
		for _, e := range p.edits {
			j.Files[e.path] = Entry{Puts: e.puts}
		}
		for _, path := range p.links {
			j.Links[path] = w.helper
		}
		return s.takeBack(ctx, r, profile, []Journal{j}, done)
	}
	for _, d := range done {
		if d.file == j.file {
			j = d
		}
	}
	if len(t.programs) > 0 && !slices.ContainsFunc(t.programs, w.env.OnPath) {
		p.says = append(p.says, "note: there is no "+t.programs[0]+" on PATH; once it is installed, it will find these settings")
	}
	return s.connect(ctx, r, j, done, p, w)
}

// means reports whether the journal records what the request is to undo.
func (r Request) means(j Journal) bool {
	return protocol.FoldProfile(j.Profile) == protocol.FoldProfile(r.Profile) &&
		(len(r.Hosts) == 0 || slices.Equal(j.Hosts, r.Hosts)) && (r.Name == nil || j.Name == *r.Name) &&
		r.MCP == j.MCP && r.folder == j.Project
}

// wish fills in the defaults of the request, and checks its hosts.
func (s *Session) wish(r Request, profile agent.Profile) (wish, error) {
	w := wish{
		profile: profile,
		hosts:   r.Hosts,
		mcp:     r.MCP,
		undo:    r.Undo,
		project: r.folder,
		by:      r.By,
		idToken: r.IDToken,
		env:     s.Env,
		kind: func() protocol.Kind {
			if r.Undo { // what is undone does not depend on the kind
				return ""
			}
			return s.Agent.Kind(profile.Name)
		},
	}
	if r.Name != nil {
		w.name = *r.Name
	}
	var err error
	if w.helper, err = s.Env.Helper(); err != nil {
		return w, err
	}
	if len(w.hosts) == 0 && !r.MCP { // a tool is told hosts, not patterns
		w.hosts = slices.DeleteFunc(hostsOf(profile.Hosts), func(h string) bool { return strings.Contains(h, "*") })
	}
	for _, host := range w.hosts {
		if strings.Contains(host, "*") || !hosts.Listed(profile.Hosts, hosts.At("https", host)) {
			return w, &protocol.Error{
				Code: protocol.CodeConfig,
				Message: fmt.Sprintf("profile %s does not list the host %s, so it would get no token", profile.Name,
					terminal.Sanitize(host)),
				Hint: fmt.Sprintf("list it in config.toml, in [profiles.%s]: hosts = [\"git.example.com\", \"git.example.com:8443\"]",
					profile.Name),
			}
		}
	}
	return w, nil
}

// hostsOf returns the hosts in lower case, each once. An IPv6 address is in brackets, as in a URL.
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

// connect changes the tool's settings as the plan says, and writes the journal. all are the journals of the tool.
func (s *Session) connect(ctx context.Context, r Request, j Journal, all []Journal, p plan, w wish) error {
	changes, err := s.planned(&j, all, p, w)
	if err != nil {
		return err
	}
	s.show(changes)
	for _, o := range append(p.warns, j.Outranked(ctx, s.Env)...) {
		terminal.Warn(s.Err, "%s; to mend it: %s", o.What, o.Mend)
	}
	switch {
	case r.DryRun:
		return s.say(p)
	case changes == nil && p.edits == nil && p.views == nil && !p.guard: // the plan only tells the person what to do
		return s.say(p)
	case changes == nil:
		fmt.Fprintln(s.Out, j.Tool+" is already set up")
		return s.say(p)
	}
	if err := agreed(ctx, r); err != nil {
		return err
	}
	var done undo.Steps
	if err := writeJournal(&done, j); err != nil {
		return done.Fail(ctx, err)
	}
	if err := s.makeAll(&done, changes, j.Command()+" --undo"); err != nil {
		return done.Fail(ctx, err)
	}
	does := "now asks ccagent"
	if p.views != nil || w.by == "exec" { // it finds the token somewhere, and asks nobody
		does = "is set up"
	}
	if _, err := fmt.Fprintf(s.Out, "%s %s for profile %s; --undo restores what was there before\n", j.Tool, does,
		j.Profile); err != nil {
		return err
	}
	for _, view := range p.views {
		if path := s.Env.Expand(view.Path); path != "" && !isFile(path) {
			p.says = append(p.says, fmt.Sprintf("note: %s is not there yet, because profile %s has no token; to change that: %s", path,
				w.profile.Name, config.Provider(w.profile).Obtain(w.profile.Name)))
		}
	}
	return s.say(p)
}

// planned returns what the plan changes of what is there now, and notes that in the journal j. all are the journals of the tool.
func (s *Session) planned(j *Journal, all []Journal, p plan, w wish) (changes []change, err error) {
	j.At, j.Files, j.Links = time.Now().UTC(), maps.Clone(j.Files), maps.Clone(j.Links)
	for _, e := range p.edits {
		if err := store.CheckName(e.path); err != nil {
			return nil, err
		}
		before, err := readSettings(e.path)
		if err != nil {
			return nil, err
		}
		if after, err := e.add(before); err == nil && bytes.Equal(before, after) && before != nil {
			continue
		}
		// If the same setup was done before, its edit is undone first.
		original, err := before, error(nil)
		if d, ok := j.Files[e.path]; ok {
			if original, err = d.takeOut(before); err != nil {
				original = before
			}
		}
		after, err := e.add(original)
		if err != nil {
			return nil, err
		}
		changes = append(changes, fileChange{e.path, e.mode, before, after})
		if j.Files == nil {
			j.Files = map[string]Entry{}
		}
		j.Files[e.path] = Entry{digestOf(after), original, e.puts}
	}
	for _, path := range p.links {
		there, err := linkThere(path, w.helper)
		if err != nil {
			return nil, err
		}
		if there != w.helper {
			changes = append(changes, linkChange{path, there, w.helper})
		}
		if j.Links == nil {
			j.Links = map[string]string{}
		}
		j.Links[path] = w.helper
	}
	for _, view := range p.views {
		missing := !HasView(s.Env, w.profile, view)
		if missing {
			changes = append(changes, viewChange{s.Agent, w.profile, view, true})
		}
		// A view that another setup of the tool has added is there for both, until both are undone.
		shared := slices.ContainsFunc(all, func(other Journal) bool { return slices.Contains(other.Views, view) })
		if (missing || shared) && !slices.Contains(j.Views, view) {
			j.Views = append(slices.Clone(j.Views), view)
		}
	}
	if p.guard && !config.HasView(w.profile, config.ViewClaude) {
		changes, j.Guard = append(changes, guardChange{s.Agent, w.profile.Name, true}), true
	}
	return changes, nil
}

// HasView reports whether the profile has the view.
func HasView(env environ.Vars, profile agent.Profile, view config.View) bool {
	for _, v := range config.Views(profile) {
		if v.Kind == view.Kind && (view.Path == "" || v.Path == env.Expand(view.Path) && v.Name == view.Name) {
			return true
		}
	}
	return false
}

// say tells the person what the plan has to say.
func (s *Session) say(p plan) error {
	for _, line := range p.says {
		if _, err := fmt.Fprintln(s.Out, line); err != nil {
			return err
		}
	}
	return nil
}

// agreed asks the person whether to make the changes that were shown.
func agreed(ctx context.Context, r Request) error {
	if r.Yes {
		return nil
	}
	return terminal.Confirm(ctx, "make these changes?", "--yes")
}

// takeBack undoes what the journals in mine record, the latest first. all are the journals of the tool. If the profile does not
// exist any more, its name is enough.
func (s *Session) takeBack(ctx context.Context, r Request, profile agent.Profile, mine, all []Journal) error {
	others := slices.DeleteFunc(slices.Clone(all), func(j Journal) bool {
		return slices.ContainsFunc(mine, func(m Journal) bool { return m.file == j.file })
	})
	changes, err := s.undoing(profile, mine, others)
	if err != nil {
		return err
	}
	s.show(changes)
	if r.DryRun {
		return nil
	}
	told := "there is nothing to undo"
	if changes != nil {
		told = "undone"
		if err := agreed(ctx, r); err != nil {
			return err
		}
	}
	var done undo.Steps
	if err := s.makeAll(&done, changes, mine[0].Command()+" --undo"); err != nil {
		return done.Fail(ctx, err)
	}
	for _, other := range others {
		if err := writeJournal(&done, other); err != nil {
			return done.Fail(ctx, err)
		}
	}
	for _, j := range mine {
		if err := forgetJournal(&done, j); err != nil {
			return done.Fail(ctx, err)
		}
	}
	_, err = fmt.Fprintln(s.Out, told)
	return err
}

// undoing returns the changes that undo what the journals in mine record. others are the journals of the same tool that stay.
// What is removed from a file is removed from the originals in them too, so that a later --undo does not bring it back.
func (s *Session) undoing(profile agent.Profile, mine, others []Journal) ([]change, error) {
	before, after := map[string][]byte{}, map[string][]byte{}
	links := map[string]string{}
	var views []config.View
	guarded := false
	for _, j := range mine {
		for path, e := range j.Files {
			now, ok := after[path]
			if !ok {
				var err error
				if now, err = readSettings(path); err != nil {
					return nil, err
				}
				before[path] = now
			}
			out, err := e.takeOut(now)
			if err != nil {
				return nil, &protocol.Error{
					Code:    protocol.CodeConfig,
					Message: path + " " + err.Error() + ", so it was not edited",
					Hint:    "remove by hand what refers to ccagent in it",
				}
			}
			after[path] = out
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
				!slices.ContainsFunc(others, func(o Journal) bool { return o.Links[path] != "" }) {
				links[path] = there
			}
		}
		views, guarded = append(views, j.Views...), guarded || j.Guard
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
	for _, view := range views {
		shared := slices.ContainsFunc(others, func(o Journal) bool { return slices.Contains(o.Views, view) })
		if HasView(s.Env, profile, view) && !shared {
			changes = append(changes, viewChange{s.Agent, profile, view, false})
		}
	}
	if guarded && config.HasView(profile, config.ViewClaude) {
		changes = append(changes, guardChange{s.Agent, profile.Name, false})
	}
	return changes, nil
}

// withoutPort removes the port from host:port, for a tool that knows hosts only by their names.
func withoutPort(host string) string {
	if i := strings.LastIndexByte(host, ':'); i > strings.LastIndexByte(host, ']') {
		if _, err := strconv.ParseUint(host[i+1:], 10, 16); err == nil {
			return host[:i]
		}
	}
	return host
}
