package protocol

import "context"

// Watcher is an [Agent] that says when a profile's token changes, for programs that keep one in memory between uses. It is an
// interface of its own because an agent of an earlier version is none: where one answers, [Client] fails with CodeInternal.
type Watcher interface {
	// Watch returns once the version of the profile's token is another than req.Known, at once where it is already, and after
	// half a minute with the same version if nothing has changed: then ask again. It neither renews anything nor counts
	// as a use.
	Watch(ctx context.Context, req WatchRequest) (WatchReply, error)
}

// WatchRequest waits for a change.
type WatchRequest struct {
	Profile string // "" is the agent's default profile
	Known   uint64 // the version of the last reply; 0: none yet
	Home    Home
}

// WatchReply says what is in force.
type WatchReply struct {
	// Version changes whenever what a token request would answer may have changed: a new token, none any more, other
	// settings, another agent. It is never 0. Versions can be compared for equality alone.
	Version uint64
}

// AppendWatchRequest appends a wait for a change (§4.8).
func AppendWatchRequest(dst []byte, r WatchRequest) ([]byte, error) {
	e := NewFrame(dst, OpWatch)
	e.String(r.Profile)
	e.Uint64(r.Known)
	e.home(r.Home)
	return e.Close(MaxFrame)
}

func decodeWatchRequest(d *Decoder) WatchRequest {
	return WatchRequest{Profile: d.alias(), Known: d.Uint64(), Home: d.home()}
}

func appendWatchReply(dst []byte, r WatchReply) []byte {
	e := NewFrame(dst, OpWatch.Reply())
	e.Uint64(r.Version)
	return e.reply()
}

func decodeWatchReply(d *Decoder) (WatchReply, error) {
	r := WatchReply{Version: d.Uint64()}
	return r, d.Err()
}
