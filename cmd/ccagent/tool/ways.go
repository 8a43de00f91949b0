package tool

import (
	"encoding/base64"
	"strconv"
	"strings"

	"github.com/ccagent/ccagent/agent/gateway/route"
	"github.com/ccagent/ccagent/cmd/ccagent/session"
)

// tell has how each tool is told of a route whose base URL is base: by further variables in set. had looks up what the tool would
// have otherwise.
var tell = map[route.Tool]func(base string, grant session.Grant, had func(string) string, set map[string]string){
	route.Git: git, route.NPM: npm,
}

// git gives git further settings by the variables of git-config(1), behind those that are there. The stand-in is in a header and
// not in the URL, because git hands URLs to its programs as arguments, which other users see.
func git(base string, grant session.Grant, had func(string) string, set map[string]string) {
	n, _ := strconv.Atoi(had("GIT_CONFIG_COUNT"))
	add := func(key, value string) {
		set["GIT_CONFIG_KEY_"+strconv.Itoa(n)], set["GIT_CONFIG_VALUE_"+strconv.Itoa(n)] = key, value
		n++
	}
	add("url."+base+"/.insteadOf", grant.For+"/")
	add("http."+base+"/.extraHeader", "Authorization: Basic "+base64.StdEncoding.EncodeToString([]byte("x:"+grant.StandIn)))
	set["GIT_CONFIG_COUNT"] = strconv.Itoa(n)
}

// npm gives npm the stand-in for its registry. It takes the name of a setting that begins with two slashes as it is, and sends
// what it says to that address alone.
func npm(base string, grant session.Grant, _ func(string) string, set map[string]string) {
	_, address, _ := strings.Cut(base, ":")
	set["npm_config_"+address+"/:_authToken"] = grant.StandIn
}

// lookup looks up a variable in set, or else in an environment.
func lookup(environment []string, set map[string]string) func(string) string {
	return func(name string) string {
		if value, ok := set[name]; ok {
			return value
		}
		for _, pair := range environment {
			if value, ok := strings.CutPrefix(pair, name+"="); ok {
				return value
			}
		}
		return ""
	}
}
