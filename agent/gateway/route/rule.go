package route

import (
	"errors"
	"strings"
)

// Rule is a method and a pattern of paths.
type Rule struct {
	method   string // * is any
	segments []string
}

// ParseRule reads a rule as config.toml has it: METHOD /PATH. In the path a * stands for any characters of one segment, and a
// segment ** for any number of segments, also for none. The method * is any, and GET is HEAD as well. The path is written without
// escapes. The error says what is wrong, in words that can follow the rule.
func ParseRule(written string) (Rule, error) {
	method, path, ok := strings.Cut(written, " ")
	switch {
	case !ok || !strings.HasPrefix(path, "/"):
		return Rule{}, errors.New(`is not of the form "GET /path"`)
	case method != "*" && (method == "" || strings.Trim(method, "ABCDEFGHIJKLMNOPQRSTUVWXYZ-") != ""):
		return Rule{}, errors.New("must begin with a method in capital letters, or with * for any")
	case strings.Contains(path, "//"):
		return Rule{}, errors.New("has two slashes in a row, which no request may have")
	case strings.ContainsAny(path, `?#\`) || strings.ContainsFunc(path, func(c rune) bool { return c < ' ' || c == 0x7f }):
		return Rule{}, errors.New("must name a path alone, without a query, a fragment or a backslash")
	case strings.Contains(path, "%"):
		return Rule{}, errors.New("must be written without escapes")
	}
	r := Rule{method, strings.Split(path[1:], "/")}
	for _, segment := range r.segments {
		switch {
		case segment == "." || segment == "..":
			return Rule{}, errors.New("has a dot segment, which no request may have")
		case strings.Contains(segment, "**") && segment != "**":
			return Rule{}, errors.New("has ** within a segment: write * there")
		}
	}
	return r, nil
}

// String returns the rule as [ParseRule] reads it.
func (r Rule) String() string { return r.method + " /" + strings.Join(r.segments, "/") }

func (r Rule) matches(method string, path []string) bool {
	if r.method != "*" && r.method != method && (r.method != "GET" || method != "HEAD") {
		return false
	}
	return matchAll(r.segments, path, "**", func(pattern, segment string) bool {
		return matchAll(split(pattern), split(segment), "*", func(a, b string) bool { return a == b })
	})
}

func split(s string) []string { return strings.Split(s, "") }

// matchAll reports whether a list matches a pattern, of which an element many stands for any number of elements. Its time is
// bounded by the product of both lengths, because only the last many has to be tried again.
func matchAll(pattern, list []string, many string, match func(pattern, element string) bool) bool {
	p, l := 0, 0
	again, from := -1, 0 // where to go on after the last many, and the element up to which it stands
	for l < len(list) {
		switch {
		case p < len(pattern) && pattern[p] == many:
			again, from = p+1, l
			p++
		case p < len(pattern) && match(pattern[p], list[l]):
			p, l = p+1, l+1
		case again >= 0:
			from++
			p, l = again, from
		default:
			return false
		}
	}
	for p < len(pattern) && pattern[p] == many {
		p++
	}
	return p == len(pattern)
}
