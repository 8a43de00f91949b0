package protocol

import "errors"

// Peer is the process at the other end of a connection, as the kernel knew it when the connection was made.
type Peer struct {
	UID uint32
	PID int32 // for a log, never to decide by: pids are reused; 0 when the kernel does not say
}

// ErrNoPeer is a system that can't tell who is at the other end. It is no uid at all, least of all root's.
var ErrNoPeer = errors.New("this system does not tell who is at the other end of a socket")
