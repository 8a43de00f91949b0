package oauth

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"github.com/ccagent/ccagent/agent/oauth/oauthtest"
	"github.com/ccagent/ccagent/protocol"
)

// TestSignedUserinfo reads a user profile that comes as a JWT (OpenID Connect Core section 5.3.2), however its type is labelled.
func TestSignedUserinfo(t *testing.T) {
	t.Parallel()
	key := func() *ecdsa.PrivateKey {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	issuers, strangers := key(), key()
	published, err := jose.JSONWebKey{Key: issuers.Public(), KeyID: "k", Algorithm: "ES256", Use: "sig"}.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	server := oauthtest.New(t, oauthtest.Options{ID: oauthtest.IDFault{Keys: []json.RawMessage{published}}})
	sign := func(alg jose.SignatureAlgorithm, key any, claims string) string {
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, nil)
		if err != nil {
			t.Fatal(err)
		}
		signed, err := signer.Sign([]byte(claims))
		if err != nil {
			t.Fatal(err)
		}
		text, err := signed.CompactSerialize()
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	encrypter, err := jose.NewEncrypter(jose.A128GCM, jose.Recipient{Algorithm: jose.DIRECT, Key: make([]byte, 16)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := encrypter.Encrypt([]byte(`{"sub":"alice-1"}`))
	if err != nil {
		t.Fatal(err)
	}
	encrypted, err := sealed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	encode := base64.RawURLEncoding.EncodeToString
	ours := `{"iss":"` + server.Issuer() + `","aud":["other","cli"],"sub":"alice-1","email":"alice@example.com","name":1}`
	for name, tt := range map[string]struct {
		body, kind string
		want       error
	}{
		"signed":              {sign(jose.ES256, issuers, ours), "application/jwt", nil},
		"labelled as JSON":    {sign(jose.ES256, issuers, ours) + "\n", "application/json", nil},
		"by the secret":       {sign(jose.HS256, []byte("fake-secret-of-at-least-32-bytes!"), ours), "application/jwt", nil},
		"not signed":          {encode([]byte(`{"alg":"none"}`)) + "." + encode([]byte(ours)) + ".", "application/jwt", nil},
		"no issuer, audience": {sign(jose.ES256, issuers, `{"sub":"alice-1","email":"alice@example.com"}`), "application/jwt", nil},
		"by a stranger":       {sign(jose.ES256, strangers, ours), "application/jwt", protocol.ErrUnavailable},
		"of another issuer":   {sign(jose.ES256, issuers, `{"iss":"https://other.example","sub":"a"}`), "application/jwt", protocol.ErrUnavailable},
		"for another client":  {sign(jose.ES256, issuers, `{"aud":"other","sub":"a"}`), "application/jwt", protocol.ErrUnavailable},
		"encrypted":           {encrypted, "application/jwt", protocol.ErrUnavailable},
		"no claims":           {sign(jose.ES256, issuers, `[1]`), "application/jwt", protocol.ErrUnavailable},
		"three words":         {"one.two.three", "application/jwt", protocol.ErrUnavailable},
	} {
		server.SetFaultAt("/userinfo", oauthtest.Fault{Status: 200, Body: tt.body, Header: map[string]string{"Content-Type": tt.kind}})
		c := &Client{Issuer: server.Issuer(), ClientID: "cli"}
		if err := c.Discover(t.Context()); err != nil {
			t.Fatal(err)
		}
		id, err := c.Identify(t.Context(), protocol.NewSecret(server.Issue().AccessToken))
		if !errors.Is(err, tt.want) || tt.want == nil && (err != nil || id.Account != "alice-1" || id.Email != "alice@example.com") {
			t.Errorf("%s: %+v, %v, want %v", name, id, err, tt.want)
		}
	}
}
