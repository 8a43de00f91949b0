package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/ccagent/ccagent/agent/job"
	"github.com/ccagent/ccagent/protocol"
)

// lastResort ends a worker that has sent no refresh token for that long: its own time-outs, and those of the commands it
// runs, come earlier.
const lastResort = 30 * time.Minute

// Process runs each job in a short-lived process of the running binary: `ccagent worker`, the job on its standard input and
// its reports on its standard output. The process has a session of its own, so that it outlives an agent that is killed.
type Process struct {
	// Args are the arguments that make this binary a worker.
	Args []string
	// Env is the worker's environment.
	Env []string
}

var _ Runner = Process{}

// Environment is the running process's environment without what belongs to this process alone: activation and notification
// by a service manager are not for its children.
func Environment() []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		switch name {
		case "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID":
			return true
		}
		return false
	})
}

// Run implements [Runner]. Errors are ErrUnavailable: the worker could not be started, or ended without a word.
func (p Process) Run(ctx context.Context, j job.Job, handOver func(job.Result)) (job.Report, error) {
	if err := ctx.Err(); err != nil {
		return job.Report{}, workerError(err)
	}
	self, err := executable()
	if err != nil {
		return job.Report{}, workerError(err)
	}
	cmd := &exec.Cmd{
		Path: self, Args: append([]string{"ccagent"}, p.Args...), // the name that ps shows
		Env: p.Env, Dir: "/", SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		return job.Report{}, workerError(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return job.Report{}, workerError(err)
	}
	if err := cmd.Start(); err != nil {
		return job.Report{}, workerError(err)
	}
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		job.WriteJob(in, j) // a worker that does not read it ends without a word, which is noticed below
		in.Close()
	}()
	// The kill switch is disarmed for good by the first report after which a rotated record may exist in the worker alone.
	kill := time.AfterFunc(lastResort, func() { cmd.Process.Kill() })
	report, err := reports(out, kill, handOver)
	kill.Stop()
	io.Copy(io.Discard, out)
	waited := cmd.Wait()
	<-sent
	if err != nil {
		if waited != nil {
			err = waited
		}
		return job.Report{}, workerError(err)
	}
	return report, nil
}

func reports(out io.Reader, kill *time.Timer, handOver func(job.Result)) (job.Report, error) {
	greeted := false
	for {
		r, err := job.ReadReport(out)
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = errors.New("it ended without a result")
			}
			return job.Report{}, err
		}
		switch {
		case r.Kind == job.Hello:
			greeted = true
		case r.Kind == job.Done:
			return r, nil // also as the first: a refusal of the job
		case !greeted:
			return job.Report{}, errors.New("it did not greet")
		case r.Kind == job.Asking:
			kill.Stop()
		case r.Kind == job.HandOver:
			kill.Stop()
			handOver(r.Result)
		default:
			return job.Report{}, fmt.Errorf("unknown report %d", r.Kind)
		}
	}
}

func workerError(err error) error {
	return &protocol.Error{Code: protocol.CodeUnavailable, Message: "the worker process failed: " + err.Error(), Hint: "the agent's log may say more; ask again"}
}
