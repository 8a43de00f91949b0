package main

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/protocol/protocoltest"
)

func TestMain(m *testing.M) {
	testscript.Main(
		m,
		map[string]func(){
			"cchelper":                      main,
			"git-credential-ccagent":        main,
			"docker-credential-ccagent":     main,
			"terraform-credentials-ccagent": main,
			"kubectl-ccagent":               main,
		},
	)
}

// gitHosts are the hosts of the profiles for git.
var gitHosts = []string{"git.example.com", "git.example.com:8443"}

func TestScripts(t *testing.T) { scripts(t, "") }

// scripts runs the scripts of testdata with the programs in the folder bin, or with this test binary for "".
func scripts(t *testing.T, bin string) {
	expiry := time.Date(2030, 1, 2, 3, 4, 5, 678e6, time.UTC)
	fake := protocoltest.NewFake(
		protocoltest.Profile{Name: "claude", Token: "fake-access-1", Expiry: expiry, Kind: protocol.KindOAuth},
		protocoltest.Profile{Name: "robot", Token: `fake'"\key`, Kind: protocol.KindAPIKey},
		protocoltest.Profile{Name: "gateway", Token: "fake-bearer-1", Kind: protocol.KindBearer, Notice: "not saved yet"},
		protocoltest.Profile{Name: "out", Err: &protocol.Error{
			Code: protocol.CodeLoginRequired, Message: "the sign-in of out was revoked", Hint: "run `ccagent login out`\nor use another",
		}},
		protocoltest.Profile{
			Name:    "forge",
			Token:   "fake-forge-1",
			Expiry:  expiry,
			Kind:    protocol.KindBearer,
			Hosts:   []string{"git.example.com", "git.example.com:8443", "git.example.com:6443", "127.0.0.1"},
			IDToken: "fake-id-1",
		},
		protocoltest.Profile{Name: "named", Token: "fake-named-1", Kind: protocol.KindBearer, Hosts: gitHosts,
			Username: "bob"},
		protocoltest.Profile{Name: "keys", Kind: protocol.KindAWS, Expiry: expiry, Hosts: gitHosts,
			Token: `{"AccessKeyId":"fake-id","SecretAccessKey":"fake/key+=","SessionToken":"fake-session"}`},
		protocoltest.Profile{Name: "empty", Hosts: gitHosts, Err: &protocol.Error{
			Code: protocol.CodeNotFound, Message: "nothing is stored for profile empty",
		}},
		protocoltest.Profile{Name: "ended", Hosts: gitHosts, Err: &protocol.Error{
			Code: protocol.CodeLoginRequired, Message: "the sign-in of ended was revoked", Hint: "ccagent login ended",
		}},
		protocoltest.Profile{Name: "bad", Token: "fake\nrm -rf"},
	)
	slow := protocoltest.NewFake(protocoltest.Profile{Name: "slow"})
	slow.Answer = func(ctx context.Context, _ protocol.TokenRequest) (protocol.Token, error) {
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
		return protocol.Token{}, errors.New("too late")
	}
	sock, slowSock := protocoltest.Serve(t, fake), protocoltest.Serve(t, slow)
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			if bin != "" {
				env.Setenv("PATH", bin+string(os.PathListSeparator)+env.Getenv("PATH"))
			}
			env.Setenv("CCAGENT_SOCK", sock)
			env.Setenv("GORACE", os.Getenv("GORACE")) // for programs that were built with the race detector
			env.Setenv("SLOW_SOCK", slowSock)
			return nil
		},
		Condition: func(cond string) (bool, error) {
			_, err := os.Stat("/" + cond) // such as [dev/full]
			return err == nil, nil
		},
	})
}

func TestMinTTLIsSent(t *testing.T) {
	fake := protocoltest.NewFake(protocoltest.Profile{Name: "claude", Token: "fake-access-1"})
	t.Setenv("CCAGENT_SOCK", protocoltest.Serve(t, fake))
	for _, args := range [][]string{{"--min-ttl", "90s"}, {"--min-ttl=1m30s"}} {
		if _, _, err := answer(append([]string{"cchelper"}, args...), func(string) string { return "" }, nil); err != nil {
			t.Fatal(err)
		}
	}
	env := func(name string) string { return map[string]string{"CCAGENT_MIN_TTL": "90s"}[name] }
	if _, _, err := answer([]string{"cchelper"}, env, nil); err != nil {
		t.Fatal(err)
	}
	for _, r := range fake.Requests() {
		if r.MinTTL != 90*time.Second || r.Home != (protocol.Home{}) {
			t.Errorf("request %+v", r)
		}
	}
}

// A token that a host has refused, as git says, is renewed once, and only if it is still the agent's.
func TestEraseRenews(t *testing.T) {
	fake := protocoltest.NewFake(protocoltest.Profile{Name: "forge", Token: "fake-forge-1", Hosts: gitHosts})
	t.Setenv("CCAGENT_SOCK", protocoltest.Serve(t, fake))
	for password, want := range map[string]int{"fake-forge-1": 1, "fake-forge-0": 0} {
		before := len(fake.Requests())
		refused := strings.NewReader("protocol=https\nhost=git.example.com\npassword=" + password + "\n")
		if text, _, err := answer([]string{"cchelper", "-f", "git", "erase"}, func(string) string { return "" }, refused); err != nil ||
			text != "" {
			t.Fatalf("%q, %v", text, err)
		}
		forced := 0
		for _, r := range fake.Requests()[before:] {
			if !r.Listed || r.Host != "git.example.com" {
				t.Errorf("request %+v", r)
			}
			if r.Force {
				forced++
			}
		}
		if forced != want {
			t.Errorf("%s: %d renewals, want %d", password, forced, want)
		}
	}
}
