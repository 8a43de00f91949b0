package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// emptyProgram is the least that a Go program can do to print a token.
const emptyProgram = `package main

import "os"

func main() { os.Stdout.WriteString("fake-access-1\n") }
`

// program is a program whose whole run is measured.
type program struct {
	name  string
	path  string
	args  []string
	env   []string
	stdin string // the file for standard input; "": /dev/null
	// missing says why this machine does not have the program; "": it has it.
	missing string
}

// once runs the program and returns how long that took, from before its start until its end was known.
func (p program) once(null *os.File) (time.Duration, error) {
	stdin := null
	if p.stdin != "" {
		f, err := os.Open(p.stdin)
		if err != nil {
			return 0, err
		}
		defer f.Close()
		stdin = f
	}
	start := time.Now()
	process, err := os.StartProcess(p.path, append([]string{p.path}, p.args...),
		&os.ProcAttr{Env: p.env, Files: []*os.File{stdin, null, null}})
	if err != nil {
		return 0, err
	}
	state, err := process.Wait()
	took := time.Since(start)
	if err == nil && !state.Success() {
		err = fmt.Errorf("%s: %s", p.name, state)
	}
	return took, err
}

// processes compares whole runs of the helper with the least that such a run can take, with an empty Go program, and with what
// git and ssh offer.
func (b *bench) processes(ctx context.Context) ([]row, error) {
	helper := program{name: "cchelper", path: filepath.Join(b.bin, "cchelper"), env: b.agent.env}
	if out, err := b.command(ctx, helper.path, helper.env, ""); err != nil {
		return nil, err
	} else if strings.TrimSpace(out) != fakeToken {
		return nil, fmt.Errorf("cchelper printed something else than the token")
	}
	programs := []program{helper}
	for _, prepare := range []func(context.Context) (program, error){
		b.buildFloor, b.buildEmpty, b.startGitCache, b.startSSHAgent,
	} {
		p, err := prepare(ctx)
		if err != nil {
			return nil, err
		}
		programs = append(programs, p)
	}
	ms, err := b.interleaved(ctx, programs)
	if err != nil {
		return nil, err
	}
	compare := func(other int, must string, bound float64) row {
		r := row{
			what: fmt.Sprintf("cchelper, whole process, median of %d, against `%s`", b.effort.processes, programs[other].name),
			must: must,
		}
		if why := programs[other].missing; why != "" {
			r.measured, r.skipped = "not measured: "+why, true
			return r
		}
		ratio := ms[0] / ms[other]
		r.measured, r.ok = fmt.Sprintf("%.2f ms / %.2f ms = %.2f", ms[0], ms[other], ratio), ratio <= bound
		return r
	}
	return []row{compare(1, "≤ 1.3", 1.3), compare(2, "≤ 1.15", 1.15), compare(3, "< 1", 1), compare(4, "< 1", 1)}, nil
}

// interleaved returns the median time of each program in milliseconds, 0 for one that is missing. Each round runs every program
// once, in an order of its own, so that whatever disturbs the machine disturbs them alike.
func (b *bench) interleaved(ctx context.Context, programs []program) ([]float64, error) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	samples := make([][]time.Duration, len(programs))
	const warmUp = 5
	for round := range b.effort.processes + warmUp {
		for _, i := range rand.Perm(len(programs)) {
			if programs[i].missing != "" {
				continue
			}
			took, err := programs[i].once(null)
			if err != nil {
				return nil, err
			}
			if round >= warmUp {
				samples[i] = append(samples[i], took)
			}
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
	ms := make([]float64, len(programs))
	for i := range samples {
		if programs[i].missing == "" {
			ms[i] = quantile(samples[i], 0.5).Seconds() * 1000
		}
	}
	return ms, nil
}

// size measures the helper's file as it is shipped.
func (b *bench) size(context.Context) ([]row, error) {
	info, err := os.Stat(filepath.Join(b.bin, "cchelper"))
	if err != nil {
		return nil, err
	}
	mb := float64(info.Size()) / 1e6
	return []row{{what: "cchelper, stripped", must: "≤ 3.5 MB", measured: fmt.Sprintf("%.2f MB", mb), ok: mb <= 3.5}}, nil
}

// command runs a program to its end and returns its standard output.
func (b *bench) command(ctx context.Context, path string, env []string, stdin string, args ...string) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = env, strings.NewReader(stdin), &stdout, &stderr
	// git's daemon inherits the pipes and does not close them.
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s: %w: %s", filepath.Base(path), err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}

// buildEmpty builds the empty program as ours are built.
func (b *bench) buildEmpty(ctx context.Context) (program, error) {
	source := filepath.Join(b.dir, "empty.go")
	if err := os.WriteFile(source, []byte(emptyProgram), 0o600); err != nil {
		return program{}, err
	}
	built := filepath.Join(b.dir, "empty.built")
	if _, err := b.command(ctx, "go", append(os.Environ(), "CGO_ENABLED=0"), "", "build", "-trimpath", "-ldflags", "-s -w", "-o",
		built, source); err != nil {
		return program{}, err
	}
	p := program{name: "an empty Go program", path: filepath.Join(b.dir, "empty")}
	return p, install(built, p.path)
}

// install copies a program as `make install` does. How a file was written decides how the kernel caches it: a file that a linker
// has just written starts slower than its copy, and one that was written in one piece is mapped in one piece.
func install(from, to string) error {
	if out, err := exec.Command("install", "-m", "0755", from, to).CombinedOutput(); err != nil {
		return fmt.Errorf("install: %w: %s", err, out)
	}
	return nil
}

// startGitCache starts git's credential daemon with one password in it.
func (b *bench) startGitCache(ctx context.Context) (program, error) {
	git, err := exec.LookPath("git")
	if err != nil {
		return program{}, err
	}
	p := program{
		name:  "git credential-cache get",
		path:  git,
		args:  []string{"credential-cache", "--socket", filepath.Join(b.dir, "git", "socket"), "get"},
		env:   []string{"PATH=" + os.Getenv("PATH"), "HOME=" + b.dir},
		stdin: filepath.Join(b.dir, "git.question"),
	}
	const question = "protocol=https\nhost=llm.example.com\n\n"
	if err := os.WriteFile(p.stdin, []byte(question), 0o600); err != nil {
		return program{}, err
	}
	// The daemon stays in the foreground, so that close can end it.
	if err := os.Mkdir(filepath.Dir(p.args[2]), 0o700); err != nil {
		return program{}, err
	}
	daemon := exec.Command(git, "credential-cache--daemon", p.args[2])
	daemon.Env = p.env
	ready, err := daemon.StdoutPipe()
	if err != nil {
		return program{}, err
	}
	if err := b.spawn(daemon); err != nil {
		return program{}, err
	}
	if _, err := ready.Read(make([]byte, 16)); err != nil { // "ok", once it listens
		return program{}, fmt.Errorf("git credential-cache--daemon: %w", err)
	}
	store := append(p.args[:3:3], "store")
	if _, err := b.command(ctx, git, p.env, "protocol=https\nhost=llm.example.com\nusername=u\npassword="+fakeToken+"\n\n",
		store...); err != nil {
		return program{}, err
	}
	out, err := b.command(ctx, git, p.env, question, p.args...)
	if err == nil && !strings.Contains(out, fakeToken) {
		err = fmt.Errorf("git credential-cache did not keep the password")
	}
	return p, err
}

// startSSHAgent starts an ssh-agent with one key in it.
func (b *bench) startSSHAgent(ctx context.Context) (program, error) {
	add, err := exec.LookPath("ssh-add")
	if err != nil {
		return program{}, err
	}
	socket, key := filepath.Join(b.dir, "ssh.sock"), filepath.Join(b.dir, "key")
	p := program{name: "ssh-add -l", path: add, args: []string{"-l"}, env: []string{"SSH_AUTH_SOCK=" + socket, "HOME=" + b.dir}}
	daemon := exec.Command("ssh-agent", "-D", "-a", socket)
	ready, err := daemon.StdoutPipe()
	if err != nil {
		return program{}, err
	}
	if err := b.spawn(daemon); err != nil {
		return program{}, err
	}
	if _, err := ready.Read(make([]byte, 16)); err != nil { // its variables, once it listens
		return program{}, fmt.Errorf("ssh-agent: %w", err)
	}
	if _, err := b.command(ctx, "ssh-keygen", p.env, "", "-q", "-t", "ed25519", "-N", "", "-f", key); err != nil {
		return program{}, err
	}
	_, err = b.command(ctx, add, p.env, "", "-q", key)
	return p, err
}
