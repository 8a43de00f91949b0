package renewal

import (
	"context"
	"errors"
	"time"

	"github.com/ccagent/ccagent/agent/job"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store"
)

// Finding is what a job has found out about the record, or done to it.
type Finding int

const (
	// Unknown: the record could not be looked at, so what the agent knows of it stays.
	Unknown Finding = iota
	// Unsaved: the result has a record that is newer than the stored one. The agent holds it until it is saved.
	Unsaved
	// Stored: the store holds the record that the result describes.
	Stored
	// Absent: the store holds no record that can be used, so there is nothing to be saved either.
	Absent
	// SignedOut: as Absent, and its owner has ended the sign-in. A token of it is not served any more.
	SignedOut
)

// saved reports whether nothing is left to be saved.
func (f Finding) saved() bool { return f >= Stored }

// Outcome is what became of a job or of one of its steps.
type Outcome struct {
	// Result is what the agent is told, but for Saved and Gone, which follow from the rest: see [Outcome.Report].
	Result  job.Result
	Finding Finding
	Err     error
	// Withheld says that the cached token is not to be served any more, though the sign-in was not ended.
	Withheld bool
	// Judged says that the token is of a sign-in that another program has stored, and is to be served. See [Task.Withhold].
	Judged bool
	// Removed is the record that was stored until a job removed it, where one was.
	Removed store.Record
	// Replaced is what was stored before a renewal's record; the zero Version: there was no renewal.
	Replaced store.Version

	theirs *State       // what somebody else has saved meanwhile, and won with; nil: nothing
	spill  func() error // leaves a spill file, once more after it has failed; nil: nothing is left to be kept
	lock   store.Lock   // of the record that spill is about
}

// WithError is o with err in the place of its own error.
func (o Outcome) WithError(err error) Outcome {
	o.Err = err
	return o
}

// Gone reports whether the cached token is not to be served any more.
func (o Outcome) Gone() bool { return o.Withheld || o.Finding == SignedOut }

// Report is the last report to the agent. condition is o's error as a person is to read it.
func (o Outcome) Report(condition *protocol.Error) job.Report {
	report := job.Report{Kind: job.Done, Result: o.Result, Err: condition}
	report.Result.Saved = o.Finding.saved()
	report.Result.Gone = o.Gone()
	report.RetryAfter, report.Local = Asked(o.Err)
	return report
}

// Close ends a job after its report, and releases the lock of a record that is unsaved. It is held until here because the refresh
// token in the store is spent: whoever takes the lock next must find an agent that has the record, or a spill file. agentHasIt
// says that the agent has read the report.
func (o Outcome) Close(agentHasIt bool) error {
	if o.lock != nil {
		defer o.lock.Release()
	}
	if o.spill == nil || agentHasIt {
		return nil
	}
	return o.spill()
}

// Answer is an error by which a provider has answered. *oauth.Error is one.
type Answer interface {
	error
	// AskAgainAfter is for how long the provider wants to be left alone, 0 where it did not say.
	AskAgainAfter() time.Duration
	// RefusesToken reports whether it has refused the very token that was sent, and not who uses it or from where.
	RefusesToken() bool
}

// Asked returns what an error says of the provider: for how long it wants to be left alone (0: it did not say), or that no
// provider was asked (local).
func Asked(err error) (retryAfter time.Duration, local bool) {
	var answer Answer
	if errors.As(err, &answer) {
		return answer.AskAgainAfter(), false
	}
	return 0, err != nil
}

// Dead reports whether a provider has refused the refresh token itself. One that it refuses for another reason, a rule of
// the company's or a consent that is missing, may be good again, and is not to be remembered as spent.
func Dead(err error) bool {
	var answer Answer
	return errors.As(err, &answer) && answer.RefusesToken()
}

// Condition returns an error in the form in which it is sent to the agent; nil for nil.
func Condition(err error) *protocol.Error {
	if err == nil {
		return nil
	}
	return &protocol.Error{
		Code:    protocol.CodeOf(err),
		Message: err.Error(),
		Hint:    protocol.HintOf(err),
		Detail:  protocol.DetailOf(err),
	}
}

// Reason says why a job was not done, for whoever tells a person what to do about it.
type Reason int

const (
	SpentCopy     Reason = iota + 1 // what is stored is an old copy of the sign-in, whose refresh token is spent
	OldCopy                         // what was to be stored is one
	ExpiresFirst                    // what was to be stored expires before what is stored; Job.Force stores it nevertheless
	BrokenThere                     // what is stored can't be read; Job.Force writes over it
	AnotherHome                     // another profile has the sign-in that was to be stored
	CopyOfAnother                   // another profile has the sign-in that is stored
)

// Problem is an error with a [Reason].
type Problem struct {
	Condition *protocol.Error
	Reason    Reason
	Home, Me  store.Home // of AnotherHome and CopyOfAnother: where the sign-in is, and where it is not to be
}

func (p *Problem) Error() string { return p.Condition.Message }
func (p *Problem) Unwrap() error { return p.Condition }

// NoRecord is the outcome when st holds no usable record; err says why. What a person can do about an absent record depends on
// the provider, of which a store knows nothing, so the store's hint is left out.
func (t *Task) NoRecord(st store.Store, v store.Version, err error) Outcome {
	o := Outcome{Result: t.About(st), Finding: Absent, Err: err}
	o.Result.Version = job.Version(v)
	if err == nil || errors.Is(err, protocol.ErrInvalid) {
		return o
	}
	o.Err = &protocol.Error{Code: protocol.CodeOf(err), Message: err.Error(), Detail: protocol.DetailOf(err)}
	if t.Lost(st) {
		o.Finding = SignedOut
	}
	return o
}

// Lost reports whether st is a store from which another program may remove the record, and the agent knew a record there. One
// that is missing now has been removed.
func (t *Task) Lost(st store.Store) bool {
	return st.Place().Kind.Traits().Shared && t.Job.Base != job.Version{}
}

// Unreached is the outcome when [Task.Take] has failed with err. A token that lives in the store is served nevertheless.
func (t *Task) Unreached(ctx context.Context, s State, err error) Outcome {
	if isAbsent(err) || errors.Is(err, protocol.ErrInvalid) {
		return t.NoRecord(s.Store, s.Version, err)
	}
	o := Outcome{Result: t.About(s.Store), Err: err}
	if record, version, loadErr := s.Store.Load(ctx); loadErr == nil && t.Job.Record.Empty() && Alive(record) {
		o.Result, o.Finding = t.Describe(s.Store, record, version), Stored
	}
	return o
}

// isAbsent reports whether a store that fails to load with err holds no token.
func isAbsent(err error) bool {
	return errors.Is(err, protocol.ErrNotFound) || errors.Is(err, protocol.ErrLoginRequired)
}

// Replaceable reports whether a store that fails to load with err has no record that a fresh one would destroy.
func Replaceable(err error) bool { return isAbsent(err) || errors.Is(err, store.ErrMissing) }

// LookTime bounds how long a job that failed may take to look into its store once more.
const LookTime = 5 * time.Second

// Withhold is the last step of a job. Where the job has failed and st holds another sign-in than the one whose token is cached,
// or would be served now, it has that token withheld: another person may have signed in, and nobody is to be served as the one
// before. It comes last so that every way to fail leads through it. A token that was renewed just now is of what the store held
// then, and the next request looks again. It reports whether st holds another sign-in.
func (t *Task) Withhold(ctx context.Context, st store.Store, o *Outcome) bool {
	served := t.Job.Lineage
	if !o.Result.Token.Empty() {
		served = o.Result.Lineage
	}
	if o.Err == nil || o.Judged || o.Result.Renewed || served == "" || st == nil || !t.Job.Op.Serves() {
		return false
	}
	if !store.HoldsAnother(ctx, t.StateDir, st, store.ParseLineage(served)) {
		return false
	}
	o.Result.Token, o.Withheld = protocol.Secret{}, true
	return true
}
