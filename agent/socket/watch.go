package socket

import (
	"context"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	// lookEvery is how often a socket's place is looked at where the kernel tells of no change: it does not tell of all.
	lookEvery = 30 * time.Second
	// settled is how long after a change the place is looked at, so that whoever removes a folder can finish.
	settled = 50 * time.Millisecond
)

// Watch calls look soon after something was made, removed or renamed in one of the folders, and every half minute, until ctx
// ends. folders is called before each look; a folder need not be there. look reports whether it has changed anything there
// itself, and is called again then.
func Watch(ctx context.Context, folders func() []string, look func() bool) {
	var events chan fsnotify.Event
	var failures chan error
	watcher, err := fsnotify.NewWatcher()
	if err == nil {
		defer watcher.Close()
		events, failures = watcher.Events, watcher.Errors
	}
	follow := func() {
		if watcher == nil {
			return
		}
		for _, old := range watcher.WatchList() { // a watch is one of a folder and not of its name
			watcher.Remove(old)
		}
		for _, folder := range folders() {
			for watcher.Add(folder) != nil && folder != "/" { // where it is not there, what is above it tells when it comes
				folder = filepath.Dir(folder)
			}
		}
	}
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	var soon <-chan time.Time
	for {
		for follow(); ctx.Err() == nil && look(); follow() { // what happens after a look is seen by the watch that began before it
		}
	wait:
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
				break wait
			case <-soon:
				soon = nil
				break wait
			case <-failures: // events were lost
				soon = time.After(settled)
			case event := <-events:
				if soon == nil && (event.Has(fsnotify.Create) || event.Has(fsnotify.Remove) || event.Has(fsnotify.Rename)) {
					soon = time.After(settled)
				}
			}
		}
	}
}
