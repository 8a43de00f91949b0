// Package lookalike says what a text is that stands where a token should be, and is none: the word null, a placeholder from
// somebody's documentation, an assignment to a variable, the path of a file. It judges what a person types and what a program
// prints alike.
package lookalike

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/ccagent/ccagent/protocol"
)

// Kind says which way a text was mistaken for a token.
type Kind string

// The kinds. Several of them may fit a text; the one that says most about it is chosen.
const (
	Empty       Kind = "empty"       // there is nothing but blanks
	Encoding    Kind = "encoding"    // it has a byte order mark, or is UTF-16
	Terminal    Kind = "terminal"    // it has codes for a terminal
	Word        Kind = "word"        // a program or a person had no token: null, undefined
	Placeholder Kind = "placeholder" // documentation has it where the token belongs, or somebody has masked the token
	Variable    Kind = "variable"    // it is the name of the variable that holds the token
	Markup      Kind = "markup"      // HTML or XML
	List        Kind = "list"        // a list in JSON
	Object      Kind = "object"      // an object in JSON
	Question    Kind = "question"    // Password:
	Assignment  Kind = "assignment"  // NAME=value
	Quoted      Kind = "quoted"      // it begins or ends with a quote
	Header      Kind = "header"      // Bearer TOKEN, Authorization: Bearer TOKEN
	Armoured    Kind = "armoured"    // a private key or a certificate, or an SSH key
	Lines       Kind = "lines"       // more than one
	Labelled    Kind = "labelled"    // NAME: value
	Words       Kind = "words"       // more than one
	Address     Kind = "address"     // a URL
	Path        Kind = "path"        // of a file
	Refresh     Kind = "refresh"     // a refresh token, which serves nobody as a token
	Long        Kind = "long"        // it is longer than a token may be
	Other       Kind = "other"       // its characters are not those of a token
)

// Text is a text that is no token.
type Text struct {
	Kind Kind
	// What names it, as in "an assignment (NAME=value)". It holds nothing of the text but words that this package knows.
	What string
}

// Of says what a text is that is no token; nil if it may be one. Blanks and empty lines around a token do not count.
func Of(text string) *Text {
	token := strings.TrimSpace(text)
	lower := strings.ToLower(token)
	first, last := token[:min(1, len(token))], token[max(0, len(token)-1):]
	is := func(kind Kind, what string) *Text { return &Text{kind, what} }
	switch {
	case Mark(text) != "" || strings.Contains(text, "\ufeff"):
		return is(Encoding, "text with a byte order mark (BOM)")
	case token == "":
		return is(Empty, "nothing")
	case strings.ContainsAny(text, "\x1b\u009b"):
		return is(Terminal, "text with codes for a terminal (ANSI), such as colours")
	case strings.Contains(text, "\x00"):
		return is(Encoding, "text with NUL bytes, as UTF-16 has them")
	case slices.Contains(notTokens, lower):
		return is(Word, fmt.Sprintf("the word %q", lower))
	case matches(variable, token):
		return is(Variable, "the name of a variable, and not what the variable holds")
	case strings.HasSuffix(token, ":"), strings.HasSuffix(token, "?") && strings.Contains(token, " "):
		return is(Question, "a question")
	case placeholder(token):
		return is(Placeholder, "a placeholder, or a token with a part hidden")
	case matches(bracketed, token):
		return is(Placeholder, "a placeholder")
	case first == "<":
		return is(Markup, "a web page or XML")
	case first == "[":
		return is(List, "a JSON list")
	case first == "{":
		return is(Object, "a JSON object")
	case strings.Contains(token, `{"`), strings.Contains(token, `":"`):
		return is(Other, "JSON with something before it")
	case matches(assignment, token) || matches(command, token):
		return is(Assignment, "an assignment (NAME=value)")
	case strings.ContainsAny(first+last, `"'`) || first == "`" && last == "`" || typographic(token):
		return is(Quoted, "text in quotes")
	case strings.HasPrefix(lower, "bearer ") || strings.HasPrefix(lower, "authorization:"):
		return is(Header, "a header")
	case matches(armoured, token):
		return is(Armoured, "a private key or a certificate")
	case strings.ContainsAny(token, "\r\n"):
		n := strings.Count(strings.ReplaceAll(strings.ReplaceAll(token, "\r\n", "\n"), "\r", "\n"), "\n") + 1
		return is(Lines, fmt.Sprintf("%d lines", n))
	case matches(path, token):
		return is(Path, "the path of a file")
	case matches(address, token):
		return is(Address, "a URL")
	case strings.ContainsAny(token, " \t") && matches(labelled, token):
		return is(Labelled, "a name with a colon")
	case strings.ContainsAny(token, " \t"):
		return is(Words, "several words")
	}
	if of := refreshToken(token); of != "" {
		return is(Refresh, "a refresh token of "+of)
	}
	if long := protocol.TooLong(token); long != "" {
		return is(Long, "text of "+long)
	}
	if !protocol.IsToken(token) {
		return is(Other, unfit(token))
	}
	return nil
}

// Mark names the byte order mark that a text begins with: UTF-8, UTF-16 or UTF-32. It is "" if there is none.
func Mark(text string) string {
	switch {
	case strings.HasPrefix(text, "\xef\xbb\xbf"):
		return "UTF-8"
	case strings.HasPrefix(text, "\xff\xfe\x00\x00"), strings.HasPrefix(text, "\x00\x00\xfe\xff"):
		return "UTF-32"
	case strings.HasPrefix(text, "\xff\xfe"), strings.HasPrefix(text, "\xfe\xff"):
		return "UTF-16"
	}
	return ""
}

// Marked says of what is read from a file, in words that continue its name, that it begins with a byte order mark. It is "" if it
// does not. Unmark is the advice.
func Marked(src []byte) string {
	switch of := Mark(string(src[:min(4, len(src))])); of {
	case "":
		return ""
	case "UTF-8":
		return "begins with a byte order mark (BOM)"
	default:
		return "begins with a byte order mark (BOM): it is " + of
	}
}

// Unmark is what to do with a file that begins with a byte order mark.
const Unmark = "save it as UTF-8 without a BOM (iconv and dos2unix can do so)"

// matches reports whether a text matches a pattern. The pattern is compiled here, because the agent is the same program as the
// worker and never judges a text: compiled in advance, the patterns would take more of its memory than all its other tables.
func matches(pattern, text string) bool { return regexp.MustCompile(pattern).MatchString(text) }

const (
	// assignment is NAME=value as shells, .env files and forms write it. A name in mixed letters counts only if it says what is
	// assigned, because some tokens have a "=" inside. A token may end in "=".
	assignment = `^(?:[A-Z][A-Z0-9_]{0,59}|[a-z][a-z_.-]{0,59}|\$[Ee]nv:\w+|` +
		`\w{0,20}(?i:token|key|secret|password|auth)\w{0,20})[ \t]*=[ \t]*[^= \t]`
	// command is an assignment that a shell runs.
	command = `^(?i:export|set|setx|setenv|declare|local|let|const)[ \t]+\S`
	// labelled is NAME: value.
	labelled = `^[A-Za-z][A-Za-z _-]{0,40}:[ \t]*\S`
	// variable is a name that a shell, a template or a program would have replaced, or one that only variables with tokens have.
	variable = `^(?:\$\{?\w+\}?|\$\(.*\)|%\w+%|(?i:\$env:|\$?env\.|process\.env\.|secrets\.)\w+|\$?\{\{.*\}\}|` +
		`(?:ANTHROPIC|OPENAI|CLAUDE|GEMINI|GOOGLE|AZURE|AWS|GITHUB|GITLAB|HF|MISTRAL|GROQ|VAULT|OPENROUTER|CCAGENT)_` +
		`(?:[A-Z0-9]+_)*(?:KEY|TOKEN|SECRET|PAT|PASSWORD))$`
	bracketed = `^<[\w ."'-]+>$`
	armoured  = `^(?:-----BEGIN |ssh-[a-z0-9]+ |ecdsa-sha2-|AGE-SECRET-KEY-)`
	// path is one that can't be the beginning of a token in base64, which may begin with a slash as well.
	path = `^(?:~/|\.\.?/|[A-Za-z]:\\|\\\\\w|/(?:home|[Uu]sers|root|etc|run|tmp|var|mnt|opt|usr|srv|private|dev|proc|` +
		`secrets|Volumes|Library)/|[\w./-]*\.(?:txt|json|key|pem|env|toml|ya?ml|conf|ini)$)`
	address = `^[a-z][a-z0-9+.-]{0,20}://`
)

// notTokens are what programs print where they have no token.
var notTokens = []string{
	"null", "nil", "none", "undefined", "nan", "n/a", "true", "false", "<nil>", "<null>", "<none>", "(null)", "(none)", "(nil)",
	"{}", "[]", "-", "error", "failed", "expired", "unauthorized", "unauthenticated", "forbidden", "denied", "invalid",
	"[object object]", "<undefined>", "(undefined)", "[object promise]",
}

// typographic reports whether a text stands in quotes as text processors write them.
func typographic(token string) bool {
	first, _ := utf8.DecodeRuneInString(token)
	last, _ := utf8.DecodeLastRuneInString(token)
	const quotes = "\u201c\u201d\u201e\u2018\u2019\u201a\u00ab\u00bb"
	return strings.ContainsRune(quotes, first) || strings.ContainsRune(quotes, last)
}

// begins are how keys of services begin. What follows is looked at for a placeholder by itself.
var begins = []string{
	"sk-ant-api03-", "sk-ant-oat01-", "sk-ant-admin01-", "sk-ant-", "sk-proj-", "sk-or-v1-", "sk-", "pk-", "ghp_", "gho_", "ghs_",
	"github_pat_", "glpat-", "xoxb-", "xoxp-", "hf_", "gsk_", "aiza", "hvs.", "s.", "bearer ",
}

// placeholders are texts that documentation has in the place of a token, without what joins their words.
var placeholders = []string{
	"changeme", "changethis", "changeit", "replaceme", "replacethis", "placeholder", "todo", "fixme", "tbd", "example", "redacted",
	"masked", "hidden", "secret", "password", "passw0rd", "apikey", "key", "token", "accesstoken", "authtoken", "bearertoken",
	"mytoken", "mykey", "mysecret", "myapikey", "mysecretkey", "mypassword", "apitoken", "secretkey", "thekey", "thetoken",
	"foobar", "foo", "bar", "insertkey", "inserttoken", "somekey", "sometoken", "asdf", "abc", "yourkey", "yourtoken",
}

// told are how a placeholder begins that tells what to put there, as in your-gateway-key or insert_key_here.
var told = []string{"your", "insert", "enter", "paste", "put", "replace", "change", "fill"}

// placeholder reports whether a token is one that stands in documentation in the place of a real one, or one that somebody has
// masked before showing it.
func placeholder(token string) bool {
	text := strings.ToLower(strings.Trim(token, "<>[]{}()\"'`"))
	for _, begin := range begins {
		if rest, ok := strings.CutPrefix(text, begin); ok {
			text = rest
			break
		}
	}
	bare := strings.NewReplacer("-", "", "_", "", ".", "", " ", "").Replace(text)
	switch {
	case bare == "", slices.Contains(placeholders, bare), len(bare) > 2 && strings.Trim(bare, bare[:1]) == "":
		return true
	case strings.Contains(text, "..."), strings.Contains(text, "\u2026"), strings.Contains(text, "***"),
		strings.Contains(text, "\u2022\u2022"), strings.Contains(text, "xxxxxx"):
		return true
	}
	names := slices.ContainsFunc([]string{"key", "token", "secret", "password", "credential"}, func(name string) bool {
		return strings.Contains(bare, name)
	})
	return names && len(bare) < 60 && (strings.HasSuffix(bare, "here") ||
		slices.ContainsFunc(told, func(verb string) bool { return strings.HasPrefix(text, verb) }))
}

// refreshTokens are how refresh tokens of known providers begin, with whose they are.
var refreshTokens = []struct{ begin, of string }{
	{"sk-ant-ort", "Claude"}, {"1//", "Google"}, {"ghr_", "GitHub"}, {"xoxe-", "Slack"}, {"rt_", "OpenAI"},
	{"5Aep861", "Salesforce"},
}

// refreshToken says whose refresh token a token is, "" if it is not known to be one.
func refreshToken(token string) string {
	for _, known := range refreshTokens {
		if strings.HasPrefix(token, known.begin) {
			return known.of
		}
	}
	// Keycloak writes into its JWTs what they are.
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return ""
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	var claims struct{ Typ string }
	if err == nil && json.Unmarshal(payload, &claims) == nil && (claims.Typ == "Refresh" || claims.Typ == "Offline") {
		return "Keycloak"
	}
	return ""
}

// unfit says why a text without blanks can't be a token.
func unfit(token string) string {
	if strings.ContainsFunc(token, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return "text with a control character"
	}
	return "text with a character outside ASCII"
}
