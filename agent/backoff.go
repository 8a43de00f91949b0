package agent

import (
	"math/rand/v2"
	"time"
)

const (
	// minPause is the least time between two failing attempts for one profile, forced ones too.
	minPause = time.Second
	// maxBackoff bounds the back-off of a renewal, maxSaveBackoff that of a save, which asks nobody but the disk.
	maxBackoff     = 5 * time.Minute
	maxSaveBackoff = 30 * time.Second
)

// retry is an exponential back-off. Its times carry the monotonic clock, so a jump of the wall clock does not stretch them.
type retry struct {
	fails int
	at    time.Time // zero: not before something changes
}

// failed sets the next try after a failure: in 1 s, doubling up to limit, less up to a quarter of it at random.
func (r *retry) failed(now time.Time, limit time.Duration) {
	d := min(minPause<<min(r.fails, 16), limit)
	r.fails++
	r.at = now.Add(d - time.Duration(rand.Int64N(int64(d/4)+1)))
}
