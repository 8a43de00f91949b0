package server

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestRepeatsAreCounted: a flood leaves a few lines and its number, and hides nobody else's.
func TestRepeatsAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var text bytes.Buffer
		log := slog.New(slog.NewTextHandler(&text, nil))
		var r repeats
		for range 2 {
			for range 10_000 {
				r.warn(log, "a peer was refused", 1001, "pid", 7)
			}
			r.warn(log, "a peer was refused", 1002, "pid", 8)
			r.warn(log, "another thing", 1001, "pid", 7)
			time.Sleep(repeatsTime + time.Second)
		}
		synctest.Wait()
		for what, want := range map[string]int{"uid=1001 pid=7": 8, "uid=1002 pid=8": 2, "uid=1001 more=9997": 2, "another thing": 2,
			"\n": 12} {
			if n := strings.Count(text.String(), what); n != want {
				t.Errorf("%q: %d times, want %d", what, n, want)
			}
		}
		text.Reset()
		for uid := range int64(100_000) { // as in a user namespace of its own
			r.warn(log, "a peer was refused", uid)
		}
		time.Sleep(repeatsTime + time.Second)
		synctest.Wait()
		if n := strings.Count(text.String(), "\n"); n > repeatsKinds+2*repeatsShown {
			t.Errorf("%d lines of 100000 users", n)
		}
		if strings.Contains(text.String(), "uid=0 more=") {
			t.Error("what others did is put down to root")
		}
	})
}
