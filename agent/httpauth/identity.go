package httpauth

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/ccagent/ccagent/protocol"
)

// maxClaim bounds a text of an identity, in bytes.
const maxClaim = 2048

// identityOf takes what is known of a person from a token's claims, or from what an introspection says: sub, email, name, and
// the scopes of scope (RFC 9068, RFC 7662) or scp (as some issuers have it).
func identityOf(claims map[string]json.RawMessage) protocol.Identity {
	id := protocol.Identity{
		Account: claim(claims["sub"]),
		Email:   claim(claims["email"]),
		Name:    claim(claims["name"]),
		Fetched: time.Now().Round(0),
	}
	if id.Name == "" {
		id.Name = claim(claims["username"])
	}
	for _, name := range []string{"scope", "scp"} {
		var list []string
		if json.Unmarshal(claims[name], &list) != nil {
			list = strings.Fields(claim(claims[name]))
		}
		for _, s := range list {
			id.Scopes = append(id.Scopes, clean(s))
		}
	}
	return id
}

// claim is a claim's text, "" where it is of another type.
func claim(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return ""
	}
	return clean(s)
}

// clean makes a text fit to be shown and logged.
func clean(s string) string {
	if len(s) > maxClaim {
		s = s[:maxClaim]
	}
	return strings.Map(func(c rune) rune {
		if c < ' ' || c >= 0x7f && c < 0xa0 {
			return -1
		}
		return c
	}, strings.ToValidUTF8(s, ""))
}
