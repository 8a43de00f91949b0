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

// runAtLoad has launchd start the job at login too.
const runAtLoad = "\t<key>RunAtLoad</key>\n\t<true/>\n"

// launchdService describes the program at exe to launchd, which starts it at login too if that is asked for or was so already.
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
