package protocol

import (
	"slices"
	"strings"
)

// Derived is which token of a profile is wanted in place of its access token. The zero Derived is the access token itself.
type Derived struct {
	// IDToken is the ID token of the sign-in (OpenID Connect Core section 2), as the provider gave it last. It goes with none of
	// the others.
	IDToken bool
	// A token for these: scopes that are separated by blanks (RFC 6749 section 3.3), the name of an audience (RFC 8693 section 2.1),
	// and absolute URIs of services that are separated by blanks (RFC 8707 section 2). "" says nothing of it.
	Scope, Audience, Resource string
}

// Wanted reports whether another token than the access token is wanted.
func (d Derived) Wanted() bool { return d != (Derived{}) }

// maxDerived is how long each text of a Derived may be, in bytes.
const maxDerived = 2048

// Normal returns d in the form in which two that want the same are equal, and checks it (ErrConfig). It shares no memory with d.
func (d Derived) Normal() (Derived, error) {
	d = Derived{d.IDToken, sortedWords(d.Scope), strings.Clone(d.Audience), sortedWords(d.Resource)}
	wrong := func(what string) (Derived, error) {
		return Derived{}, &Error{Code: CodeConfig, Message: what}
	}
	switch {
	case d.IDToken && d != (Derived{IDToken: true}):
		return wrong("an ID token is the same for every scope, audience and resource: ask for it alone")
	case len(d.Scope) > maxDerived || len(d.Audience) > maxDerived || len(d.Resource) > maxDerived:
		return wrong("a scope, audience or resource is longer than 2048 bytes")
	case strings.ContainsFunc(d.Scope, func(r rune) bool { return r < ' ' || r > '~' || r == '"' || r == '\\' }):
		return wrong(quote(d.Scope) + " is not a scope")
	case oneLine(d.Audience, maxDerived) != d.Audience:
		return wrong("the audience holds characters that can't be shown")
	}
	for uri := range strings.FieldsSeq(d.Resource) {
		if !strings.Contains(uri, ":") || strings.Contains(uri, "#") || oneLine(uri, maxDerived) != uri {
			return wrong("the resource " + quote(uri) + " is not an absolute URI without a fragment")
		}
	}
	return d, nil
}

// sortedWords returns the words of s in order and once each.
func sortedWords(s string) string {
	words := strings.Fields(s)
	slices.Sort(words)
	return strings.Clone(strings.Join(slices.Compact(words), " "))
}

// notDerived is the error for a reply that does not say that its token is the one that was wanted.
func notDerived() error {
	return &Error{
		Code:    CodeInternal,
		Message: "the agent gave the profile's access token, which is not what was asked for",
		Hint:    "the agent is older than the program that asks it: stop it with `ccagent stop`, and try again",
	}
}
