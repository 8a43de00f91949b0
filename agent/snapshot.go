package agent

import (
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/ccagent/ccagent/agent/job"
)

// snapshot is the state in which a job has read a record's files and views. Before a cached token is served, it is compared with
// the state of now. Nothing in it changes but checking.
type snapshot struct {
	fileStates
	names    [][]byte // the paths as the kernel takes them, for the hot path; nil: the state of a file is not known
	stale    bool     // a file may have been written since the job has read it, so it is to be read again
	local    bool     // the file systems are of this machine: to look at a file takes no time
	checking atomic.Bool
}

// noFiles is the snapshot of a record without files, or before any are known.
var noFiles = &snapshot{}

// remoteWait bounds how long a request waits for a file system that may hang.
const remoteWait = 200 * time.Millisecond

func newSnapshot(s fileStates, local bool) *snapshot {
	if len(s.paths) == 0 {
		return noFiles
	}
	v := &snapshot{fileStates: s, local: local}
	if !s.unknown() {
		for _, p := range s.paths {
			v.names = append(v.names, append([]byte(p), 0))
		}
	}
	return v
}

// knownUnchanged reports whether the files are known to be as they were. It is for the hot path: it allocates nothing, and where
// a look may take long it answers false at once.
func (v *snapshot) knownUnchanged() bool {
	if len(v.paths) == 0 {
		return true
	}
	if !v.local || v.names == nil {
		return false
	}
	for i, name := range v.names {
		if fileStateOfName(name, v.paths[i]) != v.states[i] {
			return false
		}
	}
	return true
}

// changed reports whether a file is in another state by now, or in one that is not known. A file system that may hang is waited
// for shortly, by one caller at a time; until it answers, the files count as unchanged.
func (v *snapshot) changed() bool {
	switch {
	case len(v.paths) == 0:
		return false
	case v.unknown():
		return true
	case v.local:
		return v.fileStates.changed()
	case !v.checking.CompareAndSwap(false, true):
		return false
	}
	answer := make(chan bool, 1)
	go func() {
		answer <- v.fileStates.changed()
		v.checking.Store(false)
	}()
	timer := time.NewTimer(remoteWait)
	defer timer.Stop()
	select {
	case changed := <-answer:
		return changed
	case <-timer.C:
		return false
	}
}

// allLocal reports whether the files are on file systems of this machine.
func allLocal(paths []string) bool {
	for _, p := range paths {
		if !local(filepath.Dir(p)) {
			return false
		}
	}
	return true
}

// snapshotAfter returns the state in which a job is known to have read the files. before is their state when it began.
func (e *entry) snapshotAfter(r job.Result, before fileStates, began time.Time) *snapshot {
	others := r.Store == storeClaudeCode || e.profile.Load().Shown // other programs write there too
	s, stale := statesOf(r.Watch), false
	known := len(before.paths) == len(s.paths) && len(s.paths) > 0 && before.paths[0] == s.paths[0]
	// The job has read the files as they are now if that was their state when it began. A save of a renewal is taken for the
	// job's own; the next renewal reads the files first, and finds out.
	asRead := s.olderThan(began, others) || r.Saved && r.Renewed && !others
	switch {
	case r.Wrote && s.missing(): // a view that is removed at once is missing as it was before, and nothing would tell
		s, stale = unknownStates(s.paths), true
	case known && !before.changed():
		s = before
	case !asRead && known:
		s, stale = before, true // written by the job, or by somebody else after the job had read it: to read it again tells
	case !asRead:
		s, stale = unknownStates(s.paths), true
	}
	v := newSnapshot(s, allLocal(r.Watch))
	if len(v.paths) > 0 {
		v.stale = stale
	}
	return v
}

// poll is how far the reading of files is that others may have written.
type poll struct {
	running     bool      // the files are being looked at
	again       bool      // the kernel has told of a write since that began
	rereadAfter time.Time // a job has just read them, and their state is still not known: no other before
}

// pollFilesLocked has the record read again if somebody else wrote one of its files.
func (e *entry) pollFilesLocked() {
	// A job that is under way polls when it is done, and so does the next save of an unsaved record.
	if e.poll.running || e.running != nil || e.unsaved != nil || len(e.snapshot.Load().paths) == 0 ||
		e.cached.Load() == nil && e.failure == nil {
		return
	}
	e.poll.running, e.poll.again = true, false
	e.agent.work.Go(func() { // in a goroutine of its own, because a home on a network file system may hang
		changed := e.snapshot.Load().fileStates.changed()
		e.mu.Lock()
		defer e.mu.Unlock()
		e.poll.running = false
		if !changed && e.poll.again {
			e.pollFilesLocked() // written since it was looked at
		} else if changed && e.running == nil && !e.droppedLocked() && !e.agent.lockState.on.Load() {
			e.failure = nil
			e.startLocked(job.Job{Op: job.Renew}).rereads = true
		}
	})
}
