package httpauth

import (
	"strings"

	"github.com/ccagent/ccagent/protocol"
)

// presence says what a request's Authorization header is.
type presence int

const (
	absent    presence = iota // there is none
	foreign                   // it has another scheme, which proves nothing here
	malformed                 // it has no token or what can't be one, or there is more than one header
	present                   // it has a token
)

// bearer reads a request's Authorization header fields (RFC 6750 section 2.1, RFC 9110 section 11.6.2): the scheme in capital or
// small letters, at least one space, and a token (see protocol.IsToken). The HTTP server has removed white space around the
// value.
func bearer(fields []string) (token string, p presence) {
	if len(fields) == 0 {
		return "", absent
	}
	if len(fields) > 1 {
		return "", malformed // a proxy might have looked at another one of them than we would
	}
	scheme, token, _ := strings.Cut(fields[0], " ")
	token = strings.TrimLeft(token, " ")
	switch isBearer := strings.EqualFold(scheme, "Bearer"); {
	case isBearer && protocol.IsToken(token):
		return token, present
	case !isBearer && isScheme(scheme):
		return "", foreign
	}
	return "", malformed
}

// isScheme reports whether s can be the name of a scheme: a token as RFC 9110 section 5.6.2 defines it.
func isScheme(s string) bool {
	for i := range len(s) {
		c := s[i]
		if c <= ' ' || c > '~' || strings.IndexByte(`"(),/:;<=>?@[\]{}`, c) >= 0 {
			return false
		}
	}
	return s != ""
}
