package store

import (
	"bytes"
	"io"
	"strings"

	"filippo.io/age"
	"filippo.io/age/agessh"
	"filippo.io/age/armor"

	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store/splice"
)

// Portable is a record on its way to another machine, or into a drawer: what `ccagent export` writes and `ccagent import` reads.
type Portable struct {
	Profile, Provider string // where it comes from
	Record            Record
}

const portableKey = "ccagent_export"

// Marshal returns p's form, as a secret: it holds the refresh token.
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

// Seal encrypts an exported record to age recipients or SSH public keys (of type ed25519 or RSA), armored. One that is neither
// is ErrConfig.
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

// Read reads a record in any form that is known: Claude Code's and the predecessor's, a profile of the vendor's SDKs, or
// what [Portable.Marshal] wrote, sealed or not; Profile and Provider are empty unless it is ours. identity is asked for what
// opens one that is sealed; nil: such a one is ErrInvalid. Errors are those of [ReadClaude] and [ReadSDK], and of identity.
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
	return readPortable(name, src)
}

func readPortable(name string, src []byte) (Portable, error) {
	var p Portable
	o, err := readStrict(name, src)
	switch {
	case err == nil && o.has(portableKey):
	case err == nil && o.isSDK():
		p.Record, err = readSDK(name, src)
		return p, err
	default: // its errors are those that most people need
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
