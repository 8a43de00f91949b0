package agent

import (
	"fmt"
	"time"

	"github.com/ccagent/ccagent/protocol"
)

// A client may ask in a loop: a helper with --min-ttl, a script that refreshes, a program whose tokens are refused. The provider
// must not feel it. So a profile has a budget for the renewals that requests cause while its token would serve. A renewal that is
// due is made whatever was spent.
const (
	// budgetBurst is how many may follow each other as fast as they are asked for.
	budgetBurst = 10
	// budgetEach is the time in which one more is earned.
	budgetEach = 30 * time.Second
)

// budget is how far into the future the renewals of a profile are paid for. The zero budget is a full one.
type budget struct{ paid time.Time }

// empty reports whether nothing is left at now, and when something will be.
func (b *budget) empty(now time.Time) (next time.Time, empty bool) {
	next = b.paid.Add(-(budgetBurst - 1) * budgetEach)
	// Where next is further away than that, somebody has set the clock back.
	return next, now.Before(next) && next.Sub(now) <= budgetEach
}

// spend takes one renewal out.
func (b *budget) spend(now time.Time) {
	if ahead := b.paid.Sub(now); ahead < 0 || ahead > budgetBurst*budgetEach {
		b.paid = now
	}
	b.paid = b.paid.Add(budgetEach)
}

// budgetError is the answer to a request for a renewal for which the budget is empty.
func (e *entry) budgetError(next time.Time) error {
	return &protocol.Error{
		Code: protocol.CodeUnavailable,
		Message: fmt.Sprintf("profile %s was renewed too often: the next renewal on request is at %s",
			e.name(), next.Local().Format("15:04:05")),
		Hint: "something asks for renewals in a loop; what is due is renewed all the same: ccagent status -p " + e.name(),
	}
}
