//go:build unix

package protocol

import (
	"context"
	"errors"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Start starts an agent on the default socket path, and returns once it accepts connections (docs/protocol.md §8). program is the
// ccagent to run; "" is the one beside the running executable, else the one on PATH. The agent gets a session of its own,
// /dev/null for its standard streams, none of the caller's other descriptors, the working directory /, and this environment. It
// logs to [LogFile]. If several callers start an agent at the same time, one agent remains and serves all. Errors are ErrConfig
// (an agent could not find its files in this environment), those of [CheckRoom], ErrNoAgent (there is no ccagent, or it failed to
// start) and ErrUnavailable (ctx ended first).
func Start(ctx context.Context, program, path string) error {
	if err := checkPlaces(); err != nil {
		return err
	}
	if err := CheckRoom(SocketDir(path)); err != nil {
		return err
	}
	if program == "" {
		var err error
		if program, err = findProgram(); err != nil {
			return err
		}
	}
	log := LogFile(path)
	if err := os.MkdirAll(log[:strings.LastIndexByte(log, '/')], 0o700); err != nil {
		return &Error{Code: CodeNoAgent, Message: "can't start an agent: there is no place for its log: " + err.Error(),
			Hint: "make that folder writable, or set XDG_STATE_HOME to one that is"}
	}
	for pause := 20 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		pid, err := spawn(program, log)
		if err != nil {
			return &Error{Code: CodeNoAgent, Message: "can't start " + quotePath(program) + ": " + err.Error(),
				Hint: "install ccagent anew, or start an agent by hand to see what is wrong: ccagent serve"}
		}
		if ready, err := await(ctx, path, pid, log, pause); ready || err != nil {
			return err
		}
	}
}

// startPause is how long a starter does not try again after a start that failed.
const startPause = time.Second

// starter starts agents for a client that runs for long. Many may ask it at the same time, even strangers if it is behind a web
// server or a shared socket. So it makes one start at a time, and after a start that failed none for a while.
type starter struct {
	path   string
	turn   chan struct{} // has room for one; guards the fields below
	failed error         // of the last start
	at     time.Time     // when the last start ended
}

func newStarter(path string) *starter { return &starter{path: path, turn: make(chan struct{}, 1)} }

// start is [Start], unless another caller has started an agent meanwhile.
func (s *starter) start(ctx context.Context) error {
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return waitError(ctx)
	}
	if conn, err := connect(ctx, s.path); err == nil {
		conn.close()
		return nil
	}
	if s.failed != nil && time.Since(s.at) < startPause {
		return s.failed
	}
	err := Start(ctx, "", s.path)
	if s.failed, s.at = err, time.Now(); ctx.Err() != nil { // the caller gave up, which says nothing about the start
		s.failed = nil
	}
	return err
}

// checkPlaces refuses an environment in which an agent could not find its settings and records. The agent itself could say so
// only in its log.
func checkPlaces() error {
	home := os.Getenv("HOME")
	if strings.HasPrefix(home, "/") {
		return nil
	}
	for _, name := range [...]string{"XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"} {
		if strings.HasPrefix(os.Getenv(name), "/") {
			continue
		}
		err := &Error{Code: CodeConfig, Message: "HOME is not set, and neither is " + name, Hint: "set HOME to your home directory"}
		if home != "" {
			err.Message = "HOME is not an absolute path: " + quote(home)
		}
		return err
	}
	return nil
}

// await waits until an agent listens, and returns true. If the child has found another agent at work, it has ended with exit code
// 0. If that other agent does not answer within pause, it is about to end; then await returns false, and the caller must start
// another.
func await(ctx context.Context, path string, pid int, log string, pause time.Duration) (ready bool, err error) {
	const firstDelay, lastDelay = time.Millisecond, 20 * time.Millisecond // §8
	var ended time.Time
	for delay := firstDelay; ; delay = min(2*delay, lastDelay) {
		conn, err := connect(ctx, path)
		if err == nil {
			conn.close()
			return true, nil
		}
		if ctx.Err() != nil {
			return false, waitError(ctx)
		}
		if !errors.Is(err, ErrNoAgent) && !broken(err) {
			return false, ClientError(err)
		}
		if ended.IsZero() {
			var status unix.WaitStatus
			got, err := unix.Wait4(pid, &status, unix.WNOHANG, nil)
			if got == pid && status != 0 {
				return false, failedStart(status, log)
			}
			if got == pid || err == unix.ECHILD {
				ended = time.Now()
			}
		} else if time.Since(ended) > pause {
			return false, nil
		}
		if err := sleep(ctx, delay); err != nil {
			return false, waitError(ctx)
		}
	}
}

func failedStart(status unix.WaitStatus, log string) error {
	how := "exit code " + strconv.Itoa(status.ExitStatus())
	if status.Signaled() {
		how = "signal " + strconv.Itoa(int(status.Signal()))
	}
	return &Error{
		Code:    CodeNoAgent,
		Message: "the agent did not start: ccagent serve ended with " + how,
		Hint:    "its log is " + quotePath(log) + "\nrun `ccagent serve` to see it fail",
	}
}

// LogFile returns the path of the log of an agent that is started for the socket path (§8): ccagent/agent.log in $XDG_STATE_HOME,
// else in ~/.local/state (macOS: ~/Library/Application Support), else agent.log beside the socket.
func LogFile(path string) string {
	if dir := os.Getenv("XDG_STATE_HOME"); strings.HasPrefix(dir, "/") {
		return strings.TrimRight(dir, "/") + "/ccagent/agent.log"
	}
	home := os.Getenv("HOME")
	switch {
	case !strings.HasPrefix(home, "/"):
		return SocketDir(path) + "/agent.log"
	case runtime.GOOS == "darwin":
		return strings.TrimRight(home, "/") + "/Library/Application Support/ccagent/agent.log"
	}
	return strings.TrimRight(home, "/") + "/.local/state/ccagent/agent.log"
}

// findProgram finds ccagent: beside the running executable, so that both are of one installation, else on PATH.
func findProgram() (string, error) {
	if self, err := os.Executable(); err == nil {
		if p := self[:strings.LastIndexByte(self, '/')+1] + "ccagent"; executable(p) {
			return p, nil
		}
	}
	if p := onPath("ccagent"); p != "" {
		return p, nil
	}
	return "", &Error{
		Code:    CodeNoAgent,
		Message: "no agent is running, and there is no ccagent to start: neither beside this program nor on PATH",
		Hint:    "install ccagent next to this program",
	}
}

// onPath returns the path of a program on PATH; "" if there is none.
func onPath(name string) string {
	for dir := range strings.SplitSeq(os.Getenv("PATH"), ":") {
		// With a relative folder, this would run whatever is in the caller's working directory.
		if p := strings.TrimRight(dir, "/") + "/" + name; strings.HasPrefix(dir, "/") && executable(p) {
			return p
		}
	}
	return ""
}

func executable(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.Mode().IsRegular() && unix.Access(path, unix.X_OK) == nil
}

// spawn runs `program serve` as a daemon, and returns its pid.
func spawn(program, log string) (pid int, err error) {
	null, err := unix.Open("/dev/null", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(null)
	defer closeOnExec()()
	fd := uintptr(null)
	return syscall.ForkExec(program, []string{"ccagent", "serve", "--log-file", log}, &syscall.ProcAttr{
		Dir:   "/",
		Env:   syscall.Environ(),
		Files: []uintptr{fd, fd, fd},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
}

// closeOnExec marks the descriptors that this process has inherited, so that the agent does not get them: the reader of a pipe
// would wait for its end as long as the agent runs. restore takes the marks away, because `ccagent exec` leaves the descriptors
// to its program.
func closeOnExec() (restore func()) {
	var marked []int
	entries, _ := os.ReadDir("/dev/fd")
	for _, entry := range entries {
		fd, err := strconv.Atoi(entry.Name())
		if err != nil || fd <= 2 {
			continue
		}
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC != 0 {
			continue
		}
		unix.CloseOnExec(fd)
		marked = append(marked, fd)
	}
	return func() {
		for _, fd := range marked {
			unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0)
		}
	}
}
