package agent

import (
	"os"
	"slices"
	"time"
)

// fileState tells two states of a file apart without reading it. The zero fileState is that of a file that is missing, or that
// can't be looked at.
type fileState struct {
	exists       bool
	inode        uint64
	size         int64 // less than 0: the state is not known
	mtime, ctime int64 // unix nanoseconds
}

func fileStateOf(path string) fileState {
	info, err := os.Stat(path)
	if err != nil {
		return fileState{}
	}
	inode, ctime := inodeAndCtime(info)
	return fileState{exists: true, inode: inode, size: info.Size(), mtime: info.ModTime().UnixNano(), ctime: ctime}
}

// fileStates are the states of a record's files at one time.
type fileStates struct {
	paths  []string
	states []fileState
}

func statesOf(paths []string) fileStates {
	s := fileStates{paths: paths}
	for _, p := range paths {
		s.states = append(s.states, fileStateOf(p))
	}
	return s
}

// unknownStates returns a state of the files that no file is ever in, so that it counts as changed.
func unknownStates(paths []string) fileStates {
	s := fileStates{paths: paths}
	for range paths {
		s.states = append(s.states, fileState{size: -1})
	}
	return s
}

// unknown reports whether the state of a file is not known.
func (s fileStates) unknown() bool {
	for _, f := range s.states {
		if f.size < 0 {
			return true
		}
	}
	return false
}

// missing reports whether a file is missing.
func (s fileStates) missing() bool {
	return slices.ContainsFunc(s.states, func(f fileState) bool { return !f.exists && f.size >= 0 })
}

// changed reports whether a file is in another state by now. It waits for as long as the file system takes.
func (s fileStates) changed() bool {
	for i, p := range s.paths {
		if fileStateOf(p) != s.states[i] {
			return true
		}
	}
	return false
}

// olderThan reports whether every file is known to have been in this state already at t. Nothing tells when a missing file was
// removed, so with others, which says that other programs may have removed it, one that is missing counts as not known.
func (s fileStates) olderThan(t time.Time, others bool) bool {
	limit := t.Add(-20 * time.Millisecond).UnixNano() // kernels take a file's times from a clock that may lag by a tick
	for _, f := range s.states {
		if !f.exists && others || f.ctime >= limit {
			return false
		}
	}
	return true
}
