package service

import (
	"bytes"
	"encoding/xml"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/ccagent/ccagent/cmd/ccagent/environ"
	"github.com/ccagent/ccagent/packaging"
)

// runAtLoad makes launchd start the job at login too.
const runAtLoad = "\t<key>RunAtLoad</key>\n\t<true/>\n"

// launchdService returns the Service for launchd that starts the program at exe. It starts at login too if atLogin says so, or if
// the file that is installed does.
func launchdService(env environ.Vars, exe string, uid int, atLogin bool) (Service, error) {
	if !filepath.IsAbs(env("HOME")) {
		return Service{}, environ.NoHome
	}
	var program bytes.Buffer
	xml.EscapeText(&program, []byte(exe))
	text := strings.Replace(packaging.Plist, "<string>"+packaging.Program+"</string>", "<string>"+program.String()+"</string>", 1)
	path := filepath.Join(env("HOME"), "Library/LaunchAgents/com.github.ccagent.plist")
	if there, err := os.ReadFile(path); atLogin || err == nil && isMarked(there) && bytes.Contains(there, []byte(runAtLoad)) {
		text = strings.Replace(text, "</dict>\n</plist>", runAtLoad+"</dict>\n</plist>", 1)
	}
	domain := "gui/" + strconv.Itoa(uid)
	return Service{
		Manager: "launchd",
		Files:   []File{{path, marked("<!--", " -->", text)}},
		enable:  [][]string{{"launchctl", "enable", domain + "/com.github.ccagent"}, {"launchctl", "bootstrap", domain, path}},
		disable: [][]string{{"launchctl", "bootout", domain + "/com.github.ccagent"}},
	}, nil
}
