package worker

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/ccagent/ccagent/lookalike"
	"github.com/ccagent/ccagent/protocol"
)

// misprint says why what a program printed is no token. what completes "the command x ...", and holds nothing of what was printed
// but words of our own lists.
type misprint struct{ what, hint string }

func (m *misprint) Error() string { return m.what }

const tokenAlone = "have it print the token alone, or JSON with the token and its expiry (docs/config.md)"

// parsePrinted reads what a command printed: a token, or a JSON object with the token and its expiry. Blanks and empty lines
// around a token do not count, because Claude Code and Codex trim what their commands print as well. A zero time means that
// nothing was said about the expiry. Its errors are of type *misprint.
func parsePrinted(printed []byte, now time.Time) (protocol.Secret, time.Time, error) {
	if bytes.HasPrefix(bytes.TrimSpace(printed), []byte("{")) {
		return parseObject(printed, now)
	}
	token, err := printedToken(string(printed))
	return token, time.Time{}, err
}

// printedToken returns the one token in a text. It fails where the text is something else, and says what it is.
func printedToken(text string) (protocol.Secret, error) {
	is := lookalike.Of(text)
	if is == nil {
		return protocol.NewSecret(strings.TrimSpace(text)), nil
	}
	token := strings.TrimSpace(text)
	switch is.Kind {
	case lookalike.Empty:
		return protocol.Secret{}, &misprint{"printed no token", printHint(is.Kind)}
	case lookalike.Path, lookalike.Address, lookalike.Labelled, lookalike.Words:
		if complains().MatchString(token) && strings.ContainsAny(token, " \t") {
			return protocol.Secret{}, &misprint{"printed a complaint instead of a token",
				"do what it asks for; it should complain on standard error, and fail"}
		}
	}
	return protocol.Secret{}, &misprint{"printed " + is.What + " instead of a token", printHint(is.Kind)}
}

// printHint is what helps against what a program printed in the place of a token.
func printHint(kind lookalike.Kind) string {
	switch kind {
	case lookalike.Empty:
		return "run it yourself: it must print a token, and nothing else, on standard output"
	case lookalike.Encoding:
		return "have it print UTF-8 without a BOM"
	case lookalike.Terminal:
		return ansi.hint
	case lookalike.Word:
		return "run it yourself to see why: is it signed in, and is the name of the field right that is taken out of its answer?"
	case lookalike.Placeholder:
		return "put the token where the program reads it from: an example still stands there"
	case lookalike.Variable:
		return "no shell has replaced the name; where one is needed, run the program with: sh -c '...'"
	case lookalike.List:
		return "take the token out of the list, as with: jq -r '.[0].token'"
	case lookalike.Assignment:
		return "have it print what follows the = alone"
	case lookalike.Quoted:
		return "print it without them: jq -r, az with --output tsv, aws with --output text, gcloud with --format='value(...)'"
	case lookalike.Header:
		return "have it print what follows Bearer, alone"
	case lookalike.Lines:
		return "a banner or a warning is among them: send everything but the token to standard error, or " + tokenAlone
	case lookalike.Path:
		return "have it print what is in the file, as with: cat FILE"
	case lookalike.Refresh:
		return "have it print the access token; a refresh token is for the provider alone"
	}
	return tokenAlone
}

// pattern is a regular expression that is compiled where it is first used, as those of lookalike are.
func pattern(text string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(text) })
}

// ansi is what programs print that take standard output for a terminal.
var ansi = misprint{
	what: "printed codes for a terminal (ANSI), such as colours",
	hint: "switch its colours off, as with NO_COLOR=1 or --no-color",
}

// object is a JSON object whose values are read when they are asked for.
type object map[string]json.RawMessage

// tokenKeys are the names under which programs print a token, the first that is there counts.
var tokenKeys = []string{"token", "access_token", "accessToken", "authorizationToken", "client_token", "key", "Secret"}

// envelopes are the members in which programs put the token and its expiry: kubectl's plugins (status), `gcloud config
// config-helper` (credential), `vault login` and `vault token create` (auth), `vault read` (data), `sf` (result).
var envelopes = []string{"status", "credential", "auth", "data", "result"}

// parseObject finds the token and its expiry in the JSON that az, gcloud, vault, aws, kubectl's plugins and others print.
func parseObject(printed []byte, now time.Time) (protocol.Secret, time.Time, error) {
	fail := func(what, hint string) (protocol.Secret, time.Time, error) {
		return protocol.Secret{}, time.Time{}, &misprint{what, hint}
	}
	var top object
	in := json.NewDecoder(bytes.NewReader(printed))
	switch err := in.Decode(&top); {
	case err != nil && bytes.ContainsRune(printed, '\x1b'):
		return fail(ansi.what, ansi.hint)
	case err != nil:
		return fail("printed JSON that can't be read", tokenAlone)
	case in.More():
		return fail("printed something else after its JSON", "send everything else to standard error")
	}
	objects := []object{top}
	for _, name := range envelopes {
		inner := top.object(name)
		objects = append(objects, inner, inner.object("data")) // `vault kv get` has data within data
	}
	if keys, at := awsKeys(top); at != nil {
		if keys.Empty() {
			return fail("printed keys of AWS without SecretAccessKey, or with something else than keys",
				"print them as aws configure export-credentials does")
		}
		expiry, err := at.expiry(now)
		return keys, expiry, err
	}
	for _, fields := range objects {
		for _, key := range tokenKeys {
			if !fields.has(key) {
				continue
			}
			var s string
			if json.Unmarshal(fields[key], &s) != nil {
				return fail(fmt.Sprintf("printed a %s that is no string", key), "")
			}
			token, err := printedToken(s)
			if err != nil {
				return protocol.Secret{}, time.Time{}, err
			}
			expiry, err := fields.expiry(now)
			if err == nil && expiry.IsZero() { // `vault read` has lease_duration outside of its data
				expiry, err = top.expiry(now)
			}
			return token, expiry, err
		}
	}
	for _, fields := range objects {
		for _, key := range tokenKeys {
			if fields[key] != nil {
				return fail("printed null as its "+key, "run it yourself to see why: is it signed in?")
			}
		}
	}
	return fail("printed a JSON object without a token under one of the names "+strings.Join(tokenKeys, ", "),
		"print the member with the token alone, as with: jq -r .NAME")
}

// awsKeys returns keys of AWS as docs/protocol.md §4.2 has them, and the object that they were in: as programs for
// credential_process print them, `aws sts` and `aws sso get-role-credentials`. The object is nil where there are none, and the
// keys are empty where they can't be used.
func awsKeys(top object) (keys protocol.Secret, at object) {
	names := []string{"AccessKeyId", "SecretAccessKey", "SessionToken"}
	for _, o := range []object{top, top.object("Credentials"), top.object("roleCredentials")} {
		if !o.has(names[0]) && !o.has(lowerFirst(names[0])) {
			continue
		}
		var members []string
		for _, name := range names {
			value := o[name]
			if value == nil {
				value = o[lowerFirst(name)]
			}
			var s string
			if json.Unmarshal(value, &s) != nil && value != nil || s == "" && name != names[2] ||
				s != "" && (!protocol.IsToken(s) || strings.ContainsAny(s, `"\\`)) {
				return protocol.Secret{}, o
			}
			if s != "" {
				members = append(members, `"`+name+`":"`+s+`"`)
			}
		}
		return protocol.NewSecret("{" + strings.Join(members, ",") + "}"), o
	}
	return protocol.Secret{}, nil
}

func lowerFirst(name string) string { return strings.ToLower(name[:1]) + name[1:] }

// has reports whether a member is there and says something.
func (o object) has(key string) bool { return o[key] != nil && string(o[key]) != "null" }

// object returns a member that is an object, nil if there is none.
func (o object) object(key string) (inner object) {
	if json.Unmarshal(o[key], &inner) != nil {
		return nil
	}
	return inner
}

// lifetimes are the names under which programs print how many seconds a token lives.
var lifetimes = []string{"expires_in", "expiresIn", "lease_duration", "ttl"}

// expiries are the names under which programs print when a token expires. `az` prints expiresOn in the machine's own time zone
// without saying so, and expires_on beside it, which can't be misread and so comes first.
var expiries = []string{
	"expires_at", "expires_on", "expiration", "expirationTimestamp", "Expiration", "expiresOn", "expiresAt", "expires_at_seconds",
	"expiry", "token_expiry",
}

// expiry returns when the token of an object expires, the zero time where the object does not say so. The lifetime counts only if
// it ends before the time of expiry, because programs print the lifetime of a token that they have kept for a while.
func (o object) expiry(now time.Time) (time.Time, error) {
	at, err := o.expiresAt()
	if err != nil {
		return at, err
	}
	for _, key := range lifetimes {
		if !o.has(key) {
			continue
		}
		n, ok := number(o[key])
		switch {
		case !ok:
			return time.Time{}, &misprint{"printed an " + key + " that is no number of seconds", ""}
		case n == 0 && key != "expires_in" && key != "expiresIn":
			continue // of Vault: it does not expire
		}
		end := now.Add(time.Duration(min(n, maxSeconds) * float64(time.Second))).Truncate(time.Millisecond)
		if at.IsZero() || end.Before(at) {
			at = end
		}
		break
	}
	return at, nil
}

// expiresAt returns the time of expiry that an object names, the zero time if it names none.
func (o object) expiresAt() (time.Time, error) {
	for _, key := range expiries {
		value := o[key]
		if whole := o.object(key)["datetime"]; whole != nil { // of gcloud: a time of Python's in its parts, and whole
			value = whole
		}
		var s string
		isText := json.Unmarshal(value, &s) == nil
		if !o.has(key) || isText && slices.Contains([]string{"", "N/A", "never"}, s) {
			continue
		}
		if n, ok := number(value); ok {
			return unixTime(n), nil
		}
		zone := time.UTC
		if key == "expiresOn" {
			zone = time.Local
		}
		t, ok := writtenTime(s, zone)
		if !isText || !ok {
			return time.Time{}, &misprint{"printed an " + key + " that is neither a number nor a time", ""}
		}
		return notBefore(epoch, t.Truncate(time.Millisecond)), nil
	}
	return time.Time{}, nil
}

// number reads a number, or a number in a string.
func number(raw json.RawMessage) (n float64, ok bool) {
	value := string(raw)
	var s string
	if json.Unmarshal(raw, &s) == nil {
		value = s
	}
	n, err := strconv.ParseFloat(value, 64)
	return n, err == nil && !math.IsNaN(n) && math.Abs(n) <= lastUnix*1000
}

// writtenTime reads a time in RFC 3339 or as Python and PowerShell write it. One without a time zone is in zone.
func writtenTime(s string, zone *time.Location) (time.Time, bool) {
	s = strings.TrimSuffix(s, " UTC")
	for _, layout := range []string{
		time.RFC3339, "2006-01-02 15:04:05Z07:00", "2006-01-02T15:04:05Z0700", "2006-01-02 15:04:05Z0700", "2006-01-02 15:04:05 Z0700",
		"2006-01-02T15:04:05", "2006-01-02 15:04:05", "01/02/2006 15:04:05 Z07:00",
	} {
		if t, err := time.ParseInLocation(layout, s, zone); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}

const (
	lastUnix   = 253402300799            // the last second of the year 9999
	maxSeconds = 10 * 365 * 24 * 60 * 60 // a longer expires_in is cut to ten years
)

// epoch is the expiry of what has expired long ago. The zero time would say never.
var epoch = time.Unix(1, 0)

// unixTime reads seconds, or milliseconds where that many seconds would be beyond the year 9999.
func unixTime(n float64) time.Time {
	if n <= lastUnix {
		n *= 1000
	}
	return notBefore(epoch, time.UnixMilli(int64(math.Round(n))))
}

func notBefore(first, t time.Time) time.Time {
	if t.Before(first) {
		return first
	}
	return t
}
