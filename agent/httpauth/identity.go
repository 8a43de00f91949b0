package httpauth

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/ccagent/ccagent/protocol"
)

// maxClaim bounds the text of a claim, in bytes.
const maxClaim = 2048

// identityOf reads from a token's claims, or from the answer of an introspection endpoint, whose token it is: sub, email, name,
// and the scopes in scope (RFC 9068, RFC 7662) or in scp, as some issuers call it.
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
		scopes := strings.Fields(claim(claims[name]))
		for _, s := range append(scopes, texts(claims[name])...) {
			id.Scopes = append(id.Scopes, clean(s))
		}
	}
	return id
}

// texts returns the strings of a list, and leaves out what else is in it.
func texts(raw json.RawMessage) []string {
	var items []json.RawMessage
	if json.Unmarshal(raw, &items) != nil {
		return nil
	}
	var all []string
	for _, item := range items {
		var s string
		if json.Unmarshal(item, &s) == nil && s != "" {
			all = append(all, s)
		}
	}
	return all
}

// claim returns the text of a claim, "" where it has another type.
func claim(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return ""
	}
	return clean(s)
}

// clean makes a text fit to be shown and logged: short, and without control characters.
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
