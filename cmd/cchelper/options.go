package main

import (
	"strings"
	"time"

	"github.com/ccagent/ccagent/protocol"
)

// options is a command line. A setting comes from its flag, else from its CCAGENT_* variable.
type options struct {
	profile         string
	format          func(protocol.Token) (string, error)
	tool            tool // in place of format; nil: none
	operands        []string
	username        string
	minTTL, timeout time.Duration
	reask           time.Duration
	noStart         bool
	help, version   bool
	prompt          bool // the profile in a few words, for a shell's prompt
}

// parse reads flags as getopt_long does, abbreviations and bundles aside. Package flag knows neither --x=y beside -x nor its
// place in a program of two milliseconds.
func parse(args []string, getenv func(string) string, link string) (options, error) {
	preset, linked := ofLink(link)
	var o options
	set := map[string]string{}
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		name, value, hasValue := strings.Cut(arg, "=")
		switch name {
		case "-h", "--help", "--version", "--no-start":
			if hasValue {
				return o, wrongUsage(name + " takes no value")
			}
			switch name {
			case "--no-start":
				o.noStart = true
			case "--version":
				o.version = true
			default:
				o.help = true
			}
			continue
		case "-p":
			name = "--profile"
		case "-f":
			name = "--format"
		case "--profile", "--format", "--min-ttl", "--timeout", "--username", "--on-reask", "--reask-window":
		case "--":
			o.operands, args = append(o.operands, args...), nil
			continue
		default:
			if strings.HasPrefix(arg, "-") {
				return o, wrongUsage("there is no flag " + name)
			}
			o.operands = append(o.operands, arg)
			continue
		}
		if !hasValue {
			if len(args) == 0 {
				return o, wrongUsage(name + " needs a value")
			}
			value, args = args[0], args[1:]
		}
		set[name] = value
	}
	setting := func(flag, env string) (value, from string) {
		if v, ok := set[flag]; ok {
			return v, flag
		}
		return getenv(env), "$" + env
	}

	var err error
	if o.profile, _ = setting("--profile", "CCAGENT_PROFILE"); linked != "" && set["--profile"] == "" {
		o.profile = linked
	}
	if o.profile != "" {
		if err := protocol.CheckProfile(o.profile); err != nil {
			return o, err
		}
	}
	format := preset
	if v, ok := set["--format"]; ok || preset == "" {
		format = v
		if !ok {
			format = getenv("CCAGENT_FORMAT")
		}
	}
	o.tool, o.prompt = toolOf(format), format == "prompt"
	if o.prompt {
		return o, nil
	}
	if o.format = formatOf(format); o.format == nil && o.tool == nil {
		return o, wrongUsage(
			"there is no such format; there are token, json, header, headers, env, exec-credential, git, docker, bazel, goauth, " +
				"terraform and prompt",
		)
	}
	if o.tool == nil && len(o.operands) > 0 && !o.help && !o.version {
		return o, wrongUsage("cchelper takes flags only")
	}
	if o.username, _ = setting("--username", "CCAGENT_USERNAME"); o.username == "" {
		o.username = "oauth2"
	} else if strings.ContainsFunc(o.username, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\uFFFD' }) {
		return o, wrongUsage("the user name holds control characters")
	}
	if o.minTTL, err = duration(setting("--min-ttl", "CCAGENT_MIN_TTL")); err != nil {
		return o, err
	}
	window, from := setting("--reask-window", "CCAGENT_REASK_WINDOW")
	if o.reask, err = duration(window, from); err != nil {
		return o, err
	} else if window == "" {
		o.reask = protocol.DefaultReask
	}
	switch does, from := setting("--on-reask", "CCAGENT_ON_REASK"); does {
	case "renew":
	case "", "ignore":
		o.reask = 0
	default:
		return o, wrongUsage(from + " is neither renew nor ignore")
	}
	value, from := setting("--timeout", "CCAGENT_TIMEOUT")
	if o.timeout, err = duration(value, from); value == "" {
		o.timeout = 90 * time.Second
	} else if err == nil && o.timeout == 0 {
		err = wrongUsage(from + " leaves no time at all")
	}
	return o, err
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
