package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ccagent/ccagent/agent"
	"github.com/ccagent/ccagent/protocol"
)

const twoProfiles = "[profiles.one]\nprovider = 'static'\n[profiles.Two]\nprovider = 'static'\n"

// A pattern that can match nothing, or that means what another one means, is an error that names its line.
func TestUseErrors(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, text, want string }{
		{"no profile", "[[use]]\ndir = '~/a'\n", ":5: [[use]]: profile is missing"},
		{"no dir", "[[use]]\nprofile = 'one'\n", ":5: [[use]]: dir is missing"},
		{"empty dir", "[[use]]\nprofile = 'one'\ndir = ''\n", ":7: [[use]]: dir is missing"},
		{"relative", "[[use]]\ndir = 'work/**'\nprofile = 'one'\n", `:6: [[use]]: dir is "work/**": it must be an absolute path`},
		{"relative dot", "[[use]]\ndir = './work'\nprofile = 'one'\n", ":6: [[use]]: dir is"},
		{"of a user", "[[use]]\ndir = '~alice/work'\nprofile = 'one'\n", ":6: [[use]]: dir is"},
		{"a variable", "[[use]]\ndir = '$HOME/work'\nprofile = 'one'\n", ":6: [[use]]: dir is"},
		{"one star", "[[use]]\ndir = '~/work/*'\nprofile = 'one'\n",
			":6: [[use]]: dir is \"~/work/*\": it is a folder, with /** at its end"},
		{"stars alone", "[[use]]\ndir = '**'\nprofile = 'one'\n", ":6: [[use]]: dir is"},
		{"stars before", "[[use]]\ndir = '/**/work'\nprofile = 'one'\n", ":6: [[use]]: dir is"},
		{"stars within", "[[use]]\ndir = '~/a/**/b'\nprofile = 'one'\n", ":6: [[use]]: dir is"},
		{"stars and a slash", "[[use]]\ndir = '~/a/**/'\nprofile = 'one'\n", ":6: [[use]]: dir is"},
		{"no slash before", "[[use]]\ndir = '~/work**'\nprofile = 'one'\n", ":6: [[use]]: dir is"},
		{"question mark", "[[use]]\ndir = '~/wor?'\nprofile = 'one'\n", ":6: [[use]]: dir is"},
		{"set", "[[use]]\ndir = '~/[ab]/**'\nprofile = 'one'\n", ":6: [[use]]: dir is"},
		{"control characters", "[[use]]\ndir = \"~/a\\u0007\"\nprofile = 'one'\n", ":6: [[use]]: dir is"},
		{"unknown profile", "[[use]]\ndir = '~/a'\nprofile = 'one'\n\n[[use]]\ndir = '~/b'\nprofile = 'none'\n",
			`:11: [[use]]: profile is "none", and there is no such profile`},
		{"built-in profile of another name", "[[use]]\ndir = '~/a'\nprofile = 'Claude'\n", ""},
		{"twice", "[[use]]\ndir = '~/a/**'\nprofile = 'one'\n[[use]]\ndir = '~/b/../a/'\nprofile = 'two'\n",
			":9: [[use]]: dir \"~/b/../a/\" is the folder of line 6 again"},
		{"folder and below", "[[use]]\ndir = '~/a'\nprofile = 'one'\n[[use]]\ndir = '~/a/**'\nprofile = 'two'\n", ""},
		{"unknown key", "[[use]]\ndirs = '~/a'\nprofile = 'one'\n", ":6: unknown key use.dirs"},
		{"key of another case", "[[use]]\nDir = '~/a'\nprofile = 'one'\n", ":6: unknown key use.Dir"},
		{"number", "[[use]]\ndir = 3\nprofile = 'one'\n", ":6: use.dir must be a string"},
	} {
		env, _ := home(t, twoProfiles+test.text)
		_, _, err := Load(env)
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: %v; want %q", test.name, err, test.want)
		}
	}
}

func TestUses(t *testing.T) {
	t.Parallel()
	env, _ := home(t, twoProfiles+`
[[use]]
dir = "~/link/new/**"
profile = "ONE"
[[use]]
dir = "~/a/[x]"
profile = "two"
[[use]]
dir = "~/"
profile = "two"
[[use]]
dir = "/"
profile = "one"
`)
	dir, err := filepath.EvalSymlinks(env("HOME"))
	if err != nil {
		t.Fatal(err)
	}
	for _, folder := range []string{"real", "a/[x]"} {
		if err := os.MkdirAll(filepath.Join(dir, folder), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("real", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	cfg, _, err := Load(env)
	if err != nil {
		t.Fatal(err)
	}
	for at, want := range map[string]string{
		"real/new": "one", "real/new/x": "one", "real": "Two", "link/new": "Two", "a/[x]": "Two", "": "Two", "../x": "one",
	} {
		if got, _, use := cfg.Chooser().Choose(protocol.Home{Dir: filepath.Join(dir, at)}); got != want || use == nil {
			t.Errorf("%s: %s, want %s", at, got, want)
		}
	}
	if use := cfg.Uses[0]; use.Written != "~/link/new/**" || use.Line != 7 || !use.Below {
		t.Errorf("%+v", use)
	}
}

func TestUseIsTables(t *testing.T) {
	t.Parallel()
	env, _ := home(t, "use = 'one'\n"+twoProfiles)
	if _, _, err := Load(env); err == nil || !strings.Contains(err.Error(), ":1: use must be one table for each folder: [[use]]") {
		t.Error(err)
	}
}

// A profile without config_dir keeps out of the directory of another one, whatever the environment says.
func TestConfigDirOfTheEnvironment(t *testing.T) {
	t.Parallel()
	plain, _ := home(t, "[profiles.main]\nprovider = 'claude'\n"+
		"[profiles.second]\nprovider = 'claude'\nconfig_dir = '~/.claude-2'\n")
	for claude, want := range map[string]string{
		"": ".claude", "/.claude-2": ".claude", "/.claude-2/": ".claude", "/.other": ".other",
	} {
		env := func(name string) string {
			if name == "CLAUDE_CONFIG_DIR" && claude != "" {
				return plain("HOME") + claude
			}
			return plain(name)
		}
		cfg, _, err := Load(env)
		if err != nil {
			t.Fatal(err)
		}
		main, _ := Find(cfg, "main")
		if got := ClaudeDir(env, main); got != filepath.Join(plain("HOME"), want) {
			t.Errorf("%s: main has %s", claude, got)
		}
		if of := cfg.Home.ClaudeConfigDir; (of != "") != (want == ".other") {
			t.Errorf("%s: the agent's is %q", claude, of)
		}
		got, why, _ := cfg.Chooser().Choose(protocol.Home{ClaudeConfigDir: plain("HOME") + "/.claude-2"})
		if got != "second" || why != agent.ByClaudeDir {
			t.Errorf("%s: %s, %d", claude, got, why)
		}
	}
}

// Where several profiles have one directory, the one whose record is there is meant.
func TestOneDirectoryOfSeveral(t *testing.T) {
	t.Parallel()
	for stores, want := range map[string]string{"file auto": "b", "auto file": "a", "file file": "claude"} {
		a, b, _ := strings.Cut(stores, " ")
		env, _ := home(t, "[profiles.a]\nprovider = 'claude'\nconfig_dir = '/srv/c'\nstore = '"+a+
			"'\n[profiles.b]\nprovider = 'claude'\nconfig_dir = '/srv/c/'\nstore = '"+b+"'\n")
		cfg, _, err := Load(env)
		if err != nil {
			t.Fatal(err)
		}
		if got, _, _ := cfg.Chooser().Choose(protocol.Home{ClaudeConfigDir: "/srv/c"}); got != want {
			t.Errorf("%s: %s, want %s", stores, got, want)
		}
	}
}

// What is edited is edited in place, and the rest of the file stays as it is.
func TestEditUses(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, text, dir, profile, want string }{
		{"none yet", twoProfiles, "/w/**", "Two", twoProfiles + "\n[[use]]\ndir = \"/w/**\"\nprofile = \"Two\"\n"},
		{"changed", twoProfiles + "[[use]]\n  dir = '/w/' # mine\n  profile = 'one' # his\n# end\n", "/w/**", "Two",
			twoProfiles + "[[use]]\n  dir = '/w/' # mine\nprofile = \"Two\" # his\n# end\n"},
		{"the second",
			twoProfiles + "[[use]]\nprofile = 'one'\ndir = '/v'\n[[use]]\nprofile = 'one'\ndir = '/w/**'", "/w/**", "Two",
			twoProfiles + "[[use]]\nprofile = 'one'\ndir = '/v'\n[[use]]\nprofile = \"Two\"\ndir = '/w/**'"},
		{"default, none yet", "# Remarks\n# on it\n\n" + twoProfiles, "", "Two",
			"# Remarks\n# on it\n\ndefault_profile = \"Two\"\n" + twoProfiles},
		{"default, a remark on the first", "# of one\n" + twoProfiles, "", "Two",
			"default_profile = \"Two\"\n\n# of one\n" + twoProfiles},
		{"default changed", "default_profile = 'one' # his\n" + twoProfiles, "", "Two",
			"default_profile = \"Two\" # his\n" + twoProfiles},
	} {
		env, path := home(t, test.text)
		var edit *Edit
		var err error
		if test.dir == "" {
			edit, err = SetDefault(t.Context(), env, test.profile)
		} else {
			edit, err = SetUse(t.Context(), env, test.dir, test.profile)
		}
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		if got, _ := os.ReadFile(path); string(got) != test.want {
			t.Errorf("%s: %s\nwant %s", test.name, got, test.want)
		}
		if err := edit.Undo(t.Context()); err != nil {
			t.Errorf("%s: %v", test.name, err)
		}
	}
	// Inline tables are not edited, and nothing is written.
	text := "use = [{dir = '/w/**', profile = 'one'}]\n" + twoProfiles
	env, path := home(t, text)
	if _, err := SetUse(t.Context(), env, "/w/**", "Two"); err == nil || !strings.Contains(err.Error(), "safely") {
		t.Errorf("inline: %v", err)
	}
	if got, _ := os.ReadFile(path); string(got) != text {
		t.Errorf("inline: %s", got)
	}
}

// A profile that is removed takes its uses along, and no others.
func TestRemoveTakesUsesAlong(t *testing.T) {
	t.Parallel()
	env, path := home(t, "[[use]]\ndir = '/a'\nprofile = 'two'\n\n[[use]]\ndir = '/b'\nprofile = 'one'\n\n"+twoProfiles+
		"\n[[use]]\ndir = '/c'\nprofile = 'TWO'\n# end\n")
	if _, err := Remove(t.Context(), env, "two"); err != nil {
		t.Fatal(err)
	}
	want := "\n[[use]]\ndir = '/b'\nprofile = 'one'\n\n[profiles.one]\nprovider = 'static'\n# end\n"
	if got, _ := os.ReadFile(path); string(got) != want {
		t.Errorf("%q\nwant %q", got, want)
	}
}
