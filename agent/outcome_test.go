package agent

import (
	"testing"
	"time"

	"github.com/ccagent/ccagent/agent/job"
	"github.com/ccagent/ccagent/protocol"
)

// TestOutcome lists what the end of a job means for its profile.
func TestOutcome(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	hour := now.Add(time.Hour)
	record := protocol.NewSecret("fake-record")
	living, forever := &cachedToken{expiry: hour}, &cachedToken{}
	dead := &cachedToken{expiry: now.Add(-time.Second)}
	// with returns a result that has a token, changed by f.
	with := func(f func(*job.Result)) job.Result {
		r := job.Result{Token: protocol.NewSecret("fake-access"), Expiry: hour, Store: "file", Saved: true}
		if f != nil {
			f(&r)
		}
		return r
	}
	renewed := func(r *job.Result) { r.Renewed = true }
	failed := func(code protocol.Code) *protocol.Error { return &protocol.Error{Code: code, Message: "fake"} }

	for _, tt := range []struct {
		name   string
		state  jobState
		report job.Report
		want   outcome
	}{
		// A renewal that succeeds.
		{"the stored token serves: it is cached", jobState{op: job.Renew},
			job.Report{Result: with(nil)},
			outcome{record: recordStored, token: tokenRead, failure: noFailure, sawViews: true}},
		{"the provider gave a token, and it is saved", jobState{op: job.Renew, cached: dead},
			job.Report{Result: with(renewed)},
			outcome{record: recordStored, token: tokenRenewed, failure: renewalServes, sawViews: true}},
		{"the same in store memory: the agent keeps the record", jobState{op: job.Renew},
			job.Report{Result: with(func(r *job.Result) { r.Renewed, r.Store, r.Record = true, "memory", record })},
			outcome{record: recordInMemory, token: tokenRenewed, failure: renewalServes, sawViews: true}},
		{"a save that was waiting is done along with a renewal", jobState{op: job.Renew, unsaved: true, handedOver: living},
			job.Report{Result: with(renewed)},
			outcome{record: recordStored, token: tokenRenewed, failure: renewalServes, sawViews: true}},
		{"the provider's token has expired already", jobState{op: job.Renew},
			job.Report{Result: with(func(r *job.Result) { r.Renewed, r.Expiry = true, now })},
			outcome{record: recordStored, token: tokenRenewed, failure: renewalDead, sawViews: true}},
		{"the provider's token never expires", jobState{op: job.Renew},
			job.Report{Result: with(func(r *job.Result) { r.Renewed, r.Expiry = true, time.Time{} })},
			outcome{record: recordStored, token: tokenRenewed, failure: renewalServes, sawViews: true}},

		// A renewal that is not saved.
		{"a renewal's save failed: it is no failed renewal", jobState{op: job.Renew, unsaved: true, handedOver: living},
			job.Report{Err: failed(protocol.CodeStorage),
				Result: with(func(r *job.Result) { r.Renewed, r.Saved, r.Record = true, false, record })},
			outcome{record: recordUnsaved, token: tokenRenewed, failure: renewalServes, sawViews: true}},
		{"the worker died after the hand-over", jobState{op: job.Renew, unsaved: true, handedOver: living},
			job.Report{Err: failed(protocol.CodeUnavailable)},
			outcome{record: recordStillUnsaved, failure: renewalServes}},
		{"the worker died after it had handed over a token that had expired", jobState{op: job.Renew, unsaved: true, handedOver: dead},
			job.Report{Err: failed(protocol.CodeUnavailable)},
			outcome{record: recordStillUnsaved, failure: renewalDead}},
		{"another renewal fails while an earlier record is unsaved", jobState{op: job.Renew, unsaved: true, cached: living},
			job.Report{Err: failed(protocol.CodeUnavailable)},
			outcome{failure: failsForNow}},
		{"a save is done", jobState{op: job.Save, unsaved: true, cached: living},
			job.Report{Result: with(nil)},
			outcome{record: recordStored, token: tokenRead, sawViews: true}},
		{"a save fails", jobState{op: job.Save, unsaved: true, cached: living},
			job.Report{Err: failed(protocol.CodeStorage)},
			outcome{record: recordStillUnsaved}},
		{"a save is done, and meanwhile the token was forgotten by a lock", jobState{op: job.Save, unsaved: true, locked: true},
			job.Report{Result: with(nil)},
			outcome{record: recordStored, sawViews: true}},

		// A renewal that fails.
		{"the provider can't be reached", jobState{op: job.Renew, cached: living},
			job.Report{Err: failed(protocol.CodeUnavailable)}, outcome{failure: failsForNow}},
		{"the provider says when to ask again", jobState{op: job.Renew},
			job.Report{Err: failed(protocol.CodeUnavailable), RetryAfter: time.Minute},
			outcome{failure: failsForNow, retryAt: now.Add(time.Minute)}},
		{"the provider wants more patience than an hour", jobState{op: job.Renew},
			job.Report{Err: failed(protocol.CodeUnavailable), RetryAfter: 24 * time.Hour},
			outcome{failure: failsForNow, retryAt: hour}},
		{"a fault of ours", jobState{op: job.Renew},
			job.Report{Err: failed(protocol.CodeInternal)}, outcome{failure: failsForNow}},
		{"the sign-in is over", jobState{op: job.Renew},
			job.Report{Err: failed(protocol.CodeLoginRequired)}, outcome{failure: failsUntilChange}},
		{"the key has expired", jobState{op: job.Renew},
			job.Report{Err: failed(protocol.CodeExpired)}, outcome{failure: failsUntilChange}},
		{"the provider refuses", jobState{op: job.Renew},
			job.Report{Err: failed(protocol.CodeDenied)}, outcome{failure: failsUntilChange}},
		{"the provider says that the settings are wrong", jobState{op: job.Renew},
			job.Report{Err: failed(protocol.CodeConfig)}, outcome{failure: failsUntilChange}},
		{"a command of the settings is not there", jobState{op: job.Renew},
			job.Report{Err: failed(protocol.CodeConfig), Local: true}, outcome{failure: failsLocally}},
		{"nothing is stored", jobState{op: job.Renew},
			job.Report{Err: failed(protocol.CodeNotFound), Local: true}, outcome{failure: failsLocally}},
		{"the store can't be read", jobState{op: job.Renew},
			job.Report{Err: failed(protocol.CodeStorage)}, outcome{failure: failsLocally}},
		{"the store is locked", jobState{op: job.Renew},
			job.Report{Err: failed(protocol.CodeLocked)}, outcome{failure: failsLocally}},
		{"it failed, and the stored token is another one than was cached", jobState{op: job.Renew, cached: dead},
			job.Report{Err: failed(protocol.CodeUnavailable), Result: with(nil)},
			outcome{record: recordStored, token: tokenRead, failure: failsForNow, sawViews: true}},
		{"it failed, and the owner has signed out", jobState{op: job.Renew, cached: living},
			job.Report{Err: failed(protocol.CodeLoginRequired), Result: job.Result{Gone: true}},
			outcome{failure: failsUntilChange, gone: true, otherUser: true}},
		{"it was handed over, and then the owner had signed out",
			jobState{op: job.Renew, unsaved: true, handedOver: living, cached: living},
			job.Report{Err: failed(protocol.CodeLoginRequired), Result: job.Result{Gone: true}},
			outcome{record: recordStillUnsaved, failure: failsUntilChange, gone: true, otherUser: true}},

		// A key that never expires, and a renewal on demand.
		{"nothing renews a key that never expires", jobState{op: job.Renew, forced: true, cached: forever},
			job.Report{Err: failed(protocol.CodeConfig), Local: true}, outcome{}},
		{"nobody can sign in again for a key that never expires", jobState{op: job.Renew, forced: true, cached: forever},
			job.Report{Err: failed(protocol.CodeLoginRequired), Local: true}, outcome{}},
		{"the provider itself refuses a key that never expires", jobState{op: job.Renew, forced: true, cached: forever},
			job.Report{Err: failed(protocol.CodeLoginRequired)}, outcome{failure: failsUntilChange}},
		{"the same error for a token that expires", jobState{op: job.Renew, forced: true, cached: living},
			job.Report{Err: failed(protocol.CodeLoginRequired), Local: true}, outcome{failure: failsUntilChange}},
		{"the same error where the key is not cached, because the agent was locked meanwhile",
			jobState{op: job.Renew, forced: true, locked: true},
			job.Report{Err: failed(protocol.CodeLoginRequired), Local: true,
				Result: with(func(r *job.Result) { r.Expiry = time.Time{} })},
			outcome{record: recordStored, token: tokenRead, failure: failsUntilChange, sawViews: true}},

		// Another record, by a person's command.
		{"a sign-in is stored", jobState{op: job.Put, cached: living},
			job.Report{Result: with(nil)},
			outcome{record: recordStored, token: tokenRead, failure: noFailure, otherUser: true, newSignIn: true, sawViews: true}},
		{"a sign-in is handed over, and could not be saved", jobState{op: job.Put, unsaved: true, handedOver: living},
			job.Report{Err: failed(protocol.CodeStorage)},
			outcome{record: recordStillUnsaved, failure: renewalServes, otherUser: true, newSignIn: true}},
		{"a sign-in is refused: nothing changes", jobState{op: job.Put, cached: living},
			job.Report{Err: failed(protocol.CodeConfig)}, outcome{}},
		{"an earlier sign-in is restored", jobState{op: job.Restore},
			job.Report{Result: with(nil)},
			outcome{record: recordStored, token: tokenRead, failure: noFailure, otherUser: true, newSignIn: true, sawViews: true}},
		{"the record is moved: it is the same sign-in", jobState{op: job.Move, cached: living},
			job.Report{Result: with(nil)},
			outcome{record: recordStored, token: tokenRead, failure: noFailure, otherUser: true, sawViews: true}},
		{"the record could not be moved", jobState{op: job.Move, cached: living},
			job.Report{Err: failed(protocol.CodeStorage)}, outcome{}},

		// No record any more, and jobs that change nothing.
		{"the record is deleted", jobState{op: job.Delete, cached: living},
			job.Report{}, outcome{record: recordDeleted}},
		{"signed out at the provider", jobState{op: job.Logout, cached: living, unsaved: true},
			job.Report{}, outcome{record: recordDeleted}},
		{"signing out failed: the token stays", jobState{op: job.Logout, cached: living},
			job.Report{Err: failed(protocol.CodeStorage), Result: with(func(r *job.Result) { r.Saved = false })},
			outcome{sawViews: true}},
		{"earlier sign-ins are listed", jobState{op: job.History, cached: living},
			job.Report{}, outcome{}},
		{"the files of other programs are described", jobState{op: job.Show, cached: living},
			job.Report{Result: job.Result{Note: "fake note"}}, outcome{sawViews: true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.state.outcome(tt.report, now); got != tt.want {
				t.Errorf("got  %+v\nwant %+v", got, tt.want)
			}
		})
	}
}
