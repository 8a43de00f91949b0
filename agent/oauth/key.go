package oauth

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"

	"github.com/go-jose/go-jose/v4"

	"github.com/ccagent/ccagent/protocol"
)

// Key is a private key that signs assertions.
type Key struct {
	key jose.SigningKey
	id  string
}

var errNoKey = errors.New("no key is set")

func (k *Key) signer() (jose.Signer, error) {
	if k == nil {
		return nil, errNoKey
	}
	options := (&jose.SignerOptions{}).WithType("JWT")
	if k.id != "" {
		options = options.WithHeader("kid", k.id)
	}
	return jose.NewSigner(k.key, options)
}

// ParseKey reads a private key in PEM (PKCS #8, PKCS #1, SEC 1) or as a JWK (RFC 7517). It takes RSA of 2048 bits or more, ECDSA
// on P-256, P-384 or P-521, and Ed25519. It fails with ErrConfig.
func ParseKey(data []byte) (*Key, error) {
	private, id, err := parsePrivate(data)
	if err == nil {
		var algorithm jose.SignatureAlgorithm
		if algorithm, err = algorithmOf(private); err == nil {
			return &Key{key: jose.SigningKey{Algorithm: algorithm, Key: private}, id: id}, nil
		}
	}
	return nil, &protocol.Error{Code: protocol.CodeConfig, Message: "the client's key can't be used: " + err.Error(),
		Hint: "it must be a private key in PEM (BEGIN PRIVATE KEY) or a JWK, without a passphrase"}
}

// parsePrivate reads a private key, and its id where it has one. It does not pass on the errors of the parsers, which may quote
// what they read.
func parsePrivate(data []byte) (key crypto.PrivateKey, id string, err error) {
	if bytes.HasPrefix(bytes.TrimSpace(data), []byte("{")) {
		var jwk jose.JSONWebKey
		if jwk.UnmarshalJSON(data) != nil || jwk.IsPublic() || !jwk.Valid() {
			return nil, "", errors.New("it is not a private JWK")
		}
		return jwk.Key, jwk.KeyID, nil
	}
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, "", errors.New("it is neither PEM nor a JWK")
	}
	switch block.Type {
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	default:
		return nil, "", errors.New("its PEM block is of an unknown type")
	}
	if err != nil {
		return nil, "", errors.New("its PEM block can't be read; is it encrypted?")
	}
	return key, "", nil
}

func algorithmOf(key crypto.PrivateKey) (jose.SignatureAlgorithm, error) {
	switch k := key.(type) {
	case *rsa.PrivateKey:
		if k.N.BitLen() < 2048 {
			return "", errors.New("it is an RSA key of less than 2048 bits")
		}
		return jose.RS256, nil
	case *ecdsa.PrivateKey:
		switch k.Curve {
		case elliptic.P256():
			return jose.ES256, nil
		case elliptic.P384():
			return jose.ES384, nil
		case elliptic.P521():
			return jose.ES512, nil
		}
	case ed25519.PrivateKey:
		return jose.EdDSA, nil
	}
	return "", errors.New("its type is unknown")
}
