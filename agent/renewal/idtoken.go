package renewal

import (
	"time"

	"github.com/ccagent/ccagent/agent/job"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store"
)

// IDToken adds to a result the ID token that is kept with r. renewable says that r can be renewed. The result may be an ID token
// that has expired, if it says that another comes with the next renewal. Otherwise one that has expired is ErrExpired. ErrConfig
// says that none ever came.
func (t *Task) IDToken(result job.Result, r store.Record, renewable bool) (job.Result, error) {
	has := "profile " + t.Job.Profile + " has no ID token: "
	if r.IDTokenIssued.IsZero() {
		return result, &protocol.Error{Code: protocol.CodeConfig, Message: has + "the provider gave none"}
	}
	// One that came before the token in force shows that renewals bring none.
	came := r.IDTokenIssued.Equal(r.Issued)
	result.Renewable = came && renewable
	dead := !r.IDTokenExpiry.After(time.Now().Round(0))
	switch {
	case r.IDToken.Empty() || dead && !came:
		return result, &protocol.Error{Code: protocol.CodeExpired,
			Message: has + "it has expired, and the provider gave no other with the last renewal"}
	case dead && !result.Renewable:
		return result, &protocol.Error{Code: protocol.CodeExpired,
			Message: has + "it has expired, and there is nothing to renew it with"}
	}
	result.Token, result.Kind = r.IDToken, protocol.KindBearer
	result.Expiry, result.Issued = r.IDTokenExpiry, r.IDTokenIssued
	return result, nil
}
