package main

import (
	"cmp"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/ccagent/ccagent/protocol"
)

// options is a command line. A setting comes from its flag, else from its CCAGENT_ variable.
type options struct {
	profile         string
	format          func(protocol.Token, options) (string, error)
	tool            tool // takes the place of format; nil: none
	operands        []string
	username        string // "": the profile's, else defaultUsername
	keys            bool   // the format takes keys of AWS
	header          string // with its colon, and all that comes before the token
	host            string // where the token will be sent, "" if that is not known and no tool says it
	minTTL, timeout time.Duration
	reask           time.Duration // 0: the token is not renewed when the tool asks again
	derived         protocol.Derived
	noStart         bool
	help, version   bool
	prompt          bool // print the profile in a few words, for a shell's prompt
}

// commandLine is a command line taken apart, but not checked.
type commandLine struct {
	set      map[string]string // the value of each flag that has one, by the flag's long name
	switches map[string]bool   // the flags without a value
	operands []string
}

// flagsWithValue are the flags that have a value, by each of their names, with their long names.
func flagsWithValue() map[string]string {
	return map[string]string{
		"-p": "--profile", "--profile": "--profile", "-f": "--format", "--format": "--format", "--min-ttl": "--min-ttl",
		"--scope": "--scope", "--audience": "--audience", "--resource": "--resource",
		"--timeout": "--timeout", "--username": "--username", "--header": "--header", "--on-reask": "--on-reask",
		"--reask-window": "--reask-window",
	}
}

// takeApart reads flags as getopt_long does, without its abbreviations and without flags in one word. Package flag does not know
// both --x=y and -x, and its place in a program of two milliseconds would be too large.
func takeApart(args []string) (commandLine, error) {
	line := commandLine{set: map[string]string{}, switches: map[string]bool{}}
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		name, value, hasValue := strings.Cut(arg, "=")
		switch name {
		case "-h", "--help", "--version", "--no-start", "--id-token":
			if hasValue {
				return line, wrongUsage(name + " takes no value")
			}
			line.switches[name] = true
			continue
		case "--":
			line.operands, args = append(line.operands, args...), nil
			continue
		}
		long, known := flagsWithValue()[name]
		switch {
		case !known && strings.HasPrefix(arg, "-"):
			return line, wrongUsage("there is no flag " + name)
		case !known:
			line.operands = append(line.operands, arg)
			continue
		case !hasValue && len(args) == 0:
			return line, wrongUsage(long + " needs a value")
		case !hasValue:
			value, args = args[0], args[1:]
		}
		before, again := line.set[long]
		switch {
		case again && (long == "--scope" || long == "--resource"):
			value = before + " " + value
		case again: // which one is meant?
			return line, wrongUsage(long + " is given more than once")
		}
		line.set[long] = value
	}
	return line, nil
}

// parse reads and checks the command line and the variables. link is the name by which the program was called.
func parse(args []string, getenv func(string) string, link string) (options, error) {
	line, err := takeApart(args)
	if err != nil {
		return options{}, err
	}
	var slip error // of the first variable that is not set as somebody meant
	setting := func(flag, env string) (value, from string) {
		if v, ok := line.set[flag]; ok {
			return v, flag
		}
		value = getenv(env)
		if err := protocol.CheckVariable(env, value); err != nil && slip == nil {
			slip = err
		}
		return value, "$" + env
	}
	o := options{
		operands: line.operands,
		noStart:  line.switches["--no-start"],
		help:     line.switches["-h"] || line.switches["--help"],
		version:  line.switches["--version"],
	}
	if o.derived, err = line.derived(); err != nil {
		return o, err
	}
	preset, linked := ofLink(link)
	profile, from := setting("--profile", "CCAGENT_PROFILE")
	if o.profile = profile; linked != "" && line.set["--profile"] == "" {
		o.profile, slip = linked, nil
	}
	if o.profile != "" {
		err := protocol.CheckProfile(o.profile)
		if err != nil && o.profile == profile && from != "--profile" {
			err = &protocol.Error{Code: protocol.CodeOf(err), Message: from + ": " + err.Error(), Hint: protocol.HintOf(err)}
		}
		if err := cmp.Or(slip, err); err != nil {
			return o, err
		}
	}
	format, named := preset, ""
	if _, ok := line.set["--format"]; ok || preset == "" {
		format, named = setting("--format", "CCAGENT_FORMAT")
	}
	o.tool, o.prompt, o.keys = toolOf(format), format == "prompt", format == "aws" || format == "json"
	if o.prompt && o.derived.Wanted() {
		return o, wrongUsage("the format prompt asks for no token: leave out --id-token, --scope, --audience and --resource")
	}
	if o.prompt {
		return o, nil
	}
	if o.format = formatOf(format); o.format == nil && o.tool == nil {
		return o, cmp.Or(slip, wrongUsage(named+" names no format that there is; the formats are token, json, header, headers, "+
			"env, aws, exec-credential, git, docker, bazel, goauth, terraform and prompt"))
	}
	if o.tool == nil && len(o.operands) > 0 && !o.help && !o.version {
		return o, wrongUsage("cchelper takes only flags")
	}
	o.username, _ = setting("--username", "CCAGENT_USERNAME")
	if strings.ContainsFunc(o.username, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\uFFFD' }) {
		return o, cmp.Or(slip, wrongUsage("the user name holds control characters"))
	}
	if format == "headers" {
		o.host = hostOfServer(getenv("CLAUDE_CODE_MCP_SERVER_URL"))
	}
	header, from := setting("--header", "CCAGENT_HEADER")
	switch {
	case slices.Contains([]string{"header", "headers", "bazel", "goauth"}, format):
		if o.header, err = headerOf(cmp.Or(header, "Authorization")); err != nil {
			return o, cmp.Or(slip, wrongUsage(from+err.Error()))
		}
	case from == "--header":
		return o, wrongUsage("--header means nothing to this format; it is for header, headers, bazel and goauth")
	}
	err = o.times(setting)
	return o, cmp.Or(slip, err)
}

// derived returns the token that the flags want in place of the access token.
func (line commandLine) derived() (protocol.Derived, error) {
	d, err := protocol.Derived{IDToken: line.switches["--id-token"], Scope: line.set["--scope"],
		Audience: line.set["--audience"], Resource: line.set["--resource"]}.Normal()
	if err != nil {
		return d, wrongUsage(err.Error())
	}
	for _, name := range []string{"--scope", "--audience", "--resource"} {
		if value, ok := line.set[name]; ok && strings.TrimSpace(value) == "" { // to leave it out would give another token
			return d, wrongUsage(name + " is empty")
		}
	}
	return d, nil
}

// tokenCharacters are what the name of a header may hold (RFC 9110 §5.6.2).
const tokenCharacters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+-.^_`|~"

// headerOf reads NAME or NAME: SCHEME, and returns what comes before the token. Authorization has a scheme always, and Bearer is
// the one that is meant.
func headerOf(text string) (string, error) {
	name, scheme, _ := strings.Cut(text, ":")
	scheme = strings.Trim(scheme, " ")
	if scheme == "" && (strings.EqualFold(name, "Authorization") || strings.EqualFold(name, "Proxy-Authorization")) {
		scheme = "Bearer"
	}
	for _, word := range []string{name, scheme} {
		if strings.Trim(word, tokenCharacters) != "" {
			return "", errors.New(" is neither the name of a header, like x-api-key, nor a name and a word, like 'X-Auth: Bearer'")
		}
	}
	if name == "" {
		return "", errors.New(" names no header")
	}
	if scheme != "" {
		scheme += " "
	}
	return name + ": " + scheme, nil
}

// times reads the settings that are durations, and whether a token is renewed when the tool asks again.
func (o *options) times(setting func(flag, env string) (value, from string)) (err error) {
	if o.minTTL, err = duration(setting("--min-ttl", "CCAGENT_MIN_TTL")); err != nil {
		return err
	}
	window, from := setting("--reask-window", "CCAGENT_REASK_WINDOW")
	if o.reask, err = duration(window, from); err != nil {
		return err
	}
	if window == "" {
		o.reask = protocol.DefaultReask
	}
	does, from := setting("--on-reask", "CCAGENT_ON_REASK")
	if does != "" && does != "ignore" && does != "renew" {
		return wrongUsage(from + " is neither renew nor ignore")
	}
	if does != "renew" {
		o.reask = 0
	}
	value, from := setting("--timeout", "CCAGENT_TIMEOUT")
	if o.timeout, err = duration(value, from); err != nil {
		return err
	}
	if value == "" {
		o.timeout = 90 * time.Second
	}
	if o.timeout == 0 {
		return wrongUsage(from + " leaves no time at all")
	}
	return nil
}

// duration reads a duration; "" is 0.
func duration(value, from string) (time.Duration, error) {
	if value == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(value)
	if err != nil || d < 0 {
		return 0, wrongUsage(from + " is not a duration like 30s, 5m or 1h30m")
	}
	return d, nil
}

func wrongUsage(message string) error {
	return &protocol.Error{Code: protocol.CodeConfig, Message: message, Hint: "see cchelper --help"}
}
