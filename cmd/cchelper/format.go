package main

import (
	"strings"

	"github.com/ccagent/ccagent/protocol"
)

// formatOf returns what writes a token in the format, nil for an unknown one. Tokens are printable ASCII by the time they are
// here (protocol.CheckToken), so a format has its own quoting to see to and nothing else.
func formatOf(name string) func(protocol.Token) (string, error) {
	switch name {
	case "", "token":
		return func(t protocol.Token) (string, error) { return t.Value.Reveal() + "\n", nil }
	case "header":
		return func(t protocol.Token) (string, error) { return bearer(t, "Authorization: ") + "\n", nil }
	case "headers":
		return func(t protocol.Token) (string, error) {
			return `{"Authorization":` + quote(bearer(t, "")) + "}\n", nil
		}
	case "json":
		return func(t protocol.Token) (string, error) { return object(t), nil }
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
func export(t protocol.Token) (string, error) {
	name, err := t.Variable()
	if err != nil {
		return "", err
	}
	return name + "='" + strings.ReplaceAll(t.Value.Reveal(), "'", `'\''`) + "'; export " + name + ";\n", nil
}

// quote returns s as a JSON string. What the protocol's client lets through is valid UTF-8 without control characters.
func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}
