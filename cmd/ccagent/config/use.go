package config

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ccagent/ccagent/agent"
	"github.com/ccagent/ccagent/cmd/ccagent/environ"
	"github.com/ccagent/ccagent/cmd/ccagent/terminal"
	"github.com/ccagent/ccagent/protocol"
)

// UseTable is one [[use]]: the profile that is used in a folder.
type UseTable struct {
	Dir     string `toml:"dir"`
	Profile string `toml:"profile"`
}

// uses checks the [[use]] tables. names are the profiles by their folded names.
func (d *document) uses(env environ.Vars, names map[string]string) ([]agent.Use, error) {
	if len(d.Use) > agent.MaxUses {
		return nil, d.fault(d.useLine(agent.MaxUses, ""), "%d [[use]], and %d is the limit", len(d.Use), agent.MaxUses)
	}
	var uses []agent.Use
	for i, table := range d.Use {
		profile, known := names[strings.ToLower(table.Profile)]
		switch {
		case table.Profile == "" && table.Dir == "":
			return nil, d.fault(d.useLine(i, ""), "[[use]]: dir and profile are missing")
		case table.Profile == "":
			return nil, d.fault(d.useLine(i, "profile"), "[[use]]: profile is missing: which one is used in %s", table.Dir)
		case !known:
			return nil, d.fault(d.useLine(i, "profile"), "[[use]]: profile is %q, and there is no such profile", table.Profile)
		}
		use := agent.Use{Profile: profile, Written: table.Dir, Line: d.useLine(i, "dir")}
		var problem string
		if use.Dir, use.Below, problem = folderOf(env, table.Dir); problem != "" {
			return nil, d.fault(use.Line, "[[use]]: %s", problem)
		}
		for _, other := range uses {
			if other.Dir == use.Dir && other.Below == use.Below {
				return nil, d.fault(use.Line, "[[use]]: dir %q is the folder of line %d again (%s)", table.Dir, other.Line, use.Dir)
			}
		}
		uses = append(uses, use)
	}
	return uses, nil
}

// folderOf reads the dir of a [[use]]: a folder, with a / or /** at its end if all below it is meant too. Links are followed,
// because a working directory is known without any. problem says what is wrong with it, "" for nothing.
func folderOf(env environ.Vars, written string) (dir string, below bool, problem string) {
	name, below := strings.CutSuffix(written, "/**")
	if !below {
		name, below = strings.CutSuffix(written, "/")
	}
	if below && name == "" {
		name = "/"
	}
	dir = env.Expand(name)
	switch {
	case written == "":
		return "", false, `dir is missing: a folder like "~/work/**"`
	case dir == "" || !terminal.Printable(dir):
		return "", false, "dir is " + Quote(written) + ": it must be an absolute path, or one below ~/ where HOME is set"
	case strings.ContainsAny(name, "*?[") && !there(dir):
		return "", false, "dir is " + Quote(written) + ": it is a folder, with /** at its end if all below it is meant too. " +
			"There is no other pattern"
	}
	return followLinks(dir), below, ""
}

func there(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// followLinks returns the path without links, as far as it exists.
func followLinks(path string) string {
	real, err := filepath.EvalSymlinks(path)
	switch up := filepath.Dir(path); {
	case err == nil:
		return real
	case up == path || !errors.Is(err, fs.ErrNotExist):
		return path
	default:
		return filepath.Join(followLinks(up), filepath.Base(path))
	}
}

// HereDir is the dir of a [[use]] for a folder and all below it.
func HereDir(env environ.Vars, folder string) (string, error) {
	dir := env.BelowHome(folder)
	if home := env("HOME"); filepath.IsAbs(home) && filepath.Clean(home) == folder {
		dir = "~"
	}
	dir = strings.TrimSuffix(dir, "/") + "/**"
	if !Encodable(dir) || !terminal.Printable(dir) {
		return "", &protocol.Error{Code: protocol.CodeConfig,
			Message: "the name of this folder can't be written in config.toml: " + terminal.Sanitize(folder),
			Hint:    "choose a profile here by a variable: export CCAGENT_PROFILE=NAME"}
	}
	return dir, nil
}

// SetUse says in config.toml which profile is used in a folder: in the [[use]] of that folder, or in a new one.
func SetUse(ctx context.Context, env environ.Vars, dir, profile string) (*Edit, error) {
	return editConfig(ctx, env, func(d *document, text []byte) ([]byte, error) {
		folder, below, problem := folderOf(env, dir)
		if problem != "" {
			return nil, &protocol.Error{Code: protocol.CodeConfig, Message: problem}
		}
		at := slices.IndexFunc(d.Use, func(t UseTable) bool {
			otherFolder, otherBelow, _ := folderOf(env, t.Dir)
			return otherFolder == folder && otherBelow == below
		})
		if at >= 0 {
			d.Use[at].Profile = profile
			return replaceValue(text, d.useLine(at, "profile"), "profile", Quote(profile)), nil
		}
		d.Use = append(d.Use, UseTable{dir, profile})
		text = endLine(text)
		if len(text) > 0 {
			text = append(text, '\n')
		}
		return append(text, "[[use]]\ndir = "+Quote(dir)+"\nprofile = "+Quote(profile)+"\n"...), nil
	})
}

// SetDefault changes default_profile in config.toml.
func SetDefault(ctx context.Context, env environ.Vars, profile string) (*Edit, error) {
	return editConfig(ctx, env, func(d *document, text []byte) ([]byte, error) {
		written := slices.Contains(d.index.below(), "default_profile")
		d.DefaultProfile = profile
		if written {
			return replaceValue(text, d.index.line("default_profile"), "default_profile", Quote(profile)), nil
		}
		// Before the first table, because what follows one belongs to it; and after remarks on the file as a whole.
		at := 0
		for rest := text; bytes.HasPrefix(rest, []byte("#")); {
			line, after, _ := bytes.Cut(rest, []byte("\n"))
			at += len(line) + 1
			if rest = after; bytes.HasPrefix(rest, []byte("\n")) {
				at++
				return slices.Insert(text, at, []byte("default_profile = "+Quote(profile)+"\n")...), nil
			}
		}
		line := "default_profile = " + Quote(profile) + "\n"
		if len(text) > 0 && text[0] != '\n' {
			line += "\n"
		}
		return append([]byte(line), text...), nil
	})
}

// withoutUses takes out the [[use]] tables of a profile.
func (d *document) withoutUses(text []byte, profile string) []byte {
	tables := d.index.useTables()
	for i, use := range slices.Backward(d.Use) {
		if !strings.EqualFold(use.Profile, profile) {
			continue
		}
		d.Use = slices.Delete(d.Use, i, i+1)
		if i < len(tables) {
			text = cutTable(text, tables[i])
		}
	}
	return text
}

// useTables are the [[use]] headers, in their order.
func (x *tomlIndex) useTables() (tables []tomlTable) {
	for _, table := range x.tables {
		if len(table.path) == 1 && table.path[0] == "use" {
			tables = append(tables, table)
		}
	}
	return tables
}

// useLine is the line of a key of the i-th [[use]], else of that table, else of the first.
func (d *document) useLine(i int, key string) int {
	line, n := d.index.line("use"), -1
	for _, k := range d.index.keys {
		switch {
		case slices.Equal(k.path, []string{"use"}):
			if n++; n == i {
				line = k.line
			}
		case n == i && slices.Equal(k.path, []string{"use", key}):
			return k.line
		}
	}
	return line
}
