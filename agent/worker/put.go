package worker

import (
	"context"

	"github.com/ccagent/ccagent/agent/oauth"
	"github.com/ccagent/ccagent/agent/renewal"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store"
)

// put stores a record from outside and binds it to the token endpoint that is configured now.
func (t *task) put(ctx context.Context) renewal.Outcome {
	if !t.traits().Stored {
		return renewal.Outcome{Err: &protocol.Error{
			Code:    protocol.CodeConfig,
			Message: "profile " + t.Job.Profile + " gets its tokens from a command: there is nothing to store",
		}}
	}
	record, err := t.Held()
	if err != nil {
		return renewal.Outcome{Err: err}
	}
	if record.TokenOrigin, err = t.bind(record); err != nil {
		return renewal.Outcome{Err: err}
	}
	st, err := t.open(ctx)
	if err != nil {
		return renewal.Outcome{Err: err}
	}
	o := t.Put(ctx, st, record)
	storedAnew := o.Err == nil && !t.Job.SignIn && o.Result.Notice != renewal.AlreadyStored
	if storedAnew && st != nil && t.traits().ClaudeCode && t.settings.Store != store.KindFile && st.Place().Kind == store.KindFile {
		o.Result.Notice = "Claude Code has no sign-in of its own here, so this one is kept in a file of ccagent's"
	}
	return o
}

// bind returns the origin that a record's secrets may be sent to. Where the issuer alone is configured it is the one
// that the sign-in found there, or the one that the first renewal will find.
func (t *task) bind(r store.Record) (string, error) {
	switch {
	case !t.traits().SignsIn:
		return "", nil
	case t.settings.TokenURL == "" && t.settings.Issuer != "" && r.TokenOrigin == "":
		return "", nil
	case t.settings.TokenURL == "" && t.settings.Issuer != "":
		return oauth.Origin(r.TokenOrigin)
	}
	return oauth.Origin(t.settings.TokenURL)
}
