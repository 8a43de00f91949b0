package agent

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"github.com/ccagent/ccagent/agent/job"
	"github.com/ccagent/ccagent/protocol"
)

// cachedToken is a profile's token in memory. It does not change. There may be a thousand, so the token is in its encoded reply
// and nowhere else.
type cachedToken struct {
	expiry, issued time.Time // zero: never, unknown
	kind           protocol.Kind
	toTell         toTell
	notice         bool   // reply has one
	reply          []byte // the reply frame, encoded once
}

// toTell is what a person is to be told now and then of the sign-in that a token is of.
type toTell struct {
	end, from time.Time // when it ends itself, and from when on that is told; zero: never, or not known
	lost      string    // the scopes that a renewal has left out, separated by blanks
}

// Tools ask every few minutes, and show a person nothing of a notice, or all. So nobody is told again for this long: of the end
// of a sign-in, and of nothing but scopes, which may be missing for months.
const (
	endPause   = time.Hour
	scopePause = 24 * time.Hour
)

// ends reports whether the end of the sign-in is to be told at now.
func (t *toTell) ends(now time.Time) bool { return !t.from.IsZero() && !now.Before(t.from) }

// reminderDue reports whether somebody is to be told at now of the sign-in of the cached token c.
func (e *entry) reminderDue(c *cachedToken, now time.Time) bool {
	pause := scopePause
	if c.toTell.ends(now) {
		pause = endPause
	} else if c.toTell.lost == "" {
		return false
	}
	since := now.Sub(time.UnixMilli(e.reminded.Load()))
	return since >= pause || since < 0
}

// reminder is what whoever asks for c at now is told of its sign-in, mostly "".
func (e *entry) reminder(c *cachedToken, now time.Time) string {
	last := e.reminded.Load()
	if !e.reminderDue(c, now) || !e.reminded.CompareAndSwap(last, now.UnixMilli()) {
		return ""
	}
	var told []string
	if tell := &c.toTell; tell.ends(now) {
		what := " ends on "
		if !now.Before(tell.end) {
			what = " was to end on "
		}
		told = append(told, "the sign-in of profile "+e.name()+what+tell.end.Local().Format("2006-01-02 15:04")+
			"; sign in again: ccagent login "+e.name())
	}
	if lost := c.toTell.lost; lost != "" {
		told = append(told, "a renewal of profile "+e.name()+" left out scopes: "+lost+
			"; where a service misses them, sign in again: ccagent login "+e.name())
	}
	return strings.Join(told, "; ")
}

// token returns the token itself.
func (c *cachedToken) token() (protocol.Token, error) {
	t, err := protocol.OpenToken(c.reply)
	if err != nil {
		return protocol.Token{}, err
	}
	t.Expiry = c.expiry // the wire has milliseconds
	return t, nil
}

// fresh reports whether c answers a request at now without a renewal.
func (c *cachedToken) fresh(now time.Time, minTTL time.Duration, halfLife bool) bool {
	return !job.Due(now, c.expiry, c.issued, minTTL, halfLife)
}

// alive reports whether c has not expired at now, on the wall clock. No token is not alive.
func (c *cachedToken) alive(now time.Time) bool {
	return c != nil && (c.expiry.IsZero() || c.expiry.Round(0).After(now.Round(0)))
}

// livesFor reports whether c lives for as long as a request asks for.
func (c *cachedToken) livesFor(minTTL time.Duration, now time.Time) bool {
	return minTTL <= 0 || c.expiry.IsZero() || c.expiry.Round(0).Sub(now.Round(0)) >= minTTL
}

// shortLifeNotice is what a person should know whose request asks for more of a token's life than there is, "" where it does not.
func (c *cachedToken) shortLifeNotice(profile string, minTTL time.Duration, now time.Time) string {
	lifetime := c.expiry.Sub(c.issued)
	switch {
	case c.livesFor(minTTL, now):
		return ""
	case c.issued.IsZero() || lifetime <= 0:
		return fmt.Sprintf("--min-ttl can't be met: the token of profile %s lives until %s",
			profile, c.expiry.Local().Format("15:04:05"))
	case minTTL > lifetime:
		return fmt.Sprintf("--min-ttl can't be met: tokens of profile %s live %s", profile, protocol.Brief(lifetime))
	}
	return fmt.Sprintf("--min-ttl can't be met: half of a token's life can be asked for, which is %s for profile %s",
		protocol.Brief(lifetime/2), profile)
}

// dropTokenLocked forgets the cached token.
func (e *entry) dropTokenLocked() {
	e.cached.Store(nil)
	e.lineage, e.deriving = "", nil
}

// cacheResultLocked caches a job's token.
func (e *entry) cacheResultLocked(r job.Result) *cachedToken {
	if !e.agent.lockState.on.Load() {
		e.lineage = r.Lineage
	}
	tell := toTell{r.SignInEnds, r.RemindFrom, strings.Join(r.LostScopes, " ")}
	if old := e.cached.Load(); tell.lost != "" && (old == nil || old.toTell.lost != tell.lost) {
		e.reminded.Store(0) // that is news
	}
	return e.cacheTokenLocked(protocol.Token{Profile: e.name(), Value: r.Token, Expiry: r.Expiry, Kind: r.Kind}, r.Issued, tell)
}

// cacheTokenLocked caches t with the notice that is due now. While the agent is locked it only returns what it would have cached,
// for those who wait: whether they may still have it is found out later.
func (e *entry) cacheTokenLocked(t protocol.Token, issued time.Time, tell toTell) *cachedToken {
	t.Notice, t.Username = e.noticeLocked(t), e.profile.Load().Username
	c := &cachedToken{
		expiry: t.Expiry, issued: issued, toTell: tell, notice: t.Notice != "",
		kind:  interned(t.Kind),
		reply: bytes.Clone(protocol.AppendToken(make([]byte, 0, 512), t)),
	}
	if e.agent.lockState.on.Load() {
		return c
	}
	old := e.cached.Swap(c)
	if !sameReply(old, c) {
		e.deriving = nil
		e.bumpVersionLocked() // after the swap, because whoever is told asks at once
	}
	return c
}

// noticeLocked returns what a person should know who is given t now; mostly it is "".
func (e *entry) noticeLocked(t protocol.Token) string {
	if e.unsaved != nil && e.unsaved.fails > 0 {
		return "the renewed sign-in of profile " + t.Profile + " could not be saved yet: see ccagent status"
	}
	if f := e.failure; f == nil || stateOf(f.err) != protocol.StateSignIn || !f.retry.at.IsZero() || t.Expiry.IsZero() {
		return ""
	}
	return "the sign-in of profile " + t.Profile + " can't be renewed; sign in again by " + t.Expiry.Local().
		Format("2006-01-02 15:04") +
		": ccagent login " + t.Profile
}
