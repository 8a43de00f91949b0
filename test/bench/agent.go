package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/ccagent/ccagent/agent/oauth/oauthtest"
	"github.com/ccagent/ccagent/protocol"
)

// fakeToken is as long as a real token.
var fakeToken = "fake-access-" + strings.Repeat("Ab3dEf7h", 12)

// bench is one run: the programs to measure, a provider, and an agent that nearly all parts use.
type bench struct {
	effort
	bin, dir string
	provider *oauthtest.Server
	agent    *agentProcess
	children []*exec.Cmd // ended by close
}

// start starts the provider and the agent. The agent's default profile is "hot", whose token is then in memory. The profiles
// "renew-0" and so on are signed in at the provider.
func (b *bench) start(ctx context.Context) error {
	var err error
	if b.provider, err = oauthtest.Start(oauthtest.Options{}); err != nil {
		return err
	}
	var config strings.Builder
	config.WriteString("default_profile = \"hot\"\n")
	writeCommandProfile(&config, "hot")
	for i := range b.profilesRenewing() {
		if err := b.writeSignInProfile(&config, renewing(i)); err != nil {
			return err
		}
	}
	if b.agent, err = b.startAgent(ctx, "main", config.String()); err != nil {
		return err
	}
	_, err = b.agent.client.Token(ctx, protocol.TokenRequest{})
	return err
}

func renewing(i int) string { return fmt.Sprintf("renew-%d", i) }

func (b *bench) close() {
	for _, child := range b.children {
		child.Process.Signal(os.Interrupt)
		child.Wait()
	}
	if b.provider != nil {
		b.provider.Close()
	}
}

// spawn starts a program that runs until close.
func (b *bench) spawn(cmd *exec.Cmd) error {
	if err := cmd.Start(); err != nil {
		return err
	}
	b.children = append(b.children, cmd)
	return nil
}

// agentProcess is an agent in a home of its own.
type agentProcess struct {
	env    []string // the environment in which a program finds it
	socket string
	pid    int
	client *protocol.Client
}

// startAgent starts an agent with a configuration and waits until it answers.
func (b *bench) startAgent(ctx context.Context, name, config string) (*agentProcess, error) {
	home := filepath.Join(b.dir, name)
	runtimeDir := filepath.Join(home, "run")
	configDir := filepath.Join(home, ".config", "ccagent")
	for _, dir := range []string{runtimeDir, configDir} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
	}
	if err := os.WriteFile(filepath.Join(configDir, "config.toml"), []byte(config), 0o600); err != nil {
		return nil, err
	}
	a := &agentProcess{
		env:    []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "XDG_RUNTIME_DIR=" + runtimeDir},
		socket: filepath.Join(runtimeDir, "ccagent", "agent.sock"),
	}
	log := filepath.Join(home, "agent.log")
	cmd := exec.Command(filepath.Join(b.bin, "ccagent"), "serve", "--log-file", log)
	cmd.Env = a.env
	if err := b.spawn(cmd); err != nil {
		return nil, err
	}
	a.pid = cmd.Process.Pid
	a.client = protocol.NewClient(a.socket)
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for {
		_, err := a.client.Status(ctx, protocol.StatusRequest{})
		if err == nil {
			return a, nil
		}
		if !errors.Is(err, protocol.ErrNoAgent) {
			return nil, fmt.Errorf("the agent does not start: %w", err)
		}
		select {
		case <-ctx.Done():
			text, _ := os.ReadFile(log)
			return nil, fmt.Errorf("the agent does not start: %w\n%s", err, text)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// writeCommandProfile writes a profile whose token a program prints at once, and lives longer than the benchmark.
func writeCommandProfile(config *strings.Builder, name string) {
	fmt.Fprintf(config, "[profiles.%s]\nprovider = \"command\"\ncommand = [\"/bin/echo\", %q]\nttl = \"24h\"\n", name, fakeToken)
}

// writeSignInProfile writes a profile that is signed in at the provider and due for a renewal.
func (b *bench) writeSignInProfile(config *strings.Builder, name string) error {
	claudeDir := filepath.Join(b.dir, name)
	fmt.Fprintf(config, "[profiles.%s]\nprovider = \"claude\"\nstore = \"claude-code\"\nconfig_dir = %q\ntoken_url = %q\n",
		name, claudeDir, b.provider.TokenURL())
	return writeSignIn(claudeDir, b.provider.Issue())
}

// writeSignIn writes a sign-in that is due for a renewal into a folder, as Claude Code does.
func writeSignIn(dir string, s oauthtest.SignIn) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	text, err := json.Marshal(map[string]any{"claudeAiOauth": map[string]any{
		"accessToken":      s.AccessToken,
		"refreshToken":     s.RefreshToken,
		"expiresAt":        time.Now().Add(-time.Minute).UnixMilli(),
		"scopes":           s.Scopes,
		"subscriptionType": s.Subscription,
	}})
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, ".credentials.json"), text, 0o600)
}
