package worker

import (
	"encoding/json"
	"slices"
	"strings"
)

// Some programs complain on standard output, where a token is expected: "Error: not logged in. Run vault login." A person
// should see that. But the same text may hold a token, a password or a code, so only what is a complaint is shown of it, and
// of that only ordinary words.

var (
	// complains is a word that complaints are made of.
	complains = pattern(`(?i)\b(?:error|errors|fail|failed|failure|fatal|denied|expired|unauthorized|forbidden|` +
		`invalid|unable|cannot|can't|couldn't|could|missing|required|refused|unknown|please|must|timeout|warning|login|logged|log|sign|signed|` +
		`not|no|unreachable|unavailable|wrong|locked|revoked)\b`)
	// ordinary is a word without digits, signs inside, or letters in mixed sizes.
	ordinary = pattern(`^[("'\x60\[]*(?:[A-Za-z]?[a-z]{0,15}(?:'[a-z]{1,3})?|[A-Z]{2,4})[.,:;!?)"'\x60\]]*$`)
	// status is a number like that of an HTTP answer.
	status = pattern(`^\(?[1-9][0-9]{2}[.,:;)]*$`)
	// names is a word after which a secret may stand.
	names = pattern(`(?i)(?:token|key|secret|password|passphrase|passcode|code|pin|credential|bearer|user|username)s?$|` +
		`(?:^|user|client|session|account|[-_])ids?$`)
)

// between are words that may stand between the name of a secret and the secret.
var between = []string{"is", "was", "now", "the", "a", "an", "your", "new", "here", "to", "for", "of", "with", "as", "equals"}

// harmless are words that may follow the name of a secret in a complaint, where a secret could stand as well.
var harmless = []string{
	"has", "had", "have", "been", "be", "could", "found", "in", "at", "on", "by", "and", "or", "again", "provided", "available",
	"request", "refresh", "server", "file", "does", "did", "exist", "set",
}

// hidden stands for what is not shown.
const hidden = "…"

// complaint returns the line of what a program printed that complains, fit to be shown, "" if there is none. Of JSON it is the
// member that describes the error.
func complaint(printed []byte) string {
	var top object
	if json.Unmarshal(printed, &top) == nil {
		for _, fields := range []object{top, top.object("error")} {
			for _, key := range []string{"error_description", "message", "error_message", "detail", "error"} {
				s := fields.text(fold(key))
				if key == "error" { // a code such as invalid_grant is made of ordinary words
					s = strings.ReplaceAll(s, "_", " ")
				}
				if s != "" {
					return ordinaryWords(s)
				}
			}
		}
		return ""
	}
	for line := range strings.FieldsFuncSeq(string(printed), func(r rune) bool { return r == '\n' || r == '\r' }) {
		if len(strings.Fields(line)) >= 3 && complains().MatchString(line) {
			return ordinaryWords(line)
		}
	}
	return ""
}

// colours are the codes for a terminal that colours are made of.
var colours = pattern("\x1b\\[[0-9;]*[A-Za-z]")

// ordinaryWords returns a line with only its ordinary words.
func ordinaryWords(line string) string {
	var shown []string
	named := false // a secret may be next
	for _, word := range strings.Fields(colours().ReplaceAllString(line, "")) {
		bare := strings.ToLower(strings.Trim(word, "(\"'`[.,:;!?)]"))
		known := slices.Contains(harmless, bare) || slices.Contains(between, bare) || names().MatchString(bare) ||
			complains().MatchString(bare)
		switch {
		case !ordinary().MatchString(word) && !status().MatchString(word), named && !known:
			named = names().MatchString(bare) // as client_secret is
			if word = hidden; len(shown) > 0 && shown[len(shown)-1] == hidden {
				continue
			}
		case names().MatchString(bare):
			named = true
		case !slices.Contains(between, bare):
			named = false
		}
		shown = append(shown, word)
		if len(shown) == 60 {
			break
		}
	}
	return strings.Join(shown, " ")
}
