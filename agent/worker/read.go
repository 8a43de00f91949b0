package worker

import (
	"context"

	"github.com/ccagent/ccagent/agent/job"
	"github.com/ccagent/ccagent/agent/renewal"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store"
)

// Read returns a profile's record as its store has it, for a person who wants a copy. It waits for whoever is renewing it.
// key is what opens store encrypted, empty for none. Besides the errors of [store.Store], store memory is ErrConfig.
func Read(ctx context.Context, s Settings, key protocol.Secret) (store.Record, error) {
	t := newTask(s, job.Job{Op: job.Renew, Key: key})
	if !s.Provider.Traits().Stored {
		return store.Record{}, &protocol.Error{Code: protocol.CodeConfig, Message: "a command's tokens rest nowhere"}
	}
	st, err := t.open(ctx)
	if err != nil {
		return store.Record{}, err
	}
	if st == nil {
		return store.Record{}, &protocol.Error{
			Code:    protocol.CodeConfig,
			Message: "the record of profile " + s.Name + " is in the agent's memory alone",
			Hint:    "give it a store first: ccagent move " + s.Name + " file",
		}
	}
	if _, _, err := st.Load(ctx); err != nil {
		return store.Record{}, err
	}
	settled, err := t.Take(ctx, st)
	if err != nil {
		return store.Record{}, err
	}
	defer settled.Release()
	if settled.Unsaved {
		return store.Record{}, renewal.CannotSave(settled)
	}
	return settled.Record, nil
}

// Unlock opens the identity of store encrypted with a passphrase. ErrDenied: it is the wrong one.
func Unlock(ctx context.Context, s Settings, passphrase protocol.Secret) (protocol.Secret, error) {
	t := newTask(s, job.Job{Op: job.Unlock, Passphrase: passphrase})
	o := t.unlock(ctx)
	return o.Result.Key, o.Err
}
