package protocol

import (
	"context"
	"strconv"
)

// Handle answers one request: payload is a frame's as [ReadFrame] returned it, and the reply frame is appended to dst. What
// the agent is given aliases payload, which must stay as it is until Handle returns; an [Agent] copies what it keeps.
//
// An error means that the frame was not understood. The reply says so to the peer; the server writes it and closes the
// connection, because peers that disagree about one frame disagree about the next (docs/protocol.md §3.3).
func Handle(ctx context.Context, a Agent, payload, dst []byte) ([]byte, error) {
	op, d, err := OpenFrame(payload)
	if err != nil {
		return refuse(dst, op, err)
	}
	switch op {
	case OpToken:
		req, err := DecodeTokenRequest(payload)
		if err != nil {
			return refuse(dst, op, err)
		}
		if err := checkOptional(req.Profile); err != nil {
			return AppendError(dst, err), nil
		}
		token, err := a.Token(ctx, req)
		if err != nil {
			return AppendError(dst, err), nil
		}
		return AppendToken(dst, token), nil
	case OpStatus:
		req := decodeStatusRequest(&d)
		if err := d.Err(); err != nil {
			return refuse(dst, op, err)
		}
		if err := checkOptional(req.Profile); err != nil {
			return AppendError(dst, err), nil
		}
		status, err := a.Status(ctx, req)
		if err != nil {
			return AppendError(dst, err), nil
		}
		return AppendStatus(dst, status), nil
	case OpPut:
		req := decodePutRequest(&d)
		if err := d.Err(); err != nil {
			return refuse(dst, op, err)
		}
		if err := checkOptional(req.Profile); err != nil {
			return AppendError(dst, err), nil
		}
		reply, err := a.Put(ctx, req)
		if err != nil {
			return AppendError(dst, err), nil
		}
		return appendPutReply(dst, reply), nil
	case OpControl:
		req := decodeControlRequest(&d)
		if err := d.Err(); err != nil {
			return refuse(dst, op, err)
		}
		if err := checkOptional(req.Profile); err != nil {
			return AppendError(dst, err), nil
		}
		if err := a.Control(ctx, req); err != nil {
			return AppendError(dst, err), nil
		}
		e := NewFrame(dst, op.Reply())
		return e.reply(), nil
	}
	return refuse(dst, op, &Error{
		Code:    CodeInternal,
		Message: "the agent does not know operation " + strconv.Itoa(int(op)),
		Hint:    "the agent is older than the program that asks it: stop it with `ccagent stop`, and try again",
	})
}

// checkOptional lets the empty name through: the default profile, or all of them.
func checkOptional(profile string) error {
	if profile == "" {
		return nil
	}
	return CheckProfile(profile)
}

// refuse replies to a frame that was not understood.
func refuse(dst []byte, op Op, err error) ([]byte, error) {
	if err == ErrVersion {
		err = &Error{
			Code:    CodeInternal,
			Message: "the agent speaks version 1 of the protocol only",
			Hint:    "stop it with `ccagent stop`, and try again",
		}
	}
	return AppendError(dst, err), err
}

// quote makes a name fit to be shown.
func quote(s string) string { return strconv.Quote(oneLine(s, 80)) }
