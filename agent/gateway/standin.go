package gateway

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/ccagent/ccagent/agent/gateway/route"
	"github.com/ccagent/ccagent/place"
	"github.com/ccagent/ccagent/protocol"
)

const (
	standInBegin  = "ccag_"
	standInLength = len(standInBegin) + 43 // 32 bytes in base64url
	standInBytes  = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
)

// standIns are those of a session, one for each route. Of each only the digest is kept.
type standIns []standIn

type standIn struct {
	digest [sha256.Size]byte
	route  int
}

// add makes a stand-in for a route, which is named by its number.
func (s *standIns) add(route int) protocol.Secret {
	random := make([]byte, 32)
	rand.Read(random) // it does not fail
	text := standInBegin + base64.RawURLEncoding.EncodeToString(random)
	*s = append(*s, standIn{sha256.Sum256([]byte(text)), route})
	return protocol.NewSecret(text)
}

// looksLike reports whether a text has the form of a stand-in.
func looksLike(text string) bool {
	return len(text) == standInLength && strings.HasPrefix(text, standInBegin)
}

// hide returns a text without what has the form of a stand-in, also where some of its characters are escaped.
func hide(text string) string {
	if plain, err := url.PathUnescape(text); err == nil && strings.Contains(plain, standInBegin) {
		text = plain
	}
	for from := 0; ; {
		at := strings.Index(text[from:], standInBegin)
		if at < 0 {
			return text
		}
		from += at + len(standInBegin)
		end := from
		for end < len(text) && strings.IndexByte(standInBytes, text[end]) >= 0 {
			end++
		}
		text = text[:from] + "..." + text[end:]
	}
}

// find returns the number of the route for which a text is the stand-in, -1 if it is none. The time that it takes tells neither
// which stand-in it was nor how much of it was right.
func (s standIns) find(text string) int {
	digest := sha256.Sum256([]byte(text))
	found := 0
	for i := range s {
		equal := subtle.ConstantTimeCompare(digest[:], s[i].digest[:])
		found = subtle.ConstantTimeSelect(equal, s[i].route+1, found)
	}
	return found - 1
}

// carried is what a request carries of credentials.
type carried struct {
	own       bool   // the stand-in of its route
	elsewhere bool   // that of another route
	unknown   bool   // what has the form of one and is of another session
	foreign   string // the header or the parameter with another credential; "" if there is none
}

// credentialHeaders are headers that hold nothing but a credential.
var credentialHeaders = []string{
	"Authorization", "Api-Key", "Deploy-Token", "Job-Token", "Ocp-Apim-Subscription-Key", "Private-Token", "X-Access-Token",
	"X-Amz-Security-Token", "X-Api-Key", "X-Auth-Token", "X-Goog-Api-Key",
}

// credentialParameters are such parameters of a query, in small letters.
var credentialParameters = []string{
	"access_token", "api-key", "api_key", "job_token", "oauth_token", "private_token", "subscription-key",
}

// headerName returns the name of a header as servers read it that hand headers on as variables, in which a hyphen and an
// underscore are the same (RFC 3875 §4.1.18).
func headerName(name string) string {
	return http.CanonicalHeaderKey(strings.ReplaceAll(name, "_", "-"))
}

// isHeader reports whether a header of a request to the route holds a credential.
func isHeader(r *route.Route, name string) bool {
	name = headerName(name)
	return slices.Contains(credentialHeaders, name) || name == headerName(r.Place.Header())
}

// isParameter is isHeader for a parameter of the query.
func isParameter(r *route.Route, name string) bool {
	return slices.Contains(credentialParameters, strings.ToLower(name)) || name != "" && name == r.Place.Query() ||
		name == "key" && r.Errors == route.Google
}

// examine says what a request to a route, the i-th, carries. Wherever in a header or in the query a stand-in is, it is found.
func (s standIns) examine(req *http.Request, r *route.Route, i int) (c carried) {
	see := func(what, value string, credential bool) {
		switch text, ok := within(value); {
		case ok:
			switch s.find(text) {
			case -1:
				c.unknown = true
			case i:
				c.own = true
			default:
				c.elsewhere = true
			}
		case credential && value != "" && c.foreign == "":
			c.foreign = what
		}
	}
	for name, values := range req.Header {
		for _, value := range values {
			if name != "Cookie" {
				see("the header "+name, value, isHeader(r, name))
			}
		}
	}
	place.Without(req.URL.RawQuery, func(name, value string) bool {
		see("the parameter "+name, value, isParameter(r, name))
		return false
	})
	return c
}

// strip takes every credential out of a request to a route.
func strip(req *http.Request, r *route.Route) {
	for name, values := range req.Header {
		holds := func(value string) bool { _, ok := within(value); return ok }
		if isHeader(r, name) || name != "Cookie" && slices.ContainsFunc(values, holds) {
			delete(req.Header, name)
		}
	}
	req.URL.RawQuery = place.Without(req.URL.RawQuery, func(name, value string) bool {
		_, ok := within(value)
		return ok || isParameter(r, name)
	})
}

// within returns what has the form of a stand-in in a value: the value itself, what stands behind the name of a scheme, or the
// password or the user in the scheme Basic.
func within(value string) (string, bool) {
	if looksLike(value) {
		return value, true
	}
	scheme, rest, ok := strings.Cut(value, " ")
	if !ok {
		return "", false
	}
	rest = strings.TrimLeft(rest, " ")
	if looksLike(rest) {
		return rest, true
	}
	if !strings.EqualFold(scheme, "Basic") {
		return "", false
	}
	plain, err := base64.StdEncoding.DecodeString(rest)
	if err != nil {
		return "", false
	}
	user, password, _ := strings.Cut(string(plain), ":")
	for _, text := range []string{password, user} {
		if looksLike(text) {
			return text, true
		}
	}
	return "", false
}
