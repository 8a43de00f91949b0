package protocol

// Derived is which token of a profile is wanted in place of its access token. The zero Derived is the access token itself.
type Derived struct {
	// IDToken is the ID token of the sign-in (OpenID Connect Core section 2), as the provider gave it last.
	IDToken bool
}

// Wanted reports whether another token than the access token is wanted.
func (d Derived) Wanted() bool { return d != (Derived{}) }

// notDerived is the error for a reply that does not say that its token is the one that was wanted.
func notDerived() error {
	return &Error{
		Code:    CodeInternal,
		Message: "the agent gave the profile's access token, which is not what was asked for",
		Hint:    "the agent is older than the program that asks it: stop it with `ccagent stop`, and try again",
	}
}
