package route

import (
	"errors"
	"net/url"
	"strings"
)

// CheckTarget says what is wrong with the target of a request, as the request line has it. A gateway judges a path, and the
// server behind it reads the path again: so what two programs could read in two ways is refused. Only the origin-form is taken
// (RFC 9112 §3.2.1): a path, and maybe a query.
func CheckTarget(target string) error {
	path, _, _ := strings.Cut(target, "?") // a query is the server's to read
	switch {
	case !strings.HasPrefix(path, "/"):
		return errors.New("the target of the request does not begin with a slash")
	case strings.ContainsFunc(target, func(c rune) bool { return c <= ' ' || c > '~' }):
		return errors.New("the target of the request has a character that must be escaped")
	case strings.Contains(path, `\`):
		return errors.New("the path has a backslash")
	case strings.Contains(target, "#"):
		return errors.New("the target of the request has a fragment")
	case strings.Contains(path, "//"):
		return errors.New("the path has two slashes in a row")
	}
	plain, err := url.PathUnescape(path)
	if err != nil {
		return errors.New("the path has an escape that is none")
	}
	if u := (&url.URL{Path: plain, RawPath: path}); u.EscapedPath() != path {
		return errors.New("the path has a character that must be escaped")
	}
	for _, escape := range []string{"%2e", "%5c", "%2f"} {
		if escape != "%2f" && strings.Contains(strings.ToLower(path), escape) || strings.Contains(strings.ToLower(plain), escape) {
			return errors.New("the path has an escaped dot or backslash, or something that is escaped twice")
		}
	}
	if strings.ContainsFunc(plain, func(c rune) bool { return c < ' ' || c == 0x7f }) {
		return errors.New("the path has an escaped control character")
	}
	for i, segment := range strings.Split(plain, "/") {
		name, _, _ := strings.Cut(segment, ";") // some servers ignore what is behind it
		if name == "." || name == ".." {
			return errors.New("the path has a dot segment")
		}
		if segment == "" && i > 0 && i < strings.Count(plain, "/") {
			return errors.New("the path has two slashes in a row, one of them escaped")
		}
	}
	return nil
}

// readings returns the segments of an escaped path as the standard has them, in which an escaped slash is a part of its segment
// (RFC 3986 §2.2), and as servers read it that unescape the path first and ignore parameters behind a semicolon.
func readings(path string) (once, twice []string) {
	for segment := range strings.SplitSeq(strings.TrimPrefix(path, "/"), "/") {
		plain, err := url.PathUnescape(segment)
		if err != nil {
			plain = segment
		}
		once = append(once, plain)
		for part := range strings.SplitSeq(plain, "/") {
			name, _, _ := strings.Cut(part, ";")
			twice = append(twice, name)
		}
	}
	return once, twice
}
