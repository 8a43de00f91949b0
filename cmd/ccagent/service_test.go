package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func fakeHome(t *testing.T) environ {
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
	systemd, err := systemdService(env, "/opt/50% \"off\"/ccagent")
	if err != nil {
		t.Fatal(err)
	}
	if unit := string(systemd.files[1].content); !strings.Contains(unit, "\nExecStart=\"/opt/50%% \\\"off\\\"/ccagent\" serve\n") {
		t.Errorf("the unit is %s", unit)
	}
	launchd, err := launchdService(env, "/opt/a&b/ccagent", 501)
	if err != nil {
		t.Fatal(err)
	}
	plist := string(launchd.files[0].content)
	if !strings.HasPrefix(plist, "<?xml") || !strings.Contains(plist, "<string>/opt/a&amp;b/ccagent</string>") {
		t.Errorf("the job is %s", plist)
	}
	if want := []string{"launchctl", "bootstrap", "gui/501", filepath.Join(env("HOME"), "Library/LaunchAgents/com.github.ccagent.plist")}; !slices.Equal(launchd.enable[1], want) {
		t.Errorf("it is loaded by %q", launchd.enable[1])
	}
	for _, s := range []service{systemd, launchd} {
		for _, f := range s.files {
			if !isMarked(f.content) {
				t.Errorf("%s is not known as ours", f.path)
			}
			if isMarked(append([]byte("# mine\n"), f.content...)) {
				t.Errorf("%s is known as ours though it was changed", f.path)
			}
		}
	}
}

// TestServiceIsKept tells our files from those of others: they are written and removed, and the others never are.
func TestServiceIsKept(t *testing.T) {
	t.Parallel()
	env := fakeHome(t)
	s, err := systemdService(env, "/usr/local/bin/ccagent")
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
	moved, _ := systemdService(env, "/opt/ccagent")
	if foreign, err := moved.foreign(); err != nil || foreign != nil {
		t.Errorf("%v counts as somebody else's, %v", foreign, err)
	}
	if written, err = moved.write(); err != nil || !slices.Equal(written, []string{s.files[1].path}) {
		t.Errorf("wrote %q, %v", written, err)
	}

	// What somebody has changed is theirs.
	edited := append([]byte("# mine\n"), moved.files[1].content...)
	os.WriteFile(s.files[1].path, edited, 0o644)
	if foreign, err := moved.foreign(); err != nil || len(foreign) != 1 || foreign[0].path != s.files[1].path {
		t.Errorf("%v counts as somebody else's, %v", foreign, err)
	}
	removed, kept, err := moved.remove()
	if err != nil || !slices.Equal(removed, []string{s.files[0].path}) || !slices.Equal(kept, []string{s.files[1].path}) {
		t.Errorf("removed %q, kept %q, %v", removed, kept, err)
	}
	if now, _ := os.ReadFile(s.files[1].path); string(now) != string(edited) {
		t.Error("a changed unit was not left alone")
	}

	// A package's units for the same program are enough.
	if moved.elsewhere = s.elsewhere; moved.packaged() {
		t.Error("there is no package")
	}
	for _, f := range moved.files {
		text, _, _ := strings.Cut(string(f.content), "#"+markText)
		os.WriteFile(filepath.Join(s.elsewhere[0], filepath.Base(f.path)), []byte(text), 0o644)
	}
	if !moved.packaged() || s.packaged() {
		t.Error("a package's units are taken for another program's, or not at all")
	}
}
