package agent

import (
	"time"

	"github.com/ccagent/ccagent/agent/job"
	"github.com/ccagent/ccagent/protocol"
)

// jobState is what is known of a job and its profile when the job ends, before its report is applied.
type jobState struct {
	op         job.Op
	forced     bool         // a renewal on demand, whatever the stored token
	handedOver *cachedToken // the token of the record that the job has handed over; nil: it has not
	unsaved    bool         // memory holds a record that its store does not have
	cached     *cachedToken // nil: none
	locked     bool         // the agent is locked: no token is cached
}

// outcome is what a finished job means for its profile. It is a pure value: [entry.finish] applies it.
type outcome struct {
	record  recordOutcome
	token   tokenOutcome
	failure failureOutcome
	retryAt time.Time // with failsForNow: when the provider wants to be asked again; zero: it did not say

	gone      bool // the cached token must not be served any more
	otherUser bool // who is signed in may have changed
	newSignIn bool // a sign-in is in force that was not renewed here yet
	sawViews  bool // the job has looked at the files of other programs
}

// recordOutcome says what becomes of the record in memory.
type recordOutcome int

const (
	recordUnchanged    recordOutcome = iota
	recordDeleted                    // nothing is stored any more
	recordStored                     // its store has it, so memory lets it go
	recordInMemory                   // memory is its store
	recordUnsaved                    // the worker could not save it, so memory holds it and it is saved later
	recordStillUnsaved               // memory holds it already, and it is saved later
)

// tokenOutcome says what becomes of the cached token.
type tokenOutcome int

const (
	tokenUnchanged tokenOutcome = iota
	tokenRead                   // it is replaced by the one that is stored
	tokenRenewed                // it is replaced by the one that the provider has just given
)

// failureOutcome says what the job means for the next renewal.
type failureOutcome int

const (
	failureUnchanged failureOutcome = iota // nothing
	noFailure                              // a token is stored that serves, so an earlier failure is over
	renewalServes                          // the provider gave a token that lives
	renewalDead                            // the provider gave a token that has expired already
	failsForNow                            // it is tried again after a back-off
	failsLocally                           // the same; nobody but this machine was asked, so a request may look again sooner
	failsUntilChange                       // it is tried again once something has changed
)

// outcome decides what a report means.
func (s jobState) outcome(report job.Report, now time.Time) outcome {
	r := report.Result
	// A sign-in that was handed over is in force, saved or not.
	stored := s.op.Stores() && (report.Err == nil || s.handedOver != nil)
	o := outcome{
		record:    s.recordOutcome(report),
		token:     s.tokenOutcome(r),
		gone:      r.Gone,
		otherUser: r.Gone || stored,
		newSignIn: stored && s.op.SignsIn(),
		sawViews:  !r.Token.Empty() || r.Note != "",
	}
	if stored || s.op == job.Renew {
		o.failure = s.failureOutcome(report, o.token, now)
	}
	if o.failure == failsForNow && report.RetryAfter > 0 {
		o.retryAt = now.Add(min(report.RetryAfter, time.Hour))
	}
	return o
}

func (s jobState) recordOutcome(report job.Report) recordOutcome {
	r := report.Result
	switch {
	case s.op.Removes() && report.Err == nil:
		return recordDeleted
	case r.Saved && r.Store == storeMemory:
		return recordInMemory
	case r.Saved:
		return recordStored
	case !r.Record.Empty():
		return recordUnsaved
	case s.unsaved && (s.handedOver != nil || s.op == job.Save): // the worker was gone before it had saved, or it could not
		return recordStillUnsaved
	}
	return recordUnchanged
}

func (s jobState) tokenOutcome(r job.Result) tokenOutcome {
	cached := s.cached != nil && !r.Gone
	switch {
	case r.Token.Empty() || s.op.Removes():
		return tokenUnchanged
	case s.op == job.Save && !cached:
		// The agent was locked and has forgotten the token. The key that a save may use opens nothing for a request.
		return tokenUnchanged
	case r.Renewed:
		return tokenRenewed
	}
	return tokenRead
}

func (s jobState) failureOutcome(report job.Report, token tokenOutcome, now time.Time) failureOutcome {
	r := report.Result
	newest := s.newest(r, token)
	switch renewed := s.handedOver != nil || token == tokenRenewed; {
	case report.Err == nil && !renewed:
		return noFailure
	case renewed && (report.Err == nil || !r.Gone):
		// A renewal whose save failed has not failed: its token is good, and the save is tried again on its own.
		if newest.alive(now) {
			return renewalServes
		}
		return renewalDead // the next request would bring another like it
	}
	if s.locked {
		newest = nil // it is not cached
	}
	code := report.Err.Code
	keptForever := newest != nil && newest.expiry.IsZero()
	switch {
	case s.forced && report.Local && keptForever && (code == protocol.CodeConfig || code == protocol.CodeLoginRequired):
		return failureUnchanged // a key that never expires: nothing renews it, and nothing has to
	case code == protocol.CodeUnavailable, code == protocol.CodeInternal:
		return failsForNow
	case code == protocol.CodeLoginRequired, code == protocol.CodeExpired, code == protocol.CodeDenied,
		code == protocol.CodeConfig && !report.Local:
		return failsUntilChange
	}
	return failsLocally
}

// newest returns the newest token once the report is applied, nil where there is none.
func (s jobState) newest(r job.Result, token tokenOutcome) *cachedToken {
	switch {
	case token != tokenUnchanged:
		return &cachedToken{expiry: r.Expiry, issued: r.Issued}
	case r.Gone:
		return nil
	case s.handedOver != nil:
		return s.handedOver
	}
	return s.cached
}
