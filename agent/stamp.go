package agent

import (
	"os"
	"slices"
	"time"
)

// stamp tells two states of a file apart without reading it. A missing file has a stamp as well, a file that can't be looked
// at the zero one's.
type stamp struct {
	there        bool
	inode        uint64
	size         int64
	mtime, ctime int64 // unix nanoseconds
}

func stampOf(path string) stamp {
	info, err := os.Stat(path)
	if err != nil {
		return stamp{}
	}
	inode, ctime := identity(info)
	return stamp{there: true, inode: inode, size: info.Size(), mtime: info.ModTime().UnixNano(), ctime: ctime}
}

// seen is the state of the files of a record at one time.
type seen struct {
	paths  []string
	stamps []stamp
}

func look(paths []string) seen {
	s := seen{paths: paths}
	for _, p := range paths {
		s.stamps = append(s.stamps, stampOf(p))
	}
	return s
}

// changed reports whether a file is another one than it was.
func (s seen) changed() bool {
	for i, p := range s.paths {
		if stampOf(p) != s.stamps[i] {
			return true
		}
	}
	return false
}

// before reports whether every file was as it is now already at t. Kernels stamp files with a clock that may lag by a tick.
// Nothing tells when a missing file went: with others who may have removed it, it is not taken to have been missing.
func (s seen) before(t time.Time, others bool) bool {
	limit := t.Add(-20 * time.Millisecond).UnixNano()
	for _, st := range s.stamps {
		if !st.there && others || st.ctime >= limit {
			return false
		}
	}
	return true
}

// unsure reports whether a file's state is unknown.
func (s seen) unsure() bool {
	return slices.ContainsFunc(s.stamps, func(st stamp) bool { return st.size < 0 })
}

// unknown is paths in a state that no file is ever in: it counts as changed.
func unknown(paths []string) seen {
	s := seen{paths: paths}
	for range paths {
		s.stamps = append(s.stamps, stamp{size: -1})
	}
	return s
}
