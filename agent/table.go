package agent

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ccagent/ccagent/protocol"
)

// table is a configuration in force: entries by folded name.
type table struct {
	config  Config
	entries map[string]*entry
	byName  []*entry // sorted by name
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
	profiles := config.Profiles
	config.Profiles = nil // the entries have them
	next := &table{config: config, entries: make(map[string]*entry, len(profiles))}
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

// find returns the entry that a request means by name, nil when there is none. "" is the default profile.
func (t *table) find(name string) *entry {
	if name == "" {
		name = t.config.Default
	}
	if e := t.entries[name]; e != nil {
		return e
	}
	return t.entries[protocol.FoldProfile(name)]
}

// noProfile is the error of a request for a profile that the configuration does not have.
func noProfile(name string) error {
	return &protocol.Error{
		Code: protocol.CodeNotFound, Message: fmt.Sprintf("there is no profile %q", name), Hint: "see them with: ccagent list",
	}
}

// entry returns the profile that a request means. Before it says that there is none, it looks whether the configuration has
// changed.
func (a *Agent) entry(name string, home protocol.Home) (*entry, error) {
	if name != "" {
		if err := protocol.CheckProfile(name); err != nil {
			return nil, err
		}
	}
	t := a.table.Load()
	e := t.find(name)
	if e == nil {
		a.reloadIfChanged()
		t = a.table.Load()
		if e = t.find(name); e == nil {
			if err := a.configError(); err != nil {
				return nil, err
			}
			return nil, noProfile(name)
		}
	}
	if err := t.checkHome(home, e); err != nil {
		return nil, err
	}
	return e, nil
}
