package agent

import (
	"context"
	"sync"
	"time"

	"github.com/ccagent/ccagent/agent/job"
)

// Views are removed when they would outlive what they show: at a lock, when a profile is removed from the configuration, and when
// it loses its last view there. The worker takes care of a sign-out, and of a view that a profile loses while it keeps others.

// hideTime bounds how long a command waits until views are removed. What takes longer is removed later.
const hideTime = 3 * time.Second

// hideViews removes the views of the profiles that are chosen, and waits for that.
func (a *Agent) hideViews(chosen func(*entry) bool) {
	ctx, cancel := context.WithTimeout(context.Background(), hideTime)
	defer cancel()
	var hiding sync.WaitGroup
	for _, e := range a.table.Load().byName {
		if chosen(e) {
			hiding.Go(func() { e.exclusive(ctx, job.Job{Op: job.Hide}) })
		}
	}
	hiding.Wait()
}

// toHide reports whether the views of the profile are to be removed.
func (e *entry) toHide() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.hides
}
