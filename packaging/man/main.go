// Command man makes the manual pages from the programs' own help texts and from docs. It is a module of its own, since nothing
// that is shipped links a renderer of Markdown.
//
// usage: man BIN DOCS OUT VERSION DATE
package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/cpuguy83/go-md2man/v2/md2man"
)

func main() {
	if len(os.Args) != 6 {
		fmt.Fprintln(os.Stderr, "usage: man BIN DOCS OUT VERSION DATE")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2], os.Args[3], os.Args[4], os.Args[5]); err != nil {
		fmt.Fprintln(os.Stderr, "man:", err)
		os.Exit(1)
	}
}

func run(bin, docs, out, version, date string) error {
	output := func(name string, args ...string) (string, error) {
		text, err := exec.Command(filepath.Join(bin, name), args...).Output()
		return string(text), err
	}
	commands, err := output("ccagent", "help", "--markdown")
	if err != nil {
		return err
	}
	helper, err := output("cchelper", "--help")
	if err != nil {
		return err
	}
	_, environment, _ := strings.Cut(commands, "# ENVIRONMENT\n\n")
	environment, _, _ = strings.Cut(environment, "\n\n# ")
	config, err := document(filepath.Join(docs, "config.md"), "ccagent.toml - the settings of ccagent", "ccagent(1), cchelper(1)")
	if err != nil {
		return err
	}
	protocol, err := document(filepath.Join(docs, "protocol.md"), "ccagent-protocol - how programs ask ccagent for tokens",
		"ccagent(1), cchelper(1)")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	for _, page := range []struct{ name, section, source string }{
		{"ccagent", "1", commands}, {"cchelper", "1", helperPage(helper, environment)}, {"ccagent.toml", "5", config},
		{"ccagent-protocol", "7", protocol},
	} {
		title := fmt.Sprintf("%% %q %q %q %q\n\n", strings.ToUpper(page.name), page.section, date, "ccagent "+version)
		roff := md2man.Render([]byte(title + page.source))
		if err := os.WriteFile(filepath.Join(out, page.name+"."+page.section), roff, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// helpColumn is where the second column of cchelper's help begins, unless the first is too long for it.
const helpColumn = 23

// helperPage makes cchelper(1) from its help, and the variables that both programs know: what stands in columns there are
// definitions here, which any width will do for.
func helperPage(help, environment string) string {
	var b strings.Builder
	b.WriteString("# NAME\n\ncchelper - print a live token\n\n")
	title := "DESCRIPTION"
	for paragraph := range strings.SplitSeq(strings.TrimSpace(help), "\n\n") {
		words, rest, _ := strings.Cut(paragraph, ":")
		switch {
		case words == "usage":
			b.WriteString("# SYNOPSIS\n\n**" + strings.TrimSpace(rest) + "**\n")
		case strings.HasPrefix(paragraph, "  "):
			options, formats := definitions(paragraph)
			b.WriteString("\n# OPTIONS" + options + "\n\n# FORMATS" + formats + "\n")
			title = "NAMES"
		case words == "example":
			b.WriteString("\n# EXAMPLES\n\n" + indent(trimLines(rest)) + "\n")
		case words == "exit codes":
			b.WriteString("\n# EXIT STATUS\n\n" + trimLines(rest) + "\n")
		default:
			b.WriteString("\n# " + title + "\n\n" + plain(paragraph) + "\n")
		}
	}
	b.WriteString("\n# ENVIRONMENT\n\n" + environment + "\n\n# SEE ALSO\n\nccagent(1), ccagent.toml(5), ccagent-protocol(7)\n")
	return b.String()
}

// definitions reads the table of options, and what stands in it, further to the right, of the formats.
func definitions(table string) (options, formats string) {
	columns := regexp.MustCompile(` {2,}`)
	variables := regexp.MustCompile(` {2,}(\$CCAGENT_\w+( \$CCAGENT_\w+)*)$`)
	to := &options
	for line := range strings.SplitSeq(table, "\n") {
		var term, text string
		line = variables.ReplaceAllString(line, " [$1]")
		switch {
		case len(line) > helpColumn && strings.TrimSpace(line[:helpColumn]) == "":
			text = strings.TrimSpace(line)
		case len(line) > helpColumn && line[helpColumn-1] == ' ':
			term, text = strings.TrimSpace(line[:helpColumn]), line[helpColumn:]
		default:
			term, text, _ = strings.Cut(columns.ReplaceAllString(strings.TrimSpace(line), "\x00"), "\x00")
		}
		if term != "" {
			if to = &formats; strings.HasPrefix(term, "-") {
				to = &options
			}
			*to += "\n\n**" + plain(term) + "**\n:"
		}
		if text != "" {
			*to += " " + plain(text)
		}
	}
	return options, formats
}

// plain keeps Markdown from seeing anything in words of a help text.
func plain(text string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "_", `\_`, "`", "\\`", "<", `\<`, "[", `\[`).Replace(text)
}

func trimLines(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i])
	}
	return strings.Join(lines, "\n")
}

// document reads one of docs as a manual page: its title becomes NAME, links what they show, and other documents how they are
// read where only the programs are.
func document(path, name, also string) (string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	_, body, _ := strings.Cut(string(text), "\n")
	body = regexp.MustCompile(`\[([^\]]+)\]\(([^)]+)\)`).ReplaceAllString(body, "$1")
	body = regexp.MustCompile(`docs/\w+\.md`).ReplaceAllString(body, "`ccagent help $0`")
	return "# NAME\n\n" + name + "\n\n# DESCRIPTION\n" + strings.TrimSpace(lists(body)) + "\n\n# SEE ALSO\n\n" + also + "\n", nil
}

// lists makes tables into lists of definitions: a terminal is too narrow for columns of prose.
func lists(body string) string {
	var b strings.Builder
	lines := strings.Split(body, "\n")
	row := func(i int) bool { return i < len(lines) && strings.HasPrefix(lines[i], "|") }
	var heads []string
	for i := 0; i < len(lines); i++ {
		switch {
		case row(i) && row(i+1) && strings.HasPrefix(lines[i+1], "|---"):
			heads = cellsOf(lines[i])
			i++ // the line below them
		case row(i):
			term, text := "", []string(nil)
			for j, cell := range cellsOf(lines[i]) {
				if cell == "" {
					continue
				}
				switch {
				case term == "":
					term = cell
				case len(heads) > 2 && heads[j] != "": // of two columns the second explains the first, which needs no name
					text = append(text, heads[j]+" "+cell)
				default:
					text = append(text, cell)
				}
			}
			fmt.Fprintf(&b, "**%s**\n: %s\n\n", strings.ReplaceAll(term, "`", ""), strings.Join(text, "; "))
		default:
			b.WriteString(lines[i] + "\n")
		}
	}
	return b.String()
}

// cellsOf parts a row of a table.
func cellsOf(row string) []string {
	row = strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(row), "|"), "|")
	cells := strings.Split(strings.ReplaceAll(row, `\|`, "\x00"), "|")
	for i := range cells {
		cells[i] = strings.ReplaceAll(strings.TrimSpace(cells[i]), "\x00", "|")
	}
	return cells
}

func indent(text string) string {
	return "    " + strings.ReplaceAll(text, "\n", "\n    ")
}
