package gateway

import (
	"sync"
	"time"

	"github.com/ccagent/ccagent/agent/gateway/route"
)

// allowance is what is left of a route's limit. It is full at first, and comes back evenly with time.
type allowance struct {
	limit route.Limit

	mu   sync.Mutex
	left float64 // requests
	seen time.Time
}

func newAllowance(limit route.Limit) *allowance {
	return &allowance{limit: limit, left: float64(limit.Requests), seen: time.Now()}
}

// take takes one request of it, and returns 0. Where none is left, it returns how long to wait for one.
func (a *allowance) take() time.Duration {
	if a.limit.Requests == 0 {
		return 0
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	each := float64(a.limit.Per) / float64(a.limit.Requests)
	a.left = min(float64(a.limit.Requests), a.left+float64(now.Sub(a.seen))/each)
	a.seen = now
	if a.left < 1 {
		return time.Duration((1 - a.left) * each)
	}
	a.left--
	return 0
}
