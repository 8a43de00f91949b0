package main

import (
	"strings"

	"github.com/ccagent/ccagent/protocol"
)

// formatOf returns the function that writes a token in a format, nil for an unknown format. The client has checked the token
// (protocol.CheckToken), so a format needs only its own quoting.
func formatOf(name string) func(protocol.Token, options) (string, error) {
	switch name {
	case "", "token":
		return func(t protocol.Token, _ options) (string, error) { return t.Value.Reveal() + "\n", nil }
	case "header":
		return func(t protocol.Token, o options) (string, error) { return o.header + t.Value.Reveal() + "\n", nil }
	case "headers":
		return func(t protocol.Token, o options) (string, error) {
			name, value := headerWith(t, o)
			return "{" + quote(name) + ":" + quote(value) + "}\n", nil
		}
	case "json":
		return func(t protocol.Token, _ options) (string, error) { return object(t), nil }
	case "aws":
		return func(t protocol.Token, _ options) (string, error) { return awsKeys(t) }
	case "env":
		return func(t protocol.Token, _ options) (string, error) { return export(t) }
	}
	return nil
}

// headerWith returns the header that carries a token.
func headerWith(t protocol.Token, o options) (name, value string) {
	name, before, _ := strings.Cut(o.header, ": ")
	return name, before + t.Value.Reveal()
}

// awsKeys returns keys of AWS in one object for both who ask for them: AWS's SDKs by credential_process want the keys themselves,
// and Claude Code wants them within Credentials, as `aws sts` prints them.
func awsKeys(t protocol.Token) (string, error) {
	if t.Kind != protocol.KindAWS {
		return "", &protocol.Error{Code: protocol.CodeConfig, Message: "profile " + t.Profile + " has a token, and no keys of AWS",
			Hint: "name a profile whose command prints keys, as aws configure export-credentials does"}
	}
	keys := strings.TrimSuffix(strings.TrimPrefix(t.Value.Reveal(), "{"), "}")
	if !t.Expiry.IsZero() {
		keys += `,"Expiration":` + quote(t.Expiry.UTC().Format("2006-01-02T15:04:05Z"))
	}
	return `{"Version":1,` + keys + `,"Credentials":{` + keys + "}}\n", nil
}

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

// export returns the shell command that puts the token into the variable of its kind. It exports the variable, so that the
// programs that the shell starts get it too.
func export(t protocol.Token) (string, error) {
	name, err := t.Variable()
	if err != nil {
		return "", err
	}
	return name + "='" + strings.ReplaceAll(t.Value.Reveal(), "'", `'\''`) + "'; export " + name + ";\n", nil
}

// quote returns s as a JSON string. Texts of a reply are valid UTF-8 without control characters, because the client has made them
// so.
func quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}
