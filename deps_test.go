// Package ccagent_test holds what must be true of the module as a whole.
package ccagent_test

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/ccagent/ccagent"

// forbidden names packages, and says why a room must not link them, however indirectly. A pattern that ends in "/..." is
// the package and all below it.
type forbidden map[string]string

// wire is what must stay out of the smallest program.
var wire = forbidden{
	"net":        "the helper speaks to one Unix socket by system calls: package net doubles its size and slows its start",
	"net/http":   "the wire knows nothing of the network",
	"log/slog":   "the wire reports by its errors alone",
	"crypto/...": "the wire needs no cryptography, and its packages test themselves at each start",
	"os/exec":    "the one program it starts is started by fork and exec, with nothing inherited",
}

// leaf is what must stay out of the rooms of ccagent that all its other rooms may use.
var leaf = forbidden{
	module + "/agent":       "a leaf knows no settings of the agent",
	module + "/store":       "a leaf knows nothing of records",
	"github.com/urfave/...": "flags are for the commands to parse",
}

// with is what a room must not link beyond what others must not.
func (f forbidden) with(path, reason string) forbidden {
	more := maps.Clone(f)
	more[path] = reason
	return more
}

// rooms says for each folder that promises something what it imports, as ARCHITECTURE.md tells it. A folder that is not
// listed may import anything that is not fenced.
var rooms = map[string]struct {
	// mayImport is what the folder's own files may import beyond the standard library.
	mayImport []string
	never     forbidden
}{
	"protocol": {
		mayImport: []string{"golang.org/x/sys/..."},
		never:     wire.with("encoding/json", "frames are RFC 4251 fields; reflection has no place on the hot path"),
	},
	"protocol/protocoltest": {
		mayImport: []string{module + "/protocol", module + "/hosts"},
	},
	"store": {
		mayImport: []string{
			module + "/protocol", module + "/disk", module + "/process", module + "/store/keyring", module + "/store/splice",
			module + "/lookalike",
			"golang.org/x/sys/...",
			"filippo.io/age/...", "golang.org/x/crypto/ssh",
		},
		never: forbidden{
			"net/http":                 "a store is local; only agent/oauth asks providers",
			module + "/agent":          "the agent reaches a store through a worker, never the other way round",
			module + "/agent/...":      "a store knows nothing of who uses it",
			module + "/cmd/...":        "policy of the programs",
			"github.com/urfave/...":    "a store has no command line",
			"github.com/lmittmann/...": "a store has no terminal",
		},
	},
	"store/keyring": {
		mayImport: []string{
			module + "/protocol", "golang.org/x/sys/...", "github.com/zalando/go-keyring", "github.com/godbus/dbus/...",
		},
		never: forbidden{
			module + "/store": "a leaf that knows nothing of records",
			"net/http":        "a keyring is local",
		},
	},
	"store/storetest": {
		mayImport: []string{module + "/store", module + "/protocol"},
	},
	"agent": {
		mayImport: []string{
			module + "/protocol", module + "/hosts", module + "/process", module + "/agent/job", module + "/agent/server",
			"golang.org/x/sys/...", "github.com/fsnotify/fsnotify",
		},
		never: forbidden{
			"net/http":                      "whatever touches the network runs in a worker",
			module + "/store":               "to the agent a record is an opaque blob: a worker reads it",
			module + "/agent/oauth":         "whatever touches the network runs in a worker",
			module + "/agent/worker":        "the two share agent/job alone, so that neither can lean on the other's memory",
			"github.com/zalando/go-keyring": "a keyring can hang for minutes: only a worker may wait for it",
		},
	},
	"agent/spawn": {
		mayImport: []string{module + "/protocol", module + "/agent/job", "golang.org/x/sys/..."},
		never: forbidden{
			module + "/agent":        "it is a Runner by its shape alone",
			module + "/agent/worker": "a worker is another process",
			"net/http":               "it is linked into the agent",
		},
	},
	"agent/server": {
		mayImport: []string{module + "/protocol", "golang.org/x/sys/..."},
		never: forbidden{
			module + "/agent":     "a server puts requests to whatever agent it is given",
			module + "/agent/job": "a server knows nothing of renewals",
			"net/http":            "it is linked into the agent",
		},
	},
	"agent/restricted": {
		mayImport: []string{module + "/protocol", module + "/agent/server"},
		never: forbidden{
			module + "/agent": "a restricted socket is another process, without a record or a token of its own",
			module + "/store": "a restricted socket is another process, without a record or a token of its own",
			"net/http":        "it asks an agent, and nobody else",
		},
	},
	"agent/socket": {
		mayImport: []string{
			module + "/protocol", module + "/disk", module + "/process", "golang.org/x/sys/...", "github.com/fsnotify/fsnotify",
		},
		never: forbidden{
			module + "/agent": "a socket knows nothing of who answers on it",
			"net/http":        "it is linked into the agent",
		},
	},
	"disk": {
		mayImport: []string{module + "/protocol", "golang.org/x/sys/..."},
		never: forbidden{
			"net/http":        "it is linked into the agent",
			module + "/store": "a leaf that knows nothing of what is in a file",
			module + "/agent": "a leaf that knows nothing of who writes a file",
		},
	},
	"process": {
		mayImport: []string{"golang.org/x/sys/..."},
		never:     wire,
	},
	"agent/job": {
		mayImport: []string{module + "/protocol"},
		never: forbidden{
			module + "/agent": "the agent and its workers share this room: it depends on neither",
			module + "/store": "a record is an opaque blob on the pipe",
			"net/http":        "it is linked into the agent",
		},
	},
	"hosts": {
		never: forbidden{
			module + "/...": "a rule on names knows nothing of who asks",
			"net":           "the helper imports it, and resolves nothing",
		},
	},
	"lookalike": {
		mayImport: []string{module + "/protocol"},
		never:     leaf.with("net/http", "it judges a text that it is given"),
	},
	"secureurl": {
		never: forbidden{module + "/protocol": "a rule on URLs knows nothing of who asks"},
	},
	"place": {
		never: forbidden{module + "/...": "a rule on requests knows nothing of who asks"},
	},
	"keyset": {
		mayImport: []string{"github.com/go-jose/go-jose/..."},
		never: forbidden{
			"net/http":           "it reads keys; whoever needs them fetches them",
			module + "/protocol": "it is about signatures alone",
		},
	},
	"agent/oauth": {
		mayImport: []string{
			module + "/protocol", module + "/secureurl", module + "/keyset", "golang.org/x/sys/...", "golang.org/x/oauth2/...",
			"github.com/go-jose/go-jose/...",
		},
		never: forbidden{
			module + "/agent": "a dialect knows nothing of who asks",
			module + "/store": "a dialect returns what the provider said; the worker stores it",
		},
	},
	"agent/provider": {
		mayImport: []string{module + "/protocol", module + "/store"},
		never: forbidden{
			"net/http":               "it is a table",
			module + "/agent":        "a table knows nothing of who reads it",
			module + "/agent/worker": "a table knows nothing of who reads it",
			module + "/agent/oauth":  "how a provider is spoken to is not what it is called",
		},
	},
	"agent/renewal": {
		mayImport: []string{module + "/protocol", module + "/store", module + "/agent/job"},
		never: forbidden{
			"net/http":               "whoever renews brings the provider, and with it the network",
			module + "/agent":        "it runs in a worker, which must not share the agent's state",
			module + "/agent/worker": "a worker is one of its settings",
			module + "/agent/embed":  "an embedded agent is one of its settings",
			module + "/agent/oauth":  "whoever brings a provider of his own links nobody else's",
		},
	},
	"agent/embed": {
		mayImport: []string{module + "/protocol", module + "/store", module + "/agent/job", module + "/agent/renewal"},
		never: forbidden{
			module + "/agent":        "it is a Runner by its shape alone, like the worker that it stands in for",
			module + "/agent/worker": "whoever brings a provider and a store of his own links nobody else's",
			module + "/agent/oauth":  "whoever brings a provider of his own links nobody else's",
		},
	},
	"agent/httpauth": {
		mayImport: []string{
			module + "/protocol", module + "/hosts", module + "/place", module + "/lookalike", module + "/secureurl", module + "/keyset",
			"golang.org/x/oauth2",
		},
		never: forbidden{
			module + "/agent":     "a program that asks an agent does not carry one",
			module + "/agent/...": "a program that asks an agent does not carry its parts",
			module + "/store":     "a program that asks an agent touches no store",
			module + "/cmd/...":   "policy of the programs",
		},
	},
	"agent/gateway/route": {
		mayImport: []string{module + "/hosts", module + "/place", module + "/secureurl"},
		never: forbidden{
			module + "/protocol": "a rule on requests asks nobody",
		},
	},
	"agent/gateway/address": {
		never: forbidden{
			module + "/...": "a rule on addresses knows nothing of who connects",
			"net/http":      "a rule on addresses knows nothing of who connects",
		},
	},
	"agent/gateway/scrub": {
		never: forbidden{
			module + "/...": "it knows bytes, and not whose they are",
			"net/http":      "it reads a stream, wherever that comes from",
		},
	},
	"agent/gateway/audit": {
		mayImport: []string{module + "/disk", "golang.org/x/sys/..."},
		never: forbidden{
			"net/http":        "it writes down what it is told",
			module + "/store": "nothing in it is secret",
		},
	},
	"agent/gateway": {
		mayImport: []string{
			module + "/protocol", module + "/process", module + "/place", module + "/agent/gateway/route",
			module + "/agent/gateway/address", module + "/agent/gateway/scrub", module + "/agent/httpauth", module + "/secureurl",
		},
		never: forbidden{
			module + "/agent":        "a gateway asks an agent, and carries none",
			module + "/agent/worker": "a gateway renews nothing itself",
			module + "/agent/oauth":  "a gateway renews nothing itself",
			module + "/store":        "a gateway has nothing but the tokens that the agent gives it",
			module + "/cmd/...":      "policy of the programs",
		},
	},
	"agent/worker": {
		mayImport: []string{
			module + "/protocol",
			module + "/store",
			module + "/lookalike",
			module + "/agent/oauth",
			module + "/agent/provider",
			module + "/agent/renewal",
			module + "/agent/job",
			"golang.org/x/sys/...",
		},
		never: forbidden{
			module + "/agent": "a worker outlives its agent and must not share its state",
		},
	},
	"cmd/ccagent/limits": {
		mayImport: []string{module + "/protocol", module + "/cmd/harden", "golang.org/x/sys/..."},
		never:     leaf,
	},
	"cmd/ccagent/files": {
		mayImport: []string{module + "/protocol", module + "/disk", "golang.org/x/sys/..."},
		never:     leaf,
	},
	"cmd/ccagent/build": {never: leaf},
	"cmd/ccagent/undo": {
		mayImport: []string{module + "/protocol"},
		never:     leaf,
	},
	"cmd/ccagent/config": {
		mayImport: []string{
			module + "/protocol", module + "/store", module + "/agent", module + "/agent/gateway/route", module + "/agent/oauth",
			module + "/agent/provider", module + "/agent/worker", module + "/place", module + "/cmd/ccagent/build", module +
				"/cmd/ccagent/environ", module + "/cmd/ccagent/files",
			module + "/cmd/ccagent/terminal", module + "/disk", module + "/hosts", module + "/lookalike", module + "/secureurl",
			"golang.org/x/sys/...", "github.com/pelletier/go-toml/...",
		},
		never: forbidden{
			"github.com/urfave/...":       "flags are for the commands to parse",
			module + "/cmd/ccagent/setup": "what is set up follows from the configuration, not the other way round",
		},
	},
	"cmd/ccagent/dial": {
		mayImport: []string{
			module + "/protocol", module + "/agent/socket", module + "/cmd/ccagent/config", module + "/cmd/ccagent/terminal",
			module + "/cmd/ccagent/undo",
		},
		never: forbidden{"github.com/urfave/...": "flags are for the commands to parse"},
	},
	"cmd/ccagent/setup": {
		mayImport: []string{
			module + "/protocol", module + "/store", module + "/store/splice", module + "/disk", module + "/hosts",
			module + "/agent", module + "/agent/provider", module + "/lookalike",
			module + "/cmd/ccagent/config", module + "/cmd/ccagent/environ", module + "/cmd/ccagent/files",
			module + "/cmd/ccagent/terminal", module + "/cmd/ccagent/undo", "golang.org/x/sys/...",
			"github.com/pelletier/go-toml/...", "go.yaml.in/yaml/...",
		},
		never: forbidden{
			"github.com/urfave/...":        "flags are for the commands to parse",
			module + "/cmd/ccagent/doctor": "doctor looks at what setup did, not the other way round",
		},
	},
	"cmd/ccagent/doctor": {
		mayImport: []string{
			module + "/protocol", module + "/store", module + "/agent", module + "/agent/provider", module + "/agent/socket",
			module + "/agent/worker", module + "/cmd/ccagent/build", module + "/cmd/ccagent/config", module + "/cmd/ccagent/dial",
			module + "/cmd/ccagent/environ", module + "/cmd/ccagent/files", module + "/cmd/ccagent/service",
			module + "/cmd/ccagent/setup", module + "/cmd/ccagent/terminal", module + "/secureurl", "golang.org/x/sys/...",
		},
		never: forbidden{"github.com/urfave/...": "flags are for the commands to parse"},
	},
	"cmd/ccagent/browser": {
		mayImport: []string{module + "/cmd/ccagent/environ", module + "/cmd/ccagent/limits"},
		never:     leaf,
	},
	"cmd/ccagent/demo": {
		mayImport: []string{
			module + "/protocol", module + "/agent/oauth/oauthtest", module + "/cmd/ccagent/browser", module + "/cmd/ccagent/environ",
			module + "/cmd/ccagent/files", module + "/cmd/ccagent/terminal", "golang.org/x/sys/...",
		},
		never: forbidden{
			"github.com/urfave/...": "flags are for the commands to parse",
			module + "/store":       "it shows the programs at work, and looks into none of them",
			module + "/agent":       "it shows the programs at work, and looks into none of them",
		},
	},
	"cmd/ccagent/memory": {
		mayImport: []string{"golang.org/x/sys/..."},
		never:     leaf,
	},
	"cmd/ccagent/logind": {
		mayImport: []string{"github.com/godbus/dbus/...", "golang.org/x/sys/..."},
		never:     leaf,
	},
	"cmd/ccagent/logfile": {
		mayImport: []string{module + "/protocol", module + "/disk", "golang.org/x/sys/..."},
		never:     leaf,
	},
	"cmd/ccagent/share": {
		mayImport: []string{
			module + "/protocol", module + "/agent/restricted", module + "/agent/socket", module + "/cmd/ccagent/files",
		},
		never: forbidden{
			"github.com/urfave/...": "flags are for the commands to parse",
			module + "/agent":       "it puts its questions to the person's own agent, and is none",
			module + "/store":       "it has nothing but the tokens that the agent gives it",
		},
	},
	"cmd/ccagent/session": {
		mayImport: []string{
			module + "/protocol", module + "/process", module + "/agent/gateway", module + "/agent/gateway/audit",
			module + "/agent/gateway/route", module + "/agent/spawn", module + "/cmd/ccagent/share",
			"golang.org/x/sys/...",
		},
		never: forbidden{
			"github.com/urfave/...": "flags are for the commands to parse",
			module + "/agent":       "a gateway asks the person's own agent, and is none",
			module + "/store":       "a gateway has nothing but the tokens that the agent gives it",
		},
	},
	"cmd/ccagent/tool": {
		mayImport: []string{
			module + "/agent/gateway/route", module + "/cmd/ccagent/environ", module + "/cmd/ccagent/session",
		},
		never: forbidden{"github.com/urfave/...": "flags are for the commands to parse"},
	},
	"cmd/ccagent/sandbox": {
		mayImport: []string{
			module + "/protocol", module + "/agent", module + "/cmd/ccagent/config", module + "/cmd/ccagent/environ",
			module + "/cmd/ccagent/session", module + "/cmd/ccagent/terminal", "golang.org/x/sys/...",
		},
		never: forbidden{"github.com/urfave/...": "flags are for the commands to parse"},
	},
	"cmd/ccagent/signin": {
		mayImport: []string{
			module + "/protocol", module + "/agent/oauth", module + "/agent/worker", module + "/cmd/ccagent/browser",
			module + "/cmd/ccagent/environ", module + "/cmd/ccagent/terminal", "rsc.io/qr",
		},
		never: forbidden{
			"github.com/urfave/...": "flags are for the commands to parse",
			module + "/agent":       "the sign-in is handed to the agent by the command",
		},
	},
	"cmd/ccagent/source": {
		mayImport: []string{
			module + "/protocol", module + "/store", module + "/agent", module + "/cmd/ccagent/config",
			module + "/cmd/ccagent/environ", module + "/cmd/ccagent/files", module + "/cmd/ccagent/terminal", "golang.org/x/sys/...",
		},
		never: forbidden{"github.com/urfave/...": "flags are for the commands to parse"},
	},
	"cmd/ccagent/service": {
		mayImport: []string{
			module + "/protocol", module + "/agent", module + "/packaging", module + "/cmd/ccagent/config",
			module + "/cmd/ccagent/dial", module + "/cmd/ccagent/environ", module + "/cmd/ccagent/files",
			module + "/cmd/ccagent/terminal", module + "/cmd/ccagent/undo", "golang.org/x/sys/...",
			"github.com/coreos/go-systemd/...", "github.com/ebitengine/purego",
		},
		never: forbidden{
			"github.com/urfave/...":        "flags are for the commands to parse",
			module + "/cmd/ccagent/doctor": "doctor looks at the service, not the other way round",
		},
	},
	"cmd/ccagent/environ": {
		mayImport: []string{module + "/protocol", module + "/cmd/ccagent/files", module + "/cmd/ccagent/terminal"},
		never:     leaf,
	},
	"cmd/ccagent/terminal": {
		mayImport: []string{
			module + "/protocol", module + "/lookalike", module + "/cmd/ccagent/limits", "golang.org/x/sys/...", "golang.org/x/term",
			"github.com/rogpeppe/go-internal/diff",
		},
		never: leaf,
	},
	"cmd/harden": {
		mayImport: []string{"golang.org/x/sys/..."},
		never:     wire,
	},
	"cmd/cchelper/early": {
		mayImport: []string{module + "/protocol", "golang.org/x/sys/unix"},
		never:     wire.with("encoding/json", "nearly all of it runs without Go's runtime"),
	},
	"cmd/cchelper": {
		mayImport: []string{module + "/protocol", module + "/hosts", module + "/cmd/cchelper/early", module + "/cmd/harden"},
		never:     wire,
	},
}

// fenced names what one folder alone may import directly.
var fenced = map[string]struct {
	room   string // "" for none; several are separated by a space
	reason string
}{
	"github.com/urfave/cli/...": {"cmd/ccagent", "the command line is policy of one program"},
	"github.com/coreos/go-systemd/...": {"cmd/ccagent cmd/ccagent/service",
		"activation ends where the program starts: the agent gets listeners"},
	"github.com/ebitengine/purego/...": {"cmd/ccagent/service",
		"activation ends where the program starts: the agent gets listeners"},
	"github.com/lmittmann/tint/...":     {"cmd/ccagent", "how a log looks is policy of one program"},
	"go.yaml.in/yaml/...":               {"cmd/ccagent/setup", "setup alone reads YAML, to be sure of what it changes"},
	"github.com/pelletier/go-toml/...":  {"cmd/ccagent/config cmd/ccagent/setup", "config.toml is policy of one program"},
	"golang.org/x/term/...":             {"cmd/ccagent/terminal", "only the command line has a terminal"},
	"github.com/zalando/go-keyring/...": {"store/keyring", "each of its calls is bounded there"},
	"github.com/godbus/dbus/...": {"store/keyring cmd/ccagent/logind",
		"asked there whether the keyring would prompt, and when the machine sleeps"},
	"filippo.io/age/...": {"store", "records are encrypted in one place"},
	"golang.org/x/oauth2/...": {"agent/oauth agent/httpauth",
		"a grant is made in one place; for other programs a token source is what this type says it is"},
	"github.com/fsnotify/fsnotify/...": {
		"agent agent/socket", "whether others have written is the clock's and the watch's to ask; whether the socket is there, its own",
	},
	"github.com/rogpeppe/go-internal/diff":       {"cmd/ccagent/terminal", "only the command line shows what it would change"},
	"github.com/rogpeppe/go-internal/testscript": {"", "for tests alone"},
	"go.uber.org/goleak/...":                     {"", "for tests alone"},
}

// pkg is what `go list -deps -json` says of a package.
type pkg struct {
	ImportPath string
	Dir        string
	Doc        string
	Standard   bool
	GoFiles    []string
	Imports    []string
}

func (p pkg) ours() bool {
	return p.ImportPath == module || strings.HasPrefix(p.ImportPath, module+"/")
}

// room returns the folder of a package of ours.
func (p pkg) room() string { return strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/") }

// graph is every package that ours link, by import path.
type graph map[string]pkg

// load returns the graph as it is built for goos.
func load(t *testing.T, goos string) graph {
	t.Helper()
	cmd := exec.Command("go", "list", "-e", "-deps", "-json=ImportPath,Dir,Doc,Standard,GoFiles,Imports", "./...")
	cmd.Env = append(os.Environ(), "GOOS="+goos, "CGO_ENABLED=0")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	g := graph{}
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return g
		} else if err != nil {
			t.Fatal(err)
		}
		g[p.ImportPath] = p
	}
}

// match reports whether a package is meant by a pattern.
func match(pattern, path string) bool {
	if root, ok := strings.CutSuffix(pattern, "/..."); ok {
		return path == root || strings.HasPrefix(path, root+"/")
	}
	return path == pattern
}

// chain returns the shortest way from one package to another that the pattern means, nil when there is none.
func (g graph) chain(from, pattern string) []string {
	type step struct {
		path string
		via  *step
	}
	seen := map[string]bool{from: true}
	for queue := []*step{{path: from}}; len(queue) > 0; queue = queue[1:] {
		at := queue[0]
		if at.path != from && match(pattern, at.path) {
			var way []string
			for s := at; s != nil; s = s.via {
				way = append([]string{s.path}, way...)
			}
			return way
		}
		for _, next := range g[at.path].Imports {
			if !seen[next] {
				seen[next] = true
				queue = append(queue, &step{next, at})
			}
		}
	}
	return nil
}

// violations returns what the graph does against the table, a line each.
func (g graph) violations() []string {
	var found []string
	for _, p := range g {
		if !p.ours() {
			continue
		}
		rule, listed := rooms[p.room()]
		for _, path := range p.Imports {
			if listed && !g[path].Standard && !slices.ContainsFunc(rule.mayImport, func(m string) bool { return match(m, path) }) {
				found = append(found, p.room()+" may not import "+path)
			}
			for pattern, fence := range fenced {
				if match(pattern, path) && !slices.Contains(strings.Fields(fence.room), p.room()) {
					found = append(found, p.room()+" may not import "+path+": "+fence.reason)
				}
			}
		}
		for pattern, reason := range rule.never {
			if way := g.chain(p.ImportPath, pattern); way != nil {
				found = append(found, strings.Join(way, " → ")+": "+reason)
			}
		}
	}
	slices.Sort(found)
	return found
}

// TestDependencies holds the folders to the table above, on every system that we build for.
func TestDependencies(t *testing.T) {
	t.Parallel()
	for _, goos := range []string{"linux", "darwin"} {
		t.Run(goos, func(t *testing.T) {
			t.Parallel()
			g := load(t, goos)
			for _, v := range g.violations() {
				t.Error(v)
			}
			for room := range rooms {
				if _, ok := g[module+"/"+room]; !ok {
					t.Errorf("the table speaks of %s, which is not there", room)
				}
			}
		})
	}
}

// TestDependencyRulesBite shows that the rules find what they are there to find.
func TestDependencyRulesBite(t *testing.T) {
	t.Parallel()
	standard := func(path string, imports ...string) pkg {
		return pkg{ImportPath: path, Standard: true, Imports: imports}
	}
	tests := []struct {
		name     string
		packages []pkg
		want     string // the start of the one violation, "" for none
	}{
		{"standard library", []pkg{{ImportPath: module + "/protocol", Imports: []string{"os"}}, standard("os")}, ""},
		{"listed module", []pkg{{ImportPath: module + "/protocol", Imports: []string{"golang.org/x/sys/unix"}}}, ""},
		{
			"unlisted module",
			[]pkg{{ImportPath: module + "/protocol", Imports: []string{"example.com/x"}}},
			"protocol may not import example.com/x",
		},
		{
			"forbidden",
			[]pkg{{ImportPath: module + "/protocol", Imports: []string{"net"}}, standard("net")},
			module + "/protocol → net: ",
		},
		{
			"forbidden, indirectly",
			[]pkg{
				{ImportPath: module + "/protocol", Imports: []string{"embed"}},
				standard("embed", "crypto/sha256"),
				standard("crypto/sha256"),
			},
			module + "/protocol → embed → crypto/sha256: ",
		},
		{
			"a room through another",
			[]pkg{
				{ImportPath: module + "/agent/worker", Imports: []string{module + "/agent/job"}},
				{ImportPath: module + "/agent/job", Imports: []string{module + "/protocol"}},
				{ImportPath: module + "/protocol", Imports: []string{"log/slog"}}, standard("log/slog"),
			},
			module + "/protocol → log/slog: ",
		},
		{
			"fenced",
			[]pkg{{ImportPath: module + "/test/fenced", Imports: []string{"github.com/urfave/cli/v2"}}},
			"test/fenced may not import github.com/urfave/cli/v2: ",
		},
		{
			"fenced, at a second home",
			[]pkg{{ImportPath: module + "/agent/httpauth", Imports: []string{"golang.org/x/oauth2"}}},
			"",
		},
		{"fenced, at home", []pkg{{ImportPath: module + "/cmd/ccagent", Imports: []string{"github.com/urfave/cli/v2"}}}, ""},
		{
			"a name that begins alike",
			[]pkg{
				{ImportPath: module + "/agent/worker", Imports: []string{module + "/agent/job"}},
				{ImportPath: module + "/agent/job"},
			},
			"",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			g := graph{}
			for _, p := range tt.packages {
				g[p.ImportPath] = p
			}
			switch got := g.violations(); {
			case tt.want == "" && len(got) > 0:
				t.Errorf("got %q, want none", got)
			case tt.want != "" && (len(got) != 1 || !strings.HasPrefix(got[0], tt.want)):
				t.Errorf("got %q, want one that starts %q", got, tt.want)
			}
		})
	}
}

// TestPackageComments: each package says what it is.
func TestPackageComments(t *testing.T) {
	t.Parallel()
	for path, p := range load(t, "linux") {
		if p.ours() && len(p.GoFiles) > 0 && p.Doc == "" {
			t.Errorf("%s has no package comment", path)
		}
	}
}

// TestFolderNames: a folder is named for what it is about, so that things can be found.
func TestFolderNames(t *testing.T) {
	t.Parallel()
	saysNothing := []string{
		"util",
		"utils",
		"common",
		"pkg",
		"internal",
		"helpers",
		"misc",
		"lib",
		"shared",
		"core",
		"base",
		"types",
		"models",
	}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil || !d.IsDir():
			return err
		case path != "." && strings.HasPrefix(d.Name(), "."), path == "bin", path == "dist":
			return filepath.SkipDir
		case slices.Contains(saysNothing, d.Name()):
			t.Errorf("%s: the name says nothing", path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
