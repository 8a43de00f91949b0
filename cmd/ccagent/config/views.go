package config

import (
	"context"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/ccagent/ccagent/agent"
	"github.com/ccagent/ccagent/cmd/ccagent/environ"
	"github.com/ccagent/ccagent/cmd/ccagent/terminal"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store"
)

// The kinds of view.
const (
	ViewToken  = store.ViewToken
	ViewEnv    = store.ViewEnv
	ViewSDK    = store.ViewSDK
	ViewClaude = store.ViewClaude
)

// View is one of a profile's views as config.toml has it: a table like { kind = "token", path = "~/.run/token" }, or the kind
// alone as a string.
type View struct {
	Kind store.ViewKind
	Dir  string // of claude-code and anthropic-sdk: the directory of that program; "": the one that the environment names
	Path string // of token and env: the file
	Name string // of env: the variable

	// InPlace is of token and env: the file is mounted as a single file somewhere, so it is written and never replaced.
	InPlace bool
}

// viewKeys returns the keys that a view of a kind may have besides that, nil if there is no such kind. Those of a kind with a
// path are needed.
func viewKeys(kind store.ViewKind) []string {
	switch kind {
	case ViewToken:
		return []string{"path", "in_place"}
	case ViewEnv:
		return []string{"path", "name", "in_place"}
	case ViewSDK, ViewClaude:
		return []string{"dir"}
	}
	return nil
}

// value returns the value of a key of the view.
func (v *View) value(key string) *string {
	switch key {
	case "kind":
		return (*string)(&v.Kind)
	case "dir":
		return &v.Dir
	case "path":
		return &v.Path
	case "name":
		return &v.Name
	}
	return nil
}

// toml writes the view as a value of TOML.
func (v View) toml() string {
	if v == (View{Kind: v.Kind}) {
		return Quote(string(v.Kind))
	}
	var members []string
	for _, key := range []string{"kind", "dir", "path", "name"} {
		if value := *v.value(key); value != "" {
			members = append(members, key+" = "+Quote(value))
		}
	}
	if v.InPlace {
		members = append(members, "in_place = true")
	}
	return "{ " + strings.Join(members, ", ") + " }"
}

// tomlViews writes the views as an array of TOML.
func tomlViews(views []View) string {
	values := make([]string, len(views))
	for i, v := range views {
		values[i] = v.toml()
	}
	return "[" + strings.Join(values, ", ") + "]"
}

// readViews reads the views of all profiles, which the TOML library has only decoded as far as it can without knowing them.
func (d *document) readViews() error {
	for name, table := range d.Profiles {
		if table.WrittenViews == nil {
			continue
		}
		list, ok := table.WrittenViews.([]any)
		if !ok {
			return d.viewFault(name, 0, "", "must be %s", viewsForm)
		}
		table.WrittenViews, table.Views = nil, []View{}
		for i, written := range list {
			view, err := d.readView(name, i, written)
			if err != nil {
				return err
			}
			table.Views = append(table.Views, view)
		}
		d.Profiles[name] = table
	}
	return nil
}

const viewsForm = `a list like [{ kind = "token", path = "~/.run/token" }, "anthropic-sdk"]`

func (d *document) readView(name string, i int, written any) (View, error) {
	var v View
	var ok bool
	switch written := written.(type) {
	case string:
		v.Kind = store.ViewKind(written)
	case map[string]any:
		for key, value := range written {
			if key == "in_place" {
				if v.InPlace, ok = value.(bool); !ok {
					return v, d.viewFault(name, i, key, "in_place must be true or false")
				}
				continue
			}
			to := v.value(key)
			if to == nil {
				return v, d.viewFault(name, i, key, "unknown key %s", key)
			}
			text, isText := value.(string)
			if !isText {
				return v, d.viewFault(name, i, key, "%s must be a string", key)
			}
			if text == "" {
				return v, d.viewFault(name, i, key, "%s is empty", key)
			}
			*to = text
		}
	default:
		return v, d.viewFault(name, i, "", "must be %s", viewsForm)
	}
	return v, nil
}

// viewFault returns an error about a key of the i-th view of a profile.
func (d *document) viewFault(profile string, i int, key, format string, args ...any) error {
	line := d.index.line("profiles", profile, "views", strconv.Itoa(i), key)
	return d.fault(line, "profiles."+profile+": views: "+format, args...)
}

// takeViews checks a profile's views, and resolves their paths.
func (s *profileSettings) takeViews(env environ.Vars, d *document, name string) error {
	stateDir, err := env.StateDir()
	if err != nil {
		return err
	}
	for i, written := range d.Profiles[name].Views {
		fault := func(key, format string, args ...any) error { return d.viewFault(name, i, key, format, args...) }
		view, err := s.view(env, stateDir, name, written, fault)
		if err != nil {
			return err
		}
		if slices.Contains(s.Views, view) {
			return fault("", "%s is listed twice", written.Kind)
		}
		s.Views = append(s.Views, view)
	}
	return nil
}

func (s *profileSettings) view(env environ.Vars, stateDir, name string, v View, fault faulty) (store.ViewPlace, error) {
	resolved := store.ViewPlace{Kind: v.Kind, Name: v.Name, InPlace: v.InPlace}
	keys := viewKeys(v.Kind)
	switch {
	case v.Kind == "":
		return resolved, fault("", "kind is missing: it is one of %s", Joined(store.ViewKinds, ", "))
	case keys == nil:
		return resolved, fault("kind", "there is no kind %q: it is one of %s", v.Kind, Joined(store.ViewKinds, ", "))
	case v.Kind == ViewClaude && !s.Provider.Traits().ClaudeCode:
		return resolved, fault("kind", "claude-code has no meaning for provider %s", s.Provider)
	}
	for _, key := range []string{"dir", "path", "name"} {
		value := *v.value(key)
		switch allowed := slices.Contains(keys, key); {
		case !allowed && value != "":
			return resolved, fault(key, "%s has no meaning for kind %s", key, v.Kind)
		case allowed && value == "" && key == "path":
			return resolved, fault("kind", "path is missing: the file that shows the token")
		case allowed && value == "" && key == "name":
			return resolved, fault("kind", "name is missing: the variable that the token is in")
		}
	}
	if v.InPlace && !slices.Contains(keys, "in_place") {
		return resolved, fault("in_place", "in_place has no meaning for kind %s", v.Kind)
	}
	if v.Name != "" && !environ.VariableName(v.Name) {
		return resolved, fault("name", "name is %q: it is the name of a variable, of letters, digits and _", v.Name)
	}
	var err error
	switch v.Kind {
	case ViewToken, ViewEnv:
		if resolved.Path, err = viewPath(env, "path", v.Path, fault); err != nil {
			return resolved, err
		}
		// If the view was written before, the agent says what is wrong with its place by now. That is no reason to refuse the whole
		// file, and with it all other profiles.
		if _, err := store.CheckViewFile(resolved.Path); err != nil && !resolved.Open(stateDir, name, "").Known() {
			return resolved, withHint(fault("path", "%s", err), err)
		}
	case ViewSDK:
		if v.Dir != "" {
			resolved.Dir, err = viewPath(env, "dir", v.Dir, fault)
		} else if resolved.Dir, err = env.SDKDir(); err != nil {
			err = fault("kind", "%s", err)
		}
	case ViewClaude:
		switch {
		case v.Dir != "":
			resolved.Dir, err = viewPath(env, "dir", v.Dir, fault)
		case s.Store.Traits().Shared:
			err = fault("kind", "claude-code can't be combined with store claude-code, where the record itself is in that file")
		}
	}
	return resolved, err
}

// addViews adds the places of a profile's views. It returns an error if one of them is the place of another view.
func (r *resolver) addViews(name string, settings *profileSettings) error {
	for i, v := range settings.Views {
		key, path := "path", v.Path
		switch {
		case v.Guards(): // see resolver.add
			continue
		case v.Kind == ViewSDK:
			key, path = "dir", v.Open(r.state, name, "").Place().Location
		case v.Kind == ViewClaude:
			key, path = "dir", environ.ClaudeFile(v.Dir)
		}
		fault := func(format string, args ...any) error { return r.viewFault(name, i, key, format, args...) }
		path = followLinks(path)
		for _, folder := range []string{r.data, r.state, filepath.Dir(r.path)} {
			if below(path, followLinks(folder)) {
				return fault("%s is in a folder of ccagent's own", path)
			}
		}
		for _, at := range identities(path) {
			switch other := r.views[at]; other {
			case "":
				r.views[at] = name
			case name:
				return fault("%s is listed twice", path)
			default:
				return fault("%s is a view of profile %s already", path, other)
			}
		}
		r.placed = append(r.placed, placedView{name, i, key, path})
	}
	return nil
}

// placedView is where a view is, and where it is written in config.toml.
type placedView struct {
	profile string
	i       int
	key     string
	path    string // links followed
}

// checkViews returns an error if a view is in the place of a record, or is to be a file where another one needs a folder. It is
// called once all profiles of the document are added.
func (r *resolver) checkViews() error {
	for _, v := range r.placed {
		for _, at := range identities(v.path) {
			if other := r.records[at]; other != "" {
				e := r.viewFault(v.profile, v.i, v.key, "%s is Claude Code's own file of profile %s", v.path, other).(*protocol.Error)
				if v.key == "dir" && other == v.profile {
					e.Hint = `to show the token there, write "claude-code" without a dir, and a store of ccagent's own, as "ccagent guard" does`
				}
				return e
			}
		}
		for _, other := range r.placed {
			if below(v.path, other.path) && v.path != other.path {
				return r.viewFault(v.profile, v.i, v.key, "%s is below %s, which is a view and so no folder", v.path, other.path)
			}
		}
		if v.key == "path" && filepath.Base(v.path) == filepath.Base(environ.ClaudeFile("")) {
			return r.viewFault(v.profile, v.i, v.key,
				"%s has the name of Claude Code's own file: use kind claude-code and its dir", v.path)
		}
	}
	return nil
}

// below reports whether a path is folder or in it.
func below(path, folder string) bool {
	rest, ok := strings.CutPrefix(path, folder)
	return ok && (rest == "" || rest[0] == '/')
}

// viewPath resolves a path of a view.
func viewPath(env environ.Vars, key, written string, fault faulty) (string, error) {
	path := env.Expand(written)
	if path == "" || !terminal.Printable(path) {
		return "", fault(key, "%s is %q: it must be an absolute path, or one below ~/ where HOME is set", key, written)
	}
	if err := ofOthers(key, path, fault); err != nil {
		return "", err
	}
	return filepath.Clean(path), nil
}

// withHint gives an error of config.toml the hint of its reason, if that has one.
func withHint(fault, reason error) error {
	e := fault.(*protocol.Error)
	if hint := protocol.HintOf(reason); hint != "" {
		e.Hint = hint
	}
	return e
}

// Views returns the profile's views, with absolute paths.
func Views(profile agent.Profile) []store.ViewPlace {
	settings, _ := Settings(profile) // Load has encoded them, so they can be decoded
	return settings.Views
}

// ViewFile says where a view is. It is part of the output of `ccagent list --json` (docs/json.md).
type ViewFile struct {
	Kind store.ViewKind `json:"kind"`
	Path string         `json:"path"`
}

// ViewFiles returns where the profile's views are.
func ViewFiles(profile agent.Profile) []ViewFile {
	var files []ViewFile
	settings, _ := Settings(profile)
	for _, v := range settings.Views {
		view := v.Open(settings.StateDir, profile.Name, settings.ConfigDir)
		files = append(files, ViewFile{v.Kind, view.Place().Location})
	}
	return files
}

// ShowViews lists where the profile's views are, for a person; "" for none.
func ShowViews(env environ.Vars, profile agent.Profile) string {
	var names []string
	for _, file := range ViewFiles(profile) {
		names = append(names, env.BelowHome(file.Path))
	}
	return strings.Join(names, ", ")
}

// HasView reports whether the profile has a view of that kind. Of kind claude-code, only the one in the place of Claude Code's
// own record counts.
func HasView(profile agent.Profile, kind store.ViewKind) bool {
	return slices.ContainsFunc(Views(profile), func(v store.ViewPlace) bool {
		return v.Kind == kind && (kind != ViewClaude || v.Guards())
	})
}

// SetViews changes a profile's views in config.toml. It adds a table for the profile if the file has none. If dir is not empty,
// and the table has no config_dir, it sets that to dir.
func SetViews(ctx context.Context, env environ.Vars, name, provider, dir string, change func([]View) []View) (*Edit, error) {
	return editConfig(ctx, env, func(d *document, text []byte) ([]byte, error) {
		written := d.written(name)
		if written == "" {
			table := Table{Provider: provider, Views: change(nil)}
			if dir != "" {
				table.ConfigDir = &dir
			}
			return adding(name, table, false)(d, text)
		}
		table := d.Profiles[written]
		was := table.Views
		table.Views = change(slices.Clone(was))
		if len(table.Views) == 0 {
			table.Views = nil
		}
		if !slices.Equal(was, table.Views) {
			var list string
			if table.Views != nil {
				list = tomlViews(table.Views)
			}
			text = setKey(text, d.index, written, "views", list)
		}
		if dir != "" && table.ConfigDir == nil {
			table.ConfigDir = &dir
			index, err := indexTOML(text)
			if err != nil {
				return nil, err
			}
			text = setKey(text, index, written, "config_dir", Quote(dir))
		}
		d.Profiles[written] = table
		return text, nil
	})
}
