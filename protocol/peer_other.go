//go:build unix && !linux && !darwin

package protocol

// PeerOf returns ErrNoPeer.
func PeerOf(int) (Peer, error) { return Peer{}, ErrNoPeer }
