package setup

import (
	"cmp"
	"context"
	"net/url"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/ccagent/ccagent/cmd/ccagent/environ"
	"github.com/ccagent/ccagent/hosts"
	"github.com/ccagent/ccagent/protocol"
)

// gitSetting is one line of git's settings. file is "" if a variable of the environment has it.
type gitSetting struct{ file, key, value string }

// mend says how to remove the setting: with that value, a regular expression, if it is not "".
func (s gitSetting) mend(value string) string {
	if s.file == "" {
		return "it is set by GIT_CONFIG_COUNT or GIT_CONFIG_PARAMETERS: unset that"
	}
	if s.name() != s.key {
		return "remove " + s.name() + " from " + s.file
	}
	words := []string{"git", "config", "--file", s.file, "--unset-all", s.key}
	if value != "" {
		words = append(words, value)
	}
	return protocol.ShellLine(words...)
}

// name is the key as it may be shown: without a user and a password, because either may be a token.
func (s gitSetting) name() string {
	if u, err := url.Parse(gitURL(s.key)); err == nil && u.User != nil && strings.HasPrefix(u.Scheme, "http") {
		whole := u.String()
		u.User = url.User("...")
		return strings.Replace(s.key, whole, u.String(), 1)
	}
	return s.key
}

// place names the setting without its value.
func (s gitSetting) place() string { return s.name() + " in " + cmp.Or(s.file, "the environment") }

// gitSettings returns the settings of git that decide whether it asks a helper, in the order in which git reads them, as they are
// in this folder.
func gitSettings(ctx context.Context, env environ.Vars) (all []gitSetting) {
	git := env.LookPath("git")
	if git == "" {
		return nil
	}
	out, err := exec.CommandContext(ctx, git, "config", "--includes", "--show-origin", "--null", "--get-regexp",
		`^(credential\.(.*\.)?helper|http\.(.*\.)?extraheader|url\..*\.(push)?insteadof)$`).Output()
	if err != nil { // there is none, or git can't read its own settings, and says so whenever it is run
		return nil
	}
	fields := strings.Split(string(out), "\x00")
	for i := 0; i+1 < len(fields); i += 2 {
		key, value, _ := strings.Cut(fields[i+1], "\n")
		file, isFile := strings.CutPrefix(fields[i], "file:")
		if !isFile {
			file = ""
		} else if abs, err := filepath.Abs(file); err == nil {
			file = abs
		}
		all = append(all, gitSetting{file, key, value})
	}
	return all
}

// beforeGit returns what has git ask others besides ccagent, or nobody.
func (j Journal) beforeGit(ctx context.Context, env environ.Vars) (found []environ.Outranking) {
	all := gitSettings(ctx, env)
	for _, host := range j.Hosts {
		found = slices.Concat(found, j.otherHelpers(all, host), otherHeaders(all, host), otherAddresses(all, host))
		netrc := filepath.Join(env("HOME"), ".netrc")
		machine := regexp.MustCompile(`(?i)\bmachine\s+` + regexp.QuoteMeta(withoutPort(host)) + `(\s|$)`)
		if src, err := readSettings(netrc); err == nil && machine.Match(src) {
			found = append(found, environ.Outranking{
				What: netrc + " has a machine " + withoutPort(host) + ", and git uses what is there before it asks anybody",
				Mend: "remove that machine from " + netrc,
			})
		}
	}
	return found
}

// gitURL is the middle of a key of git's settings, as in http.<url>.extraHeader: "" if it holds everywhere.
func gitURL(key string) string {
	_, rest, _ := strings.Cut(key, ".")
	return rest[:max(strings.LastIndexByte(rest, '.'), 0)]
}

// holdsFor reports whether settings for a URL, in which git allows *, are for a host or for a part of what is there.
func holdsFor(pattern, host string) bool {
	if pattern == "" {
		return true
	}
	u, err := url.Parse(pattern)
	return err == nil && u.Scheme == "https" && hosts.Match(hosts.At("https", u.Host), hosts.At("https", host))
}

// otherHelpers returns the helpers that git asks for the host besides ours. The helper that setup adds is the first of the list,
// because an empty one is before it, which clears what was there.
func (j Journal) otherHelpers(all []gitSetting, host string) (found []environ.Outranking) {
	ours := func(s gitSetting) bool {
		for _, e := range j.Files {
			for _, p := range e.Puts {
				if strings.Contains(p.Text, "helper = "+gitQuote(s.value)+"\n") {
					return true
				}
			}
		}
		return false
	}
	var asked []gitSetting
	var cleared gitSetting
	for _, s := range all {
		switch {
		case !strings.HasPrefix(s.key, "credential.") || !holdsFor(gitURL(s.key), host):
		case s.value != "":
			asked = append(asked, s)
		default:
			if slices.ContainsFunc(asked, ours) {
				cleared = s
			}
			asked = nil
		}
	}
	again := func(s gitSetting) string { // our lines come last in a file of their own
		if _, same := j.Files[s.file]; same {
			return j.Command() + " --undo && " + j.Command()
		}
		return s.mend("")
	}
	at := slices.IndexFunc(asked, ours)
	if at < 0 {
		if cleared.key != "" {
			found = append(found, environ.Outranking{
				What: "git does not ask ccagent for " + host + ": an empty " + cleared.place() + " clears the list of helpers",
				Mend: again(cleared),
			})
		}
		return found
	}
	for i, s := range asked {
		switch {
		case i < at:
			found = append(found, environ.Outranking{
				What: "git asks " + s.place() + " for " + host + " before it asks ccagent", Mend: again(s),
			})
		case i > at && !ours(s):
			found = append(found, environ.Outranking{
				What: "git gives the token for " + host + " to " + s.place() + " too, which may keep it", Mend: again(s),
			})
		}
	}
	return found
}

// otherHeaders returns the settings with which git signs in to the host without asking anybody.
func otherHeaders(all []gitSetting, host string) (found []environ.Outranking) {
	const name = "authorization:"
	for _, s := range all {
		switch {
		case !strings.HasPrefix(s.key, "http.") || !holdsFor(gitURL(s.key), host):
		case s.value == "":
			found = nil
		case len(s.value) > len(name) && strings.EqualFold(s.value[:len(name)], name):
			found = append(found, environ.Outranking{
				What: s.place() + " sends a header Authorization to " + host + ", so git asks nobody",
				Mend: s.mend("^" + s.value[:len(name)]),
			})
		}
	}
	return found
}

// otherAddresses returns the settings by which git goes elsewhere than to the host, or takes a password with it.
func otherAddresses(all []gitSetting, host string) (found []environ.Outranking) {
	address := "https://" + host + "/"
	for _, s := range all {
		if !strings.HasPrefix(s.key, "url.") || s.value == "" ||
			!strings.HasPrefix(address, s.value) && !strings.HasPrefix(s.value, address) {
			continue
		}
		u, err := url.Parse(gitURL(s.key))
		there := err == nil && u.Scheme == "https" && strings.EqualFold(u.Host, host)
		password := false
		if err == nil && u.User != nil {
			_, password = u.User.Password()
		}
		switch {
		case there && password:
			found = append(found, environ.Outranking{
				What: s.place() + " puts a password into addresses of " + host + ", so git asks nobody", Mend: s.mend(""),
			})
		case !there:
			found = append(found, environ.Outranking{
				What: s.place() + " has git go elsewhere than to " + s.value, Mend: s.mend(""),
			})
		}
	}
	return found
}
