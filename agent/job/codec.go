package job

import (
	"io"

	"github.com/ccagent/ccagent/protocol"
)

// The two messages. Both ends are the same version of the same binary, so they are not part of docs/protocol.md.
const (
	opJob    protocol.Op = 1
	opReport protocol.Op = 2
)

// WriteJob writes j to w in one Write. A job beyond [MaxFrame] is protocol.ErrFrame, and nothing is written.
func WriteJob(w io.Writer, j Job) error {
	const rest = 512 // to grow into it would take several times as much of the agent's memory
	e := protocol.NewFrame(make([]byte, 0, rest+len(j.Settings)+len(j.Record.Reveal())), opJob)
	e.String(j.Build)
	e.Byte(byte(j.Op))
	e.String(j.Profile)
	e.Bytes(j.Settings)
	e.Bytes(j.Base[:])
	e.String(j.Lineage)
	e.Bool(j.Force)
	e.Time(j.Since)
	e.Bool(j.SignIn)
	e.Bool(j.KeepRemote)
	e.Bool(j.Check)
	e.String(j.Token.Reveal())
	e.Duration(j.MinTTL)
	e.Bool(j.HalfLife)
	for _, s := range []protocol.Secret{j.Record, j.Key, j.Passphrase, j.NewPassphrase} {
		e.String(s.Reveal())
	}
	e.String(j.Target)
	e.String(j.PastID)
	e.Bool(j.Derived.IDToken)
	for _, text := range []string{j.Derived.Scope, j.Derived.Audience, j.Derived.Resource} {
		e.String(text)
	}
	e.String(j.ClientSecret.Reveal())
	return write(w, &e)
}

// ReadJob reads one job. Errors are those of protocol.ReadFrame and protocol.OpenFrame, and protocol.ErrMalformed.
func ReadJob(r io.Reader) (Job, error) {
	d, err := read(r, opJob)
	if err != nil {
		return Job{}, err
	}
	j := Job{
		Build:      d.String(),
		Op:         Op(d.Byte()),
		Profile:    d.String(),
		Settings:   append([]byte(nil), d.Bytes()...),
		Base:       version(&d),
		Lineage:    d.String(),
		Force:      d.Bool(),
		Since:      d.Time(),
		SignIn:     d.Bool(),
		KeepRemote: d.Bool(),
		Check:      d.Bool(),
		Token:      secret(&d),
		MinTTL:     d.Duration(),
		HalfLife:   d.Bool(),
		Record:     secret(&d),

		Key: secret(&d), Passphrase: secret(&d), NewPassphrase: secret(&d), Target: d.String(), PastID: d.String(),
		Derived:      protocol.Derived{IDToken: d.Bool(), Scope: d.String(), Audience: d.String(), Resource: d.String()},
		ClientSecret: secret(&d),
	}
	return j, d.Err()
}

// WriteReport writes r to w in one Write. A report beyond [MaxFrame] is protocol.ErrFrame, and nothing is written.
func WriteReport(w io.Writer, r Report) error {
	e := protocol.NewFrame(nil, opReport)
	e.Byte(byte(r.Kind))
	e.Bool(r.Err != nil)
	if r.Err != nil {
		e.Uint16(uint16(r.Err.Code))
		e.String(r.Err.Message)
		e.String(r.Err.Hint)
		e.String(r.Err.Detail)
	}
	e.Duration(r.RetryAfter)
	e.Bool(r.Local)

	e.String(r.Result.Token.Reveal())
	e.String(string(r.Result.Kind))
	e.Time(r.Result.Expiry)
	e.Time(r.Result.Issued)
	e.Time(r.Result.SignInEnds)
	e.Time(r.Result.RemindFrom)
	e.Strings(r.Result.LostScopes)
	e.String(r.Result.Lineage)
	e.String(r.Result.Record.Reveal())
	e.Bytes(r.Result.Version[:])
	e.Bool(r.Result.Renewed)
	e.Bool(r.Result.Gone)
	e.Bool(r.Result.Saved)
	e.String(r.Result.Provider)
	e.String(r.Result.Store)
	e.String(r.Result.Location)
	e.Strings(r.Result.Watch)
	e.String(r.Result.Subscription)
	e.Strings(r.Result.Scopes)
	e.String(r.Result.Notice)
	identity(&e, r.Result.Identity)
	e.String(r.Result.Note)
	e.Bool(r.Result.Behind)
	e.Bool(r.Result.Wrote)
	e.PastSignIns(r.Result.Past)
	e.String(r.Result.Key.Reveal())
	e.Bool(r.Result.Renewable)
	return write(w, &e)
}

// ReadReport reads one report: io.EOF where r ends before one, else the errors of [ReadJob].
func ReadReport(r io.Reader) (Report, error) {
	d, err := read(r, opReport)
	if err != nil {
		return Report{}, err
	}
	report := Report{Kind: Kind(d.Byte())}
	if d.Bool() {
		report.Err = &protocol.Error{Code: protocol.Code(d.Uint16()), Message: d.String(), Hint: d.String(), Detail: d.String()}
	}
	report.RetryAfter = d.Duration()
	report.Local = d.Bool()
	report.Result = Result{
		Token:        secret(&d),
		Kind:         protocol.Kind(d.String()),
		Expiry:       d.Time(),
		Issued:       d.Time(),
		SignInEnds:   d.Time(),
		RemindFrom:   d.Time(),
		LostScopes:   d.Strings(),
		Lineage:      d.String(),
		Record:       secret(&d),
		Version:      version(&d),
		Renewed:      d.Bool(),
		Gone:         d.Bool(),
		Saved:        d.Bool(),
		Provider:     d.String(),
		Store:        d.String(),
		Location:     d.String(),
		Watch:        d.Strings(),
		Subscription: d.String(),
		Scopes:       d.Strings(),
		Notice:       d.String(),
		Identity:     readIdentity(&d),
		Note:         d.String(),
		Behind:       d.Bool(),
		Wrote:        d.Bool(),
		Past:         d.PastSignIns(),
		Key:          secret(&d),
		Renewable:    d.Bool(),
	}
	return report, d.Err()
}

func identity(e *protocol.Encoder, i protocol.Identity) {
	for _, text := range []string{i.Account, i.Email, i.Name, i.Organization, i.OrganizationID, i.Subscription} {
		e.String(text)
	}
	e.Strings(i.Scopes)
	e.Time(i.Fetched)
}

func readIdentity(d *protocol.Decoder) protocol.Identity {
	return protocol.Identity{
		Account: d.String(), Email: d.String(), Name: d.String(), Organization: d.String(), OrganizationID: d.String(),
		Subscription: d.String(),
		Scopes:       d.Strings(), Fetched: d.Time(),
	}
}

func write(w io.Writer, e *protocol.Encoder) error {
	frame, err := e.Close(MaxFrame)
	if err != nil {
		return err
	}
	_, err = w.Write(frame)
	return err
}

// read reads a frame of the op. Its buffer is its own: the fields may be as large as a record.
func read(r io.Reader, op protocol.Op) (protocol.Decoder, error) {
	payload, err := protocol.ReadFrame(r, nil, MaxFrame)
	if err != nil {
		return protocol.Decoder{}, err
	}
	got, d, err := protocol.OpenFrame(payload)
	if err == nil && got != op {
		err = protocol.ErrMalformed
	}
	return d, err
}

// secret reads a secret. None is the zero Secret.
func secret(d *protocol.Decoder) protocol.Secret {
	if s := d.String(); s != "" {
		return protocol.NewSecret(s)
	}
	return protocol.Secret{}
}

func version(d *protocol.Decoder) (v Version) {
	if b := d.Bytes(); len(b) == len(v) {
		copy(v[:], b)
	} else {
		d.Fail()
	}
	return v
}
