package protocol

import "golang.org/x/sys/unix"

// PeerOf returns who is at the other end of the connected socket fd (docs/protocol.md §2.3). If it returns no error, the uid is
// known.
func PeerOf(fd int) (Peer, error) {
	cred, err := unix.GetsockoptXucred(fd, unix.SOL_LOCAL, unix.LOCAL_PEERCRED)
	if err != nil {
		return Peer{}, err
	}
	if cred.Version != 0 { // XUCRED_VERSION
		return Peer{}, ErrNoPeer
	}
	peer := Peer{UID: cred.Uid}
	if pid, err := unix.GetsockoptInt(fd, unix.SOL_LOCAL, unix.LOCAL_PEERPID); err == nil {
		peer.PID = int32(pid)
	}
	return peer, nil
}
