package protocol

import "strconv"

// MaxToken is the size of the longest token, in bytes (docs/protocol.md §4.2).
const MaxToken = 16384

// TokenForm says in words what [IsToken] asks for, for a message like "the key is not ...".
const TokenForm = "one word of printable ASCII, of 16384 characters at most"

// TokenByte reports whether c may stand in a token: printable ASCII other than the space (docs/protocol.md §4.2).
func TokenByte(c byte) bool { return c > ' ' && c <= '~' }

// IsToken reports whether s is safe to put into a line, a header or a variable: it has at least one byte and at most [MaxToken],
// and [TokenByte] holds for each.
func IsToken(s string) bool {
	for i := range len(s) {
		if !TokenByte(s[i]) {
			return false
		}
	}
	return s != "" && len(s) <= MaxToken
}

// TooLong says of a text that is longer than a token may be how long it is; "" for any other.
func TooLong(s string) string {
	if len(s) <= MaxToken {
		return ""
	}
	return strconv.Itoa(len(s)) + " bytes (longer than the 16384 that a token may have)"
}

// Shorten is what helps against a token that is too long.
const Shorten = "have whoever issues the token put less into it: fewer groups, roles or scopes"

// CheckToken refuses, as ErrInvalid, what is not a token by [IsToken], and says what is wrong with it.
func CheckToken(t Secret) error {
	switch s := t.Reveal(); {
	case IsToken(s):
		return nil
	case s == "":
		return &Error{Code: CodeInvalid, Message: "the token is empty"}
	case len(s) > MaxToken:
		return &Error{Code: CodeInvalid, Message: "the token has " + TooLong(s), Hint: Shorten}
	}
	return &Error{Code: CodeInvalid, Message: "the token holds a space, a control character or a character outside ASCII"}
}
