package agent

import (
	"path/filepath"
	"sync/atomic"
	"time"
)

// sight is the state of a record's files and views, for the look before each use. It is immutable but for asked.
type sight struct {
	seen
	names [][]byte // the paths as the kernel takes them, for the hot path; nil: what the files were like is not known
	stale bool     // something may have been written since the job read them: another look is due
	local bool     // a look takes no longer than memory
	asked atomic.Bool
}

// unseen is of a record without files, or before any is known.
var unseen = &sight{}

// remoteLook bounds the look at a file system that may hang.
const remoteLook = 200 * time.Millisecond

func newSight(s seen, local bool) *sight {
	if len(s.paths) == 0 {
		return unseen
	}
	v := &sight{seen: s, local: local}
	if !s.unsure() {
		for _, p := range s.paths {
			v.names = append(v.names, append([]byte(p), 0))
		}
	}
	return v
}

// quick reports whether the token in hand is still the one to use, without waiting: it is for the hot path, and allocates
// nothing. Where a look may take long the answer is false.
func (v *sight) quick() bool {
	if len(v.paths) == 0 {
		return true
	}
	if !v.local || v.names == nil {
		return false
	}
	for i, name := range v.names {
		if stampOfName(name, v.paths[i]) != v.stamps[i] {
			return false
		}
	}
	return true
}

// changed is [seen.changed]. One look at a file system that hangs is waited for shortly, and no other is begun meanwhile.
func (v *sight) changed() bool {
	switch {
	case len(v.paths) == 0:
		return false
	case v.unsure():
		return true
	case v.local:
		return v.seen.changed()
	case !v.asked.CompareAndSwap(false, true):
		return false
	}
	answer := make(chan bool, 1)
	go func() {
		answer <- v.seen.changed()
		v.asked.Store(false)
	}()
	timer := time.NewTimer(remoteLook)
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
