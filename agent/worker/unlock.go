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
func (e *errand) unlock(ctx context.Context) renewal.Outcome {
	path := cmp.Or(e.settings.Identity, store.IdentityPath(e.settings.DataDir))
	o := renewal.Outcome{Result: job.Result{Provider: string(e.settings.Provider)}}
	create := e.Job.Force && !e.Job.NewPassphrase.Empty()
	switch {
	case create && e.settings.Identity != "":
		o.Err = &protocol.Error{Code: protocol.CodeConfig, Message: "identity in config.toml names a file of your own: " + path,
			Hint: "make it with age-keygen, or take that line out of config.toml"}
		return o
	case create:
		o.Result.Key, o.Err = store.CreateIdentity(ctx, path, e.Job.NewPassphrase)
		return o
	}
	// One that needs no passphrase is read anew by each job, and held by nobody.
	_, err := store.UnlockIdentity(path, protocol.Secret{})
	switch {
	case err == nil && !e.Job.NewPassphrase.Empty():
		o.Err = &protocol.Error{Code: protocol.CodeConfig, Message: path + " has no passphrase that could be changed"}
	case err == nil:
	case errors.Is(err, protocol.ErrNotFound) && e.settings.Identity == "" && !e.settings.Store.Traits().Sealed &&
		e.Job.NewPassphrase.Empty():
	case errors.Is(err, protocol.ErrNotFound) && e.settings.Identity == "":
		o.Err = &protocol.Error{Code: protocol.CodeConfig, Message: "store encrypted has no identity yet",
			Hint: "make one, with a passphrase: ccagent unlock --create"}
	case !errors.Is(err, protocol.ErrLocked), e.Job.Passphrase.Empty():
		o.Err = err
	case e.Job.NewPassphrase.Empty():
		o.Result.Key, o.Err = store.UnlockIdentity(path, e.Job.Passphrase)
	default:
		o.Result.Key, o.Err = store.ChangePassphrase(ctx, path, e.Job.Passphrase, e.Job.NewPassphrase)
	}
	return o
}
