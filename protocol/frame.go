package protocol

import (
	"encoding/binary"
	"errors"
	"io"
)

// Version is the version byte of every frame (docs/protocol.md §3.1).
const Version = 1

// MaxFrame bounds what follows a frame's length, in bytes (§3.1).
const MaxFrame = 65536

const (
	headerSize = 4 // the length
	minFrame   = 2 // version and op
)

// Op says which message a frame holds (§3.1). A reply has the op of its request with the top bit set, or OpError.
type Op byte

const (
	OpToken    Op = 1   // §4.2
	OpStatus   Op = 2   // §4.3
	OpPut      Op = 3   // §4.4
	OpControl  Op = 4   // §4.5
	OpIdentify Op = 5   // §4.6
	OpWatch    Op = 6   // §4.8
	OpKeep     Op = 7   // §4.9
	OpError    Op = 255 // §4.7

	replyBit Op = 0x80
)

// Reply returns the op of a successful reply to op.
func (op Op) Reply() Op { return op | replyBit }

var (
	// ErrFrame is a frame whose length is less than 2 or more than the limit. Nothing after it can be read.
	ErrFrame = errors.New("frame length out of range")
	// ErrVersion is a frame of another protocol version.
	ErrVersion = errors.New("unknown protocol version")
	// ErrMalformed is a frame whose fields can't be read.
	ErrMalformed = errors.New("malformed frame")
)

// ReadFrame reads one frame from r and returns its payload: version, op and fields, without the length. The payload is in buf if
// it fits there, else in a larger slice, which the caller may pass in next time. The payload has at most limit bytes, and no
// memory is allocated for a larger one. The error is io.EOF if r ends before the first byte, io.ErrUnexpectedEOF if it ends
// within the frame, ErrFrame, or one of r.
func ReadFrame(r io.Reader, buf []byte, limit int) ([]byte, error) {
	if cap(buf) < 512 {
		buf = make([]byte, 512)
	}
	buf = buf[:cap(buf)]
	if _, err := io.ReadFull(r, buf[:headerSize]); err != nil {
		return nil, err
	}
	size, err := frameSize(buf, limit)
	if err != nil {
		return nil, err
	}
	if cap(buf) < size {
		buf = make([]byte, size)
	}
	buf = buf[:size]
	if _, err := io.ReadFull(r, buf); err == io.EOF {
		return nil, io.ErrUnexpectedEOF
	} else if err != nil {
		return nil, err
	}
	return buf, nil
}

// frameSize returns the size of the payload that a header announces.
func frameSize(header []byte, limit int) (int, error) {
	size := binary.BigEndian.Uint32(header)
	if size < minFrame || uint64(size) > uint64(limit) {
		return 0, ErrFrame
	}
	return int(size), nil
}

// OpenFrame returns a payload's op and a Decoder for its fields. It fails with ErrFrame or ErrVersion.
func OpenFrame(payload []byte) (Op, Decoder, error) {
	if len(payload) < minFrame {
		return 0, Decoder{}, ErrFrame
	}
	if payload[0] != Version {
		return Op(payload[1]), Decoder{}, ErrVersion
	}
	return Op(payload[1]), NewDecoder(payload[minFrame:]), nil
}
