package setup

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ccagent/ccagent/cmd/ccagent/config"
	"github.com/ccagent/ccagent/cmd/ccagent/terminal"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store/splice"
)

// mcpServer is a server as Claude Code's settings have it.
type mcpServer struct {
	Type   string `json:"type"`
	URL    string `json:"url"`
	Helper string `json:"headersHelper"`
}

// isServerName reports whether Claude Code lets a server be called so.
func isServerName(name string) bool {
	return name != "" && strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") == ""
}

// mcpPlan adds the MCP server that a profile is for to Claude Code's settings: to the person's own, or to those of a project,
// which others share.
func mcpPlan(w wish) (plan, error) {
	settings, err := config.Settings(w.profile)
	if err != nil {
		return plan{}, err
	}
	if settings.MCPURL == "" {
		return plan{}, &protocol.Error{Code: protocol.CodeConfig,
			Message: "profile " + w.profile.Name + " is not for an MCP server: it has no mcp_url",
			Hint: "make one that is: ccagent login NAME --mcp URL\nto give its token to a server that Claude Code knows already: " +
				protocol.ShellLine("ccagent", "setup", "claude-code", "-p", w.profile.Name, "--name") + " SERVER"}
	}
	name := w.name
	if name == "" {
		name = w.profile.Name
	}
	if !isServerName(name) {
		return plan{}, &protocol.Error{Code: protocol.CodeConfig,
			Message: fmt.Sprintf("Claude Code knows no server by the name %q: it takes letters, digits, - and _", terminal.Sanitize(name)),
			Hint:    "give the server another name, with --name"}
	}
	e := edit{path: w.env.ClaudeAccounts(), mode: 0o600}
	var p plan
	if w.project != "" {
		e.path, e.mode = filepath.Join(w.project, ".mcp.json"), 0o644
		p.says = w.shared(settings.MCPURL)
		w.helper = "cchelper" // others have theirs elsewhere
	}
	server := mcpServer{Type: "http", URL: settings.MCPURL, Helper: w.ask("headers")}
	whole := put{jsonPut, []string{"mcpServers", name}, string(splice.Encode(server))}
	src, err := readSettings(e.path)
	if err != nil {
		return plan{}, err
	}
	there, found, err := splice.Get(src, whole.Keys...)
	switch {
	case err != nil || !found || w.undo: // what is not JSON is refused when it is edited
		e.puts = []put{whole}
	case addressOf(there) != server.URL:
		message := fmt.Sprintf("%s has another MCP server %s already", e.path, name)
		if address := addressOf(there); address != "" { // else a command
			message += ", at " + terminal.Sanitize(address)
		}
		return plan{}, &protocol.Error{Code: protocol.CodeConfig, Message: message, Hint: "give this one another name, with --name"}
	case isOurs(there):
		e.puts = []put{whole}
	default: // the rest of it is the person's
		e.puts = []put{jsonValue(server.Helper, "mcpServers", name, "headersHelper")}
	}
	p.edits = []edit{e}
	return p, nil
}

// addressOf returns the URL of a server in Claude Code's settings, "" where it has none.
func addressOf(server []byte) string {
	var s mcpServer
	json.Unmarshal(server, &s) // what can't be read has no URL
	return s.URL
}

// isOurs reports whether a server in Claude Code's settings has no more than what setup writes.
func isOurs(server []byte) bool {
	var all map[string]any
	if json.Unmarshal(server, &all) != nil || all["type"] != "http" {
		return false
	}
	for key := range all {
		if !slices.Contains([]string{"type", "url", "headersHelper"}, key) {
			return false
		}
	}
	return true
}

// shared is what those who use a project need besides its settings.
func (w wish) shared(url string) []string {
	says := []string{
		"whoever uses the project needs cchelper on PATH and a profile of that name: " +
			protocol.ShellLine("ccagent", "login", "--mcp", url, w.profile.Name),
		"Claude Code runs the helper of a project only after you have said in it that you trust the folder",
	}
	if w.env.LookPath("cchelper") == "" {
		says = append(says, "note: there is no cchelper on your PATH; put "+filepath.Dir(w.helper)+" on it")
	}
	return says
}

// projectHere returns the folder of the project that the person is in.
func projectHere(home string) (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", &protocol.Error{Code: protocol.CodeConfig, Message: "the folder that you are in is not known: " + err.Error(),
			Hint: "go to the folder of the project, and type the command again"}
	}
	var here, there fs.FileInfo
	if here, err = os.Stat(dir); err == nil {
		there, err = os.Stat(home)
	}
	if err == nil && os.SameFile(here, there) {
		return "", &protocol.Error{Code: protocol.CodeConfig,
			Message: "you are in your home directory, which is no project to Claude Code",
			Hint:    "go to the folder of the project, or leave out --project"}
	}
	return dir, nil
}
