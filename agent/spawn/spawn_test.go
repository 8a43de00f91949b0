package spawn

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/ccagent/ccagent/agent/job"
	"github.com/ccagent/ccagent/protocol"
)

// The test binary is its own worker: what it does is in the job's settings.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "worker" {
		os.Exit(work())
	}
	goleak.VerifyTestMain(m)
}

func work() int {
	j, err := job.ReadJob(os.Stdin)
	if err != nil {
		return 1
	}
	for _, step := range strings.Fields(string(j.Settings)) {
		r := job.Report{Result: job.Result{Record: j.Record}}
		switch step {
		case "hello":
			r.Kind = job.Hello
		case "asking":
			r.Kind = job.Asking
		case "handover":
			r.Kind = job.HandOver
		case "done":
			r.Kind = job.Done
			sid, _ := unix.Getsid(0)
			dir, _ := os.Getwd()
			r.Result.Location = strings.Join([]string{
				strconv.FormatBool(sid == os.Getpid()), dir, os.Getenv("NOTIFY_SOCKET"), os.Getenv("KEPT"), j.Profile,
			}, " ")
		case "refused":
			r.Kind, r.Err = job.Done, &protocol.Error{Code: protocol.CodeLoginRequired, Message: "revoked", Hint: "sign in"}
		case "ended": // nothing comes after the job
			if n, err := os.Stdin.Read(make([]byte, 1)); n != 0 || err != io.EOF {
				return 4
			}
			continue
		case "alone": // nobody can open its end by its name below /proc
			for _, name := range []string{"/proc/self/fd/0", "/proc/self/fd/1"} {
				if f, err := os.OpenFile(name, os.O_RDWR, 0); err == nil {
					f.Close()
					return 5
				}
			}
			continue
		case "garbage":
			os.Stdout.WriteString("\x00\x00\x00\x02\x01\x63")
			continue
		case "stays":
			time.Sleep(time.Hour)
		case "exit":
			return 3
		case "killed":
			unix.Kill(os.Getpid(), unix.SIGKILL)
		}
		if job.WriteReport(os.Stdout, r) != nil {
			return 1
		}
	}
	return 0
}

func TestProcess(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "/run/notify")
	t.Setenv("KEPT", "kept")
	big := strings.Repeat("r", 200<<10) // more than a pipe holds
	for _, tc := range []struct {
		steps     string
		want      error
		says      string
		handOvers int
	}{
		{"hello asking handover done", nil, "", 1},
		{"hello done", nil, "", 0},
		{"hello ended alone done", nil, "", 0},
		{"hello asking done stays", nil, "", 0},
		{"refused", protocol.ErrLoginRequired, "revoked", 0},
		{"hello refused", protocol.ErrLoginRequired, "revoked", 0},
		{"handover done", protocol.ErrUnavailable, "greet", 0},
		{"hello exit", protocol.ErrUnavailable, "exit status 3", 0},
		{"hello killed", protocol.ErrUnavailable, "killed", 0},
		{"hello handover killed", protocol.ErrUnavailable, "killed", 1},
		{"hello garbage", protocol.ErrUnavailable, "", 0},
		{"", protocol.ErrUnavailable, "without a result", 0},
	} {
		t.Run(tc.steps, func(t *testing.T) {
			n := 0
			r, err := Process{Args: []string{"worker"}, Env: Environment()}.Run(t.Context(),
				job.Job{Op: job.Renew, Profile: "claude", Settings: []byte(tc.steps), Record: protocol.NewSecret(big)},
				func(r job.Result) {
					n++
					if r.Record.Reveal() != big {
						t.Errorf("handed over %d bytes, want %d", len(r.Record.Reveal()), len(big))
					}
				})
			if r.Err != nil {
				err = r.Err
			}
			if !errors.Is(err, tc.want) || tc.want != nil && !strings.Contains(err.Error(), tc.says) {
				t.Errorf("error %v, want %v saying %q", err, tc.want, tc.says)
			}
			if n != tc.handOvers {
				t.Errorf("%d hand-overs, want %d", n, tc.handOvers)
			}
			if tc.want == nil && r.Result.Location != "true /  kept claude" {
				t.Errorf("session, folder, environment and job: %q", r.Result.Location)
			}
		})
	}
}

// Where the program has gone that a worker is started from, the hint says what helps.
func TestProgramIsGone(t *testing.T) {
	cmd := exec.Cmd{Path: filepath.Join(t.TempDir(), "ccagent")}
	err := workerError(cmd.Start())
	if hint := protocol.HintOf(err); !errors.Is(err, protocol.ErrUnavailable) || !strings.Contains(hint, "ccagent stop") {
		t.Errorf("%v, hint %q", err, hint)
	}
}
