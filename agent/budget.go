package agent

import (
	"fmt"
	"time"

	"github.com/ccagent/ccagent/protocol"
)

// Whoever may ask on a socket may ask in a loop: a helper with --min-ttl, a script that refreshes, a program whose tokens are
// refused. The provider must not feel it. So a profile has a budget for the renewals that requests cause while its token would
// do; one that is due is renewed whatever was spent.
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
	return next, now.Before(next) && next.Sub(now) <= budgetEach // later than that, and somebody has set the clock back
}

// spend takes one renewal out.
func (b *budget) spend(now time.Time) {
	if ahead := b.paid.Sub(now); ahead < 0 || ahead > budgetBurst*budgetEach {
		b.paid = now
	}
	b.paid = b.paid.Add(budgetEach)
}

// overspent is the answer to who wants a renewal that the budget has not.
func (e *entry) budgetError(next time.Time) error {
	return &protocol.Error{
		Code: protocol.CodeUnavailable,
		Message: fmt.Sprintf("profile %s was renewed too often: the next renewal on request is at %s",
			e.name(), next.Local().Format("15:04:05")),
		Hint: "something asks for renewals in a loop; what is due is renewed all the same: ccagent status -p " + e.name(),
	}
}

// meets reports whether h lives for as long as a request asks for.
func (h *cachedToken) livesFor(minTTL time.Duration, now time.Time) bool {
	return minTTL <= 0 || h.expiry.IsZero() || h.expiry.Round(0).Sub(now.Round(0)) >= minTTL
}

// unmet is what a person should know who asked for more of a token's life than there is, "" where h has it.
func (h *cachedToken) shortLifeNotice(profile string, minTTL time.Duration, now time.Time) string {
	lifetime := h.expiry.Sub(h.issued)
	switch {
	case h.livesFor(minTTL, now):
		return ""
	case h.issued.IsZero() || lifetime <= 0:
		return fmt.Sprintf("--min-ttl can't be met: the token of profile %s lives until %s",
			profile, h.expiry.Local().Format("15:04:05"))
	case minTTL > lifetime:
		return fmt.Sprintf("--min-ttl can't be met: tokens of profile %s live %s", profile, briefly(lifetime))
	}
	return fmt.Sprintf("--min-ttl can't be met: half of a token's life can be asked for, which is %s for profile %s",
		briefly(lifetime/2), profile)
}

// brief is d as a person writes it: 5m, not 5m0s.
func briefly(d time.Duration) string {
	s := d.Round(time.Second).String()
	if d >= time.Minute && s[len(s)-3:] == "m0s" {
		s = s[:len(s)-2]
	}
	if d >= time.Hour && s[len(s)-3:] == "h0m" {
		s = s[:len(s)-2]
	}
	return s
}
