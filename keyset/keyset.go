// Package keyset reads the public keys that an issuer publishes (RFC 7517), and checks signatures with them. A key that can't be
// used costs no other one.
package keyset

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"slices"
	"strconv"

	"github.com/go-jose/go-jose/v4"
)

// Algorithms are the signature algorithms that prove something to whoever knows the issuer's public key. "none" and the
// symmetric algorithms are not among them.
var Algorithms = []jose.SignatureAlgorithm{
	jose.RS256, jose.RS384, jose.RS512,
	jose.ES256, jose.ES384, jose.ES512,
	jose.PS256, jose.PS384, jose.PS512,
	jose.EdDSA,
}

// Set is the public keys with which an issuer signs. It may be used concurrently.
type Set []jose.JSONWebKey

var (
	errNoSet  = errors.New("what the issuer publishes is not a set of keys")
	errNoKeys = errors.New("none of the keys that the issuer publishes can be used")
	// ErrSignature is what [Set.Verify] returns for a token that none of the keys has signed.
	ErrSignature = errors.New("its signature is not the issuer's")
	// ErrAlgorithm is what [Set.Verify] returns for a token that is not signed by one of [Algorithms], or not signed at all.
	ErrAlgorithm = errors.New("it is not signed by an algorithm that proves anything")
	// ErrUnsigned is what [Set.Verify] returns for what is no signed token in compact form.
	ErrUnsigned = errors.New("it is not a signed token")
)

// publicMembers are the members of a key that are read (RFC 7518 section 6, RFC 8037), besides its name. Certificates (x5c, x5t,
// x5u) are not among them: nobody here judges an issuer by one, and one that can't be read must not cost the key beside it.
var publicMembers = []string{"kty", "crv", "x", "y", "n", "e"}

// secretMembers are those of a private or a symmetric key. Whoever can read a key that is published with one can sign with it.
var secretMembers = []string{"d", "k", "p", "q", "priv"}

// Parse reads an issuer's key set (RFC 7517 section 5). It leaves out each key that can't be used, as section 5 asks: of an
// unknown type or curve, incomplete, secret, or meant for encryption. It fails where the set can't be read, or where no key of it
// can be used.
func Parse(data []byte) (Set, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(data, &set); err != nil || set.Keys == nil {
		return nil, errNoSet
	}
	var keys Set
	for _, raw := range set.Keys {
		if key, ok := parseKey(raw); ok {
			keys = append(keys, key)
		}
	}
	if len(keys) == 0 {
		return nil, errNoKeys
	}
	return keys, nil
}

// parseKey reads one key, and reports false where it can't be used.
func parseKey(raw json.RawMessage) (jose.JSONWebKey, bool) {
	var members map[string]json.RawMessage
	if json.Unmarshal(raw, &members) != nil || !forSignatures(members) {
		return jose.JSONWebKey{}, false
	}
	public := map[string]json.RawMessage{}
	for _, name := range publicMembers {
		if value, ok := members[name]; ok {
			public[name] = value
		}
	}
	lengthen(public)
	data, err := json.Marshal(public)
	if err != nil {
		return jose.JSONWebKey{}, false
	}
	var key jose.JSONWebKey
	if key.UnmarshalJSON(data) != nil || !key.Valid() || !key.IsPublic() {
		return jose.JSONWebKey{}, false
	}
	if json.Unmarshal(members["kid"], &key.KeyID) != nil {
		key.KeyID = "" // a name of another type than a string names nothing
	}
	return key, true
}

// lengthen gives the coordinates of an elliptic curve the length that they must have (RFC 7518 section 6.2.1). Some issuers leave
// out the zeros at the start of a number.
func lengthen(members map[string]json.RawMessage) {
	size := map[string]int{`"P-256"`: 32, `"P-384"`: 48, `"P-521"`: 66}[string(members["crv"])]
	for _, name := range []string{"x", "y"} {
		var text string
		if json.Unmarshal(members[name], &text) != nil {
			continue
		}
		number, err := base64.RawURLEncoding.DecodeString(text)
		if err != nil || len(number) >= size {
			continue
		}
		whole := make([]byte, size)
		copy(whole[size-len(number):], number)
		members[name] = json.RawMessage(strconv.Quote(base64.RawURLEncoding.EncodeToString(whole)))
	}
}

// forSignatures reports whether a key is one that proves who signed: public, and not meant for something else.
func forSignatures(members map[string]json.RawMessage) bool {
	for _, name := range secretMembers {
		if _, ok := members[name]; ok {
			return false
		}
	}
	var use string
	var operations []string
	json.Unmarshal(members["use"], &use)            // of another type: as though it were not there
	json.Unmarshal(members["key_ops"], &operations) // the same
	return (use == "" || use == "sig") && (operations == nil || slices.Contains(operations, "verify"))
}

// Verify returns the payload of a signed token, in compact form, if one of the keys has signed it with one of [Algorithms].
// Where the token names a key, the keys of that name are tried, and those without a name; several keys may have one name. The
// errors are [ErrSignature], [ErrAlgorithm] and [ErrUnsigned]. An empty set tells the last two.
func (s Set) Verify(token string) ([]byte, error) {
	signed, err := jose.ParseSignedCompact(token, Algorithms)
	if _, other := errors.AsType[*jose.ErrUnexpectedSignatureAlgorithm](err); other {
		return nil, ErrAlgorithm
	}
	if err != nil {
		return nil, ErrUnsigned
	}
	name := signed.Signatures[0].Header.KeyID
	for i := range s {
		if name != "" && s[i].KeyID != "" && s[i].KeyID != name {
			continue
		}
		if payload, err := signed.Verify(&s[i]); err == nil {
			return payload, nil
		}
	}
	return nil, ErrSignature
}

// IsIssuer reports whether the claim iss of a token names an issuer, which it must do character by character. Google may leave
// out the scheme of its own, as its documentation says.
func IsIssuer(claimed, issuer string) bool {
	return claimed == issuer || issuer == "https://accounts.google.com" && claimed == "accounts.google.com"
}
