package agent

import (
	"path"
	"strings"

	"github.com/ccagent/ccagent/protocol"
)

// MaxUses bounds the [[use]] tables of a configuration.
const MaxUses = 1024

// Use is one [[use]] of config.toml: the profile that is used in a folder.
type Use struct {
	Dir     string // absolute and clean, its links followed: a working directory is compared with it as the kernel names it
	Below   bool   // the folders below Dir are meant too
	Profile string
	Written string // dir as it is written
	Line    int    // where it is written, 0: not known
}

// Reason is why a profile was chosen for a request that names none.
type Reason int

const (
	ByDefault   Reason = iota // nothing else chooses one
	ByClaudeDir               // the caller's Claude Code directory is its config_dir, or has a view of it
	ByDir                     // a [[use]] is for the caller's working directory
)

// Chooser chooses the profile of a request that names none (docs/config.md, "Which profile is used"). It is made once from a
// configuration, looks at no file, and may be used concurrently. The zero Chooser chooses "".
type Chooser struct {
	byDefault    string
	claude       map[string]string // the profile of a Claude Code directory
	exact, below map[string]*Use   // by Dir
}

// Chooser returns the chooser of c.
func (c *Config) Chooser() *Chooser {
	r := &Chooser{byDefault: c.Default, claude: map[string]string{}, exact: map[string]*Use{}, below: map[string]*Use{}}
	for _, p := range c.Profiles {
		for _, dir := range p.ClaudeDirs {
			if other, taken := r.claude[dir]; taken && other != p.Name {
				r.claude[dir] = "" // two profiles mean it, so it chooses neither
			} else {
				r.claude[dir] = p.Name
			}
		}
	}
	for i := range c.Uses {
		if use := &c.Uses[i]; use.Below {
			r.below[use.Dir] = use
		} else {
			r.exact[use.Dir] = use
		}
	}
	return r
}

// Choose returns the profile that a request from home means if it names none, and why. use is set if the reason is ByDir. It
// allocates nothing, unless the home's Claude Code directory is written with a slash too many.
func (r *Chooser) Choose(home protocol.Home) (profile string, why Reason, use *Use) {
	if home.ClaudeConfigDir != "" && len(r.claude) > 0 {
		if name := r.claude[path.Clean(home.ClaudeConfigDir)]; name != "" {
			return name, ByClaudeDir, nil
		}
	}
	if use := r.useOf(home.Dir); use != nil {
		return use.Profile, ByDir, use
	}
	return r.byDefault, ByDefault, nil
}

// useOf returns the use of the longest folder that dir is, or is below; nil if there is none.
func (r *Chooser) useOf(dir string) *Use {
	if len(r.exact)+len(r.below) == 0 || dir == "" || dir[0] != '/' || len(dir) > protocol.MaxDir {
		return nil
	}
	if use := r.exact[dir]; use != nil {
		return use
	}
	for {
		if use := r.below[dir]; use != nil {
			return use
		}
		slash := strings.LastIndexByte(dir, '/')
		switch {
		case dir == "/":
			return nil
		case slash == 0:
			dir = "/"
		default:
			dir = dir[:slash]
		}
	}
}
