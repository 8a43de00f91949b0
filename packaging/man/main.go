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
	synopsis, text, _ := strings.Cut(strings.TrimPrefix(helper, "usage: "), "\n")
	helper = "# NAME\n\ncchelper - print a live token\n\n# SYNOPSIS\n\n**" + synopsis + "**\n\n# DESCRIPTION\n\n" + indent(strings.TrimSpace(text)) +
		"\n\n# SEE ALSO\n\nccagent(1), ccagent-protocol(7)\n"
	config, err := document(filepath.Join(docs, "config.md"), "ccagent.toml - the settings of ccagent")
	if err != nil {
		return err
	}
	protocol, err := document(filepath.Join(docs, "protocol.md"), "ccagent-protocol - how programs ask ccagent for tokens")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	for _, page := range []struct{ name, section, source string }{
		{"ccagent", "1", commands}, {"cchelper", "1", helper}, {"ccagent.toml", "5", config}, {"ccagent-protocol", "7", protocol},
	} {
		title := fmt.Sprintf("%% %q %q %q %q\n\n", strings.ToUpper(page.name), page.section, date, "ccagent "+version)
		roff := md2man.Render([]byte(title + page.source))
		if err := os.WriteFile(filepath.Join(out, page.name+"."+page.section), roff, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// document reads one of docs as a manual page: its title becomes NAME, and links what they show.
func document(path, name string) (string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	_, body, _ := strings.Cut(string(text), "\n")
	body = regexp.MustCompile(`\[([^\]]+)\]\(([^)]+)\)`).ReplaceAllString(body, "$1")
	body = regexp.MustCompile(`(?m)^#(#+) `).ReplaceAllString(body, "$1 ")
	return "# NAME\n\n" + name + "\n\n# DESCRIPTION\n" + lists(body), nil
}

// lists makes tables into lists of definitions: a terminal is too narrow for columns of prose.
func lists(body string) string {
	var b strings.Builder
	lines := strings.Split(body, "\n")
	row := func(i int) bool { return i < len(lines) && strings.HasPrefix(lines[i], "|") }
	for i := 0; i < len(lines); i++ {
		switch {
		case row(i) && row(i+1) && strings.HasPrefix(lines[i+1], "|---"):
			i++ // the heads and the line below them
		case row(i):
			cells := strings.Split(strings.ReplaceAll(strings.Trim(lines[i], "| "), `\|`, "\x00"), " | ")
			for j := range cells {
				cells[j] = strings.ReplaceAll(strings.TrimSpace(cells[j]), "\x00", "|")
			}
			fmt.Fprintf(&b, "**%s**\n: %s\n\n", strings.ReplaceAll(cells[0], "`", ""), strings.Join(cells[1:], "; "))
		default:
			b.WriteString(lines[i] + "\n")
		}
	}
	return b.String()
}

func indent(text string) string {
	return "    " + strings.ReplaceAll(text, "\n", "\n    ")
}
