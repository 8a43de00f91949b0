package worker

import (
	"context"
	"errors"
	"time"

	"github.com/ccagent/ccagent/agent/job"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store"
)

// Answer is what one store said about a profile.
type Answer struct {
	Kind, Location string
	// Err is nil where the store holds the profile's record. ErrNotFound: it answers, and holds none.
	Err     error
	Took    time.Duration
	InForce bool // it is the profile's store, as configured, remembered or found
	Earlier int  // how many sign-ins are kept that could be restored, where it is in force and holds no record
}

// Probe asks every store that could hold a profile's record whether it does, and changes nothing; a keyring that holds none is
// asked to take a test value and to forget it. key is what opens store encrypted, empty for none.
func Probe(ctx context.Context, s Settings, key protocol.Secret) []Answer {
	e := &errand{settings: s, job: job.Job{Op: job.Renew, Profile: s.Name, Key: key}}
	kinds := []string{"file", "keyring", "encrypted"}
	if s.Provider == "claude" && s.ConfigDir != "" {
		kinds = append([]string{"claude-code"}, kinds...)
	}
	var home string
	if st, err := e.open(ctx); err == nil && st != nil {
		home = st.Place().Kind
	}
	var answers []Answer
	for _, kind := range kinds {
		began := time.Now()
		a := Answer{Kind: kind, InForce: kind == home}
		st, err := e.openKind(kind)
		if err == nil {
			a.Location = st.Place().Location
			_, _, err = st.Load(ctx)
		}
		if kind == "keyring" && errors.Is(err, protocol.ErrNotFound) {
			if probed := store.ProbeKeyring(ctx); probed != nil {
				err = probed
			}
		}
		if a.InForce && errors.Is(err, protocol.ErrNotFound) {
			past, _ := store.NewHistory(s.StateDir, st).List(ctx)
			a.Earlier = len(past)
		}
		a.Err, a.Took = err, time.Since(began)
		answers = append(answers, a)
	}
	return answers
}
