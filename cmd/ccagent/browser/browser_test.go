package browser

import (
	"errors"
	"html"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/ccagent/ccagent/cmd/ccagent/environ"
)

// ledTo is where a page of ours leads that only its owner can read; "" for anything else.
func ledTo(page string) string {
	u, err := url.Parse(page)
	if err != nil || u.Scheme != "file" {
		return ""
	}
	for path, want := range map[string]fs.FileMode{u.Path: 0o600, filepath.Dir(u.Path): fs.ModeDir | 0o700} {
		if info, err := os.Lstat(path); err != nil || info.Mode() != want {
			return ""
		}
	}
	text, _ := os.ReadFile(u.Path)
	_, rest, _ := strings.Cut(string(text), `http-equiv="refresh" content="0; url=`)
	address, _, _ := strings.Cut(rest, `"`)
	return html.UnescapeString(address)
}

func TestBrowsers(t *testing.T) {
	t.Parallel()
	env := func(value string) environ.Vars {
		return func(name string) string {
			if name == "BROWSER" {
				return value
			}
			return ""
		}
	}
	const address = "https://sso.example/authorize?a=b&c=$(d)"
	program := filepath.Join(t.TempDir(), "Program Files (x86)", "my  browser")
	if err := errors.Join(os.Mkdir(filepath.Dir(program), 0o700), os.WriteFile(program, nil, 0o700)); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		browser, want string
	}{
		{"firefox", "firefox|" + address},
		{"a --new %s --now:b", "a|--new|" + address + "|--now"},
		{"::c -x", "c|-x|" + address},
		{"%s", "%s|" + address}, // the address is never the program
		{program, program + "|" + address},
		{" " + program + " ", program + "|" + address},
		{program + " --new %s", program + "|--new|" + address},
		{`"/no where/b" --profile 'my own' %s`, "/no where/b|--profile|my own|" + address},
		{`/no\ where/b`, "/no where/b|" + address},
		{"/no where/b", "/no|where/b|" + address}, // which is not there, and so is as it was
		{"relative dir/b", "relative|dir/b|" + address},
		{`a "" %s`, "a||" + address},
	} {
		if got := strings.Join(browsers(env(test.browser), address)[0], "|"); got != test.want {
			t.Errorf("BROWSER=%q: %q, want %q", test.browser, got, test.want)
		}
	}
}

// In WSL, the browser of Windows opens the page, and is told where it lies by the name that Windows has for it.
func TestWindowsBrowser(t *testing.T) {
	t.Parallel()
	vars := map[string]string{"WSL_DISTRO_NAME": "Ubuntu 24", "BROWSER": "/mnt/c/x/firefox.exe:links"}
	const page = "file:///run/user/1/a%20b/open.html"
	var got []string
	for _, words := range browsers(func(name string) string { return vars[name] }, page) {
		got = append(got, strings.Join(words, "|"))
	}
	want := "/mnt/c/x/firefox.exe|file://wsl.localhost/Ubuntu%2024/run/user/1/a%20b/open.html\nlinks|" + page + "\nwslview|" + page +
		"\nxdg-open|" + page
	if runtime.GOOS == "linux" && strings.Join(got, "\n") != want {
		t.Errorf("got %q, want %q", got, want)
	}
	delete(vars, "WSL_DISTRO_NAME")
	if got := browsers(func(name string) string { return vars[name] }, page); got[0][1] != page || len(got) != 3 {
		t.Errorf("elsewhere: %q", got)
	}
}

// The browser gets a page that leads to the address, which nobody else can read, and which is gone in the end.
func TestOpenBrowser(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	env := func(browser string) environ.Vars {
		return func(name string) string {
			return map[string]string{"BROWSER": browser, "HOME": root, "XDG_RUNTIME_DIR": root + "/run 'x%20"}[name]
		}
	}
	if err := os.Mkdir(env("")("XDG_RUNTIME_DIR"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, age := range map[string]time.Duration{"old": 2 * time.Hour, "young": time.Minute} { // of sign-ins that were killed
		dir, at := filepath.Join(env("")("XDG_RUNTIME_DIR"), pageFolder+name), time.Now().Add(-age)
		if err := errors.Join(os.Mkdir(dir, 0o700), os.WriteFile(dir+"/open.html", nil, 0o600), os.Chtimes(dir, at, at)); err != nil {
			t.Fatal(err)
		}
	}
	const address = `https://sso.example/authorize?state=fake-state&a='"<b>`
	page, done, err := leadingPage(env(""), address)
	if err != nil || ledTo(page) != address || strings.Contains(page, "fake-state") {
		t.Errorf("%s leads to %q, %v", page, ledTo(page), err)
	}
	done()
	script := filepath.Join(root, "browser")
	text := "#!/bin/sh\nprintf %s \"$*\" >" + root + "/opening && mv " + root + "/opening " + root + "/opened\n"
	if err := os.WriteFile(script, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	failing := filepath.Join(root, "failing")
	if err := os.WriteFile(failing, []byte("#!/bin/sh\nexit 1\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	done, err = Open(env(root+"/none:"+failing+":"+script), address)
	if err != nil {
		t.Fatal(err)
	}
	var opened []byte
	for deadline := time.Now().Add(15 * time.Second); opened == nil && time.Now().Before(deadline); {
		if opened, err = os.ReadFile(root + "/opened"); err != nil {
			time.Sleep(time.Millisecond)
		}
	}
	if ledTo(string(opened)) != address {
		t.Errorf("the browser was given %q", opened)
	}
	done()
	none := func(what string) {
		if left, _ := filepath.Glob(root + "/*/ccagent-*"); len(left) != 1 || filepath.Base(left[0]) != pageFolder+"young" {
			t.Errorf("%s: left behind: %q", what, left)
		}
	}
	none("closed")
	for _, bad := range []string{"file:///etc/passwd", "javascript:alert(1)", "x"} {
		if _, err := Open(env(script), bad); err == nil {
			t.Errorf("%s was opened", bad)
		}
	}
	none("no web address")
}

func TestPageFolders(t *testing.T) {
	t.Parallel()
	root, snaps := t.TempDir(), []string{t.TempDir() + "/none", t.TempDir()}
	env := environ.Vars(func(name string) string {
		return map[string]string{"HOME": root, "XDG_RUNTIME_DIR": "/run/user/1", "XDG_STATE_HOME": root + "/state"}[name]
	})
	if got := strings.Join(pageFolders(env, snaps), " "); got != "/run/user/1 "+root+"/state/ccagent" {
		t.Errorf("got %s", got)
	}
	if err := os.WriteFile(snaps[1]+"/firefox", nil, 0o755); err != nil {
		t.Fatal(err)
	}
	if got := pageFolders(env, snaps); got[0] != root {
		t.Errorf("for a snap, got %s", got)
	}
	if got := pageFolders(func(string) string { return "" }, snaps); len(got) > 0 {
		t.Errorf("without a home, got %s", got)
	}
}

func TestHasBrowser(t *testing.T) {
	t.Parallel()
	bin := t.TempDir()
	if err := os.WriteFile(bin+"/wslview", nil, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		set  string
		want bool
	}{
		{"WSL_DISTRO_NAME", runtime.GOOS == "darwin"}, {"WSL_DISTRO_NAME PATH", true}, {"PATH", runtime.GOOS == "darwin"},
		{"WSL_DISTRO_NAME PATH SSH_TTY", false},
		{"DISPLAY", true}, {"WAYLAND_DISPLAY", true}, {"BROWSER", true}, {"DISPLAY SSH_CONNECTION", false}, {"BROWSER SSH_TTY", false},
	} {
		env := func(name string) string {
			for _, set := range strings.Fields(test.set) {
				if set == name && name == "PATH" {
					return bin
				}
				if set == name {
					return "1"
				}
			}
			return ""
		}
		if got := Likely(env); got != test.want {
			t.Errorf("%s: %v", test.set, got)
		}
	}
}
