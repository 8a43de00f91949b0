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
		Flags: []cli.Flag{&cli.BoolFlag{Name: "markdown", Hidden: true, Usage: "the source of ccagent(1)"}},
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
			topic := strings.TrimSuffix(strings.TrimPrefix(name, "docs/"), ".md") // as other texts name it
			if page, ok := pages[name]; ok {
				topic = page
			}
			if command := c.App.Command(name); command != nil && !command.Hidden {
				if err := cli.ShowCommandHelp(c, name); err != nil || !slices.Contains(topics(), name) {
					return err
				}
				_, err := fmt.Fprintf(c.App.Writer, "\nThere is a document of that name too: ccagent help docs/%s.md\n", name)
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
			hint := "there are the topics " + strings.Join(topics(), ", ") + "\nccagent --help lists the commands"
			if like := nearest(c.App.VisibleCommands(), name); like != "" {
				hint = "did you mean " + like + "?\n" + hint
			}
			return &protocol.Error{
				Code:    protocol.CodeConfig,
				Message: fmt.Sprintf("neither a command nor a topic: %q", name),
				Hint:    hint,
			}
		},
	}
}

// pages are the topics that manual pages of another name are made from.
var pages = map[string]string{"ccagent.toml": "config", "config.toml": "config", "ccagent-protocol": "protocol"}

// helperHelp has cchelper explain itself.
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

// topics are the documents, by name.
func topics() []string {
	files, _ := fs.Glob(docs.Files, "*.md") // the pattern is ours
	for i, file := range files {
		files[i] = strings.TrimSuffix(file, ".md")
	}
	return files
}

// manualSource writes ccagent(1) in Markdown, from the same words that --help prints.
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
			// As --help has it: names and value, a tab, what it does.
			names, does, _ := strings.Cut(flag.String(), "\t")
			fmt.Fprintf(&b, "**%s**\n: %s\n\n", mdEscape(names), mdEscape(strings.TrimSpace(does)))
		}
		b.WriteString(example + "\n\n")
	}
	section(
		"EXIT STATUS",
		"0 done; 1 a fault of ours, or doctor found something that fails; 2 usage or configuration; 3 not found; 4 sign in again; "+
			"5 no agent; 6 refused, or locked; 7 try again; 8 storage; "+
			"9 a sign-in that did not complete; 126, 127 the program of exec could not be run, was not found; 130 you said no "+
			"to a question, or interrupted it with Ctrl-C.",
	)
	section(
		"ENVIRONMENT",
		"**CCAGENT\\_SOCK**\n: the agent's socket, where it is not `$XDG_RUNTIME_DIR/ccagent/agent.sock` (without XDG_RUNTIME_DIR "+
			"`ccagent-UID/agent.sock` in `$TMPDIR`; without both `/run/user/UID/ccagent/agent.sock` if a login has made "+
			"`/run/user/UID`, else `/tmp/ccagent-UID/agent.sock`); no agent is started there\n\n"+
			"**CCAGENT\\_SOCK\\_UID**\n: the user whose socket that may be, if it is not "+
			"yours\n\n"+
			"Variables that stand for an option are named with it.",
	)
	section(
		"FILES",
		"`~/.config/ccagent/config.toml`\n: the settings, see ccagent.toml(5)\n\n`$XDG_RUNTIME_DIR/ccagent/agent.sock`\n: the "+
			"socket\n\n"+
			"`~/.local/share/ccagent`, `~/.local/state/ccagent`\n: records of store file and encrypted; the log, and what is remembered",
	)
	section("SEE ALSO", "cchelper(1), ccagent.toml(5), ccagent-protocol(7), ssh-agent(1)")
	_, err := io.WriteString(app.Writer, b.String())
	return err
}

// splitExample parts a description from its example, which it returns as a block of code.
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
