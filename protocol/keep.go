package protocol

import (
	"context"
	"time"
)

// Keeper is an [Agent] that can move a profile's record to another store and bring back an earlier one. It is an interface
// of its own because an agent within a program, whose stores are the program's, is none: where one answers, [Client] fails
// with CodeInternal.
type Keeper interface {
	// Keep does what the request's action says. The record itself does not cross.
	Keep(ctx context.Context, req KeepRequest) (KeepReply, error)
}

// KeepAction is what [Keeper.Keep] does.
type KeepAction uint32

const (
	// KeepMove moves the record to another store: it is written there, read back and compared before the old one is deleted.
	// A store that holds another sign-in (ErrConfig without Force), or can't be used, changes nothing.
	KeepMove KeepAction = 1
	// KeepHistory lists what is kept of earlier sign-ins.
	KeepHistory KeepAction = 2
	// KeepRestore brings one of them back. ErrNotFound: there is none of that id; ErrExpired: nothing in it could still be used.
	KeepRestore KeepAction = 3
	// KeepShow writes the profile's views anew, over whatever somebody else has made of them.
	KeepShow KeepAction = 4
	// KeepGuard moves the record out of Claude Code's file to one of the agent's stores ("": the keyring where it works, else a
	// file), and leaves the access token alone there.
	KeepGuard KeepAction = 5
)

// KeepRequest asks for one of them.
type KeepRequest struct {
	Action  KeepAction
	Profile string // "" is the agent's default profile
	Store   string // KeepMove, KeepGuard: the kind
	SignIn  string // KeepRestore: PastSignIn.ID
	Force   bool   // KeepMove: also if another program loses its sign-in by it, or another record is replaced
	Home    Home
}

// KeepReply says what became of it.
type KeepReply struct {
	Location string       // where the record rests now
	Notice   string       // a line for the person, "" when there is nothing to add
	Past     []PastSignIn // KeepHistory: the newest first
}

// PastSignIn is a sign-in of which the newest record is kept.
type PastSignIn struct {
	ID        string // names it in KeepRequest; no secret
	Saved     time.Time
	Expiry    time.Time // of its access token; zero: never
	Account   string    // who is signed in, "" when that is not known
	Renewable bool      // it has a refresh token that is not known to be spent
	Current   bool      // it is the one in force
	Problem   string    // why it can't be brought back; "": it can
}

// AppendKeepRequest appends a request to move or bring back a record (§4.9).
func AppendKeepRequest(dst []byte, r KeepRequest) ([]byte, error) {
	e := NewFrame(dst, OpKeep)
	e.Uint32(uint32(r.Action))
	e.String(r.Profile)
	e.String(r.Store)
	e.String(r.SignIn)
	e.Bool(r.Force)
	e.home(r.Home)
	return e.Close(MaxFrame)
}

func decodeKeepRequest(d *Decoder) KeepRequest {
	return KeepRequest{
		Action:  KeepAction(d.Uint32()),
		Profile: d.alias(),
		Store:   d.String(),
		SignIn:  d.String(),
		Force:   d.Bool(),
		Home:    d.home(),
	}
}

func appendKeepReply(dst []byte, r KeepReply) []byte {
	e := NewFrame(dst, OpKeep.Reply())
	e.String(oneLine(r.Location, maxPath))
	e.String(oneLine(r.Notice, maxText))
	e.PastSignIns(r.Past)
	return e.reply()
}

func decodeKeepReply(d *Decoder) (KeepReply, error) {
	r := KeepReply{Location: oneLine(d.String(), maxPath), Notice: oneLine(d.String(), maxText), Past: d.PastSignIns()}
	return r, d.Err()
}

// PastSignIns encodes a list of them.
func (e *Encoder) PastSignIns(all []PastSignIn) {
	e.Uint32(uint32(len(all)))
	for _, p := range all {
		mark := e.Open()
		e.String(oneLine(p.ID, maxText))
		e.Time(p.Saved)
		e.Time(p.Expiry)
		e.String(oneLine(p.Account, maxText))
		e.Bool(p.Renewable)
		e.Bool(p.Current)
		e.String(oneLine(p.Problem, maxText))
		e.Shut(mark)
	}
}

// PastSignIns decodes what [Encoder.PastSignIns] wrote.
func (d *Decoder) PastSignIns() (all []PastSignIn) {
	for range d.Count() {
		s := d.Struct()
		p := PastSignIn{ID: oneLine(s.String(), maxText), Saved: s.Time(), Expiry: s.Time(), Account: oneLine(s.String(), maxText),
			Renewable: s.Bool(), Current: s.Bool(), Problem: oneLine(s.String(), maxText)}
		if s.Err() != nil {
			d.Fail()
			return nil
		}
		all = append(all, p)
	}
	return all
}
