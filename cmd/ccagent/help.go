package main

import (
	"fmt"
	"io"
	"io/fs"
	"os/exec"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/ccagent/ccagent/docs"
	"github.com/ccagent/ccagent/protocol"
)

func helpCommand() *cli.Command {
	return &cli.Command{
		Name:      "help",
		Aliases:   []string{"h"},
		Usage:     "explain a command or a topic",
		ArgsUsage: "[COMMAND|TOPIC]",
		Description: `Topics are ` + strings.Join(topics(), ", ") + `.

EXAMPLE:
   ccagent help login
   ccagent help docs/login.md
   ccagent help stores`,
		Flags: []cli.Flag{&cli.BoolFlag{Name: "markdown", Hidden: true, Usage: "print the source of ccagent(1)"}},
		Action: func(c *cli.Context) error {
			if err := atMost(c, 1); err != nil {
				return err
			}
			name := c.Args().First()
			switch {
			case c.Bool("markdown"):
				return manualSource(c.App)
			case name == "":
				if err := cli.ShowAppHelp(c); err != nil {
					return err
				}
				_, err := fmt.Fprintf(c.App.Writer, "\nTOPICS (ccagent help TOPIC):\n   %s\n", strings.Join(topics(), ", "))
				return err
			}
			topic := strings.TrimSuffix(strings.TrimPrefix(name, "docs/"), ".md") // other texts call it docs/TOPIC.md
			if page, ok := pages[name]; ok {
				topic = page
			}
			if command := c.App.Command(name); command != nil && !command.Hidden {
				if err := cli.ShowCommandHelp(c, name); err != nil || !slices.Contains(topics(), name) {
					return err
				}
				_, err := fmt.Fprintf(c.App.Writer, "\nThere is also a document about it: ccagent help docs/%s.md\n", name)
				return err
			}
			if slices.Contains(topics(), topic) {
				text, err := docs.Files.ReadFile(topic + ".md")
				if err != nil {
					return err
				}
				_, err = c.App.Writer.Write(text)
				return err
			}
			if name == "cchelper" {
				return helperHelp(c)
			}
			hint := "the topics are " + strings.Join(topics(), ", ") + "\nccagent --help lists the commands"
			if like := nearest(c.App.VisibleCommands(), name); like != "" {
				hint = "did you mean " + like + "?\n" + hint
			}
			return &protocol.Error{
				Code:    protocol.CodeConfig,
				Message: fmt.Sprintf("there is no command and no topic %q", name),
				Hint:    hint,
			}
		},
	}
}

// pages maps the names of manual pages to the topics that they are made from, if these have another name.
var pages = map[string]string{"ccagent.toml": "config", "config.toml": "config", "ccagent-protocol": "protocol"}

// helperHelp prints what cchelper --help says.
func helperHelp(c *cli.Context) error {
	path, err := getenv.Helper()
	if err != nil {
		return err
	}
	text, err := exec.CommandContext(c.Context, path, "--help").Output()
	if err != nil {
		return err
	}
	_, err = c.App.Writer.Write(text)
	return err
}

// topics returns the names of the documents.
func topics() []string {
	files, _ := fs.Glob(docs.Files, "*.md") // the pattern is ours
	for i, file := range files {
		files[i] = strings.TrimSuffix(file, ".md")
	}
	return files
}

// manualSource writes ccagent(1) in Markdown, from the texts that --help prints.
func manualSource(app *cli.App) error {
	var b strings.Builder
	section := func(title, text string) { fmt.Fprintf(&b, "# %s\n\n%s\n\n", title, text) }
	section("NAME", "ccagent - "+app.Usage)
	section("SYNOPSIS", "**ccagent** COMMAND [OPTIONS]")
	prose, example := splitExample(app.Description)
	section("DESCRIPTION", prose+"\n\n"+example)
	b.WriteString("# COMMANDS\n\n")
	for _, command := range app.VisibleCommands() {
		fmt.Fprintf(&b, "### ccagent %s %s\n\n", command.Name, mdEscape(command.ArgsUsage))
		prose, example := splitExample(command.Description)
		fmt.Fprintf(&b, "%s.\n\n%s\n\n", mdEscape(capital(command.Usage)), mdEscape(prose))
		for _, flag := range command.VisibleFlags() {
			// Its form is that of --help: the names and the value, a tab, what it does.
			names, does, _ := strings.Cut(flag.String(), "\t")
			fmt.Fprintf(&b, "**%s**\n: %s\n\n", mdEscape(names), mdEscape(strings.TrimSpace(does)))
		}
		b.WriteString(example + "\n\n")
	}
	section(
		"EXIT STATUS",
		"0 success; 1 a fault of ccagent itself, or a check of doctor failed; 2 wrong usage or configuration; 3 not found; "+
			"4 sign in again; 5 no agent; 6 refused, or locked; 7 try again later; 8 the record could not be read or written; "+
			"9 the sign-in was not completed; 126 the program of exec could not be run; 127 it was not found; "+
			"130 you answered no to a question, or pressed Ctrl-C.",
	)
	section(
		"ENVIRONMENT",
		"**CCAGENT\\_SOCK**\n: the path of the agent's socket, if it is not the default one. No agent is started there. The default "+
			"is `$XDG_RUNTIME_DIR/ccagent/agent.sock`. Without XDG_RUNTIME_DIR it is `ccagent-UID/agent.sock` in `$TMPDIR`. Without "+
			"both it is `/run/user/UID/ccagent/agent.sock` if a login has made `/run/user/UID`, else `/tmp/ccagent-UID/agent.sock`\n\n"+
			"**CCAGENT\\_SOCK\\_UID**\n: the user id of the socket's owner, if that is not you\n\n"+
			"A variable that stands for an option is named with the option.",
	)
	section(
		"FILES",
		"`~/.config/ccagent/config.toml`\n: the settings, see ccagent.toml(5)\n\n`$XDG_RUNTIME_DIR/ccagent/agent.sock`\n: the "+
			"socket\n\n"+
			"`~/.local/share/ccagent`\n: the records of the stores file and encrypted\n\n`~/.local/state/ccagent`\n: the log, and what "+
			"ccagent remembers",
	)
	section("SEE ALSO", "cchelper(1), ccagent.toml(5), ccagent-protocol(7), ssh-agent(1)")
	_, err := io.WriteString(app.Writer, b.String())
	return err
}

// splitExample separates a description from its example, and returns the example as a block of code.
func splitExample(description string) (prose, example string) {
	prose, lines, ok := strings.Cut(description, "EXAMPLE:\n")
	if !ok {
		return description, ""
	}
	for line := range strings.Lines(lines) {
		example += "    " + strings.TrimPrefix(strings.TrimSuffix(line, "\n"), "   ") + "\n"
	}
	return strings.TrimSpace(prose), "Example:\n\n" + example
}

func mdEscape(s string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "_", `\_`, "<", `\<`, "[", `\[`, "]", `\]`, "|", `\|`).Replace(s)
}

func capital(s string) string { return strings.ToUpper(s[:1]) + s[1:] }
