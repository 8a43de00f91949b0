package disk

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// writeOver writes a file as a mount point is written.
func writeOver(path string, data []byte) error {
	d, err := Prepare(path, len(data)/2)
	if err != nil {
		return err
	}
	defer d.Discard()
	return d.writeInPlace(data, Always)
}

// inPlaceContent is of another length each time, and of several pages.
func inPlaceContent(n int) []byte {
	return []byte(strings.Repeat(strconv.Itoa(n)+" ", 3000+n*7919%4000))
}

// A write in place changes the file itself, so also by another name of it, and leaves nothing beside it.
func TestWriteInPlace(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("fake ", 3000)
	for _, tt := range []struct{ old, next string }{
		{"old", "new"}, {"old", "a longer one"}, {"a longer one", "new"}, {"", "new"}, {"old", ""}, {"old", long}, {long, "new"},
	} {
		dir := t.TempDir()
		path, other := filepath.Join(dir, "file"), filepath.Join(t.TempDir(), "other")
		check(t, os.WriteFile(path, []byte(tt.old), 0o600))
		check(t, os.Link(path, other))
		check(t, writeOver(path, []byte(tt.next)))
		if contentOf(t, other) != tt.next {
			t.Errorf("%.20q over %.20q: %.20q", tt.next, tt.old, contentOf(t, other))
		}
		if left := names(t, dir, "file"); left != nil {
			t.Errorf("left %v", left)
		}
		err := errors.New("the lock was lost")
		d, bad := Prepare(path, 10)
		check(t, bad)
		if got := d.writeInPlace([]byte("another"), func() error { return err }); got == nil || contentOf(t, other) != tt.next {
			t.Errorf("written without the lock: %v", got)
		}
		d.Discard()
		if left := names(t, dir, "file"); left != nil {
			t.Errorf("left %v", left)
		}
	}
}

// Wherever a write in place was cut off, the file is read as the new content, and the next writer finishes it. What somebody else
// has written since stays.
func TestCutOff(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ old, next string }{
		{"the old one", "the new one"}, {"old", "a longer one"}, {"a longer one", "new"}, {"", "new"}, {"old", ""},
	} {
		old, next := []byte(tt.old), []byte(tt.next)
		padded := append(bytes.Clone(next), bytes.Repeat([]byte{filler}, max(0, len(old)-len(next)))...)
		var states [][]byte // what a cut may leave
		for cut := range len(padded) + 1 {
			states = append(states, append(bytes.Clone(padded[:cut]), old[min(cut, len(old)):]...))
			// The later page was written first.
			late := append(bytes.Clone(old[:min(cut, len(old))]), make([]byte, max(0, cut-len(old)))...)
			states = append(states, append(late, padded[cut:]...))
		}
		states = append(states, next)
		if len(next) > len(old) { // the new one did not fit, and the old one was written back
			for cut := range len(next) + 1 {
				back := append(bytes.Clone(old), bytes.Repeat([]byte{filler}, len(next)-len(old))...)
				states = append(states, append(back[:cut:cut], next[cut:]...))
			}
		}
		for _, state := range states {
			path := cutOff(t, old, next, state)
			got, err := Read(path, MaxSize)
			check(t, err)
			if !bytes.Equal(got, next) {
				t.Fatalf("%q over %q, cut at %q: read as %q", next, old, state, got)
			}
			check(t, Finish(path))
			if contentOf(t, path) != tt.next || HasUnfinished(path) {
				t.Fatalf("%q over %q, cut at %q: finished as %q", next, old, state, contentOf(t, path))
			}
		}
		for _, foreign := range []string{"something else of theirs", "x", tt.next + tt.old + "!"} {
			path := cutOff(t, old, next, []byte(foreign))
			got, err := Read(path, MaxSize)
			check(t, err)
			check(t, Finish(path))
			if string(got) != foreign || contentOf(t, path) != foreign || HasUnfinished(path) {
				t.Errorf("%q over %q: another's %q became %q, %q", next, old, foreign, got, contentOf(t, path))
			}
		}
	}
}

// cutOff makes a file that holds state, with the unfinished file of a write of next over old.
func cutOff(t *testing.T, old, next, state []byte) (path string) {
	path = filepath.Join(t.TempDir(), "file")
	check(t, os.WriteFile(path, state, 0o600))
	check(t, os.WriteFile(unfinishedPath(path), bytes.Join([][]byte{unfinishedHead(len(old), len(next)), old, next}, nil), 0o600))
	return path
}

// An unfinished file that is not whole does not count.
func TestBrokenUnfinished(t *testing.T) {
	t.Parallel()
	for _, spill := range []string{
		"", "ccagent-unfinished 1 3 3\noldne", "ccagent-unfinished 1 -3 6\nnew", "ccagent-unfinished 2 3 3\noldnew", "{}",
	} {
		path := cutOff(t, nil, nil, []byte("old"))
		check(t, os.WriteFile(unfinishedPath(path), []byte(spill), 0o600))
		got, err := Read(path, MaxSize)
		check(t, err)
		check(t, Finish(path))
		if string(got) != "old" || contentOf(t, path) != "old" || HasUnfinished(path) {
			t.Errorf("%q: read %q", spill, got)
		}
	}
}

// An unfinished file that others may write is not ours.
func TestUnfinishedOfOthers(t *testing.T) {
	t.Parallel()
	path := cutOff(t, []byte("old"), []byte("new"), []byte("old"))
	check(t, os.Chmod(unfinishedPath(path), 0o660))
	got, err := Read(path, MaxSize)
	check(t, err)
	check(t, Finish(path))
	if string(got) != "old" || contentOf(t, path) != "old" {
		t.Errorf("read %q", got)
	}
}

// If a writer in place is killed at any moment, it leaves the old content or the new one.
func TestInPlaceKilledAnywhere(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "file")
	check(t, os.WriteFile(path, inPlaceContent(0), 0o600))
	last := 0
	now := func() (int, error) {
		b, err := Read(path, MaxSize)
		if err != nil {
			return 0, err
		}
		digits, _, _ := strings.Cut(string(b), " ")
		n, err := strconv.Atoi(digits)
		if err == nil && !bytes.Equal(b, inPlaceContent(n)) {
			err = fmt.Errorf("%d is not whole", n)
		}
		return n, err
	}
	for range 40 {
		cmd := play(t, path, strconv.Itoa(last+1))
		check(t, Poll(t.Context(), time.Millisecond, time.Millisecond, func() (bool, error) {
			b, err := os.ReadFile(path) // while it is written, anything may be read
			return err == nil && !bytes.HasPrefix(b, []byte(strconv.Itoa(last)+" ")), err
		}))
		time.Sleep(rand.N(3 * time.Millisecond)) // any moment: nothing below depends on it
		check(t, cmd.Process.Kill())
		cmd.Wait()
		n, err := now()
		check(t, err)
		if n < last {
			t.Fatalf("went back from %d to %d", last, n)
		}
		last = n
	}
	check(t, writeOver(path, []byte("done")))
	if left := names(t, filepath.Dir(path), "file"); left != nil {
		t.Errorf("left %v", left)
	}
}
