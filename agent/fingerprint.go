package agent

import (
	"os"
	"time"
)

// fingerprint tells two states of a file apart without reading it. A missing file has one as well; that of a file that can't be
// looked at is the zero one.
type fingerprint struct {
	exists       bool
	inode        uint64
	size         int64 // less than 0: the state is not known
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

// fileStates are the fingerprints of a record's files at one time.
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

// unknownStates returns a state of the files that no file is ever in, so that it counts as changed.
func unknownStates(paths []string) fileStates {
	s := fileStates{paths: paths}
	for range paths {
		s.fingerprints = append(s.fingerprints, fingerprint{size: -1})
	}
	return s
}

// unknown reports whether the state of a file is not known.
func (s fileStates) unknown() bool {
	for _, f := range s.fingerprints {
		if f.size < 0 {
			return true
		}
	}
	return false
}

// changed reports whether a file is in another state by now. It waits for as long as the file system takes.
func (s fileStates) changed() bool {
	for i, p := range s.paths {
		if fingerprintOf(p) != s.fingerprints[i] {
			return true
		}
	}
	return false
}

// olderThan reports whether every file was in this state already at t. Kernels take a file's times from a clock that may lag by
// a tick. Nothing tells when a missing file was removed, so where others might have removed it, it is not taken to have been
// missing.
func (s fileStates) olderThan(t time.Time, others bool) bool {
	limit := t.Add(-20 * time.Millisecond).UnixNano()
	for _, f := range s.fingerprints {
		if !f.exists && others || f.ctime >= limit {
			return false
		}
	}
	return true
}
