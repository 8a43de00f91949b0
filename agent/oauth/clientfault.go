package oauth

import (
	"strings"

	"github.com/ccagent/ccagent/protocol"
)

// clientFault is what a provider's words say of our client more exactly than the error code does: invalid_client alone may mean
// that its secret has expired, that it is another one, or that there is no such client.
type clientFault struct {
	numbers []string               // of Entra's errors that mean this
	words   []string               // folded; an answer with all of them means this
	message string                 // in place of the general one; "": that one will do
	hint    func(c *Client) string // what helps
}

// clientFaults returns the faults that are known, the more exact ones first. Entra's numbers are documented at
// https://learn.microsoft.com/entra/identity-platform/reference-error-codes (docs/facts.md).
func clientFaults() []clientFault {
	giveAgain := func(c *Client) string {
		if looksLikeID(c.Secret.Reveal()) {
			return "what was given looks like the ID of a secret, and not its value; give the value to: " +
				c.Login("--client-secret-stdin")
		}
		return "give the client secret again: " + c.Login("--client-secret-stdin")
	}
	says := func(hint string) func(*Client) string { return func(*Client) string { return hint } }
	return []clientFault{
		{[]string{"7000222"}, []string{"secret", "expired"}, "the client secret has expired", func(c *Client) string {
			return "make a new secret for this client at the provider, and give it to: " + c.Login("--client-secret-stdin")
		}},
		{[]string{"7000215"}, nil, "the client secret is not that of this client", giveAgain},
		{[]string{"700016", "700038"}, nil, "the provider has no such client", says("check client_id in config.toml, and whether the " +
			"issuer is the one where it is registered (at Entra: the tenant)")},
		{[]string{"7000112", "7000114"}, nil, "this client is switched off at the provider", says("have whoever runs the provider " +
			"switch it on")},
		{[]string{"7000218"}, nil, "the provider wants this client to authenticate", func(c *Client) string {
			return "set client_auth = \"client_secret_post\" in config.toml, then: " + c.Login("--client-secret-stdin") +
				"\nor have the client registered as a public one"
		}},
		{[]string{"700025"}, nil, "the provider knows this client as a public one, which has no secret", says("set client_auth = " +
			"\"none\" in config.toml")},
		{nil, []string{"client", "secret"}, "", giveAgain},
		{nil, []string{"client", "credentials"}, "", giveAgain}, // Keycloak says unauthorized_client here
	}
}

// in reports whether folded words speak of the fault.
func (f clientFault) in(words string) bool {
	for _, n := range f.numbers {
		if _, rest, ok := strings.Cut(words, "aadsts"+n); ok && (rest == "" || rest[0] < '0' || rest[0] > '9') {
			return true
		}
	}
	for _, word := range f.words {
		if !strings.Contains(words, word) {
			return false
		}
	}
	return f.words != nil
}

// refine says of an error that blames our client what the provider's words tell besides its code. shown is what the message shows
// of the answer.
func (a *answer) refine(e *Error, description, shown string) {
	if e.Condition.Code != protocol.CodeConfig {
		return
	}
	secret := a.client.Auth == ClientSecretBasic || a.client.Auth == ClientSecretPost
	words := fold(shown + " " + strings.ReplaceAll(description, ":", " "))
	for _, fault := range clientFaults() {
		if !fault.in(words) || fault.message == "" && (!secret || e.Condition.Hint != "") {
			continue
		}
		if fault.message != "" {
			e.Condition.Message = fault.message + " (" + shown + ")"
		}
		e.Condition.Hint = fault.hint(a.client)
		return
	}
	if e.code == fold("unauthorized_client") && e.Condition.Hint == "" {
		e.Condition.Hint = "the provider knows this client, and does not let it do this: have its grant allowed there, or check " +
			"client_id and grant in config.toml"
	}
}

// looksLikeID reports whether a secret has the form of a UUID. Entra shows the ID of a secret beside its value.
func looksLikeID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i, c := range s {
		switch i {
		case 8, 13, 18, 23:
			if c != '-' {
				return false
			}
		default:
			if !strings.ContainsRune("0123456789abcdefABCDEF", c) {
				return false
			}
		}
	}
	return true
}
