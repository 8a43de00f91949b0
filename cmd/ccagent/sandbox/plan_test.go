package sandbox

import (
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/ccagent/ccagent/agent"
	"github.com/ccagent/ccagent/cmd/ccagent/environ"
	"github.com/ccagent/ccagent/protocol"
)

// tree makes files below a folder without links; a name that ends in a slash is a folder, and one with "->" a link.
func tree(t *testing.T, names ...string) string {
	t.Helper()
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		name, to, isLink := strings.Cut(name, "->")
		path := filepath.Join(root, name)
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		switch {
		case err != nil:
		case isLink:
			err = os.Symlink(strings.ReplaceAll(to, "ROOT", root), path)
		case strings.HasSuffix(name, "/"):
			err = os.MkdirAll(path, 0o755)
		default:
			name, text, _ := strings.Cut(name, "=")
			mode := fs.FileMode(0o755)
			if strings.HasSuffix(name, ".txt") {
				mode = 0o644
			}
			err = os.WriteFile(filepath.Join(root, name), []byte(strings.ReplaceAll(text, "ROOT", root)), mode)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// TestPlaces: what a place covers, and in which folders it lies.
func TestPlaces(t *testing.T) {
	t.Parallel()
	for _, name := range inHome {
		if _, err := filepath.Match(name, "x"); err != nil || filepath.Clean(name) != name || strings.HasPrefix(name, "/") {
			t.Errorf("%q is no place in a home: %v", name, err)
		}
	}
	for _, test := range []struct {
		place, path    string
		covers, within bool
	}{
		{"/h/.ssh", "/h/.ssh", true, false},
		{"/h/.ssh", "/h/.ssh/id", true, false},
		{"/h/.ssh", "/h/.sshx", false, false},
		{"/h/.ssh", "/h", false, true},
		{"/h/.ssh", "/", false, true},
		{"/h/.ssh", "/x", false, false},
		{"/h/.config/chromium*", "/h/.config/chromium-dev/Default", true, false},
		{"/h/.config/chromium*", "/h/.config", false, true},
		{"/h/.config/chromium*", "/h/.config/x", false, false},
		{`/h/\[a]/.ssh`, "/h/[a]", false, true},
		{`/h/\[a]/.ssh`, "/h/a", false, false},
	} {
		p := place(test.place)
		if got := p.covers(test.path); got != test.covers {
			t.Errorf("%s covers %s: %t", p, test.path, got)
		}
		if got := p.within(test.path); got != test.within {
			t.Errorf("%s within %s: %t", p, test.path, got)
		}
	}
}

// vars is an environment with a home.
func vars(home string, more map[string]string) environ.Vars {
	return func(name string) string {
		if name == "HOME" {
			return home
		}
		return more[name]
	}
}

// TestPlacesAreFound: those that the environment names, and those to which links lead.
func TestPlacesAreFound(t *testing.T) {
	t.Parallel()
	root := tree(
		t,
		"h/dotfiles/ssh/id",
		"h/.ssh->dotfiles/ssh",
		"h/work/keys/",
		"h/.config/gh/hosts.yml",
		"h/.cargo->ROOT/cargo",
		"cargo/",
	)
	home := root + "/h"
	all, err := places(vars(home, map[string]string{
		"KUBECONFIG": root + "/kube1:" + root + "/kube2", "XDG_CONFIG_HOME": root + "/config", "CODEX_HOME": root + "/codex",
		"DBUS_SESSION_BUS_ADDRESS": "unix:path=" + root + "/bus,guid=1", "SSH_AUTH_SOCK": root + "/agent.1",
		"PIP_CONFIG_FILE": "/dev/null", "XDG_RUNTIME_DIR": "/tmp", "NETRC": home, "AWS_CONFIG_FILE": "relative",
	}), agent.Config{}, root+"/key.pem")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{
		home + "/.ssh/id", home + "/dotfiles/ssh/id", root + "/kube1", root + "/kube2", root + "/config/gh/hosts.yml",
		home + "/.config/gh/hosts.yml", root + "/codex/auth.json", root + "/bus", root + "/key.pem", root + "/agent.1",
		home + "/.config/ccagent",
		root + "/config/ccagent/config.toml", home + "/.local/share/ccagent/x.json", root + "/cargo/credentials.toml",
		home + "/.claude/.credentials.json", home + "/.mozilla/firefox",
	} {
		if _, ok := covering(all, path); !ok {
			t.Errorf("%s is in no place", path)
		}
	}
	for _, path := range []string{
		home, home + "/work/keys", home + "/.claude", home + "/dotfiles", home + "/.gitconfig", root + "/codex", "/dev/null", "/tmp",
	} {
		if p, ok := covering(all, path); ok {
			t.Errorf("%s is in the place %s", path, p)
		}
	}
}

// TestNeeded: what a tool needs, by the way it is installed.
func TestNeeded(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		tree    []string
		program string
		want    []string
		links   []string
	}{
		"a version of Claude Code": {
			[]string{"h/.local/share/claude/versions/2.1", "h/.local/bin/claude->ROOT/h/.local/share/claude/versions/2.1"},
			"h/.local/bin/claude", []string{"h/.local/share/claude/versions"}, []string{"h/.local/bin/claude"},
		},
		"npm, local": {
			[]string{"h/p/node_modules/x/cli.js=#!/usr/bin/env node\n", "h/p/node_modules/.bin/x->../x/cli.js", "node/v1/bin/node"},
			"h/p/node_modules/.bin/x", []string{"h/p/node_modules", "node/v1"}, []string{"h/p/node_modules/.bin/x"},
		},
		"npm, global": {
			[]string{"h/.nvm/v1/lib/node_modules/x/cli.js=#!/usr/bin/env -S A=1 node --flag\n",
				"h/.nvm/v1/bin/x->../lib/node_modules/x/cli.js", "node/v1/bin/node"},
			"h/.nvm/v1/bin/x", []string{"h/.nvm/v1/bin", "h/.nvm/v1/lib/node_modules", "node/v1"}, []string{"h/.nvm/v1/bin/x"},
		},
		"a virtual environment": {
			[]string{"venv/pyvenv.cfg=home = ROOT/py/3/bin\n", "venv/bin/x=#!ROOT/venv/bin/python\n",
				"venv/bin/python->ROOT/py/3/bin/python3", "py/3/bin/python3"},
			"venv/bin/x", []string{"py/3", "venv"}, []string{"venv/bin/python"},
		},
		"a virtual environment of copies": {
			[]string{"h/p/venv/pyvenv.cfg=home = ROOT/py/3/bin\n", "h/p/venv/bin/x", "py/3/bin/python3"},
			"h/p/venv/bin/x", []string{"h/p/venv", "py/3"}, nil,
		},
		"a virtual environment that names a folder without a Python": {
			[]string{"h/p/venv/pyvenv.cfg=home = ROOT/h/diary/bin\n", "h/p/venv/bin/x", "h/diary/bin/x", "h/diary/x.txt"},
			"h/p/venv/bin/x", []string{"h/p/venv"}, nil,
		},
		"a virtual environment whose Python is everybody's": {
			[]string{"h/p/venv/pyvenv.cfg=home = ROOT/h/.local/bin\n", "h/p/venv/bin/x", "h/.local/bin/python3"},
			"h/p/venv/bin/x", []string{"h/p/venv"}, nil,
		},
		"a script whose interpreter is a folder": {
			[]string{"h/p/x=#!/usr/bin/env -S -u ROOT/h/diary/all sh\n", "h/diary/all/"},
			"h/p/x", []string{"h/p"}, nil,
		},
		"a script whose interpreter is no program": {
			[]string{"h/p/x=#!/usr/bin/env -S -u ROOT/h/diary/x.txt sh\n", "h/diary/x.txt"},
			"h/p/x", []string{"h/p"}, nil,
		},
		"a folder of its own": {
			[]string{"h/.bun/bin/bun"}, "h/.bun/bin/bun", []string{"h/.bun"}, nil,
		},
		"a folder of everybody's":   {[]string{"h/.local/bin/x"}, "h/.local/bin/x", []string{"h/.local/bin"}, nil},
		"a bin in the home":         {[]string{"h/bin/x"}, "h/bin/x", []string{"h/bin"}, nil},
		"right in the home":         {[]string{"h/x"}, "h/x", []string{"h/x"}, nil},
		"above the home":            {[]string{"x", "h/"}, "x", []string{"x"}, nil},
		"behind a link to a folder": {[]string{"h/dot/bin/x", "h/bin->dot/bin"}, "h/bin/x", []string{"h/dot"}, []string{"h/bin"}},
		"an environment that is the home": {
			[]string{"h/pyvenv.cfg=home = ROOT/h/bin\n", "h/bin/x"}, "h/bin/x", nil, nil,
		},
		"a script that runs itself": {[]string{"a/x=#!ROOT/a/x\n"}, "a/x", []string{"a"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := tree(t, test.tree...)
			n, err := needed(
				root+"/"+test.program,
				root+"/h",
				func(name string) string { return root + "/node/v1/bin/" + name },
			)
			if err != nil {
				t.Fatal(err)
			}
			relative := func(path string) string { return strings.TrimPrefix(path, root+"/") }
			var got, links []string
			for _, path := range n.files {
				got = append(got, relative(path))
			}
			for _, l := range n.links {
				links = append(links, relative(l.At))
			}
			if !slices.Equal(got, test.want) || !slices.Equal(links, test.links) {
				t.Errorf("needs %q by %q, want %q by %q", got, links, test.want, test.links)
			}
		})
	}
	root := tree(t, "a->b", "b->a")
	if _, err := needed(root+"/a", "/h", nil); err == nil {
		t.Error("links in a circle lead somewhere")
	}
	if _, err := needed(root+"/none", "/h", nil); err == nil {
		t.Error("a program that is not there is found")
	}
}

// TestLayout: what is shown, what is left out, and that what is left out stays so when it is written anew.
func TestLayout(t *testing.T) {
	t.Parallel()
	root := tree(
		t,
		"h/.claude/.credentials.json",
		"h/.claude/projects/x",
		"h/.claude/settings.json",
		"h/.claude/now->projects",
		"h/p/a",
		"h/.gitconfig",
		"h/.ssh/id",
	)
	home := root + "/h"
	hidden, err := places(vars(home, nil), agent.Config{})
	if err != nil {
		t.Fatal(err)
	}
	l := layout{home: home, dir: home + "/p"}
	if err := l.showDir(hidden); err != nil {
		t.Fatal(err)
	}
	if err := l.showHome([]string{home + "/.claude", home + "/.gitconfig", home + "/none"}, home, hidden); err != nil {
		t.Fatal(err)
	}
	if err := l.showTool(needs{files: []string{home + "/p"}, links: []link{{home + "/x", "p/a"}, {home + "/p/y", "a"}}},
		hidden); err != nil {
		t.Fatal(err)
	}
	shown := strings.ReplaceAll(strings.Join(l.arguments("/self", 7), "\n"), root, "")
	for _, want := range []string{
		"--tmpfs\n/h\n", "--bind\n/h/p\n/h/p\n", "--dir\n/h/.claude\n", "--bind\n/h/.claude/projects\n/h/.claude/projects\n",
		"--bind\n/h/.claude/settings.json\n", "--symlink\nprojects\n/h/.claude/now\n", "--bind\n/h/.gitconfig\n",
		"--symlink\np/a\n/h/x\n", "--ro-bind\n/self\n/run/ccagent\n", "--remount-ro\n/\n--chdir\n/h/p", "--unshare-net\n",
		"--seccomp\n7\n",
	} {
		if !strings.Contains(shown, want) {
			t.Errorf("there is no %q in\n%s", want, shown)
		}
	}
	for _, not := range []string{
		"credentials", ".ssh", "--bind\n/h\n", "--bind\n/h/.claude\n", "--ro-bind\n/h/p\n", "/h/p/y", "none",
	} {
		if strings.Contains(shown, not) {
			t.Errorf("there is a %q in\n%s", not, shown)
		}
	}
	if before := strings.Index(shown, "--tmpfs\n/h\n"); before > strings.Index(shown, "--bind\n/h/p\n") {
		t.Error("the empty home hides what is in it")
	}
}

// TestRefused: what a tool would see that it must not see.
func TestRefused(t *testing.T) {
	t.Parallel()
	root := tree(t, "h/.config/gh/hosts.yml", "h/p/tool", "h/.ssh/bin/tool", "h/link->.ssh", "h/up->..",
		"h/a->p/a", "h/p/a->../diary", "h/diary/x", "h/b->p/b", "h/p/b->c", "h/p/c")
	home := root + "/h"
	for name, test := range map[string]struct{ dir, program, listed, want string }{
		"home":                  {dir: "h", want: "your home directory"},
		"above":                 {dir: "", want: "your home directory is in it"},
		"a place":               {dir: "h/.ssh", want: "this folder lies in"},
		"in a place":            {dir: "h/.ssh/bin", want: "this folder lies in"},
		"with a place":          {dir: "h/.config", want: "is in this folder, and it is kept out of the sandbox"},
		"behind a link":         {dir: "h/link", want: "this folder lies in"},
		"the system":            {dir: "/usr", want: "everybody's"},
		"everybody's":           {dir: "/tmp", want: "the sandbox would show the tool all of /tmp"},
		"of the kernel":         {dir: "/proc/self", want: "a sandbox can't be made in"},
		"the tool":              {dir: "h/p", program: "h/.ssh/bin/tool", want: "the tool lies in"},
		"listed":                {dir: "h/p", listed: "h/.ssh/bin", want: "home in [sandbox]: "},
		"listed, behind a link": {dir: "h/p", listed: "h/link", want: "which is kept out of the sandbox"},
		"listed, up":            {dir: "h/p", listed: "h/up", want: "which is too much for a sandbox"},
		"listed, behind links":  {dir: "h/p", listed: "h/a", want: "which the tool can change"},
		"listed, within":        {dir: "h/p", listed: "h/b"},
		"sound":                 {dir: "h/p"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if name == "of the kernel" && runtime.GOOS != "linux" {
				t.Skip("there is no /proc")
			}
			at := func(path string) string {
				if filepath.IsAbs(path) {
					return path
				}
				return filepath.Join(root, path)
			}
			o := Options{Program: at("h/p/tool"), Dir: at(test.dir), Env: vars(home, nil)}
			if test.program != "" {
				o.Program = at(test.program)
			}
			if test.listed != "" {
				o.Home = []string{at(test.listed)}
			}
			_, err := New(o)
			if test.want == "" && err == nil {
				return
			}
			if err == nil || test.want == "" || !strings.Contains(err.Error(), test.want) || protocol.HintOf(err) == "" {
				t.Errorf("%v, want %q and a hint", err, test.want)
			}
		})
	}
	for _, home := range []string{"", "relative", "/", "/usr"} {
		if _, err := New(Options{Program: "/bin/sh", Dir: root + "/h/p", Env: vars(home, nil)}); err == nil {
			t.Errorf("HOME %q is taken", home)
		}
	}
}

func TestCleaned(t *testing.T) {
	t.Parallel()
	stays := []string{
		"PATH=/bin",
		"HOME=/h",
		"LANG=C",
		"TERM=x",
		"PWD=/p",
		"OLDPWD=/q",
		"EDITOR=vi",
		"SITE=https://user@example.com/",
		"A=b@c",
		"MY_TOKEN=fake-kept",
		"NO_PROXY=x",
		"LD_LIBRARY_PATH=/l",
		"NODE_PATH=/n",
		"GIT_CONFIG_GLOBAL=/g",
		"GIT_AUTHOR_NAME=me",
		"MAX_THINKING_TOKENS=8000",
	}
	goes := []string{
		"GITHUB_TOKEN=fake",
		"aws_secret_access_key=fake",
		"DB_PASSWORD=fake",
		"MYSQL_PWD=fake",
		"NPM_CONFIG__AUTH=fake",
		"DATABASE_URL=postgres://u:fake@db/x",
		"DSN=postgres://u:f%zz@db",
		"CCAGENT_SOCK=/s",
		"SSH_AUTH_SOCK=/s",
		"DBUS_SESSION_BUS_ADDRESS=x",
		"https_proxy=http://p",
		"GH_PAT=fake",
		"TS_AUTHKEY=fake",
		"API_TOKENS=fake",
		"DB_PASSWORD_2=8000",
		"MY_PAT_2=fake",
		"COOKIES=fake",
		"DOCKER_HOST=unix:///s",
		"TMPDIR=/t",
		"GIT_CONFIG_COUNT=2",
		"GIT_CONFIG_KEY_0=http.extraHeader",
		"GIT_CONFIG_VALUE_0=Authorization: Bearer fake",
		"GIT_CONFIG_KEY_1=user.name",
		"GIT_CONFIG_VALUE_1=me",
		"MINE=ghp_fake",
		"REMOTE=https://ghp_fake@github.com/x",
	}
	if got := cleaned(slices.Concat(stays, goes), []string{"MY_TOKEN"}); !slices.Equal(got, stays) {
		t.Errorf("got %q, want %q", got, stays)
	}
}

// TestForbidden: the setting by which a machine forbids a sandbox is named.
func TestForbidden(t *testing.T) {
	t.Parallel()
	for _, s := range settings {
		err := forbidden(func(path string) string {
			if path == s.file {
				return s.forbids
			}
			return ""
		}, "bwrap: fake")
		if want := "sudo sysctl -w " + s.name + "=" + s.allow; !strings.Contains(err.Error(), s.name+" is "+s.forbids) ||
			!strings.HasSuffix(protocol.HintOf(err), want) {
			t.Errorf("%s: %v, %s", s.name, err, protocol.HintOf(err))
		}
	}
	if err := forbidden(func(string) string { return "" }, "bwrap: fake"); !strings.Contains(err.Error(), "bwrap: fake") {
		t.Errorf("what bubblewrap said is lost: %v", err)
	}
}
