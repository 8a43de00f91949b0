package store

import (
	"context"
	"reflect"
	"testing"
	"time"

	"github.com/ccagent/ccagent/protocol"
)

// TestRecordOfAClient: the secret and assertion of a client are stored, and are gone when a record without them is stored.
func TestRecordOfAClient(t *testing.T) {
	t.Parallel()
	s := NewFile(t.TempDir(), "robot")
	plain := Record{
		Kind:         protocol.KindBearer,
		AccessToken:  protocol.NewSecret("fake-access-1"),
		RefreshToken: protocol.NewSecret(""),
	}
	full := plain
	full.ClientSecret, full.Assertion = protocol.NewSecret("fake-client-secret"), protocol.NewSecret("fake.asser.tion")
	full.Identity = protocol.Identity{
		Account:        "user-1",
		Email:          "alice@example.com",
		Name:           `A "quoted" <name>`,
		Organization:   "Example",
		OrganizationID: "org-1",
		Subscription:   "team",
		Scopes:         []string{"openid"},
		Fetched:        time.UnixMilli(1767225600123),
	}
	full.RegistrationURL = "https://sso.example.com/register/1"
	full.RegistrationToken = protocol.NewSecret("fake-registration")
	full.Origins = []string{"https://sso.example.com", "https://tokens.example.com"}
	full.IDToken, full.IDTokenExpiry = protocol.NewSecret("fake.id.token"), time.UnixMilli(1767225660123)
	full.IDTokenIssued = time.UnixMilli(1767225600123)
	full.GrantSince, full.LostScopes = time.UnixMilli(1890000000000), []string{"user:profile"}
	var base Version
	for _, want := range []Record{full, plain} {
		var err error
		if base, err = s.Save(context.Background(), want, base); err != nil {
			t.Fatal(err)
		}
		got, version, err := s.Load(context.Background())
		if err != nil || version != base || !reflect.DeepEqual(got, want) {
			t.Errorf("%v: got %#v, want %#v", err, got, want)
		}
	}
	{
		remark := full
		remark.Identity, remark.Origins, remark.LostScopes, remark.GrantSince = protocol.Identity{}, nil, nil, time.Time{}
		remark.RegistrationURL, remark.RegistrationToken = "", protocol.Secret{}
		if remark.version() != full.version() {
			t.Error("who is signed in, or where its secrets may go, reads as a rewrite of the record")
		}
		remark.ClientSecret = protocol.NewSecret("fake-other-secret")
		if remark.version() == full.version() {
			t.Error("another client secret is not noticed")
		}
	}
}
