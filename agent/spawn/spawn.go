// Package spawn runs the agent's jobs in worker processes. [Process] is a Runner of package agent, which it does not import.
package spawn

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ccagent/ccagent/agent/job"
	"github.com/ccagent/ccagent/protocol"
)

// lastResort ends a worker that has sent no refresh token for that long. The worker's own time-outs, and those of the commands
// that it runs, come earlier.
const lastResort = 30 * time.Minute

// farewell is how long a worker may take to end after its last report. It may release a lock on a file system that hangs.
const farewell = 5 * time.Second

// Process runs each job in a short-lived process of the running binary: `ccagent worker`. The job goes to its standard input, and
// its reports come from its standard output, which are one socket. The process has a session of its own, so that it outlives an
// agent that is killed. Run may be called concurrently.
type Process struct {
	// Args are the arguments that make this binary a worker.
	Args []string
	// Env is the worker's environment.
	Env []string
}

// Environment returns the running process's environment without what is meant for this process alone: a service manager's sockets
// and its request to be notified are not for children.
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

// Run does one job, and returns the worker's last report. It passes a renewed record to handOver before the worker has saved it.
// Its errors are ErrUnavailable: the worker could not be started, or ended without a report.
func (p Process) Run(ctx context.Context, j job.Job, handOver func(job.Result)) (job.Report, error) {
	if err := ctx.Err(); err != nil {
		return job.Report{}, workerError(err)
	}
	self, err := Executable()
	if err != nil {
		return job.Report{}, workerError(err)
	}
	cmd := &exec.Cmd{
		Path: self, Args: append([]string{"ccagent"}, p.Args...), // the name that ps shows
		Env: p.Env, Dir: "/", SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	ours, theirs, err := SocketPair()
	if err != nil {
		return job.Report{}, workerError(err)
	}
	defer ours.Close()
	cmd.Stdin, cmd.Stdout = theirs, theirs
	err = cmd.Start()
	theirs.Close()
	if err != nil {
		return job.Report{}, workerError(err)
	}
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		job.WriteJob(ours, j) // a worker that does not read it ends without a word, which is noticed below
		endOfInput(ours)
	}()
	// The kill switch is disarmed for good by the first report after which a rotated record may exist in the worker alone.
	kill := time.AfterFunc(lastResort, func() { cmd.Process.Kill() })
	report, err := reports(ours, kill, handOver)
	if err == nil {
		kill.Reset(farewell) // the agent has it all, and no other job of the profile begins before the worker has ended
	}
	io.Copy(io.Discard, ours)
	waited := cmd.Wait()
	kill.Stop()
	<-sent
	if err != nil {
		if waited != nil {
			err = waited
		}
		return job.Report{}, workerError(err)
	}
	return report, nil
}

// SocketPair is what this process and one that it starts say to each other over: a job and its reports, say. A pipe would not do:
// until the other has hardened itself, another program of the user can open its end of a pipe by /proc/PID/fd and read there. A
// socket can't be opened that way. Both ends are closed in programs that are started, unless they are handed over.
func SocketPair() (ours, theirs *os.File, err error) {
	syscall.ForkLock.RLock() // no program is started before both ends are marked to be closed in it
	defer syscall.ForkLock.RUnlock()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	unix.CloseOnExec(fds[0])
	unix.CloseOnExec(fds[1])
	if err := unix.SetNonblock(fds[0], true); err != nil { // or each job would cost the agent a thread
		return nil, nil, errors.Join(err, unix.Close(fds[0]), unix.Close(fds[1]))
	}
	return os.NewFile(uintptr(fds[0]), "worker"), os.NewFile(uintptr(fds[1]), "agent"), nil
}

// endOfInput says to the other end of a socket that nothing more comes. Where that fails, that end is gone.
func endOfInput(socket *os.File) {
	if raw, err := socket.SyscallConn(); err == nil {
		raw.Control(func(fd uintptr) { unix.Shutdown(int(fd), unix.SHUT_WR) })
	}
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
	hint := "the agent's log may say more; ask again"
	if errors.Is(err, fs.ErrNotExist) { // on macOS a worker is started by the program's path
		hint = "ccagent was moved or removed while its agent runs: end that with ccagent stop, and ask again"
	}
	return &protocol.Error{
		Code:    protocol.CodeUnavailable,
		Message: "the worker process failed: " + err.Error(),
		Hint:    hint,
	}
}
