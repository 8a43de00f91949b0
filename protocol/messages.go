package protocol

import (
	"cmp"
	"encoding/binary"
)

// Each message of docs/protocol.md §4 has two functions here, one that encodes it and next to it the one that decodes it.

func (e *Encoder) home(h Home) {
	e.String(h.Home)
	e.String(h.XDGConfigHome)
	e.String(h.ClaudeConfigDir)
}

func (d *Decoder) home() Home {
	return Home{Home: d.alias(), XDGConfigHome: d.alias(), ClaudeConfigDir: d.alias()}
}

// dir is the last field of a request that may leave the choice of a profile to the agent. It is not sent if it says nothing.
func (e *Encoder) dir(h Home) {
	if h.Dir != "" {
		e.String(h.Dir)
	}
}

func (d *Decoder) dir(h *Home) {
	if d.More() {
		h.Dir = d.alias()
	}
}

// AppendTokenRequest appends a request for a token (§4.2).
func AppendTokenRequest(dst []byte, r TokenRequest) ([]byte, error) {
	e := NewFrame(dst, OpToken)
	e.String(r.Profile)
	e.Duration(r.MinTTL)
	e.Bool(r.Force)
	e.Bool(r.HalfLife)
	e.String(r.Host)
	e.home(r.Home)
	e.Time(r.Since)
	sent := 0 // how many of the optional fields are sent: up to the last that says something
	for i, says := range [...]bool{r.Listed, r.ReaskWindow > 0, r.Home.Dir != "", r.Username != "", r.Quiet, r.Derived.IDToken,
		r.Derived.Scope != "", r.Derived.Audience != "", r.Derived.Resource != ""} {
		if says {
			sent = i + 1
		}
	}
	if sent > 0 {
		e.Bool(r.Listed)
	}
	if sent > 1 {
		e.Duration(r.ReaskWindow)
	}
	if sent > 2 {
		e.String(r.Home.Dir)
	}
	if sent > 3 {
		e.String(r.Username)
	}
	if sent > 4 {
		e.Bool(r.Quiet)
	}
	if sent > 5 {
		e.Bool(r.Derived.IDToken)
	}
	for i, text := range [...]string{r.Derived.Scope, r.Derived.Audience, r.Derived.Resource} {
		if sent > 6+i {
			e.String(text)
		}
	}
	return e.Close(MaxFrame)
}

// DecodeTokenRequest reads the payload of an OpToken frame. It allocates nothing: the strings of the request alias payload, so a
// caller that keeps one must copy it (strings.Clone). It fails with ErrFrame, ErrVersion or ErrMalformed, which another op is
// too. It does not check the profile's name.
func DecodeTokenRequest(payload []byte) (TokenRequest, error) {
	op, d, err := OpenFrame(payload)
	if err != nil {
		return TokenRequest{}, err
	}
	if op != OpToken {
		return TokenRequest{}, ErrMalformed
	}
	r := TokenRequest{
		Profile:  d.alias(),
		MinTTL:   d.Duration(),
		Force:    d.Bool(),
		HalfLife: d.Bool(),
		Host:     d.alias(),
		Home:     d.home(),
	}
	if d.More() {
		r.Since = d.Time()
	}
	r.Listed = d.More() && d.Bool()
	if d.More() {
		r.ReaskWindow = d.Duration()
	}
	d.dir(&r.Home)
	if d.More() {
		r.Username = d.alias()
	}
	r.Quiet = d.More() && d.Bool()
	r.Derived.IDToken = d.More() && d.Bool()
	for _, to := range [...]*string{&r.Derived.Scope, &r.Derived.Audience, &r.Derived.Resource} {
		if d.More() {
			*to = d.alias()
		}
	}
	return r, d.Err()
}

// AppendToken appends the reply frame of a token (§4.2), or that of an error if t does not pass [CheckToken]. The frame depends
// on nothing but t, so an agent may encode it once and append it for every request.
func AppendToken(dst []byte, t Token) []byte {
	if err := CheckToken(t.Value); err != nil {
		return AppendError(dst, err)
	}
	e := NewFrame(dst, OpToken.Reply())
	e.String(t.Profile)
	e.String(t.Value.Reveal())
	e.Time(t.Expiry)
	e.String(string(t.Kind))
	e.String(oneLine(t.Notice, maxText))
	if t.Username != "" || t.Derived {
		e.String(oneLine(t.Username, maxText))
	}
	if t.Derived {
		e.Bool(true)
	}
	return e.reply()
}

// OpenToken reads a frame that [AppendToken] made: see [DecodeToken].
func OpenToken(frame []byte) (Token, error) {
	if len(frame) < headerSize {
		return Token{}, ErrMalformed
	}
	return DecodeToken(frame[headerSize:])
}

// DecodeToken reads the payload of the reply to a request for a token. It returns the token, or the [*Error] that came in its
// place; a token that does not pass [CheckToken] is such an error too (ErrInvalid). For any other payload it returns ErrFrame,
// ErrVersion or ErrMalformed.
func DecodeToken(payload []byte) (Token, error) {
	op, d, err := OpenFrame(payload)
	switch {
	case err != nil:
		return Token{}, err
	case op == OpToken.Reply():
		return decodeToken(&d)
	case op == OpError:
		return Token{}, decodeError(&d)
	}
	return Token{}, ErrMalformed
}

func decodeToken(d *Decoder) (Token, error) {
	t := Token{
		Profile: oneLine(d.String(), maxText),
		Value:   NewSecret(d.String()),
		Expiry:  d.Time(),
		Kind:    Kind(oneLine(d.String(), maxText)),
		Notice:  oneLine(d.String(), maxText),
	}
	if d.More() {
		t.Username = oneLine(d.String(), maxText)
	}
	t.Derived = d.More() && d.Bool()
	if err := d.Err(); err != nil {
		return Token{}, err
	}
	return t, CheckToken(t.Value)
}

// AppendStatusRequest appends a request for status (§4.3).
func AppendStatusRequest(dst []byte, r StatusRequest) ([]byte, error) {
	e := NewFrame(dst, OpStatus)
	e.String(r.Profile)
	e.String(r.After)
	e.home(r.Home)
	e.dir(r.Home)
	return e.Close(MaxFrame)
}

func decodeStatusRequest(d *Decoder) StatusRequest {
	r := StatusRequest{Profile: d.alias(), After: d.alias(), Home: d.home()}
	d.dir(&r.Home)
	return r
}

// AppendStatus appends the reply frame of a status (§4.3), with as many of its profiles as fit in the frame. If that is not all
// of them, the frame's Next is the last of them.
func AppendStatus(dst []byte, s Status) []byte {
	e := NewFrame(dst, OpStatus.Reply())

	mark := e.Open()
	e.Uint32(uint32(s.Agent.PID))
	e.String(oneLine(s.Agent.Version, maxText))
	e.String(oneLine(s.Agent.Socket, maxText))
	e.Time(s.Agent.Started)
	e.Uint64(s.Agent.Requests)
	e.Uint64(s.Agent.Renewals)
	e.Uint32(s.Agent.Connections)
	e.Uint64(s.Agent.Memory)
	e.String(s.Agent.DefaultProfile)
	e.String(lines(s.Agent.ConfigError, maxText))
	e.Bool(s.Agent.Locked)
	here := cmp.Or(s.Agent.Here, s.Agent.DefaultProfile)
	more := len(s.Agent.Environment) > 0
	if here != s.Agent.DefaultProfile || s.Agent.ConfigHint != "" || more {
		e.String(here)
	}
	if s.Agent.ConfigHint != "" || more {
		e.String(lines(s.Agent.ConfigHint, maxText))
	}
	if more {
		e.Uint32(uint32(len(s.Agent.Environment)))
		for _, v := range s.Agent.Environment {
			mark := e.Open()
			e.String(oneLine(v.Name, maxText))
			e.String(oneLine(v.Value, maxPath))
			e.Shut(mark)
		}
	}
	e.Shut(mark)

	const next = 4 + MaxProfile // bytes of the field after the list
	count := len(e.b)
	e.Uint32(0)
	for i := range s.Profiles {
		before := len(e.b)
		e.profile(&s.Profiles[i])
		if i > 0 && len(e.b)-e.start-headerSize > MaxFrame-next {
			e.b = e.b[:before]
			s.Profiles, s.Next = s.Profiles[:i], s.Profiles[i-1].Name
			break
		}
	}
	binary.BigEndian.PutUint32(e.b[count:], uint32(len(s.Profiles)))
	e.String(s.Next)
	return e.reply()
}

func (e *Encoder) profile(p *ProfileStatus) {
	mark := e.Open()
	e.String(p.Name)
	e.String(p.Provider)
	e.String(string(p.State))
	e.String(p.Store)
	e.String(oneLine(p.Location, maxPath))
	e.String(string(p.Kind))
	e.Bool(p.HasToken)
	e.Time(p.Expiry)
	e.Time(p.Issued)
	e.Time(p.LastRenewal)
	e.Time(p.Retry)
	e.Time(p.LastUsed)
	e.String(oneLine(p.LastError, maxText))
	e.Uint16(uint16(p.LastCode))
	e.String(oneLine(p.Subscription, maxText))
	e.Strings(p.Scopes)
	e.String(oneLine(p.Note, maxText))
	if !p.SignInEnds.IsZero() || p.LastHint != "" {
		e.Time(p.SignInEnds)
		e.Time(p.RemindFrom)
	}
	if p.LastHint != "" {
		e.String(lines(p.LastHint, maxText))
	}
	e.Shut(mark)
}

func decodeStatus(d *Decoder) (Status, error) {
	var s Status
	a := d.Struct()
	s.Agent = AgentStatus{
		PID:            int(a.Uint32()),
		Version:        oneLine(a.String(), maxText),
		Socket:         oneLine(a.String(), maxText),
		Started:        a.Time(),
		Requests:       a.Uint64(),
		Renewals:       a.Uint64(),
		Connections:    a.Uint32(),
		Memory:         a.Uint64(),
		DefaultProfile: oneLine(a.String(), maxText),
		ConfigError:    lines(a.String(), maxText),
	}
	s.Agent.Locked = a.More() && a.Bool()
	s.Agent.Here = s.Agent.DefaultProfile
	if a.More() {
		s.Agent.Here = oneLine(a.String(), maxText)
	}
	if a.More() {
		s.Agent.ConfigHint = lines(a.String(), maxText)
	}
	if a.More() {
		for range a.Count() {
			v := a.Struct()
			s.Agent.Environment = append(s.Agent.Environment, Variable{oneLine(v.String(), maxText), oneLine(v.String(), maxPath)})
			if err := v.Err(); err != nil {
				return Status{}, err
			}
		}
	}
	if err := a.Err(); err != nil {
		return Status{}, err
	}
	for range d.Count() {
		p, err := decodeProfile(d.Struct())
		if err != nil {
			return Status{}, err
		}
		s.Profiles = append(s.Profiles, p)
	}
	s.Next = d.String()
	return s, d.Err()
}

func decodeProfile(d Decoder) (ProfileStatus, error) {
	p := ProfileStatus{
		Name:         oneLine(d.String(), maxText),
		Provider:     oneLine(d.String(), maxText),
		State:        State(oneLine(d.String(), maxText)),
		Store:        oneLine(d.String(), maxText),
		Location:     oneLine(d.String(), maxPath),
		Kind:         Kind(oneLine(d.String(), maxText)),
		HasToken:     d.Bool(),
		Expiry:       d.Time(),
		Issued:       d.Time(),
		LastRenewal:  d.Time(),
		Retry:        d.Time(),
		LastUsed:     d.Time(),
		LastError:    oneLine(d.String(), maxText),
		LastCode:     Code(d.Uint16()),
		Subscription: oneLine(d.String(), maxText),
		Scopes:       d.Strings(),
	}
	if d.More() {
		p.Note = oneLine(d.String(), maxText)
	}
	if d.More() {
		p.SignInEnds, p.RemindFrom = d.Time(), d.Time()
	}
	if d.More() {
		p.LastHint = lines(d.String(), maxText)
	}
	for i, s := range p.Scopes {
		p.Scopes[i] = oneLine(s, maxText)
	}
	return p, d.Err()
}

// AppendPutRequest appends a request to store a record (§4.4). A record that does not fit a frame is ErrFrame.
func AppendPutRequest(dst []byte, r PutRequest) ([]byte, error) {
	e := NewFrame(dst, OpPut)
	e.String(r.Profile)
	e.String(r.Record.Reveal())
	e.Bool(r.Force)
	e.home(r.Home)
	e.Bool(r.SignIn)
	return e.Close(MaxFrame)
}

func decodePutRequest(d *Decoder) PutRequest {
	r := PutRequest{Profile: d.alias(), Record: NewSecret(d.String()), Force: d.Bool(), Home: d.home()}
	r.SignIn = d.More() && d.Bool()
	return r
}

func appendPutReply(dst []byte, r PutReply) []byte {
	e := NewFrame(dst, OpPut.Reply())
	e.String(oneLine(r.Location, maxPath))
	e.String(oneLine(r.Notice, maxText))
	return e.reply()
}

func decodePutReply(d *Decoder) (PutReply, error) {
	r := PutReply{Location: oneLine(d.String(), maxPath), Notice: oneLine(d.String(), maxText)}
	return r, d.Err()
}

// AppendControlRequest appends a command to the agent (§4.5).
func AppendControlRequest(dst []byte, r ControlRequest) ([]byte, error) {
	e := NewFrame(dst, OpControl)
	e.Uint32(uint32(r.Command))
	e.String(r.Profile)
	e.Bool(r.Force)
	e.home(r.Home)
	e.Bool(r.KeepRemote)
	if !r.Passphrase.Empty() || !r.NewPassphrase.Empty() || r.For != 0 {
		e.String(r.Passphrase.Reveal())
		e.String(r.NewPassphrase.Reveal())
		e.Duration(r.For)
	}
	return e.Close(MaxFrame)
}

func decodeControlRequest(d *Decoder) ControlRequest {
	r := ControlRequest{Command: Command(d.Uint32()), Profile: d.alias(), Force: d.Bool(), Home: d.home()}
	r.KeepRemote = d.More() && d.Bool()
	if d.More() {
		r.Passphrase, r.NewPassphrase, r.For = NewSecret(d.String()), NewSecret(d.String()), d.Duration()
	}
	return r
}

func appendControlReply(dst []byte, r ControlReply) []byte {
	e := NewFrame(dst, OpControl.Reply())
	e.String(oneLine(r.Notice, maxText))
	return e.reply()
}

func decodeControlReply(d *Decoder) (ControlReply, error) {
	var r ControlReply
	if d.More() {
		r.Notice = oneLine(d.String(), maxText)
	}
	return r, d.Err()
}

// AppendIdentifyRequest appends a request to say who is signed in (§4.6).
func AppendIdentifyRequest(dst []byte, r IdentifyRequest) ([]byte, error) {
	e := NewFrame(dst, OpIdentify)
	e.String(r.Profile)
	e.Bool(r.Refresh)
	e.Bool(r.Check)
	e.home(r.Home)
	e.dir(r.Home)
	return e.Close(MaxFrame)
}

func decodeIdentifyRequest(d *Decoder) IdentifyRequest {
	r := IdentifyRequest{Profile: d.alias(), Refresh: d.Bool(), Check: d.Bool(), Home: d.home()}
	d.dir(&r.Home)
	return r
}

func appendIdentity(dst []byte, i Identity) []byte {
	e := NewFrame(dst, OpIdentify.Reply())
	for _, text := range i.texts() {
		e.String(oneLine(*text, maxText))
	}
	e.Strings(i.Scopes)
	e.Time(i.Fetched)
	return e.reply()
}

func decodeIdentity(d *Decoder) (Identity, error) {
	var i Identity
	for _, text := range i.texts() {
		*text = oneLine(d.String(), maxText)
	}
	i.Scopes = d.Strings()
	for n, s := range i.Scopes {
		i.Scopes[n] = oneLine(s, maxText)
	}
	i.Fetched = d.Time()
	return i, d.Err()
}

// texts returns the strings of i in the order of §4.6.
func (i *Identity) texts() []*string {
	return []*string{&i.Profile, &i.Account, &i.Email, &i.Name, &i.Organization, &i.OrganizationID, &i.Subscription}
}

// AppendWatchRequest appends a request to wait for a change (§4.8).
func AppendWatchRequest(dst []byte, r WatchRequest) ([]byte, error) {
	e := NewFrame(dst, OpWatch)
	e.String(r.Profile)
	e.Uint64(r.Known)
	e.home(r.Home)
	e.dir(r.Home)
	return e.Close(MaxFrame)
}

func decodeWatchRequest(d *Decoder) WatchRequest {
	r := WatchRequest{Profile: d.alias(), Known: d.Uint64(), Home: d.home()}
	d.dir(&r.Home)
	return r
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

// AppendKeepRequest appends a request to move or bring back a record (§4.9).
func AppendKeepRequest(dst []byte, r KeepRequest) ([]byte, error) {
	e := NewFrame(dst, OpKeep)
	e.Uint32(uint32(r.Action))
	e.String(r.Profile)
	e.String(r.Store)
	e.String(r.SignIn)
	e.Bool(r.Force)
	e.home(r.Home)
	if r.Secret.Empty() {
		e.dir(r.Home)
	} else {
		e.String(r.Home.Dir)
		e.String(r.Secret.Reveal())
	}
	return e.Close(MaxFrame)
}

func decodeKeepRequest(d *Decoder) KeepRequest {
	r := KeepRequest{
		Action:  KeepAction(d.Uint32()),
		Profile: d.alias(),
		Store:   d.String(),
		SignIn:  d.String(),
		Force:   d.Bool(),
		Home:    d.home(),
	}
	d.dir(&r.Home)
	if d.More() {
		r.Secret = NewSecret(d.String())
	}
	return r
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

// AppendError appends the reply frame of err (§4.7): its code, its message on one line, its hint, and its detail.
func AppendError(dst []byte, err error) []byte {
	e := NewFrame(dst, OpError)
	e.Uint16(uint16(CodeOf(err)))
	e.String(oneLine(err.Error(), maxText))
	e.String(lines(HintOf(err), maxText))
	if detail := DetailOf(err); detail != "" {
		e.String(oneLine(detail, maxText))
	}
	return e.reply()
}

func decodeError(d *Decoder) error {
	e := &Error{
		Code:    Code(d.Uint16()),
		Message: oneLine(d.String(), maxText),
		Hint:    lines(d.String(), maxText),
	}
	if d.More() {
		e.Detail = oneLine(d.String(), maxText)
	}
	if err := d.Err(); err != nil {
		return err
	}
	return e
}

// reply closes a reply frame. If it is too large, for which fields of absurd size are needed, an error's frame takes its place.
func (e *Encoder) reply() []byte {
	b, err := e.Close(MaxFrame)
	if err != nil {
		return AppendError(b, &Error{Code: CodeInternal, Message: "the answer does not fit a frame"})
	}
	return b
}
