package agent

import (
	"os"
	"slices"
	"time"
)

// stamp tells two states of a file apart without reading it. A missing file has a stamp as well, a file that can't be looked
// at the zero one's.
type fingerprint struct {
	exists       bool
	inode        uint64
	size         int64
	mtime, ctime int64 // unix nanoseconds
}

func fingerprintOf(path string) fingerprint {
	info, err := os.Stat(path)
	if err != nil {
		return fingerprint{}
	}
	inode, ctime := inodeAndCtime(info)
	return fingerprint{exists: true, inode: inode, size: info.Size(), mtime: info.ModTime().UnixNano(), ctime: ctime}
}

// seen is the state of the files of a record at one time.
type fileStates struct {
	paths        []string
	fingerprints []fingerprint
}

func statesOf(paths []string) fileStates {
	s := fileStates{paths: paths}
	for _, p := range paths {
		s.fingerprints = append(s.fingerprints, fingerprintOf(p))
	}
	return s
}

// changed reports whether a file is another one than it was.
func (s fileStates) changed() bool {
	for i, p := range s.paths {
		if fingerprintOf(p) != s.fingerprints[i] {
			return true
		}
	}
	return false
}

// before reports whether every file was as it is now already at t. Kernels stamp files with a clock that may lag by a tick.
// Nothing tells when a missing file went: with others who may have removed it, it is not taken to have been missing.
func (s fileStates) olderThan(t time.Time, others bool) bool {
	limit := t.Add(-20 * time.Millisecond).UnixNano()
	for _, st := range s.fingerprints {
		if !st.exists && others || st.ctime >= limit {
			return false
		}
	}
	return true
}

// unsure reports whether a file's state is unknown.
func (s fileStates) unknown() bool {
	return slices.ContainsFunc(s.fingerprints, func(st fingerprint) bool { return st.size < 0 })
}

// unknown is paths in a state that no file is ever in: it counts as changed.
func unknownStates(paths []string) fileStates {
	s := fileStates{paths: paths}
	for range paths {
		s.fingerprints = append(s.fingerprints, fingerprint{size: -1})
	}
	return s
}
