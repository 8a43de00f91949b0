package doctor

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ccagent/ccagent/agent"
	"github.com/ccagent/ccagent/cmd/ccagent/environ"
	"github.com/ccagent/ccagent/cmd/ccagent/files"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/protocol/protocoltest"
)

// TestDoctorJudgesTheAgent tests what a script can't bring about: an agent of another version, and every state of a profile.
func TestDoctorJudgesTheAgent(t *testing.T) {
	t.Parallel()
	found := judgeAgent(protocol.AgentStatus{PID: 7, Version: "v0.0.1", Locked: true, ConfigError: "unknown key"}, "/run/x")
	for i, want := range []Finding{
		{"agent", "ok", "agent 7 answers", ""}, {"agent", "warn", "locked", "ccagent unlock"},
		{"agent", "warn", "unknown key", "fix config.toml"}, {"version", "warn", "version v0.0.1", "ccagent stop"},
	} {
		if i >= len(found) || found[i].ID != want.ID || found[i].State != want.State || !strings.Contains(found[i].What, want.What) ||
			found[i].Mend != want.Mend {
			t.Errorf("%d: want %+v in %+v", i, want, found)
		}
	}

	env := environ.Vars(func(name string) string { return map[string]string{"HOME": "/home/x"}[name] })
	cfg := agent.Config{Profiles: []agent.Profile{
		{Name: "claude", Store: "auto"}, {Name: "work", Store: "auto", ConfigDir: "/home/x/a b"}, {Name: "own", Store: "file"},
	}}
	for _, test := range []struct {
		name, provider string
		state          protocol.State
		want, mend     string // "": nothing is wrong
	}{
		{"claude", "claude", protocol.StateLive, "", ""},
		{"claude", "claude", protocol.StateIdle, "", ""},
		{"claude", "claude", protocol.StateSignIn, "fail", "claude auth login"},
		{"work", "claude", protocol.StateSignIn, "fail", "CLAUDE_CONFIG_DIR='/home/x/a b' claude auth login"},
		{"own", "claude", protocol.StateSignIn, "fail", "ccagent login own"},
		{"gate", "oidc", protocol.StateSignIn, "fail", "ccagent login gate"},
		{"key", "static", protocol.StateSignIn, "fail", "ccagent add key --provider static --force"},
		{"vault", "command", protocol.StateSignIn, "fail", "ccagent validate -p vault"},
		{"gate", "oidc", protocol.StateFailed, "fail", "ccagent validate -p gate"},
		{"gate", "oidc", protocol.StateLocked, "warn", "ccagent unlock"},
		{"gate", "oidc", protocol.StateUnsaved, "warn", "ccagent doctor store -p gate"},
		{"gate", "oidc", protocol.StateBackoff, "warn", "ccagent doctor --online"},
	} {
		f, wrong := judgeProfile(
			env,
			cfg,
			protocol.ProfileStatus{
				Name:      test.name,
				Provider:  test.provider,
				State:     test.state,
				LastError: "profile " + test.name + ": fake trouble",
				LastHint:  "do it: " + test.mend + "\nor do something else",
			},
		)
		if wrong != (test.want != "") || f.State != test.want ||
			wrong && (!strings.HasSuffix(f.What, ": fake trouble") || f.Mend != test.mend+"\nor do something else") {
			t.Errorf("%s, %s: %v %+v", test.name, test.state, wrong, f)
		}
	}
}

// TestDoctorGoesInNoCircle: the advice is never a command that would find nothing wrong, or the command that was just run.
func TestDoctorGoesInNoCircle(t *testing.T) {
	t.Parallel()
	failed := protocol.ProfileStatus{Name: "gate", Provider: "oidc", State: protocol.StateFailed, HasToken: true}
	if f, _ := judgeProfile(os.Getenv, agent.Config{}, failed); f.Mend != "ccagent refresh -p gate" {
		t.Errorf("%q: the token that still lives is all that validate looks at", f.Mend)
	}
	busy := protocol.ProfileStatus{Name: "gate", Provider: "oidc", State: protocol.StateBackoff}
	f, _ := judgeProfile(os.Getenv, agent.Config{}, busy)
	found := []Finding{f}
	if furtherStill(found); found[0].Mend != "ccagent refresh -p gate" {
		t.Errorf("%q once more", found[0].Mend)
	}
}

// TestDoctorSilentSocket: if a socket has no lock, its owner is not known, so the advice must not be to kill a process.
func TestDoctorSilentSocket(t *testing.T) {
	path := filepath.Join(protocoltest.SocketDir(t), "other.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	t.Setenv("CCAGENT_SOCK", path)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	found, said := checkAgent(ctx, os.Getenv, agent.Config{})
	if len(found) != 1 || found[0].State != "fail" || !strings.Contains(found[0].What, "something listens at "+path) ||
		strings.Contains(found[0].Mend, "kill") ||
		said.Agent.PID != 0 {
		t.Errorf("%+v, %d", found, said.Agent.PID)
	}
}

func TestDoctorJudgesMemory(t *testing.T) {
	t.Parallel()
	proc := t.TempDir()
	if err := os.Mkdir(filepath.Join(proc, "7"), 0o700); err != nil {
		t.Fatal(err)
	}
	mem := filepath.Join(proc, "7/mem")
	if err := os.WriteFile(mem, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		if f := judgeDumps(proc, 7); len(f) != 1 || f[0].State != "ok" {
			t.Errorf("with root's file: %+v", f)
		}
		if err := os.Chown(mem, 1000, -1); err != nil {
			t.Fatal(err)
		}
	}
	if f := judgeDumps(proc, 7); len(f) != 1 || f[0].State != "warn" || f[0].Mend != "ccagent stop" {
		t.Errorf("with a file of the user's own: %+v", f)
	}

	// dm-0 is encrypted, dm-1 a volume upon it, dm-2 one upon a bare disk.
	blocks := t.TempDir()
	for path, text := range map[string]string{
		"dm-0/dm/uuid": "CRYPT-LUKS2-fake\n", "dm-1/dm/uuid": "LVM-fake\n", "dm-1/slaves/dm-0/x": "", "dm-2/dm/uuid": "LVM-fake\n",
		"dm-2/slaves/sda2/x": "",
	} {
		path = filepath.Join(blocks, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const head = "Filename\tType\tSize\tUsed\tPriority\n"
	for swaps, want := range map[string]string{
		head:                                           "ok",
		head + "/dev/zram0 partition 1 0 100\n":        "ok",
		head + "/dev/dm-0 partition 1 0 -2\n":          "ok",
		head + "/dev/dm-1 partition 1 0 -2\n":          "ok",
		head + "/dev/dm-2 partition 1 0 -2\n":          "warn",
		head + "/dev/sda2 partition 1 0 -2\n":          "warn",
		head + "/dev/zram0 x 1 0 1\n/swapfile x 1 0\n": "warn",
	} {
		if f := judgeSwap(swaps, blocks); f.State != want || (f.Mend != "") != (want == "warn") {
			t.Errorf("%q: %+v", swaps, f)
		}
	}
}

// TestDoctorJudgesVariables: a proxy or an authority in config.toml wins over the environment.
func TestDoctorJudgesVariables(t *testing.T) {
	t.Parallel()
	gate := agent.Profile{
		Name:     "gate",
		Provider: "oidc",
		Settings: []byte(`{"issuer":"https://sso.example.com","proxy":"http://p:1"}`),
	}
	bare := agent.Profile{Name: "bare", Provider: "oidc", Settings: []byte(`{"issuer":"https://sso.example.com"}`)}
	key := agent.Profile{Name: "key", Provider: "static", Settings: []byte(`{}`)}
	for _, test := range []struct {
		variable string
		profiles []agent.Profile
		want     string
	}{
		{"HTTPS_PROXY", []agent.Profile{gate, key}, "ok"},
		{"no_proxy", []agent.Profile{gate}, "ok"},
		{"HTTPS_PROXY", []agent.Profile{gate, bare}, "warn"},
		{"SSL_CERT_FILE", []agent.Profile{gate}, "warn"},
		{"XDG_DATA_HOME", []agent.Profile{gate}, "warn"},
	} {
		f := judgeVariable(test.variable, agent.Config{Profiles: test.profiles})
		if f.State != test.want || !strings.HasPrefix(f.What, test.variable+" is set here") ||
			(f.Mend != "") != (test.want == "warn") {
			t.Errorf("%s: %+v", test.variable, f)
		}
	}
}

// TestDoctorJudgesPrograms: the folder of a program and the kernel decide who can replace it, and who can read its memory while
// it starts.
func TestDoctorJudgesPrograms(t *testing.T) {
	t.Parallel()
	user, whose := os.Geteuid(), "is yours"
	if user == 0 {
		user, whose = 1000, "root" // who is told of what root has installed
	}
	for _, name := range andAbove(closedFolder(t)) {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		owner, _ := files.Owner(info)
		if f := judgeWriters(name, info.Mode(), owner, user); f.State != "" {
			t.Skip("nothing is safe below the folder of temporary files: ", f.What)
		}
	}
	linux, apart := kernel{closes: true}, kernel{closes: true, apart: true}
	for _, tc := range []struct {
		name            string
		folder, program os.FileMode
		user            int
		kernel          kernel
		state           string
		says            []string
	}{
		{"with yama", 0o755, 0o755, user, apart, "ok", []string{whose, "yama"}},
		{"without", 0o755, 0o755, user, linux, "warn", []string{"first milliseconds"}},
		{"without either", 0o755, 0o711, user, kernel{}, "ok", []string{whose, "first milliseconds"}},
		{"an open kernel", 0o755, 0o711, user, kernel{mend: "close it"}, "warn", []string{whose, "first milliseconds"}},
		{"an open kernel with yama", 0o755, 0o711, user, kernel{apart: true, mend: "close it"}, "ok", []string{whose, "yama"}},
		{"a folder for all", 0o777, 0o755, user, linux, "fail", []string{"/bin may be written by everybody", "chmod go-w "}},
		{"a folder for a group", 0o775, 0o755, user, linux, "warn", []string{"/bin may be written by its group", "chmod g-w "}},
		{"a folder in which nobody replaces", 0o777 | os.ModeSticky, 0o755, user, apart, "ok", []string{whose}},
		{"a program for all", 0o755, 0o757, user, linux, "fail", []string{"/bin/ccagent may be written by everybody"}},
		{"a sticky program", 0o755, 0o757 | os.ModeSticky, user, linux, "fail", []string{"/bin/ccagent may be written by"}},
		{"a program for a group", 0o755, 0o775, user, linux, "warn", []string{"/bin/ccagent may be written by its group"}},
		{"somebody else's", 0o755, 0o755, user + 1, linux, "fail", []string{" belongs to user"}},
	} {
		above := filepath.Join(closedFolder(t), "above")
		folder := filepath.Join(above, "bin")
		path := filepath.Join(folder, "ccagent")
		err := errors.Join(os.MkdirAll(folder, 0o700), os.WriteFile(path, nil, 0o700),
			os.Chmod(path, tc.program), os.Chmod(folder, tc.folder))
		if err != nil {
			t.Fatal(err)
		}
		if tc.user != user {
			os.Chown(path, user, -1) // where root runs this test; else it is so already
		}
		check := func(path, state string, says []string) {
			t.Helper()
			f := judgeProgram(path, tc.user, tc.kernel)
			if f.State != state {
				t.Errorf("%s: %+v, want %s", tc.name, f, state)
			}
			if (f.State == "ok") != (f.Mend == "") {
				t.Errorf("%s: %+v", tc.name, f)
			}
			for _, text := range says {
				if !strings.Contains(f.What+f.Mend, text) {
					t.Errorf("%s: %+v says nothing of %q", tc.name, f, text)
				}
			}
		}
		check(path, tc.state, tc.says)
		if tc.state != "ok" {
			continue
		}
		// A link to it can be replaced by who may write the link's folder, and its folder by who may write the one above.
		links := filepath.Join(closedFolder(t), "links")
		link := filepath.Join(links, "ccagent")
		if err := errors.Join(os.Mkdir(links, 0o700), os.Symlink(path, link)); err != nil {
			t.Fatal(err)
		}
		os.Chown(links, tc.user, -1) // a link of the user's to a program of root's, where root runs this test
		check(link, "ok", tc.says)
		os.Chmod(links, 0o777)
		check(link, "fail", []string{"/links may be written by everybody", "so " + link + " could be replaced"})
		os.Chmod(above, 0o775)
		check(path, "warn", []string{"/above may be written by its group"})
	}
}

// closedFolder is a folder of this test that nobody else may write, whatever the umask.
func closedFolder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestDoctorSaysWhoHasToMend: the advice for a file of root has sudo in it.
func TestDoctorSaysWhoHasToMend(t *testing.T) {
	t.Parallel()
	for owner, want := range map[uint32]string{0: "sudo chmod go-w /opt/bin", 1000: "chmod go-w /opt/bin"} {
		if f := judgeWriters("/opt/bin", os.ModeDir|0o777, owner, 1000); f.State != "fail" || f.Mend != want {
			t.Errorf("of user %d: %+v, want %q", owner, f, want)
		}
	}
}
