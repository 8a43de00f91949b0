package socket

import (
	"errors"

	"github.com/ccagent/ccagent/protocol"
)

// OnlyUser returns a policy that admits the processes of one user.
func OnlyUser(uid uint32) func(protocol.Peer) error {
	return func(p protocol.Peer) error {
		if p.UID != uid {
			return errors.New("another user")
		}
		return nil
	}
}
