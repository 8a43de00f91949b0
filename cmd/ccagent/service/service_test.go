package service

import (
	"bytes"
	"encoding/xml"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ccagent/ccagent/cmd/ccagent/environ"
)

func fakeHome(t *testing.T) environ.Vars {
	home := t.TempDir()
	return func(name string) string {
		if name == "HOME" {
			return home
		}
		return ""
	}
}

func TestServiceFiles(t *testing.T) {
	t.Parallel()
	env := fakeHome(t)
	systemd, err := systemdService(env, "/opt/50% off $x/ccagent", userManager{})
	if err != nil {
		t.Fatal(err)
	}
	if unit := string(systemd.Files[1].content); !strings.Contains(unit, "\nExecStart=\"/opt/50%% off $x/ccagent\" serve\n") {
		t.Errorf("the unit is %s", unit)
	}
	launchd, err := launchdService(env, "/opt/a&b/ccagent", 501, false)
	if err != nil {
		t.Fatal(err)
	}
	plist := string(launchd.Files[0].content)
	if !strings.HasPrefix(plist, "<?xml") || !strings.Contains(plist, "<string>/opt/a&amp;b/ccagent</string>") {
		t.Errorf("the job is %s", plist)
	}
	if want := []string{"launchctl", "bootstrap", "gui/501", filepath.Join(env("HOME"),
		"Library/LaunchAgents/com.github.ccagent.plist")}; !slices.Equal(launchd.enable[1], want) {
		t.Errorf("it is loaded by %q", launchd.enable[1])
	}
	for _, s := range []Service{systemd, launchd} {
		for _, f := range s.Files {
			if !isMarked(f.content) {
				t.Errorf("%s is not known as ours", f.Path)
			}
			if isMarked(append([]byte("# mine\n"), f.content...)) {
				t.Errorf("%s is known as ours though it was changed", f.Path)
			}
		}
	}
}

// TestLaunchdAtLogin: the job's file says that the agent starts at login, and still does when it is installed again.
func TestLaunchdAtLogin(t *testing.T) {
	t.Parallel()
	env := fakeHome(t)
	for i, test := range []struct{ asked, want bool }{{false, false}, {true, true}, {false, true}} {
		s, err := launchdService(env, "/opt/ccagent", 501, test.asked)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.write(); err != nil {
			t.Fatal(err)
		}
		if got := s.StartsAtLogin(t.Context()); got != test.want {
			t.Errorf("%d: it starts at login: %v", i, got)
		}
		text := s.Files[0].content
		if n := bytes.Count(text, []byte("<key>")) - bytes.Count(text, []byte("</key>")); n != 0 || !isMarked(text) {
			t.Errorf("%d: the job is %s", i, text)
		}
		for d := xml.NewDecoder(bytes.NewReader(text)); ; {
			if _, err := d.Token(); err == io.EOF {
				break
			} else if err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestServiceIsKept: our own files are written and removed, and those of others never are.
func TestServiceIsKept(t *testing.T) {
	t.Parallel()
	env := fakeHome(t)
	s, err := systemdService(env, "/usr/local/bin/ccagent", userManager{})
	if err != nil {
		t.Fatal(err)
	}
	s.elsewhere = []string{t.TempDir()}
	written, err := s.write()
	if err != nil || len(written) != 2 {
		t.Fatalf("wrote %q, %v", written, err)
	}
	if written, err = s.write(); err != nil || written != nil {
		t.Errorf("wrote %q again, %v", written, err)
	}

	// An upgrade to another place replaces what we wrote.
	moved, _ := systemdService(env, "/opt/ccagent", userManager{})
	if foreign, err := moved.Foreign(); err != nil || foreign != nil {
		t.Errorf("%v counts as somebody else's, %v", foreign, err)
	}
	if written, err = moved.write(); err != nil || !slices.Equal(written, []string{s.Files[1].Path}) {
		t.Errorf("wrote %q, %v", written, err)
	}

	// What somebody has changed is theirs.
	edited := append([]byte("# mine\n"), moved.Files[1].content...)
	os.WriteFile(s.Files[1].Path, edited, 0o644)
	if foreign, err := moved.Foreign(); err != nil || len(foreign) != 1 || foreign[0].Path != s.Files[1].Path {
		t.Errorf("%v counts as somebody else's, %v", foreign, err)
	}
	removed, kept, err := moved.remove(false)
	if err != nil || !slices.Equal(removed, []string{s.Files[0].Path}) || !slices.Equal(kept, []string{s.Files[1].Path}) {
		t.Errorf("removed %q, kept %q, %v", removed, kept, err)
	}
	if now, _ := os.ReadFile(s.Files[1].Path); string(now) != string(edited) {
		t.Error("a changed unit was not left alone")
	}

	if !s.Installed() {
		t.Error("what was installed and changed is not known any more")
	}

	// With --force, a link is replaced and its target is not changed. The target is /dev/null for a unit that is masked.
	target := filepath.Join(t.TempDir(), "theirs")
	os.WriteFile(target, []byte("theirs\n"), 0o644)
	os.Remove(s.Files[1].Path)
	os.Symlink(target, s.Files[1].Path)
	if written, err = s.write(); err != nil || !slices.Equal(written, []string{s.Files[0].Path, s.Files[1].Path}) {
		t.Errorf("wrote %q, %v", written, err)
	}
	if text, _ := os.ReadFile(target); string(text) != "theirs\n" {
		t.Errorf("the target of a link is now %s", text)
	}

	// What enabling made goes too, where there is no manager to do it.
	os.Mkdir(filepath.Dir(s.links[0]), 0o755)
	os.Symlink(s.Files[0].Path, s.links[0])
	if removed, kept, err := s.remove(false); err != nil || len(removed) != 2 || kept != nil {
		t.Errorf("removed %q, kept %q, %v", removed, kept, err)
	}
	if _, err := os.Lstat(s.links[0]); err == nil || s.Installed() {
		t.Error("something is left of it")
	}
}

// TestServiceOfPackage: a package's units are used if they are for the same program and no other units have priority over them.
func TestServiceOfPackage(t *testing.T) {
	t.Parallel()
	env := fakeHome(t)
	admin, vendor := t.TempDir(), t.TempDir()
	manager := userManager{unitPath: env("HOME") + "/.config/systemd/user " + admin + " " + vendor}
	s, err := systemdService(env, "/usr/bin/ccagent", manager)
	if err != nil || s.Packaged() {
		t.Fatalf("there is no package; %v", err)
	}
	other, _ := systemdService(env, "/opt/ccagent", manager)
	for _, f := range s.Files {
		text, _, _ := strings.Cut(string(f.content), "#"+markText)
		os.WriteFile(filepath.Join(vendor, filepath.Base(f.Path)), []byte(text), 0o644)
	}
	if !s.Packaged() || other.Packaged() || s.Installed() {
		t.Error("a package's units are taken for another program's, or not at all")
	}
	os.Symlink(os.DevNull, filepath.Join(admin, "ccagent.socket"))
	if s.Packaged() {
		t.Error("a package's units are taken though the administrator has masked one")
	}
}

// TestManagerOfOtherEnvironment: systemd was started before the shell's variables were set.
func TestManagerOfOtherEnvironment(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	env := func(name string) string {
		return map[string]string{"HOME": home, "XDG_CONFIG_HOME": home + "/elsewhere"}[name]
	}
	m := userManager{
		unitPath: "/run/user/1000/systemd/transient " + home + "/.config/systemd/user /etc/systemd/user " + home +
			"/.local/share/systemd/user",
		environment: "XDG_RUNTIME_DIR=/run/user/1000\nNO_PROXY=$'*.example.com,it\\'s'\nPATH=/usr/bin",
	}
	s, err := systemdService(env, "/usr/bin/ccagent", m)
	if err != nil || s.Files[0].Path != home+"/.config/systemd/user/ccagent.socket" ||
		slices.Contains(s.elsewhere, home+"/.config/systemd/user") {
		t.Errorf("%+v, %v", s, err)
	}
	if s.socket != "/run/user/1000/ccagent/agent.sock" || s.environment("NO_PROXY") != "*.example.com,it's" ||
		s.environment("PATH") != "/usr/bin" ||
		s.environment("TH") != "" {
		t.Errorf("it listens at %s, and has NO_PROXY=%s, PATH=%s", s.socket, s.environment("NO_PROXY"), s.environment("PATH"))
	}
	for _, exe := range []string{"/opt/new\nline", `/opt/it's`, `/opt/"it"`, `/opt/a\b`, "/opt/\xff"} {
		if _, err := systemdService(env, exe, m); err == nil {
			t.Errorf("a unit names %q", exe)
		}
	}
}

func TestShownEnvironment(t *testing.T) {
	t.Parallel()
	shown := shownEnvironment("A=plain\nNO_PROXY=$'*.example.com,localhost'\nQ=$'it\\'s \"$5\"\\\\'\nE=\n")
	for name, want := range map[string]string{"A": "plain", "NO_PROXY": "*.example.com,localhost", "Q": `it's "$5"\`, "E": ""} {
		if shown[name] != want {
			t.Errorf("%s: %q, want %q", name, shown[name], want)
		}
	}
}
