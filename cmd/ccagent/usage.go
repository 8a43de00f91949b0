package main

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/ccagent/ccagent/cmd/ccagent/terminal"
	"github.com/ccagent/ccagent/protocol"
)

// permute moves a command's flags before its arguments, so that `ccagent add NAME --provider static` works. Without it, package
// flag would stop at the first argument. What follows -- stays as it is. So do the arguments of exec, run and forward, because
// they name a program with flags of its own. It fails if an option that has one value is given twice, because package flag
// would take the last.
func permute(app *cli.App, args []string) ([]string, error) {
	at := slices.IndexFunc(args[min(1, len(args)):], func(arg string) bool { return !strings.HasPrefix(arg, "-") }) + 1
	if at == 0 {
		return args, nil
	}
	command := app.Command(args[at])
	if command == nil {
		return args, nil
	}
	runs := slices.Contains([]string{"exec", "run", "forward"}, command.Name)
	flags := slices.Clone(args[:at+1])
	given := map[cli.Flag]string{}
	var rest []string
	for i := at + 1; i < len(args); i++ {
		arg := args[i]
		switch {
		case arg == "--":
			rest = append(rest, args[i+1:]...)
			i = len(args)
		case len(arg) < 2 || arg[0] != '-':
			if rest = append(rest, arg); runs {
				rest = append(rest, args[i+1:]...)
				i = len(args)
			}
		default:
			if err := once(command, given, arg); err != nil {
				return nil, err
			}
			flags = append(flags, arg)
			if takesValue(command, arg) {
				if i++; i == len(args) { // so that package flag says that the value is missing, and does not take -- for it
					return flags, nil
				}
				flags = append(flags, args[i])
			}
		}
	}
	if err := variables(command, given); err != nil {
		return nil, err
	}
	return append(append(flags, "--"), rest...), nil
}

// variables checks the variables that take the place of the options which were not given.
func variables(command *cli.Command, given map[cli.Flag]string) error {
	for _, flag := range command.Flags {
		described, ok := flag.(cli.DocGenerationFlag)
		if _, typed := given[flag]; typed || !ok {
			continue
		}
		for _, name := range described.GetEnvVars() {
			value := getenv(name)
			err := protocol.CheckVariable(name, value)
			if err == nil && value != "" && name == "CCAGENT_PROFILE" {
				if err = protocol.CheckProfile(value); err != nil {
					err = &protocol.Error{Code: protocol.CodeOf(err), Message: "$" + name + ": " + err.Error(), Hint: protocol.HintOf(err)}
				}
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// once fails if arg is an option with one value that was given before. given has the options that were, as they were typed. An
// option that says yes may be repeated, because it says the same again.
func once(command *cli.Command, given map[cli.Flag]string, arg string) error {
	typed, _, hasValue := strings.Cut(arg, "=")
	flag := flagOf(command, typed)
	switch flag.(type) {
	case nil, *cli.StringSliceFlag, *cli.IntSliceFlag:
		return nil
	case *cli.BoolFlag:
		if before, ok := given[flag]; !hasValue && (!ok || !strings.Contains(before, "=")) {
			given[flag] = arg
			return nil
		}
	}
	before, ok := given[flag]
	if given[flag] = arg; !ok {
		return nil
	}
	before, _, _ = strings.Cut(before, "=")
	message := typed + " is given more than once"
	if before != typed {
		message = before + " and " + typed + " are the same option"
	}
	return &protocol.Error{Code: protocol.CodeConfig, Message: message,
		Hint: "give it once, with one value: see ccagent " + command.Name + " --help"}
}

// flagOf returns the flag that was typed, with its dashes; nil if the command has none of that name.
func flagOf(command *cli.Command, typed string) cli.Flag {
	name := strings.TrimLeft(typed, "-")
	for _, flag := range command.Flags {
		if slices.Contains(flag.Names(), name) {
			return flag
		}
	}
	return nil
}

// takesValue reports whether the argument is a flag whose value is the next one.
func takesValue(command *cli.Command, arg string) bool {
	flag := flagOf(command, arg)
	_, boolean := flag.(*cli.BoolFlag)
	return flag != nil && !boolean
}

// nearest returns the command that was probably meant: the one with at most two typing errors. It is empty if there is none.
func nearest(commands []*cli.Command, name string) string {
	best, like := 3, ""
	for _, command := range commands {
		if d := terminal.Distance(name, command.Name); d < best && d < min(len(name), len(command.Name)) {
			best, like = d, command.Name
		}
	}
	return like
}

func unknownCommand(app *cli.App, name string) error {
	hint := "ccagent --help lists the commands"
	if like := nearest(app.VisibleCommands(), name); like != "" {
		hint = "did you mean " + like + "?\n" + hint
	}
	return &protocol.Error{Code: protocol.CodeConfig, Message: fmt.Sprintf("unknown command %q", name), Hint: hint}
}

// The errors of package flag about a value. The groups are the option and the value.
const (
	missingValue = `^flag needs an argument: -(\S+)$`
	invalidValue = `^invalid (?:boolean )?value (".*") for (?:flag )?-([^ :]+): `
)

// badOption returns an error of package flag about an option in our words. If there is no such option, the hint names the one
// that was probably meant.
func badOption(flags []cli.Flag, err error) error {
	problem := func(message string) error {
		return &protocol.Error{Code: protocol.CodeConfig, Message: message, Hint: protocol.HintOf(err)}
	}
	if m := regexp.MustCompile(missingValue).FindStringSubmatch(err.Error()); m != nil {
		return problem(dashed(m[1]) + " needs a value")
	}
	if m := regexp.MustCompile(invalidValue).FindStringSubmatch(err.Error()); m != nil {
		kind := "a number"
		for _, flag := range flags {
			if !slices.Contains(flag.Names(), m[2]) {
				continue
			}
			switch flag.(type) {
			case *cli.DurationFlag:
				kind = "a duration like 30s, 5m or 1h30m"
			case *cli.BoolFlag:
				kind = "true or false"
			}
		}
		return problem(fmt.Sprintf("%s: %s is not %s", dashed(m[2]), m[1], kind))
	}
	name, ok := strings.CutPrefix(err.Error(), "flag provided but not defined: ")
	if !ok {
		return err
	}
	name, hint, best := dashed(strings.TrimLeft(name, "-")), protocol.HintOf(err), 3
	for _, flag := range flags {
		for _, other := range flag.Names() {
			if d := terminal.Distance(name, dashed(other)); d < best && len(other) > 2 {
				best, hint = d, "did you mean "+dashed(other)+"?\n"+protocol.HintOf(err)
			}
		}
	}
	return &protocol.Error{Code: protocol.CodeConfig, Message: "there is no option " + name, Hint: hint}
}

// usageError returns the error for a wrong use of a command.
func usageError(command string, err error) error {
	message, _, _ := strings.Cut(err.Error(), "\n")
	message = strings.ToLower(message[:min(1, len(message))]) + message[min(1, len(message)):]
	return &protocol.Error{Code: protocol.CodeConfig, Message: message, Hint: "see " + command + " --help"}
}

func usagef(c *cli.Context, format string, args ...any) error {
	return usageError("ccagent "+c.Command.Name, fmt.Errorf(format, args...))
}

// atMost refuses more arguments than n.
func atMost(c *cli.Context, n int) error {
	if c.Args().Len() > n {
		return usagef(c, "%q is one argument too many", c.Args().Get(n))
	}
	return nil
}

// noArgs refuses all arguments.
func noArgs(c *cli.Context) error { return atMost(c, 0) }
