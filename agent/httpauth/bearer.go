package httpauth

import (
	"strings"

	"github.com/ccagent/ccagent/protocol"
)

// presence is what a request's Authorization header is.
type presence int

const (
	absent    presence = iota // there is none
	foreign                   // of another scheme, which proves nothing here
	malformed                 // no token, more than one header, or what no token can be
	present
)

// bearer reads a request's Authorization header fields (RFC 6750 section 2.1, RFC 9110 section 11.6.2): the scheme in any
// case, one space or more, a token (see protocol.IsToken). White space around a field's value has
// been the HTTP server's to remove.
func bearer(fields []string) (token string, p presence) {
	if len(fields) == 0 {
		return "", absent
	}
	if len(fields) > 1 {
		return "", malformed // which of them would a proxy have looked at?
	}
	scheme, token, _ := strings.Cut(fields[0], " ")
	switch {
	case strings.EqualFold(scheme, "Bearer"):
	case isScheme(scheme):
		return "", foreign
	default:
		return "", malformed
	}
	token = strings.TrimLeft(token, " ")
	if !protocol.IsToken(token) {
		return "", malformed
	}
	return token, present
}

// isScheme reports whether s can name a scheme: a token of RFC 9110 section 5.6.2.
func isScheme(s string) bool {
	for i := range len(s) {
		c := s[i]
		if c <= ' ' || c > '~' || strings.IndexByte(`"(),/:;<=>?@[\]{}`, c) >= 0 {
			return false
		}
	}
	return s != ""
}
