package worker

import (
	"context"

	"github.com/ccagent/ccagent/protocol"
)

// identify says who is signed in.
func (e *errand) identify(context.Context) outcome {
	return outcome{err: &protocol.Error{Code: protocol.CodeUnavailable, Message: "provider " + e.settings.Provider + " can't be asked who is signed in"}}
}
