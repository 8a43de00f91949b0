package protocol

import (
	"context"
	"strconv"
)

// Handle answers one request. payload is what [ReadFrame] returned; Handle appends the reply frame to dst. Strings of the request
// alias payload: it must not be changed until Handle returns, and an [Agent] must copy what it keeps.
//
// An error means that the frame was not understood. The reply tells the peer; the server must write it and close the connection
// (docs/protocol.md §3.3).
func Handle(ctx context.Context, a Agent, payload, dst []byte) ([]byte, error) {
	op, d, err := OpenFrame(payload)
	if err != nil {
		return refuse(dst, err)
	}
	// Each case reads its request, then asks. Only a field that can't be read means that the frame was not understood.
	switch op {
	case OpToken:
		req, err := DecodeTokenRequest(payload)
		if err != nil {
			return refuse(dst, err)
		}
		return reply(dst, req.Profile, AppendToken, func() (Token, error) { return a.Token(ctx, req) })
	case OpStatus:
		req := decodeStatusRequest(&d)
		if err := d.Err(); err != nil {
			return refuse(dst, err)
		}
		return reply(dst, req.Profile, AppendStatus, func() (Status, error) { return a.Status(ctx, req) })
	case OpPut:
		req := decodePutRequest(&d)
		if err := d.Err(); err != nil {
			return refuse(dst, err)
		}
		return reply(dst, req.Profile, appendPutReply, func() (PutReply, error) { return a.Put(ctx, req) })
	case OpControl:
		req := decodeControlRequest(&d)
		if err := d.Err(); err != nil {
			return refuse(dst, err)
		}
		return reply(dst, req.Profile, appendControlReply, func() (ControlReply, error) { return a.Control(ctx, req) })
	case OpIdentify:
		req := decodeIdentifyRequest(&d)
		if err := d.Err(); err != nil {
			return refuse(dst, err)
		}
		return reply(dst, req.Profile, appendIdentity, func() (Identity, error) { return a.Identify(ctx, req) })
	}
	if w, ok := a.(Watcher); ok && op == OpWatch {
		req := decodeWatchRequest(&d)
		if err := d.Err(); err != nil {
			return refuse(dst, err)
		}
		return reply(dst, req.Profile, appendWatchReply, func() (WatchReply, error) { return w.Watch(ctx, req) })
	}
	if k, ok := a.(Keeper); ok && op == OpKeep {
		req := decodeKeepRequest(&d)
		if err := d.Err(); err != nil {
			return refuse(dst, err)
		}
		return reply(dst, req.Profile, appendKeepReply, func() (KeepReply, error) { return k.Keep(ctx, req) })
	}
	return refuse(dst, &Error{
		Code:    CodeInternal,
		Message: "the agent does not know operation " + strconv.Itoa(int(op)),
		Hint:    "the agent is older than the program that asks it: stop it with `ccagent stop`, and try again",
	})
}

// reply appends what ask returns, or its error. An empty profile is not checked: it means the default one, or all.
func reply[T any](dst []byte, profile string, appendTo func([]byte, T) []byte, ask func() (T, error)) ([]byte, error) {
	if profile != "" {
		if err := CheckProfile(profile); err != nil {
			return AppendError(dst, err), nil
		}
	}
	answer, err := ask()
	if err != nil {
		return AppendError(dst, err), nil
	}
	return appendTo(dst, answer), nil
}

// refuse appends the reply to a frame that was not understood.
func refuse(dst []byte, err error) ([]byte, error) {
	if err == ErrVersion {
		err = &Error{
			Code:    CodeInternal,
			Message: "the agent speaks only version 1 of the protocol",
			Hint:    "stop it with `ccagent stop`, and try again",
		}
	}
	return AppendError(dst, err), err
}

// quote returns s in quotes, short and without control characters, for a message.
func quote(s string) string { return strconv.Quote(oneLine(s, 80)) }
