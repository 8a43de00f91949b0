package agent

import (
	"path/filepath"
	"sync/atomic"
	"time"
)

// sight is the state of a record's files and views, for the look before each use. It is immutable but for asked.
type snapshot struct {
	fileStates
	names    [][]byte // the paths as the kernel takes them, for the hot path; nil: what the files were like is not known
	stale    bool     // something may have been written since the job read them: another look is due
	local    bool     // a look takes no longer than memory
	checking atomic.Bool
}

// unseen is of a record without files, or before any is known.
var noFiles = &snapshot{}

// remoteLook bounds the look at a file system that may hang.
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

// quick reports whether the token in hand is still the one to use, without waiting: it is for the hot path, and allocates
// nothing. Where a look may take long the answer is false.
func (v *snapshot) knownUnchanged() bool {
	if len(v.paths) == 0 {
		return true
	}
	if !v.local || v.names == nil {
		return false
	}
	for i, name := range v.names {
		if fingerprintOfName(name, v.paths[i]) != v.fingerprints[i] {
			return false
		}
	}
	return true
}

// changed is [seen.changed]. One look at a file system that hangs is waited for shortly, and no other is begun meanwhile.
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
