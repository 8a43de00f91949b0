// Package place says where in an HTTP request a token goes: in which header or query parameter, and in what form.
package place

import (
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"strings"
)

// Place is where in a request a token goes. The zero value is [Bearer]. Places can be compared with ==.
type Place struct {
	kind kind
	name string // of the header in its canonical form, of the parameter, or of the user
}

type kind uint8

const (
	bearer kind = iota
	header
	basic
	query
)

// Bearer is the Authorization header with the scheme Bearer (RFC 6750 §2.1).
var Bearer = Place{}

// Header is a header that holds the token alone.
func Header(name string) Place { return Place{header, http.CanonicalHeaderKey(name)} }

// Basic is the Authorization header with the scheme Basic (RFC 7617): the token is the password of user.
func Basic(user string) Place { return Place{basic, user} }

// Query is a parameter of the URL's query. A server may write it into its log, so it is for services that know no other place.
func Query(name string) Place { return Place{query, name} }

// reserved are headers that say how a request is carried, or that carry what is another's. A token in one of them would change
// the meaning of the request.
var reserved = []string{
	"Connection", "Content-Length", "Content-Type", "Cookie", "Expect", "Host", "Keep-Alive", "Proxy-Authorization",
	"Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
}

// Parse reads a place as config.toml has it: bearer, header:NAME, basic:USER or query:NAME. The error says what is wrong, in
// words that can follow the place.
func Parse(written string) (Place, error) {
	form, name, named := strings.Cut(written, ":")
	switch {
	case written == "bearer":
		return Bearer, nil
	case !named || form != "header" && form != "basic" && form != "query":
		return Place{}, errors.New("is none of bearer, header:NAME, basic:USER and query:NAME")
	case name == "":
		return Place{}, errors.New("names nothing after the colon")
	}
	switch form {
	case "header":
		p := Header(name)
		if strings.ContainsFunc(name, func(c rune) bool { return !tokenCharacter(c) }) {
			return Place{}, errors.New("does not name a header")
		}
		for _, other := range reserved {
			if p.name == other {
				return Place{}, errors.New("names a header that has another meaning")
			}
		}
		return p, nil
	case "basic":
		if strings.ContainsFunc(name, func(c rune) bool { return c < ' ' || c == ':' || c == 0x7f }) { // RFC 7617 §2
			return Place{}, errors.New("must name a user without a colon and without control characters")
		}
		return Basic(name), nil
	}
	if strings.ContainsFunc(name, func(c rune) bool { return !tokenCharacter(c) || strings.ContainsRune("%&+#'", c) }) {
		return Place{}, errors.New("must name a parameter that needs no escapes")
	}
	return Query(name), nil
}

// tokenCharacter reports whether c may be in the name of a header (RFC 9110 §5.6.2).
func tokenCharacter(c rune) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || strings.ContainsRune("!#$%&'*+-.^_`|~", c)
}

// String returns the place as [Parse] reads it.
func (p Place) String() string {
	switch p.kind {
	case header:
		return "header:" + p.name
	case basic:
		return "basic:" + p.name
	case query:
		return "query:" + p.name
	}
	return "bearer"
}

// Header returns the name of the header in which the token goes, "" if it goes into the query.
func (p Place) Header() string {
	switch p.kind {
	case header:
		return p.name
	case query:
		return ""
	}
	return "Authorization"
}

// Query returns the name of the query parameter in which the token goes, "" if it goes into a header.
func (p Place) Query() string {
	if p.kind == query {
		return p.name
	}
	return ""
}

// Put puts a token into a request, in place of what is there. It changes the map h, and of the URL u only RawQuery, in which all
// other parameters stay as they are written.
func (p Place) Put(h http.Header, u *url.URL, token string) {
	switch p.kind {
	case bearer:
		h["Authorization"] = []string{"Bearer " + token}
	case header:
		h[p.name] = []string{token}
	case basic:
		h["Authorization"] = []string{"Basic " + base64.StdEncoding.EncodeToString([]byte(p.name+":"+token))}
	case query:
		u.RawQuery = Without(u.RawQuery, func(name, _ string) bool { return name == p.name })
		if u.RawQuery != "" {
			u.RawQuery += "&"
		}
		u.RawQuery += p.name + "=" + url.QueryEscape(token)
	}
}

// Without returns a query without the parameters that drop names. Those that stay are left as they are written, and in their
// order. drop gets the name and the value without escapes; what can't be unescaped is given as it is written. A semicolon
// separates parameters as well, because some servers read it so.
func Without(rawQuery string, drop func(name, value string) bool) string {
	var kept strings.Builder
	for separator := ""; rawQuery != ""; {
		pair, next := rawQuery, ""
		if i := strings.IndexAny(rawQuery, "&;"); i >= 0 {
			pair, next, rawQuery = rawQuery[:i], rawQuery[i:i+1], rawQuery[i+1:]
		} else {
			rawQuery = ""
		}
		name, value, _ := strings.Cut(pair, "=")
		if !drop(unescaped(name), unescaped(value)) {
			if kept.Len() > 0 {
				kept.WriteString(separator)
			}
			kept.WriteString(pair)
		}
		separator = next
	}
	return kept.String()
}

func unescaped(s string) string {
	if plain, err := url.QueryUnescape(s); err == nil {
		return plain
	}
	return s
}
