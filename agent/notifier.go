package agent

import (
	"path/filepath"
	"slices"
	"sync"

	"github.com/fsnotify/fsnotify"
)

// notifier notices what other programs write to the files of records and views, as it happens. It is a hint: the clock polls the
// files as well. Where the kernel does not tell of changes (a network file system, too many watches), only the polls find them.
type notifier struct {
	agent *Agent

	mu       sync.Mutex
	fsnotify *fsnotify.Watcher
	failed   bool
	dirs     map[string]bool
}

// add begins to watch these files. It watches their folders, since a file is replaced by another of its name.
func (n *notifier) add(paths []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, path := range paths {
		dir := filepath.Dir(path)
		if n.dirs[dir] || n.failed {
			continue
		}
		if n.fsnotify == nil && !n.startLocked() {
			return
		}
		n.dirs[dir] = true
		watcher := n.fsnotify
		n.agent.work.Go(func() { // the folder may be on a file system that hangs
			if watcher.Add(dir) != nil {
				n.mu.Lock()
				defer n.mu.Unlock()
				delete(n.dirs, dir) // it is not there yet; the next job tries again
			}
		})
	}
}

// startLocked makes the watcher. n.mu is held.
func (n *notifier) startLocked() bool {
	select {
	case <-n.agent.stopping:
		return false
	default:
	}
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		n.failed = true
		n.agent.log.Warn("files can't be watched: what others write is seen up to half a minute later", "error", err)
		return false
	}
	n.fsnotify, n.dirs = watcher, map[string]bool{}
	n.agent.work.Go(func() { n.run(watcher) })
	return true
}

func (n *notifier) run(watcher *fsnotify.Watcher) {
	defer watcher.Close()
	for {
		select {
		case <-n.agent.stopping:
			return
		case <-watcher.Errors: // events were lost; the clock's poll finds out
		case event, ok := <-watcher.Events:
			if !ok {
				return
			}
			if event.Op == fsnotify.Chmod {
				continue
			}
			n.changed(event)
		}
	}
}

// changed polls the files of the profiles whose file it is. A folder that was removed is watched anew once it is back.
func (n *notifier) changed(event fsnotify.Event) {
	if event.Has(fsnotify.Remove) || event.Has(fsnotify.Rename) {
		n.mu.Lock()
		delete(n.dirs, event.Name)
		n.mu.Unlock()
	}
	for _, e := range n.agent.table.Load().byName {
		e.mu.Lock()
		if slices.Contains(e.snapshot.Load().paths, event.Name) {
			e.poll.again = true
			e.pollFilesLocked()
		}
		e.mu.Unlock()
	}
}
