package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/ccagent/ccagent/agent/provider"
	"github.com/ccagent/ccagent/cmd/ccagent/config"
	"github.com/ccagent/ccagent/cmd/ccagent/setup"
	"github.com/ccagent/ccagent/store"
)

func completionCommand() *cli.Command {
	return &cli.Command{
		Name:      "completion",
		Usage:     "print the script that completes commands in a shell",
		ArgsUsage: "bash|zsh|fish",
		Description: `Prints a script that completes commands, options and the names of profiles.

EXAMPLE:
   source <(ccagent completion bash)                              in ~/.bashrc
   source <(ccagent completion zsh)                               in ~/.zshrc, after compinit
   ccagent completion fish > ~/.config/fish/completions/ccagent.fish`,
		Action: func(c *cli.Context) error {
			write, ok := map[string]func(io.Writer, []*cli.Command) error{
				"bash": completeBash, "zsh": completeZsh, "fish": completeFish,
			}[c.Args().First()]
			if !ok || c.Args().Len() != 1 {
				return usagef(c, "name the shell: bash, zsh or fish")
			}
			return write(c.App.Writer, c.App.VisibleCommands())
		},
	}
}

// takesProfile has the commands whose argument is the name of a profile.
var takesProfile = map[string]bool{"login": true, "logout": true, "move": true, "remove": true, "use": true, "whoami": true}

// takesFile reports whether a flag's value is the name of a file.
func takesFile(flag cli.Flag) bool {
	f, ok := flag.(*cli.StringFlag)
	return ok && f.TakesFile
}

// fileFlags returns the flags whose value is the name of a file, as they are typed.
func fileFlags(commands []*cli.Command) []string {
	var words []string
	for _, command := range commands {
		for _, flag := range command.VisibleFlags() {
			if takesFile(flag) {
				words = append(words, dashedNames(flag)...)
			}
		}
	}
	return words
}

// takesDirectory has the flags whose value is the name of a folder.
var takesDirectory = []string{"--config-dir"}

// argumentsOf returns the arguments that a command takes, if they are always the same words.
func argumentsOf(command string, commands []*cli.Command) string {
	switch command {
	case "completion":
		return "bash zsh fish"
	case "doctor":
		return "store"
	case "gateway":
		return strings.Join(slices.Sorted(maps.Keys(gatewayWords)), " ")
	case "guard":
		return "claude-code"
	case "help":
		words := append(names(commands), topics()...)
		slices.Sort(words)
		return strings.Join(slices.Compact(words), " ")
	case "move":
		return config.Joined(store.Kinds(store.Traits.Rests), " ")
	case "setup":
		return strings.Join(setup.Names(), " ")
	}
	return ""
}

func names(commands []*cli.Command) []string {
	names := make([]string, len(commands))
	for i, command := range commands {
		names[i] = command.Name
	}
	return names
}

// flagWords returns the flags of a command as they are typed.
func flagWords(command *cli.Command) []string {
	var words []string
	for _, flag := range command.VisibleFlags() {
		words = append(words, dashedNames(flag)...)
	}
	return words
}

// dashedNames returns the names of a flag as they are typed.
func dashedNames(flag cli.Flag) []string {
	var words []string
	for _, name := range flag.Names() {
		words = append(words, dashed(name))
	}
	return words
}

func dashed(name string) string {
	if len(name) == 1 {
		return "-" + name
	}
	return "--" + name
}

// fixedWords has the flags whose value is one of a few words.
var fixedWords = map[string]string{
	"--shell":       shellNames(" "),
	"--provider":    config.Joined(provider.All(), " "),
	"--grant":       strings.Join(config.Grants, " "),
	"--client-auth": strings.Join(config.ClientAuths, " "),
	"--store":       config.Joined(provider.Claude.Traits().Stores, " "), // which has all of them
	"--by":          "guard sdk exec",
	"--log-level":   "debug info warn error",
	"--log-format":  "text json",
}

// completeBash writes a script that bash 3.2 understands too, because macOS has that. Each candidate is a line, because names of
// files may contain spaces.
func completeBash(w io.Writer, commands []*cli.Command) error {
	var b strings.Builder
	fmt.Fprintf(&b, `# ccagent completion for bash
_ccagent_reply() {
    local line
    while IFS= read -r line; do COMPREPLY+=("$line"); done
}
_ccagent_files() {
    compopt -o filenames 2>/dev/null
    _ccagent_reply < <(compgen "$1" -- "$2")
}
_ccagent() {
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} words=
    COMPREPLY=()
    if [ "$COMP_CWORD" -eq 1 ]; then
        words="%s"
    else
        case $prev in
        -p|--profile|--profiles) words=$(ccagent list --names 2>/dev/null) ;;
        %s) _ccagent_files -f "$cur"; return ;;
        %s) _ccagent_files -d "$cur"; return ;;
`, strings.Join(names(commands), " "), strings.Join(fileFlags(commands), "|"), strings.Join(takesDirectory, "|"))
	for _, flag := range slices.Sorted(maps.Keys(fixedWords)) {
		fmt.Fprintf(&b, "        %s) words=\"%s\" ;;\n", flag, fixedWords[flag])
	}
	b.WriteString("        *) case ${COMP_WORDS[1]} in\n")
	for _, command := range commands {
		words := strings.TrimSpace(strings.Join(flagWords(command), " ") + " " + argumentsOf(command.Name, commands))
		if takesProfile[command.Name] {
			words += ` $(ccagent list --names 2>/dev/null)`
		}
		extra := ""
		switch command.Name {
		case "import":
			extra = `; _ccagent_files -f "$cur"`
		case "exec", "run":
			extra = `; _ccagent_reply < <(compgen -c -- "$cur")`
		}
		fmt.Fprintf(&b, "            %s) words=\"%s\"%s ;;\n", command.Name, words, extra)
	}
	b.WriteString(`            esac ;;
        esac
    fi
    _ccagent_reply < <(compgen -W "$words" -- "$cur")
}
complete -F _ccagent ccagent
`)
	_, err := io.WriteString(w, b.String())
	return err
}

func completeZsh(w io.Writer, commands []*cli.Command) error {
	var b strings.Builder
	b.WriteString(`#compdef ccagent
_ccagent_profiles() { local -a names; names=(${(f)"$(ccagent list --names 2>/dev/null)"}); compadd -a names }
_ccagent() {
    local -a commands
    if (( CURRENT == 2 )); then
        commands=(
`)
	for _, command := range commands {
		fmt.Fprintf(&b, "            %s\n", shellWord(command.Name+":"+command.Usage))
	}
	b.WriteString(`        )
        _describe command commands
        return
    fi
    case $words[CURRENT-1] in
    -p|--profile|--profiles) _ccagent_profiles; return ;;
`)
	fmt.Fprintf(&b, "    %s) _files; return ;;\n    %s) _files -/; return ;;\n", strings.Join(fileFlags(commands), "|"),
		strings.Join(takesDirectory, "|"))
	for _, flag := range slices.Sorted(maps.Keys(fixedWords)) {
		fmt.Fprintf(&b, "    %s) compadd -- %s; return ;;\n", flag, fixedWords[flag])
	}
	b.WriteString("    esac\n    case $words[2] in\n")
	for _, command := range commands {
		fmt.Fprintf(&b, "    %s) compadd -- %s", command.Name,
			strings.TrimSpace(strings.Join(flagWords(command), " ")+" "+argumentsOf(command.Name, commands)))
		switch {
		case takesProfile[command.Name]:
			b.WriteString("; _ccagent_profiles")
		case command.Name == "import":
			b.WriteString("; _files")
		case command.Name == "exec", command.Name == "run":
			b.WriteString("; _command_names -e")
		}
		b.WriteString(" ;;\n")
	}
	// If compinit has found the file in its folders, it runs the file as the function, and the first call already wants an
	// answer.
	b.WriteString("    esac\n}\nif [[ $funcstack[1] == _ccagent ]]; then _ccagent \"$@\"; else compdef _ccagent ccagent; fi\n")
	_, err := io.WriteString(w, b.String())
	return err
}

func completeFish(w io.Writer, commands []*cli.Command) error {
	var b strings.Builder
	b.WriteString("# ccagent completion for fish\ncomplete -c ccagent -f\n")
	for _, command := range commands {
		fmt.Fprintf(&b, "complete -c ccagent -n __fish_use_subcommand -a %s -d %s\n", command.Name, shellWord(command.Usage))
	}
	for _, command := range commands {
		seen := fmt.Sprintf("complete -c ccagent -n '__fish_seen_subcommand_from %s'", command.Name)
		for _, flag := range command.VisibleFlags() {
			b.WriteString(seen)
			for _, name := range flag.Names() {
				option := "-l"
				if len(name) == 1 {
					option = "-s"
				}
				fmt.Fprintf(&b, " %s %s", option, name)
			}
			b.WriteString(fishValue(flag))
			if described, ok := flag.(cli.DocGenerationFlag); ok {
				fmt.Fprintf(&b, " -d %s", shellWord(strings.ReplaceAll(described.GetUsage(), "`", "")))
			}
			b.WriteByte('\n')
		}
		switch {
		case takesProfile[command.Name]:
			fmt.Fprintf(&b, "%s -a '(ccagent list --names 2>/dev/null)'\n", seen)
		case command.Name == "import":
			fmt.Fprintf(&b, "%s -F\n", seen)
		case command.Name == "exec", command.Name == "run":
			fmt.Fprintf(&b, "%s -a '(__fish_complete_command)'\n", seen)
		}
		if words := argumentsOf(command.Name, commands); words != "" {
			fmt.Fprintf(&b, "%s -a '%s'\n", seen, words)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// fishValue says how fish completes the value of a flag. It is empty for a flag without a value.
func fishValue(flag cli.Flag) string {
	if _, boolean := flag.(*cli.BoolFlag); boolean {
		return ""
	}
	long := dashed(flag.Names()[0])
	switch {
	case long == "--profile", long == "--profiles":
		return " -x -a '(ccagent list --names 2>/dev/null)'"
	case takesFile(flag):
		return " -r -F"
	case slices.Contains(takesDirectory, long):
		return " -x -a '(__fish_complete_directories)'"
	case fixedWords[long] != "":
		return fmt.Sprintf(" -x -a '%s'", fixedWords[long])
	}
	return " -x"
}

// shellWord quotes a description in a way that zsh and fish both understand.
func shellWord(text string) string { return "'" + strings.ReplaceAll(text, "'", `’`) + "'" }
