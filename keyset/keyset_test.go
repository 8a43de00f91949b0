package keyset

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// published is a public key as an issuer publishes it, with other members over it; nil removes one.
func published(t *testing.T, public any, name string, more map[string]any) map[string]any {
	t.Helper()
	data, err := jose.JSONWebKey{Key: public, KeyID: name}.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	members := map[string]any{}
	if err := json.Unmarshal(data, &members); err != nil {
		t.Fatal(err)
	}
	maps.Copy(members, more)
	maps.DeleteFunc(members, func(_ string, value any) bool { return value == nil })
	return members
}

func set(t *testing.T, keys ...any) []byte {
	t.Helper()
	data, err := json.Marshal(map[string]any{"keys": keys})
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func sign(t *testing.T, algorithm jose.SignatureAlgorithm, key any, name string) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: jose.JSONWebKey{Key: key, KeyID: name}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := signer.Sign([]byte(`{"sub":"alice"}`))
	if err != nil {
		t.Fatal(err)
	}
	token, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// negativeSerial is a certificate that crypto/x509 does not read: real issuers have published such ones.
func negativeSerial(t *testing.T, key *ecdsa.PrivateKey) string {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(string(der), "\x02\x01\x01", "\x02\x01\xff", 1) // INTEGER 1 becomes -1
	if _, err := x509.ParseCertificate([]byte(text)); err == nil {
		t.Fatal("the certificate can be read: the test shows nothing")
	}
	return base64.StdEncoding.EncodeToString([]byte(text))
}

// One key that can't be used costs no other one.
func TestUnusableKeys(t *testing.T) {
	t.Parallel()
	good, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	token := sign(t, jose.ES256, good, "good")
	for name, bad := range map[string]any{
		"an empty certificate":   published(t, other.Public(), "bad", map[string]any{"x5c": []string{""}}),
		"no certificate":         published(t, other.Public(), "bad", map[string]any{"x5c": []string{}}),
		"a negative serial":      published(t, other.Public(), "bad", map[string]any{"x5c": []string{negativeSerial(t, other)}}),
		"certificates as a word": published(t, other.Public(), "bad", map[string]any{"x5c": "none"}),
		"an unknown curve":       published(t, other.Public(), "bad", map[string]any{"crv": "secp256k1"}),
		"a point off the curve":  published(t, other.Public(), "bad", map[string]any{"x": "AAAA"}),
		"an unknown type":        map[string]any{"kty": "fake", "kid": "bad"},
		"a type that is coming":  map[string]any{"kty": "AKP", "alg": "ML-DSA-44", "pub": "AAAA"},
		"Ed448":                  map[string]any{"kty": "OKP", "crv": "Ed448", "x": "AAAA"},
		"no type":                map[string]any{"kid": "bad"},
		"half of RSA":            map[string]any{"kty": "RSA", "n": "AQAB"},
		"a symmetric key":        map[string]any{"kty": "oct", "k": "ZmFrZQ"},
		"a private key":          map[string]any{"kty": "EC", "crv": "P-256", "d": "AAAA"},
		"an unknown algorithm":   published(t, other.Public(), "bad", map[string]any{"alg": "ES256K"}),
		"a name that is another": published(t, other.Public(), "good", nil), // the same name twice
		"a name that is none":    published(t, other.Public(), "bad", map[string]any{"kid": 7}),
		"not an object":          "fake",
		"null":                   nil,
	} {
		useful := published(t, good.Public(), "good", nil)
		for _, order := range [][]any{{bad, useful}, {useful, bad}} {
			keys, err := Parse(set(t, order...))
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			if payload, err := keys.Verify(token); err != nil || string(payload) != `{"sub":"alice"}` {
				t.Errorf("%s: %q, %v", name, payload, err)
			}
		}
	}
}

// A key that is itself odd, and still the issuer's, is used.
func TestOddKeys(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, more := range map[string]map[string]any{
		"an empty certificate":     {"x5c": []string{""}},
		"a negative serial":        {"x5c": []string{negativeSerial(t, key)}},
		"a thumbprint of its own":  {"x5t": "!"},
		"no name":                  {"kid": nil},
		"a number as its name":     {"kid": 7},
		"a number as its use":      {"use": 7},
		"operations":               {"key_ops": []string{"verify"}},
		"an address that is none":  {"x5u": "%"},
		"an algorithm as a number": {"alg": 7},
	} {
		keys, err := Parse(set(t, published(t, key.Public(), "good", more)))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if _, err := keys.Verify(sign(t, jose.ES256, key, "good")); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// An issuer that leaves out the zeros at the start of a coordinate is understood.
func TestShortCoordinates(t *testing.T) {
	t.Parallel()
	for _, curve := range []struct {
		elliptic.Curve
		algorithm jose.SignatureAlgorithm
	}{{elliptic.P256(), jose.ES256}, {elliptic.P384(), jose.ES384}, {elliptic.P521(), jose.ES512}} {
		for {
			key, err := ecdsa.GenerateKey(curve.Curve, rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			point, err := key.PublicKey.Bytes() // a byte 4, then x and y
			if err != nil {
				t.Fatal(err)
			}
			size := len(point) / 2
			x, y := bytes.TrimLeft(point[1:1+size], "\x00"), bytes.TrimLeft(point[1+size:], "\x00")
			if len(x) == size && len(y) == size {
				continue // one key of a hundred has a zero at the start
			}
			short := base64.RawURLEncoding.EncodeToString
			keys, err := Parse(set(t, published(t, key.Public(), "", map[string]any{"x": short(x), "y": short(y)})))
			if err != nil {
				t.Fatalf("%s: %v", curve.algorithm, err)
			}
			if _, err := keys.Verify(sign(t, curve.algorithm, key, "")); err != nil {
				t.Errorf("%s: %v", curve.algorithm, err)
			}
			break
		}
	}
}

// What does not prove that the issuer signed is not taken.
func TestKeysRefuse(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	secret := make([]byte, 32)
	symmetric := map[string]any{"kty": "oct", "k": base64.RawURLEncoding.EncodeToString(secret), "kid": "good"}
	private, err := jose.JSONWebKey{Key: key, KeyID: "good"}.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		"no set": nil, "null": []byte("null"), "an object": []byte("{}"), "a list": []byte("[]"), "no key": set(t),
		"keys that are none": []byte(`{"keys":{}}`), "nothing usable": set(t, "fake"),
		"for encryption":      set(t, published(t, key.Public(), "good", map[string]any{"use": "enc"})),
		"for other work":      set(t, published(t, key.Public(), "good", map[string]any{"key_ops": []string{"deriveKey"}})),
		"symmetric":           set(t, symmetric),
		"a private key, read": set(t, json.RawMessage(private)),
	} {
		if keys, err := Parse(data); err == nil {
			t.Errorf("%s: %d keys", name, len(keys))
		}
	}
	keys, err := Parse(set(t, symmetric, published(t, key.Public(), "good", nil)))
	if err != nil {
		t.Fatal(err)
	}
	token := sign(t, jose.ES256, key, "good")
	for name, token := range map[string]string{
		"signed with a shared secret": sign(t, jose.HS256, secret, "good"),
		"not signed":                  "eyJhbGciOiJub25lIn0." + strings.Split(token, ".")[1] + ".",
		"changed":                     strings.Replace(token, ".", ".AAAA", 1),
		"by a key of another name":    sign(t, jose.ES256, key, "other"),
		"no token":                    "fake",
	} {
		if _, err := keys.Verify(token); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if _, err := keys.Verify(sign(t, jose.ES256, key, "other")); !errors.Is(err, ErrSignature) {
		t.Errorf("got %v, want ErrSignature", err)
	}
}

// Each kind of key that is promised to be read is.
func TestKinds(t *testing.T) {
	t.Parallel()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	edPublic, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	curves := map[jose.SignatureAlgorithm]elliptic.Curve{
		jose.ES256: elliptic.P256(), jose.ES384: elliptic.P384(), jose.ES512: elliptic.P521(),
	}
	for _, algorithm := range Algorithms {
		var private, public any = rsaKey, rsaKey.Public()
		if curve := curves[algorithm]; curve != nil {
			key, err := ecdsa.GenerateKey(curve, rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			private, public = key, key.Public()
		} else if algorithm == jose.EdDSA {
			private, public = edKey, edPublic
		}
		keys, err := Parse(set(t, published(t, public, "", nil)))
		if err != nil {
			t.Fatalf("%s: %v", algorithm, err)
		}
		if _, err := keys.Verify(sign(t, algorithm, private, "")); err != nil {
			t.Errorf("%s: %v", algorithm, err)
		}
	}
}

func TestIsIssuer(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		claimed, issuer string
		want            bool
	}{
		{"https://sso.example.com", "https://sso.example.com", true},
		{"https://sso.example.com/", "https://sso.example.com", false},
		{"sso.example.com", "https://sso.example.com", false},
		{"", "https://sso.example.com", false},
		{"accounts.google.com", "https://accounts.google.com", true},
		{"accounts.google.com", "https://sso.example.com", false},
		{"https://accounts.google.com", "accounts.google.com", false},
	} {
		if got := IsIssuer(tt.claimed, tt.issuer); got != tt.want {
			t.Errorf("IsIssuer(%q, %q) = %v", tt.claimed, tt.issuer, got)
		}
	}
}
