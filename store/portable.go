package store

import (
	"bytes"
	"cmp"
	"io"
	"strings"

	"filippo.io/age"
	"filippo.io/age/agessh"
	"filippo.io/age/armor"

	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store/splice"
)

// Portable is a record to be carried to another machine or put away: what `ccagent export` writes and `ccagent import` reads.
type Portable struct {
	Profile, Provider string // where it comes from
	Record            Record
}

const portableKey = "ccagent_export"

// Marshal returns the form of p, in JSON. It is a secret, because it holds the refresh token.
func (p Portable) Marshal() (protocol.Secret, error) {
	record, err := p.Record.Marshal()
	if err != nil {
		return protocol.Secret{}, err
	}
	form, err := setMembers([]byte("{}"), []member{
		{portableKey, splice.Encode(formVersion)},
		{"profile", splice.Encode(p.Profile)},
		{"provider", splice.Encode(p.Provider)},
		{"record", []byte(record.Reveal())},
	})
	return protocol.NewSecret(string(form) + "\n"), err
}

// Seal encrypts the form of a Portable, armored, to age recipients and SSH public keys of type ed25519 or RSA. ErrConfig says
// that one of recipients is neither.
func Seal(form protocol.Secret, recipients []string) ([]byte, error) {
	var to []age.Recipient
	for _, text := range recipients {
		var r age.Recipient
		var err error
		switch {
		case strings.HasPrefix(text, "ssh-"):
			r, err = agessh.ParseRecipient(text)
		case strings.HasPrefix(text, "age1pq1"):
			r, err = age.ParseHybridRecipient(text)
		default:
			r, err = age.ParseX25519Recipient(text)
		}
		if err != nil {
			return nil, &protocol.Error{
				Code:    protocol.CodeConfig,
				Message: "a recipient is neither an age recipient nor an SSH public key of type ed25519 or RSA",
				Hint:    "an age recipient begins with age1, and age-keygen -y prints the one of an identity",
			}
		}
		to = append(to, r)
	}
	sealed, err := encrypt([]byte(form.Reveal()), to...)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	w := armor.NewWriter(&b)
	if _, err := w.Write(sealed); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// Read reads a record in any form that is known: that of Claude Code and of the predecessor, a profile of the vendor's SDKs, or
// what [Portable.Marshal] wrote, encrypted by [Seal] or not. Profile and Provider are empty unless it is ours. identity is called
// to open an encrypted one; if it is nil, such a one is ErrInvalid. Errors are those of [ReadClaude] and [ReadSDK], and of
// identity.
func Read(r io.Reader, identity func() (Identity, error)) (Portable, error) {
	src, err := readInput(r)
	if err != nil {
		return Portable{}, err
	}
	const name = "the input"
	armored := bytes.HasPrefix(bytes.TrimSpace(src), []byte(armor.Header))
	if armored || bytes.HasPrefix(src, []byte("age-encryption.org/")) {
		if armored {
			if src, err = io.ReadAll(armor.NewReader(bytes.NewReader(src))); err != nil {
				return Portable{}, invalid(name, "is not a whole file of age")
			}
		}
		if identity == nil {
			return Portable{}, invalid(name, "is encrypted")
		}
		id, err := identity()
		if err != nil {
			return Portable{}, err
		}
		if src, err = decrypt(name, src, id); err != nil {
			return Portable{}, err
		}
	}
	p, err := readPortable(name, src)
	if err != nil && knownText(name, src) == nil {
		err = cmp.Or(stray(name, src), err)
	}
	return p, err
}

func readPortable(name string, src []byte) (Portable, error) {
	var p Portable
	o, err := readStrict(name, src)
	switch {
	case err == nil && o.isSDK() && !o.has(portableKey):
		p.Record, err = readSDK(name, src)
		return p, err
	case err != nil || !o.has(portableKey): // most people have a file of Claude Code's, so its errors help them
		p.Record, err = readClaude(name, src)
		return p, err
	}
	if v, _, err := o.millis(portableKey); err != nil {
		return p, err
	} else if v != formVersion {
		return p, newer(name, string(splice.Encode(v)))
	}
	o.text("profile", &p.Profile)
	o.text("provider", &p.Provider)
	if o.err != nil {
		return p, o.err
	}
	if !printable(p.Profile + p.Provider) {
		return Portable{}, invalid(name, "names a profile that can't be printed")
	}
	if p.Provider == "" {
		return Portable{}, invalid(name, "does not say of which provider its sign-in is")
	}
	p.Record, err = readForm(name, o.values["record"])
	if err == nil && p.Provider == "claude" {
		err = p.Record.checkClaude(name)
	}
	return p, err
}
