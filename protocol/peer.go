package protocol

import "errors"

// Peer is the process at the other end of a connection, as the kernel knew it when the connection was made.
type Peer struct {
	UID uint32
	PID int32 // for a log; decides nothing, because pids are reused; 0 if the kernel does not say
}

// ErrNoPeer means that this system can't tell who is at the other end. Then no uid is known, and 0 must not be taken for one.
var ErrNoPeer = errors.New("this system does not tell who is at the other end of a socket")
