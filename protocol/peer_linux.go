package protocol

import "golang.org/x/sys/unix"

// PeerOf returns who is at the other end of the connected socket fd (docs/protocol.md §2.3). If it returns no error, the uid is
// known.
func PeerOf(fd int) (Peer, error) {
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return Peer{}, err
	}
	if cred.Uid == ^uint32(0) { // the kernel's answer for a socket without a peer
		return Peer{}, ErrNoPeer
	}
	return Peer{UID: cred.Uid, PID: cred.Pid}, nil
}
