package main

import (
	"strings"

	"github.com/ccagent/ccagent/protocol"
)

// formatOf returns what writes a token in the format, nil for an unknown one. Tokens are printable ASCII by the time they are
// here (protocol.CheckToken), so a format has its own quoting to see to and nothing else.
func formatOf(name string) func(protocol.Token) string {
	switch name {
	case "", "token":
		return func(t protocol.Token) string { return t.Value.Reveal() + "\n" }
	case "header":
		return func(t protocol.Token) string { return bearer(t, "Authorization: ") + "\n" }
	case "headers":
		return func(t protocol.Token) string { return `{"Authorization":` + quote(bearer(t, "")) + "}\n" }
	case "json":
		return object
	case "env":
		return export
	}
	return nil
}

func bearer(t protocol.Token, before string) string { return before + "Bearer " + t.Value.Reveal() }

func object(t protocol.Token) string {
	expiry := "null"
	if !t.Expiry.IsZero() {
		expiry = quote(t.Expiry.UTC().Format("2006-01-02T15:04:05.999Z07:00"))
	}
	return `{"profile":` + quote(t.Profile) +
		`,"token":` + quote(t.Value.Reveal()) +
		`,"kind":` + quote(string(t.Kind)) +
		`,"expires_at":` + expiry + "}\n"
}

// export sets the variable that the token's kind is read from, in a way that every Bourne shell takes: the assignment alone
// would stay within the shell.
func export(t protocol.Token) string {
	name := "ANTHROPIC_AUTH_TOKEN"
	switch t.Kind {
	case protocol.KindOAuth:
		name = "CLAUDE_CODE_OAUTH_TOKEN"
	case protocol.KindAPIKey:
		name = "ANTHROPIC_API_KEY"
	}
	return name + "='" + strings.ReplaceAll(t.Value.Reveal(), "'", `'\''`) + "'; export " + name + ";\n"
}

// quote returns s as a JSON string. What the protocol's client lets through is valid UTF-8 without control characters.
func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}
