package agent

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/ccagent/ccagent/hosts"
	"github.com/ccagent/ccagent/protocol"
)

// table is a configuration in force: entries by folded name.
type table struct {
	config    Config
	entries   map[string]*entry
	chooser   Chooser
	claudeDir string   // the Claude Code directory of the agent's own environment, its links followed
	byName    []*entry // sorted by name
}

// reload reads the configuration. What is known of a profile stays if its settings are as they were.
func (a *Agent) reload() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.loaded = fileStateOf(a.opts.ConfigFile)
	config, err := a.opts.Load()
	if err != nil {
		a.configErr = asError(err)
		a.log.Error("configuration not taken, the settings stay as they were", "error", err)
		return err
	}
	a.configErr = nil
	old := a.table.Load()
	profiles, chooser := config.Profiles, config.Chooser()
	config.Profiles = nil // the entries have them
	next := &table{config: config, entries: make(map[string]*entry, len(profiles)), chooser: *chooser,
		claudeDir: claudeDirOf(config.Home)}
	for _, p := range profiles {
		key := protocol.FoldProfile(p.Name)
		e := old.entries[key]
		if e == nil {
			e = &entry{agent: a}
			e.snapshot.Store(noFiles)
		}
		e.configure(&p)
		next.entries[key] = e
		next.byName = append(next.byName, e)
	}
	for key, e := range old.entries {
		if next.entries[key] != nil {
			continue
		}
		// A profile that was removed stays until the record that it alone has is saved. A job under way may be about to bring
		// one.
		if !e.remove() {
			next.entries[key] = e
			next.byName = append(next.byName, e)
		}
	}
	slices.SortFunc(next.byName, func(x, y *entry) int { return strings.Compare(x.name(), y.name()) })
	a.table.Store(next)
	old.bumpVersions()
	next.bumpVersions()
	a.wakeClock()
	return nil
}

// reloadIfChanged reads the configuration again if its file has changed since it was read.
func (a *Agent) reloadIfChanged() {
	if a.opts.ConfigFile == "" {
		return
	}
	a.mu.Lock()
	changed := fileStateOf(a.opts.ConfigFile) != a.loaded
	a.mu.Unlock()
	if changed {
		a.reload()
	}
}

func (a *Agent) configError() *protocol.Error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.configErr
}

// find returns the entry that a request from home means by name, nil when there is none. "" is the one that its place chooses.
func (t *table) find(name string, home protocol.Home) *entry {
	if name == "" {
		name, _, _ = t.chooser.Choose(home)
	}
	if e := t.entries[name]; e != nil {
		return e
	}
	return t.entries[protocol.FoldProfile(name)]
}

// byHost returns the name of the profile that a request means by its host, and the name in the request if the host does not
// matter. It fails if no profile lists the host, or if several do and nothing tells them apart.
func (t *table) byHost(req *protocol.TokenRequest) (string, error) {
	if req.Profile != "" || !req.Listed {
		return req.Profile, nil
	}
	var listing, named []string
	chosen, why, _ := t.chooser.Choose(req.Home)
	for _, e := range t.byName {
		p := e.profile.Load()
		if e.removed.Load() || !hosts.Listed(p.Hosts, req.Host) {
			continue
		}
		if why != ByDefault && protocol.FoldProfile(p.Name) == protocol.FoldProfile(chosen) {
			return p.Name, nil
		}
		listing = append(listing, p.Name)
		if req.Username != "" && p.Username == req.Username {
			named = append(named, p.Name)
		}
	}
	switch {
	case len(listing) == 1:
		return listing[0], nil
	case len(named) == 1:
		return named[0], nil
	case len(listing) > 1:
		return "", &protocol.Error{
			Code:    protocol.CodeConfig,
			Message: "several profiles list the host " + req.Host + ": " + strings.Join(listing, ", "),
			Hint: "name one with -p or CCAGENT_PROFILE, choose one for this folder with: ccagent use " + listing[0] +
				"\nor give each a username in config.toml, if the tool names one",
		}
	}
	if len(t.byName) == 0 { // there is no configuration yet, and that is to be said
		return "", nil
	}
	return "", &protocol.Error{
		Code:    protocol.CodeDenied,
		Message: "no profile lists the host " + req.Host,
		Hint:    "if a token may go there, list it in config.toml, in the profile that is meant: hosts = [\"" + req.Host + "\"]",
	}
}

// noProfile is the error of a request for a profile that the configuration does not have.
func noProfile(name string) error {
	return &protocol.Error{
		Code: protocol.CodeNotFound, Message: fmt.Sprintf("there is no profile %q", name), Hint: "see them with: ccagent list",
	}
}

// here returns the name of the profile that a request from home means if it names none.
func (t *table) here(home protocol.Home) string {
	name, _, _ := t.chooser.Choose(home)
	return name
}

// entry returns the profile that a request means, and refuses one that comes from another home. Before it says that there is
// none, it looks whether the configuration has changed.
func (a *Agent) entry(name string, home protocol.Home) (*entry, error) {
	if name != "" {
		if err := protocol.CheckProfile(name); err != nil {
			return nil, err
		}
	}
	t := a.table.Load()
	e := t.find(name, home)
	if e == nil {
		a.reloadIfChanged()
		t = a.table.Load()
		if e = t.find(name, home); e == nil {
			if err := a.configError(); err != nil {
				return nil, err
			}
			if err := t.checkHome(home, nil); err != nil { // there, the profile may well be
				return nil, err
			}
			return nil, noProfile(name)
		}
	}
	err := t.checkHome(home, e)
	if real := followed(home); err != nil && real != home { // a link to a directory that is known
		if other := t.find(name, real); other != nil && t.checkHome(real, other) == nil {
			return other, nil
		}
	}
	return e, err
}

// mayServe reports whether e, which was refused to a request from home, may turn out to be what it means once it is loaded.
func (a *Agent) mayServe(e *entry, home protocol.Home) bool {
	return e != nil && e.undecided() && a.table.Load().checkHome(home, nil) == nil
}

// entryToServe is entry for a request that wants the token. Where the record of a profile rests with store auto is not known
// before it is loaded. If a refusal depends on that, the record is loaded first.
func (a *Agent) entryToServe(ctx context.Context, name string, home protocol.Home) (*entry, error) {
	e, err := a.entry(name, home)
	if err == nil || !a.mayServe(e, home) {
		return e, err
	}
	e.token(ctx, protocol.TokenRequest{}) // what goes wrong, the request finds again
	return a.entry(name, home)
}
