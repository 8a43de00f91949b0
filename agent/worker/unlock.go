package worker

import (
	"cmp"
	"context"
	"errors"

	"github.com/ccagent/ccagent/agent/job"
	"github.com/ccagent/ccagent/agent/renewal"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store"
)

// unlock opens the identity of store encrypted, after it has made it or changed its passphrase where that is asked for.
func (t *task) unlock(ctx context.Context) renewal.Outcome {
	path := cmp.Or(t.settings.Identity, store.IdentityPath(t.settings.DataDir))
	o := renewal.Outcome{Result: job.Result{Provider: string(t.settings.Provider)}}
	create := t.Job.Force && !t.Job.NewPassphrase.Empty()
	switch {
	case create && t.settings.Identity != "":
		o.Err = &protocol.Error{Code: protocol.CodeConfig, Message: "identity in config.toml names a file of your own: " + path,
			Hint: "make it with age-keygen, or take that line out of config.toml"}
		return o
	case create:
		o.Result.Key, o.Err = store.CreateIdentity(ctx, path, t.Job.NewPassphrase)
		return o
	}
	_, err := store.UnlockIdentity(path, protocol.Secret{})
	none := errors.Is(err, protocol.ErrNotFound) && t.settings.Identity == ""
	needed := t.settings.Store.Traits().Sealed || !t.Job.NewPassphrase.Empty()
	switch {
	case err == nil && !t.Job.NewPassphrase.Empty():
		o.Err = &protocol.Error{Code: protocol.CodeConfig, Message: path + " has no passphrase that could be changed"}
	case err == nil, none && !needed:
		return o // nothing to open: a key without a passphrase is read anew by each job, and the agent does not hold it
	case none:
		o.Err = &protocol.Error{Code: protocol.CodeConfig, Message: "store encrypted has no identity yet",
			Hint: "make one, with a passphrase: ccagent unlock --create"}
	case !errors.Is(err, protocol.ErrLocked), t.Job.Passphrase.Empty():
		o.Err = err
	case t.Job.NewPassphrase.Empty():
		o.Result.Key, o.Err = store.UnlockIdentity(path, t.Job.Passphrase)
	default:
		o.Result.Key, o.Err = store.ChangePassphrase(ctx, path, t.Job.Passphrase, t.Job.NewPassphrase)
	}
	return o
}
