package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// adoptOrphans makes this process the parent of all descendants whose parent ends. These are agents and workers, which have
// sessions of their own.
func adoptOrphans() error {
	return os.NewSyscallError("prctl", unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))
}

// endOrphans waits until the last descendant has ended. It kills those that are left when ctx ends, and then returns an error.
func endOrphans(ctx context.Context) error {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	killed := 0
	for {
		pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
		switch {
		case errors.Is(err, unix.ECHILD) && killed > 0:
			return fmt.Errorf("%d processes were left and have been killed", killed)
		case errors.Is(err, unix.ECHILD):
			return nil
		case err != nil && !errors.Is(err, unix.EINTR):
			return os.NewSyscallError("wait4", err)
		case pid > 0:
			continue
		}
		if ctx.Err() != nil {
			for _, child := range children() {
				killed++
				unix.Kill(child, unix.SIGKILL)
			}
		}
		<-tick.C
	}
}

// children returns the child processes of this one.
func children() (pids []int) {
	lists, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil {
		return nil
	}
	for _, list := range lists {
		data, err := os.ReadFile(list)
		if err != nil {
			continue // a thread that has ended
		}
		for field := range strings.FieldsSeq(string(data)) {
			if pid, err := strconv.Atoi(field); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}
