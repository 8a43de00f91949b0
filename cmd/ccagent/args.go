package main

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// permute moves a command's flags before its arguments, so that `ccagent add NAME --provider static` works: package flag,
// underneath, stops at the first argument. What follows -- stays as it is, and so does all after the first argument of
// exec and forward, where a program with flags of its own follows.
func permute(app *cli.App, args []string) []string {
	at := slices.IndexFunc(args[min(1, len(args)):], func(arg string) bool { return !strings.HasPrefix(arg, "-") }) + 1
	if at == 0 {
		return args
	}
	command := app.Command(args[at])
	if command == nil || command.Name == "exec" || command.Name == "forward" {
		return args
	}
	flags := slices.Clone(args[:at+1])
	var rest []string
	for i := at + 1; i < len(args); i++ {
		arg := args[i]
		switch {
		case arg == "--":
			rest = append(rest, args[i+1:]...)
			i = len(args)
		case len(arg) < 2 || arg[0] != '-':
			rest = append(rest, arg)
		default:
			flags = append(flags, arg)
			if takesValue(command, arg) {
				if i++; i == len(args) { // package flag says that it is missing, where -- would be taken for it
					return flags
				}
				flags = append(flags, args[i])
			}
		}
	}
	return append(append(flags, "--"), rest...)
}

// takesValue reports whether the argument is a flag whose value is the next one.
func takesValue(command *cli.Command, arg string) bool {
	name := strings.TrimLeft(arg, "-")
	for _, flag := range command.Flags {
		if _, boolean := flag.(*cli.BoolFlag); slices.Contains(flag.Names(), name) {
			return !boolean
		}
	}
	return false
}
