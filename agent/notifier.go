package agent

import (
	"path/filepath"
	"slices"
	"sync"

	"github.com/fsnotify/fsnotify"

	"github.com/ccagent/ccagent/agent/job"
)

// follower notices what other programs write to the files of records and views, as it happens. It is a hint: the clock's sweep
// finds the same later, and where the kernel can't tell (a network file system, no watch left) alone.
type notifier struct {
	agent *Agent

	mu     sync.Mutex
	notify *fsnotify.Watcher
	failed bool
	dirs   map[string]bool
}

// follow begins to watch these files. Folders are watched, since a file is replaced by another of its name.
func (w *notifier) add(paths []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, path := range paths {
		dir := filepath.Dir(path)
		if w.dirs[dir] || w.failed {
			continue
		}
		if w.notify == nil && !w.start() {
			return
		}
		w.dirs[dir] = true
		notify := w.notify
		w.agent.work.Go(func() { // the folder may be on a file system that hangs
			if notify.Add(dir) != nil {
				w.mu.Lock()
				defer w.mu.Unlock()
				delete(w.dirs, dir) // not there yet: the next job tries again
			}
		})
	}
}

// start makes the watcher. w.mu is held.
func (w *notifier) start() bool {
	select {
	case <-w.agent.stopping:
		return false
	default:
	}
	notify, err := fsnotify.NewWatcher()
	if err != nil {
		w.failed = true
		w.agent.log.Warn("files can't be watched: what others write is seen up to half a minute later", "error", err)
		return false
	}
	w.notify, w.dirs = notify, map[string]bool{}
	w.agent.work.Go(func() { w.run(notify) })
	return true
}

func (w *notifier) run(notify *fsnotify.Watcher) {
	defer notify.Close()
	for {
		select {
		case <-w.agent.stopping:
			return
		case <-notify.Errors: // an overflow: the sweep sees to it
		case event, ok := <-notify.Events:
			if !ok {
				return
			}
			if event.Op == fsnotify.Chmod {
				continue
			}
			w.changed(event)
		}
	}
}

// tell has those profiles looked at whose file it is. A folder that went is followed anew once it is back.
func (w *notifier) changed(event fsnotify.Event) {
	if event.Has(fsnotify.Remove) || event.Has(fsnotify.Rename) {
		w.mu.Lock()
		delete(w.dirs, event.Name)
		w.mu.Unlock()
	}
	for _, e := range w.agent.table.Load().byName {
		e.mu.Lock()
		if slices.Contains(e.snapshot.Load().paths, event.Name) {
			e.pollAgain = true
			e.pollFilesLocked()
		}
		e.mu.Unlock()
	}
}

// glance loads the record again if someone else wrote one of its files. e.mu is held.
func (e *entry) pollFilesLocked() {
	// A job under way looks when it is done, and so does the next save of what is unsaved.
	if e.polling || e.running != nil || e.saveRetry != nil || len(e.snapshot.Load().paths) == 0 ||
		e.cached.Load() == nil && e.failure == nil {
		return
	}
	// In a goroutine of its own: a home on a network file system may hang.
	e.polling, e.pollAgain = true, false
	e.agent.work.Go(func() {
		changed := e.snapshot.Load().fileStates.changed()
		e.mu.Lock()
		defer e.mu.Unlock()
		e.polling = false
		if !changed && e.pollAgain {
			e.pollFilesLocked() // written since it was looked at
		} else if changed && e.running == nil && !e.agent.lockState.on.Load() {
			e.failure = nil
			e.startLocked(job.Job{Op: job.Renew}).rereads = true
		}
	})
}
