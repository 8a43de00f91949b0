//go:build e2e

package e2e

import (
	"strings"
	"testing"
)

// shells is how a person of each shell sets the environment up and shows what came of it.
var shells = []struct {
	name string
	args []string // that run a script and no start-up file
	eval string
}{
	{"sh", []string{"-c"}, `eval "$(ccagent env --shell sh)"`},
	{"bash", []string{"--norc", "-c"}, `eval "$(ccagent env)"`},
	{"zsh", []string{"-f", "-c"}, `eval "$(ccagent env)"`},
	{"fish", []string{"--no-config", "-c"}, `ccagent env | source`},
	{"bsd-csh", []string{"-f", "-c"}, "eval `ccagent env`"},
	{"tcsh", []string{"-f", "-c"}, "eval `ccagent env`"},
}

func TestEnvInRealShells(t *testing.T) {
	for _, shell := range shells {
		t.Run(shell.name, func(t *testing.T) {
			h, _ := newSignedIn(t, 3600e9)
			path := need(t, shell.name)
			if shell.name == "bsd-csh" {
				path = "/bin/csh" // as $SHELL has it
			}
			script := shell.eval + "; " + shell.eval + `; cchelper; echo "socket $CCAGENT_SOCK"; /usr/bin/env`
			cmd := h.command(need(t, shell.name), append(shell.args, script)...)
			cmd.Env = append(cmd.Env, "SHELL="+path)
			r := finish(t, cmd).must(t)
			lines := strings.Split(r.stdout, "\n")
			if want := readStored(t, h.credentialsFile()).AccessToken; lines[0] != want {
				t.Errorf("cchelper printed %q, want %q\n%s", lines[0], want, r.stderr)
			}
			if lines[1] != "socket "+h.socket() || !strings.Contains(r.stdout, "\nCCAGENT_SOCK="+h.socket()+"\n") {
				t.Errorf("want CCAGENT_SOCK=%s exported, have\n%s", h.socket(), r.stdout)
			}
			if r.stderr != "" {
				t.Errorf("stderr %q", r.stderr)
			}
			if a := h.agents(); len(a) != 1 {
				t.Errorf("%d agents after two evals: %v", len(a), a)
			}
		})
	}
}

// A path with everything in it that a shell could stumble over. The C shells expand wildcards in the words that a command prints
// before eval sees them, and nothing that is printed can prevent it: a path with one of these is out of their reach.
func TestEnvQuotesHostilePaths(t *testing.T) {
	for _, shell := range shells {
		t.Run(shell.name, func(t *testing.T) {
			h := newHome(t)
			hostile := h.root + "/$(touch x) `touch x` 'a' \"b\" \\ ! ;|&#"
			if !strings.HasSuffix(shell.name, "csh") {
				hostile += "*?[~{"
			}
			h.runtime = hostile
			mkdir(t, hostile, 0o700)
			path := need(t, shell.name)
			if shell.name == "bsd-csh" {
				path = "/bin/csh"
			}
			cmd := h.command(need(t, shell.name), append(shell.args, shell.eval+"; /usr/bin/env")...)
			cmd.Env = append(cmd.Env, "SHELL="+path)
			r := finish(t, cmd).must(t)
			if !strings.Contains("\n"+r.stdout, "\nCCAGENT_SOCK="+h.socket()+"\n") {
				t.Errorf("want CCAGENT_SOCK=%s, have\n%s%s", h.socket(), r.stdout, r.stderr)
			}
			if exists(h.path("x")) {
				t.Error("a part of the path was run as a command")
			}
		})
	}
}
