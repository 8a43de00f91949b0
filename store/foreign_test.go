package store

import (
	"errors"
	"strings"
	"testing"

	"github.com/ccagent/ccagent/protocol"
)

func TestReadAccount(t *testing.T) {
	t.Parallel()
	const alice = `"account":{"uuid":"a-1","email":"alice@example.com","full_name":"Alice Example","display_name":"Alice"`
	for _, tt := range []struct {
		in   string
		want error
		then protocol.Identity
	}{
		{`{` + alice + `,"has_claude_max":true,"has_claude_pro":true},"organization":{"uuid":"o-1","name":"Example","organization_type":"claude_pro"}}`, nil,
			protocol.Identity{Account: "a-1", Email: "alice@example.com", Name: "Alice Example", Organization: "Example",
				OrganizationID: "o-1", Subscription: "max"}},
		{`{` + alice + `,"has_claude_pro":true}}`, nil,
			protocol.Identity{Account: "a-1", Email: "alice@example.com", Name: "Alice Example", Subscription: "pro"}},
		{`{` + alice + `},"organization":{"organization_type":"claude_Team"}}`, nil,
			protocol.Identity{Account: "a-1", Email: "alice@example.com", Name: "Alice Example", Subscription: "team"}},
		{`{"account":{"email":"alice@example.com","display_name":"Alice"}}`, nil,
			protocol.Identity{Email: "alice@example.com", Name: "Alice", Subscription: "free"}},
		{`{"organization":{"uuid":"o-1","organization_type":"claude_max"}}`, nil, protocol.Identity{OrganizationID: "o-1"}},
		{`{}`, protocol.ErrNotFound, protocol.Identity{}},
		{`{"account":null}`, protocol.ErrNotFound, protocol.Identity{}},
		{`{"account":7}`, protocol.ErrInvalid, protocol.Identity{}},
		{`{"account":{"email":7}}`, protocol.ErrInvalid, protocol.Identity{}},
		{`{"account":{"email":"fake\u001b[2J"}}`, protocol.ErrInvalid, protocol.Identity{}},
		{``, protocol.ErrInvalid, protocol.Identity{}},
	} {
		got, err := ReadAccount(strings.NewReader(tt.in))
		if !errors.Is(err, tt.want) {
			t.Errorf("%s: %v", tt.in, err)
		}
		if got.Account != tt.then.Account || got.Email != tt.then.Email || got.Name != tt.then.Name ||
			got.Subscription != tt.then.Subscription ||
			got.Organization != tt.then.Organization ||
			got.OrganizationID != tt.then.OrganizationID {
			t.Errorf("%s: %+v", tt.in, got)
		}
	}
}

func FuzzAccount(f *testing.F) {
	f.Add([]byte(`{"account":{"uuid":"a-1","email":"alice@example.com"},"organization":{"uuid":"o-1"}}`))
	f.Fuzz(func(t *testing.T, src []byte) {
		i, err := readAccount("file", src)
		if err != nil && protocol.CodeOf(err) == protocol.CodeInternal {
			t.Errorf("error %v", err)
		}
		if !printable(i.Email + i.Name + i.Account + i.Organization + i.OrganizationID + i.Subscription) {
			t.Errorf("%q gives what can't be printed: %+v", src, i)
		}
	})
}

// FuzzWritten: what we remember of a view never takes somebody else's work for ours.
func FuzzWritten(f *testing.F) {
	f.Add("a", "", "a")
	f.Add("", "b", "")
	f.Fuzz(func(t *testing.T, digest, next, there string) {
		state := written{Version: 1, Digest: digest, Next: next}.judge(there)
		if state == ViewOurs && (there == "" || there != digest && there != next) {
			t.Errorf("%q is taken for ours beside %q and %q", there, digest, next)
		}
	})
}
