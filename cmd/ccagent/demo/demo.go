// Package demo shows ccagent at work: the real programs, in a temporary home, against a provider within this process.
package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ccagent/ccagent/agent/oauth/oauthtest"
	"github.com/ccagent/ccagent/cmd/ccagent/environ"
	"github.com/ccagent/ccagent/cmd/ccagent/files"
	"github.com/ccagent/ccagent/cmd/ccagent/terminal"
	"github.com/ccagent/ccagent/protocol"
)

// demo is a temporary home with a provider and an agent, for a few seconds.
type demo struct {
	ctx    context.Context
	out    io.Writer
	paint  bool
	clicks bool // a person signs in, with real clicks
	home   string
	self   string       // this program
	helper []string     // cchelper if it is beside this program, else the command that does the same
	vars   environ.Vars // the person's environment, for the browser
	env    []string     // the environment of the programs
	server *oauthtest.Server
	client *protocol.Client
}

// Run shows each step on out. It fails if a step does not work as it says. With clicks, a person does the sign-in.
func Run(ctx context.Context, vars environ.Vars, out io.Writer, clicks bool) (err error) {
	began := time.Now()
	// Everything that a step starts stays our descendant, so that we can end what is left.
	if err := adoptOrphans(); err != nil {
		return err
	}
	d := &demo{ctx: ctx, out: out, paint: terminal.Coloured(out, vars), clicks: clicks, vars: vars}
	if err := d.open(); err != nil {
		return errors.Join(err, d.close())
	}
	closed := false
	defer func() {
		if !closed {
			err = errors.Join(err, d.close())
		}
	}()
	fmt.Fprintf(out, "a temporary home with a provider and an agent; the programs are the real ones\n\n")
	for i, s := range demoSteps {
		fmt.Fprintf(out, "%d. %s\n   %s\n", i+1, d.style("1", s.title), s.about)
		figure, err := s.run(d)
		if err != nil {
			fmt.Fprintf(out, "   %s\n", d.style("31", "failed"))
			return fmt.Errorf("the demo failed where %s: %w", s.title, err)
		}
		if _, err := fmt.Fprintf(out, "   %s %s\n\n", d.style("32", "ok:"), figure); err != nil {
			return err
		}
	}
	closed = true
	if err := d.close(); err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%d steps in %.1f s; no process and no file is left\n", len(demoSteps), time.Since(began).Seconds())
	return err
}

func (d *demo) style(code, text string) string {
	if !d.paint {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// open makes the home, and starts the provider.
func (d *demo) open() (err error) {
	if d.self, err = os.Executable(); err != nil {
		return err
	}
	d.helper = []string{d.self, "token"}
	if beside := filepath.Join(filepath.Dir(d.self), "cchelper"); files.IsProgram(beside) {
		d.helper = []string{beside}
	}
	if d.server, err = oauthtest.Start(oauthtest.Options{Ask: d.clicks}); err != nil {
		return err
	}
	if d.home, err = os.MkdirTemp("", "ccdemo-"); err != nil { // 0700, and short: a socket's path is limited
		return err
	}
	d.env = []string{
		"HOME=" + d.home, "PATH=" + os.Getenv("PATH"), "TMPDIR=" + d.home, "XDG_RUNTIME_DIR=" + filepath.Join(d.home, "run"),
		"XDG_CONFIG_HOME=" + filepath.Join(d.home, "config"), "XDG_STATE_HOME=" + filepath.Join(d.home, "state"),
		"XDG_DATA_HOME=" + filepath.Join(d.home, "data"),
	}
	d.client = protocol.NewClient(filepath.Join(d.home, "run", "ccagent", "agent.sock"))
	for _, dir := range []string{"run", "config/ccagent", ".claude", "herd", "outage", "crash"} {
		if err := os.MkdirAll(filepath.Join(d.home, dir), 0o700); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(d.home, "config/ccagent/config.toml"), fmt.Appendf(nil, `
[profiles.claude]
provider = "claude"
token_url = %[1]q

[profiles.herd]
provider = "claude"
token_url = %[1]q
config_dir = %[2]q

[profiles.outage]
provider = "claude"
token_url = %[1]q
config_dir = %[3]q

[profiles.crash]
provider = "claude"
token_url = %[1]q
config_dir = %[4]q
`, d.server.TokenURL(), filepath.Join(d.home, "herd"), filepath.Join(d.home, "outage"), filepath.Join(d.home, "crash")), 0o600)
}

// close ends and removes everything that open and the steps have made.
func (d *demo) close() error {
	var errs []error
	ctx, cancel := context.WithTimeout(context.WithoutCancel(d.ctx), patient)
	defer cancel()
	if d.client != nil {
		if _, err := d.runIn(ctx, d.self, "stop", "--force"); err != nil {
			errs = append(errs, fmt.Errorf("stopping the agent: %w", err))
		}
		d.client.Close()
	}
	if err := endOrphans(ctx); err != nil {
		errs = append(errs, err)
	}
	if d.server != nil {
		d.server.Close()
	}
	if d.home != "" {
		if err := os.RemoveAll(d.home); err != nil {
			errs = append(errs, err)
		} else if _, err := os.Lstat(d.home); !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, errors.New(d.home+" is still there"))
		}
	}
	return errors.Join(errs...)
}

// patient is the time limit for things that take milliseconds. It is long, because a busy machine is slow and not broken.
const patient = 2 * time.Minute

// run runs one of our programs in the demo's environment, and returns the line that it prints.
func (d *demo) run(argv ...string) (string, error) {
	ctx, cancel := context.WithTimeout(d.ctx, patient)
	defer cancel()
	return d.runIn(ctx, argv...)
}

func (d *demo) runIn(ctx context.Context, argv ...string) (string, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env, cmd.Dir = d.env, d.home
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.Output()
	if err != nil {
		said, _, _ := strings.Cut(strings.TrimSpace(stderr.String()), "\n")
		return "", fmt.Errorf("%s: %v: %s", strings.Join(append([]string{filepath.Base(argv[0])}, argv[1:]...), " "), err, said)
	}
	return strings.TrimSuffix(string(stdout), "\n"), nil
}

// ask has one helper ask for a token.
func (d *demo) ask(args ...string) (string, error) { return d.run(slices.Concat(d.helper, args)...) }

// errRefused says that the API does not accept a token.
var errRefused = errors.New("the API does not accept the token")

// accepted calls the provider's API with a token. It returns nil if the API accepts the token, and errRefused if not.
func (d *demo) accepted(token string) error {
	ctx, cancel := context.WithTimeout(d.ctx, patient)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, d.server.APIURL(), nil)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		return err
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return errRefused
	}
	return nil
}

// signIn writes a sign-in to the file in which Claude Code would store it, and returns it. Its token expires after left.
func (d *demo) signIn(dir string, left time.Duration) (oauthtest.SignIn, error) {
	s := d.server.Issue()
	s.Expiry = time.Now().Add(left)
	return s, os.WriteFile(filepath.Join(d.home, dir, ".credentials.json"), s.CredentialsFile(), 0o600)
}

// pause waits, unless the demo is interrupted.
func (d *demo) pause(t time.Duration) error {
	timer := time.NewTimer(t)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-d.ctx.Done():
		return d.ctx.Err()
	}
}

func millis(d time.Duration) string {
	if d < 10*time.Millisecond {
		return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000)
	}
	return fmt.Sprintf("%d ms", d.Milliseconds())
}
