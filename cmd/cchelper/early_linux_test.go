//go:build amd64 || arm64

package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ccagent/ccagent/cmd/cchelper/early"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/protocol/protocoltest"
)

// The scripts hold for the helper that asks before Go's runtime starts as well.
func TestScriptsEarly(t *testing.T) {
	makefile, err := os.ReadFile("../../Makefile")
	if err != nil {
		t.Fatal(err)
	}
	helper := filepath.Join(t.TempDir(), "cchelper")
	build := exec.Command("go", "build", "-o", helper, "-ldflags", string(regexp.MustCompile(`-E [^\s']+`).Find(makefile)), ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, link := range []string{"git-credential-ccagent", "docker-credential-ccagent", "terraform-credentials-ccagent",
		"kubectl-ccagent"} {
		if err := os.Symlink("cchelper", filepath.Join(filepath.Dir(helper), link)); err != nil {
			t.Fatal(err)
		}
	}
	scripts(t, filepath.Dir(helper))
}

// What the helper asks before the runtime starts is what main would ask, at the same socket. What main would refuse, or ask in
// another way, is not asked early.
func FuzzEarly(f *testing.F) {
	for _, args := range []string{"", "-p\x00work", "--profile\x00a.b", "--profile\x00a-b", "--on-reask=renew\x00-p\x00x", "-p",
		"-p\x00", "-f\x00json", "--help", "x", "--on-reask=renew\x00--on-reask=renew", "-p\x00a\x00-p\x00b"} {
		for _, env := range []string{
			"", "HOME=/home/a\x00XDG_RUNTIME_DIR=/run/user/1", "XDG_RUNTIME_DIR=relative\x00TMPDIR=/var/tmp//",
			"CCAGENT_SOCK=/run/a.sock\x00HOME=/a",
			"XDG_RUNTIME_DIR=/run\x00CCAGENT_SOCK=/run/ccagent/agent.sock\x00HOME=/a", "CCAGENT_FORMAT=json", "CCAGENT_PROFILE=work",
			"HOME=/a\x00HOME=/b", "HOME=\x00HOME=/b",
			"CLAUDE_CONFIG_DIR=~/.claude-work", "CLAUDE_CONFIG_DIR=work\x00CCAGENT_SOCK=/run/a.sock", "CLAUDE_CONFIG_DIR=/a\nb",
			"CLAUDE_CONFIG_DIR=",
			"CLAUDE_SECURESTORAGE_CONFIG_DIR=/s\x00CLAUDE_CONFIG_DIR=/c", "CLAUDE_SECURESTORAGE_CONFIG_DIR=\x00CLAUDE_CONFIG_DIR=/c",
			"CLAUDE_CONFIG_DIR=~\x00CLAUDE_SECURESTORAGE_CONFIG_DIR=/s/", "CLAUDE_SECURESTORAGE_CONFIG_DIR=~/s",
			"CLAUDE_SECURESTORAGE_CONFIG_DIR=/s\x00CLAUDE_SECURESTORAGE_CONFIG_DIR=",
			"CCAGENT_SOCK_UID=1", "CCAGENT_SOCK=relative", "TMPDIR=relative", "CLAUDE_CONFIG_DIR=/c\x00XDG_CONFIG_HOME=/x", "HOME=" +
				strings.Repeat("h", 2000),
			"CCAGENT_SOCK=/" + strings.Repeat("s", 107), "CCAGENT_SOCK=/" + strings.Repeat("s", 106), "XDG_RUNTIME_DIR=/\x00HOME=/",
			"HOME\x00=x\x00", "CCAGENT_SOCK=/run/a.sock ", "CCAGENT_SOCK=/run/a.sock\n", "CCAGENT_SOCK=/run/a b.sock",
		} {
			f.Add("/usr/bin/cchelper", args, env)
		}
	}
	f.Add("git-credential-ccagent", "", "")
	f.Add("", "", "")
	f.Fuzz(func(t *testing.T, arg0, rest, environment string) {
		args := []string{arg0}
		if rest != "" {
			args = append(args, strings.Split(rest, "\x00")...)
		}
		env := strings.Split(environment, "\x00")
		socket, request, ok := early.Request(args, env)
		if !ok {
			return
		}

		os.Clearenv()
		for _, v := range env {
			name, value, ok := strings.Cut(v, "=")
			if _, set := os.LookupEnv(name); ok && !set {
				syscall.Setenv(name, value)
			}
		}
		o, err := parse(args[1:], os.Getenv, args[0])
		if err != nil || o.help || o.version || o.noStart || o.prompt || o.tool != nil || !plain(o.format) ||
			o.timeout != 90*time.Second {
			t.Fatalf("%q was composed: %+v, %v", args, o, err)
		}
		path, isDefault, err := protocol.SocketPath()
		if err != nil || socket != path {
			t.Fatalf("%q: socket %q, not %q, %v", env, socket, path, err)
		}
		if _, err := protocol.ClaudeDir(os.LookupEnv); err != nil {
			t.Fatalf("%q was composed: %v", env, err)
		}
		want := protocol.TokenRequest{Profile: o.profile, MinTTL: o.minTTL, ReaskWindow: o.reask}
		if isDefault {
			want.Home = protocol.HomeFromEnv()
			if want.Home.Dir == "" {
				t.Fatal("the working directory of the test is not known")
			}
			if want.Profile != "" {
				want.Home.Dir = ""
			}
		}
		frame, err := protocol.AppendTokenRequest(nil, want)
		if err != nil || !bytes.Equal(request, frame) {
			t.Fatalf("%q %q: %q, not %q, %v", args, env, request, frame, err)
		}
	})
}

// plain reports whether a format is the bare token.
func plain(format func(protocol.Token, options) (string, error)) bool {
	text, err := format(protocol.Token{Value: protocol.NewSecret("x")}, options{})
	return text == "x\n" && err == nil
}

// Before the runtime starts, the folder that a login makes is found as it is found later.
func TestEarlyFindsRuntimeFolder(t *testing.T) {
	const uid = 54323
	for _, name := range []string{"CCAGENT_SOCK", "XDG_RUNTIME_DIR", "TMPDIR"} {
		t.Setenv(name, "")
	}
	compare := func(want string) {
		protocoltest.AsUser(t, uid, func() {
			asked, _, ok := early.Request([]string{"cchelper"}, []string{"HOME=/home/a"})
			later, _, err := protocol.SocketPath()
			if asked != want || !ok || later != want || err != nil {
				t.Errorf("%q, %v, and later %q, %v; want %q", asked, ok, later, err, want)
			}
		})
	}
	compare("/tmp/ccagent-54323/agent.sock")
	if err := os.MkdirAll("/run/user/54323", 0o700); err != nil {
		t.Skip("no /run here: ", err)
	}
	t.Cleanup(func() { os.Remove("/run/user/54323") })
	compare("/tmp/ccagent-54323/agent.sock") // it is root's
	if err := os.Chown("/run/user/54323", uid, uid); err != nil {
		t.Fatal(err)
	}
	compare("/run/user/54323/ccagent/agent.sock")
	if err := os.Chmod("/run/user/54323", 0o755); err != nil {
		t.Fatal(err)
	}
	compare("/tmp/ccagent-54323/agent.sock")
}
