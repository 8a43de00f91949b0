package protocol

import "golang.org/x/sys/unix"

// PeerOf returns who is at the other end of the connected socket fd (docs/protocol.md §2.3). Without an error the uid is known.
func PeerOf(fd int) (Peer, error) {
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return Peer{}, err
	}
	if cred.Uid == ^uint32(0) { // what a socket without a peer reports
		return Peer{}, ErrNoPeer
	}
	return Peer{UID: cred.Uid, PID: cred.Pid}, nil
}
