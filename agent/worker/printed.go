package worker

import (
	"bytes"
	"encoding/json"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/ccagent/ccagent/agent/oauth"
	"github.com/ccagent/ccagent/lookalike"
	"github.com/ccagent/ccagent/protocol"
)

// misprint says why what a program printed is no token. what completes "the command x ...", and holds nothing of what was printed
// but words of our own lists.
type misprint struct{ what, hint string }

func (m *misprint) Error() string { return m.what }

const complaintHint = "do what it asks for; it should complain on standard error, and fail"

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
	case lookalike.Assignment:
		upper := strings.ToUpper(token)
		if strings.Contains(upper, "AWS_SECRET_ACCESS_KEY") || strings.Contains(upper, "AWS_ACCESS_KEY_ID") {
			return protocol.Secret{}, &misprint{"printed keys of AWS as assignments (NAME=value)",
				"have it print them as JSON, as aws configure export-credentials does without --format"}
		}
	case lookalike.Path, lookalike.Address, lookalike.Labelled, lookalike.Words:
		if complains().MatchString(token) && strings.ContainsAny(token, " \t") {
			return protocol.Secret{}, &misprint{"printed a complaint instead of a token", complaintHint}
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
	case lookalike.Question:
		return "nobody can answer it here: sign in with that program beforehand, or have it ask nothing"
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
	case lookalike.Long:
		return protocol.Shorten
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

// object is a JSON object whose values are read when they are asked for. Programs spell one name in several ways (access_token,
// accessToken, AccessToken), so members are found by their names in lower case without "_" and "-".
type object map[string][]member

type member struct {
	name  string // as it is written
	value json.RawMessage
}

// UnmarshalJSON keeps the members that say something, in the order of their names.
func (o *object) UnmarshalJSON(text []byte) error {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(text, &members); err != nil {
		return err
	}
	*o = object{}
	for _, name := range slices.Sorted(maps.Keys(members)) {
		(*o)[fold(name)] = append((*o)[fold(name)], member{name, members[name]})
	}
	return nil
}

// get returns the first member of a name that says something; its value is nil where there is none.
func (o object) get(folded string) member {
	for _, m := range o[folded] {
		if string(m.value) != "null" {
			return m
		}
	}
	return member{}
}

// object returns a member that is an object, nil if there is none.
func (o object) object(folded string) (inner object) {
	if json.Unmarshal(o.get(folded).value, &inner) != nil {
		return nil
	}
	return inner
}

// text returns a member that is a string, "" if there is none.
func (o object) text(folded string) (s string) {
	if json.Unmarshal(o.get(folded).value, &s) != nil {
		return ""
	}
	return s
}

// tokenKeys are the names under which programs print a token, the first that is there counts.
var tokenKeys = []string{"token", "access_token", "authorizationToken", "client_token", "key", "Secret"}

// envelopes are the members in which programs put the token and its expiry: kubectl's plugins (status), `gcloud config
// config-helper` (credential), `vault login` and `vault token create` (auth), `vault read` (data), `sf` (result).
var envelopes = []string{"status", "credential", "auth", "data", "result"}

// fold returns a name as those of an object are kept.
func fold(name string) string {
	return strings.ToLower(strings.NewReplacer("_", "", "-", "").Replace(name))
}

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
		if long := protocol.TooLong(keys.Reveal()); long != "" {
			return fail("printed keys of AWS of "+long, "have it ask for a session with a shorter policy and fewer tags")
		}
		expiry, err := at.expiry(now)
		return keys, expiry, err
	}
	for _, fields := range objects {
		for _, key := range tokenKeys {
			if m := fields.get(fold(key)); m.value != nil {
				return fields.token(m, top, now)
			}
		}
	}
	for _, fields := range objects {
		for _, key := range tokenKeys {
			if absent := fields[fold(key)]; len(absent) > 0 {
				return fail("printed null as its "+absent[0].name, "run it yourself to see why: is it signed in?")
			}
		}
	}
	switch {
	case top.object("wrapinfo") != nil:
		return fail("printed a token of Vault that wraps an answer, and not the answer", "leave -wrap-ttl out")
	case complaint(printed) != "":
		return fail("printed an error instead of a token", complaintHint)
	}
	return fail("printed a JSON object without a token under one of the names "+strings.Join(tokenKeys, ", "),
		"print the member with the token alone, as with: jq -r .NAME")
}

// token returns the token in a member, and its expiry, which may be stated in the outermost object.
func (o object) token(m member, top object, now time.Time) (token protocol.Secret, expiry time.Time, err error) {
	var s string
	if json.Unmarshal(m.value, &s) != nil {
		return token, expiry, &misprint{"printed a " + m.name + " that is no string", "print the token as a string"}
	}
	if kind := strings.ToLower(o.text("tokentype")); oauth.IsBound(kind) {
		return token, expiry, &misprint{"printed a token of type " + kind + ", and ccagent uses bearer tokens only",
			"have it ask for a bearer token"}
	}
	if token, err = printedToken(s); err != nil {
		return token, expiry, err
	}
	expiry, err = o.expiry(now)
	if err == nil && expiry.IsZero() { // `vault read` has lease_duration outside of its data
		expiry, err = top.expiry(now)
	}
	return token, expiry, err
}

// awsKeys returns keys of AWS as docs/protocol.md §4.2 has them, and the object that they were in: as programs for
// credential_process print them, `aws sts` and `aws sso get-role-credentials`. The object is nil where there are none, and the
// keys are empty where they can't be used.
func awsKeys(top object) (keys protocol.Secret, at object) {
	names := []string{"AccessKeyId", "SecretAccessKey", "SessionToken"}
	for _, o := range []object{top, top.object("credentials"), top.object("rolecredentials")} {
		if o.get(fold(names[0])).value == nil {
			continue
		}
		var members []string
		for _, name := range names {
			value := o.get(fold(name)).value
			var s string
			if json.Unmarshal(value, &s) != nil && value != nil || s == "" && name != names[2] ||
				strings.ContainsFunc(s, notOfKeys) {
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

// notOfKeys reports whether a character can't be in keys of AWS as they are handed out: in JSON without escapes.
func notOfKeys(r rune) bool { return r > '~' || !protocol.TokenByte(byte(r)) || r == '"' || r == '\\' }

// lifetimes are the names under which programs print how long a token lives, in seconds or with a unit.
var lifetimes = []string{"expires_in", "lease_duration", "ttl", "lifetime", "expires_in_seconds"}

// expiries are the names under which programs print when a token expires.
var expiries = []string{
	"expires_at", "expires_on", "expires", "expiration", "expiration_timestamp", "expiration_time", "expiration_date",
	"expire_time", "expires_at_seconds", "expiry", "expiry_time", "expiry_date", "exp", "valid_until", "token_expiry",
	"token_expiration",
	"access_token_expires_at", "access_token_expiration_date",
}

// expiry returns when the token of an object expires, the zero time where the object does not say so. The lifetime counts only if
// it ends before the time of expiry, because programs print the lifetime of a token that they have kept for a while.
func (o object) expiry(now time.Time) (time.Time, error) {
	at, err := o.expiresAt()
	if err != nil {
		return at, err
	}
	for _, key := range lifetimes {
		m := o.get(fold(key))
		if m.value == nil {
			continue
		}
		n, ok := number(m.value)
		if d, err := time.ParseDuration(o.text(fold(key))); err == nil && !ok {
			n, ok = d.Seconds(), true
		}
		switch {
		case !ok:
			return time.Time{}, &misprint{"printed as its " + m.name + " what is no number of seconds",
				"have it print a number, or leave it out and set ttl in config.toml"}
		case n == 0 && key != "expires_in":
			continue // of Vault: it does not expire
		}
		end := now.Add(time.Duration(min(n, maxSeconds) * float64(time.Second))).Truncate(time.Millisecond)
		if at.IsZero() || end.Before(at) {
			at = end
		}
	}
	return at, nil
}

// expiresAt returns the earliest time of expiry that an object names, the zero time if it names none. One without a time zone
// counts only where there is no other: `az` prints expiresOn in the machine's own zone, and expires_on beside it, which can't be
// misread.
func (o object) expiresAt() (at time.Time, err error) {
	var local time.Time
	for _, key := range expiries {
		for _, m := range o[fold(key)] {
			t, zoned, err := m.time()
			switch {
			case err != nil:
				return time.Time{}, err
			case t.IsZero():
			case zoned && (at.IsZero() || t.Before(at)):
				at = t
			case !zoned && (local.IsZero() || t.Before(local)):
				local = t
			}
		}
	}
	if at.IsZero() {
		at = local
	}
	return at, nil
}

// time returns the time of a member, the zero time where it says that there is none, and whether it can be read in one way only.
func (m member) time() (t time.Time, zoned bool, err error) {
	value := m.value
	var whole struct{ Datetime json.RawMessage }
	if json.Unmarshal(value, &whole) == nil && whole.Datetime != nil { // of gcloud: a time of Python's in its parts, and whole
		value = whole.Datetime
	}
	var s string
	isText := json.Unmarshal(value, &s) == nil
	if ms, ok := strings.CutPrefix(s, "/Date("); ok { // of PowerShell 5
		value = json.RawMessage(strings.TrimSuffix(ms, ")/"))
	}
	switch n, ok := number(value); {
	case ok:
		return unixTime(n), true, nil
	case string(value) == "null", isText && slices.Contains([]string{"", "n/a", "never"}, strings.ToLower(s)):
		return time.Time{}, false, nil
	}
	zone := time.UTC
	if fold(m.name) == "expireson" {
		zone = time.Local
	}
	t, zoned, ok := oauth.WrittenTime(s, zone)
	if !isText || !ok {
		return time.Time{}, false, &misprint{"printed as its " + m.name + " what is neither a number nor a time",
			"have it print unix time or a date such as 2027-01-31T15:04:05Z, or leave it out and set ttl in config.toml"}
	}
	return notBefore(epoch, t.Truncate(time.Millisecond)), zoned, nil
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
