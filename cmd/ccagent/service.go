package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ccagent/ccagent/cmd/ccagent/environ"
	"github.com/ccagent/ccagent/cmd/ccagent/files"
	"github.com/ccagent/ccagent/cmd/ccagent/terminal"
	"github.com/ccagent/ccagent/packaging"
	"github.com/ccagent/ccagent/protocol"
)

// service is how a service manager is told of the agent: files, and commands in the order in which they are run. What it is
// for which system is decided by its maker alone, so that both can be looked at on either.
type service struct {
	manager     string // for a person
	absent      error  // why it can't be talked to
	files       []serviceFile
	links       []string     // what enabling makes beside the files
	enable      [][]string   // begins to listen
	disable     [][]string   // stops listening, and ends the agent
	forget      [][]string   // once the files are gone
	atLogin     []string     // has it started at login too; nil: its file says so
	elsewhere   []string     // folders where a package may have put the same files, the one that wins first
	socket      string       // where the manager listens; "": not known before
	environment environ.Vars // what the agent finds in its environment; nil: not known
}

type serviceFile struct {
	path    string
	content []byte
}

// userManager is what systemd's user manager says of itself.
type userManager struct {
	unitPath    string // the folders that it reads units from, the one that wins first
	environment string // of the programs that it starts, a variable a line
}

// askSystemd fails where there is no user manager.
func askSystemd(ctx context.Context) (m userManager, err error) {
	if m.unitPath, err = showUnit(ctx, "UnitPath"); err == nil {
		m.environment, err = outputOf(ctx, "systemctl", "--user", "show-environment")
	}
	return m, err
}

// showUnit asks systemd for a property of a unit, or of the manager itself.
func showUnit(ctx context.Context, property string, unit ...string) (string, error) {
	return outputOf(ctx, append([]string{"systemctl", "--user", "show", "--value", "-p", property}, unit...)...)
}

// systemdService describes the program at exe to systemd's user manager.
func systemdService(env environ.Vars, exe string, m userManager) (service, error) {
	if !terminal.Printable(exe) || strings.ContainsAny(exe, `"'\`) { // systemd refuses them, escaped too
		return service{}, &protocol.Error{Code: protocol.CodeConfig, Message: "a unit can't name this program: " + exe,
			Hint: "move it to a path without quotes, backslashes and control characters"}
	}
	home := env("HOME")
	if !filepath.IsAbs(home) {
		return service{}, environ.NoHome
	}
	dir := env("XDG_CONFIG_HOME")
	if !filepath.IsAbs(dir) {
		dir = filepath.Join(home, ".config")
	}
	dir = filepath.Join(dir, "systemd/user")
	folders := strings.Fields(m.unitPath)
	if !strings.Contains(m.unitPath, dir) { // XDG_CONFIG_HOME is another one for the manager
		own := func(folder string) bool {
			return strings.HasPrefix(folder, home+"/") && strings.HasSuffix(folder, "/systemd/user")
		}
		if i := slices.IndexFunc(folders, own); i >= 0 {
			dir = folders[i]
		}
	}
	shown := shownEnvironment(m.environment)
	environment := func(name string) string { return shown[name] }
	socket := ""
	if dir := environment("XDG_RUNTIME_DIR"); dir != "" {
		socket = filepath.Join(dir, "ccagent/agent.sock")
	}
	// systemd.service(5): a % begins a specifier, and a path with a blank in it is quoted. A $ means itself in the program's
	// path.
	program := strings.ReplaceAll(exe, "%", "%%")
	if strings.ContainsAny(program, " ;") {
		program = `"` + program + `"`
	}
	systemctl := func(args ...string) []string { return append([]string{"systemctl", "--user", "-q"}, args...) }
	return service{
		manager: "systemd",
		files: []serviceFile{
			{filepath.Join(dir, "ccagent.socket"), marked("#", "", packaging.Socket)},
			{filepath.Join(dir, "ccagent.service"), marked("#", "", strings.Replace(packaging.Service, packaging.Program, program, 1))},
		},
		links: []string{
			filepath.Join(dir, "sockets.target.wants/ccagent.socket"),
			filepath.Join(dir, "default.target.wants/ccagent.service"),
		},
		enable:      [][]string{systemctl("daemon-reload"), systemctl("enable", "--now", "ccagent.socket")},
		disable:     [][]string{systemctl("disable", "--now", "ccagent.socket", "ccagent.service")},
		forget:      [][]string{systemctl("daemon-reload")},
		atLogin:     systemctl("enable", "ccagent.service"),
		elsewhere:   slices.DeleteFunc(folders, func(folder string) bool { return folder == dir }),
		socket:      socket,
		environment: environment,
	}, nil
}

// shownEnvironment reads what `systemctl show-environment` prints. A value with a character that means something to a shell, as
// the star of NO_PROXY, comes as $'...'.
func shownEnvironment(text string) map[string]string {
	shown := map[string]string{}
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		if quoted, ok := strings.CutPrefix(value, "$'"); ok {
			quoted = strings.ReplaceAll(strings.ReplaceAll(strings.TrimSuffix(quoted, "'"), `\'`, "'"), `"`, `\"`)
			if plain, err := strconv.Unquote(`"` + quoted + `"`); err == nil {
				value = plain
			}
		}
		shown[name] = value
	}
	return shown
}

// runAtLoad has launchd start the job at login too.
const runAtLoad = "\t<key>RunAtLoad</key>\n\t<true/>\n"

// launchdService describes the program at exe to launchd, which starts it at login too if that is asked for or was so already.
func launchdService(env environ.Vars, exe string, uid int, atLogin bool) (service, error) {
	if !filepath.IsAbs(env("HOME")) {
		return service{}, environ.NoHome
	}
	var program bytes.Buffer
	xml.EscapeText(&program, []byte(exe))
	text := strings.Replace(packaging.Plist, "<string>"+packaging.Program+"</string>", "<string>"+program.String()+"</string>", 1)
	path := filepath.Join(env("HOME"), "Library/LaunchAgents/com.github.ccagent.plist")
	if there, err := os.ReadFile(path); atLogin || err == nil && isMarked(there) && bytes.Contains(there, []byte(runAtLoad)) {
		text = strings.Replace(text, "</dict>\n</plist>", runAtLoad+"</dict>\n</plist>", 1)
	}
	domain := "gui/" + strconv.Itoa(uid)
	return service{
		manager: "launchd",
		files:   []serviceFile{{path, marked("<!--", " -->", text)}},
		enable:  [][]string{{"launchctl", "enable", domain + "/com.github.ccagent"}, {"launchctl", "bootstrap", domain, path}},
		disable: [][]string{{"launchctl", "bootout", domain + "/com.github.ccagent"}},
	}, nil
}

// markText begins the last line of what we wrote. The digest of what stands before it tells whether somebody has changed it
// since.
const markText = " installed by ccagent, and removed by: ccagent uninstall; digest "

// marked is text with that line. It is the last, since an XML declaration has to be the first.
func marked(open, end, text string) []byte {
	sum := sha256.Sum256([]byte(text))
	return []byte(text + open + markText + hex.EncodeToString(sum[:8]) + end + "\n")
}

// isMarked reports whether we wrote the file as it is.
func isMarked(content []byte) bool {
	m := regexp.MustCompile(`(?s)^(.*\n)(#|<!--)` + regexp.QuoteMeta(markText) + `([0-9a-f]{16})( -->)?\n$`).FindSubmatch(content)
	if m == nil {
		return false
	}
	sum := sha256.Sum256(m[1])
	return hex.EncodeToString(sum[:8]) == string(m[3])
}

// packaged reports whether a package has put files for the very same program where the manager looks: then there is nothing
// to write, and nothing to remove.
func (s service) packaged() bool {
	for _, f := range s.files {
		want, _, _ := bytes.Cut(f.content, []byte("#"+markText))
		i := slices.IndexFunc(s.elsewhere, func(dir string) bool {
			_, err := os.Lstat(filepath.Join(dir, filepath.Base(f.path)))
			return err == nil
		})
		if i < 0 {
			return false
		}
		if text, err := os.ReadFile(filepath.Join(s.elsewhere[i], filepath.Base(f.path))); err != nil || !bytes.Equal(text, want) {
			return false
		}
	}
	return true
}

// installed reports whether install wrote one of the files, be it changed since then or not.
func (s service) installed() bool {
	return slices.ContainsFunc(s.files, func(f serviceFile) bool {
		there, err := os.ReadFile(f.path)
		return err == nil && bytes.Contains(there, []byte(markText))
	})
}

// startsAtLogin reports whether the manager was told to start the agent at login.
func (s service) startsAtLogin(ctx context.Context) bool {
	if s.manager == "launchd" {
		text, err := os.ReadFile(s.files[0].path)
		return err == nil && bytes.Contains(text, []byte(runAtLoad))
	}
	return s.absent == nil && enabled(ctx, "ccagent.service")
}

// enabled reports whether systemd starts a unit at login. It calls one without an [Install] section static, and exits with 0 for
// it too.
func enabled(ctx context.Context, unit string) bool {
	state, err := outputOf(ctx, "systemctl", "--user", "is-enabled", unit)
	return err == nil && state == "enabled"
}

// foreign are the files that are there already and not as we wrote them. One that is masked, by a link to nowhere, is empty.
func (s service) foreign() ([]serviceFile, error) {
	var found []serviceFile
	for _, f := range s.files {
		there, err := os.ReadFile(f.path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return nil, files.StorageError(err)
		case !bytes.Equal(there, f.content) && !isMarked(there):
			found = append(found, serviceFile{f.path, there})
		}
	}
	return found, nil
}

// write writes the files that are not there yet, and returns their paths.
func (s service) write() (written []string, err error) {
	for _, f := range s.files {
		there, err := os.ReadFile(f.path)
		if err == nil && bytes.Equal(there, f.content) {
			continue
		}
		if err == nil && !isMarked(there) { // not through a link: what it leads to is somebody else's, or /dev/null
			err = os.Remove(f.path)
		} else {
			err = os.MkdirAll(filepath.Dir(f.path), 0o755)
		}
		if err == nil {
			err = files.Replace(f.path, f.content, 0o644)
		}
		if err != nil {
			return written, files.StorageError(err)
		}
		written = append(written, f.path)
	}
	return written, nil
}

// putBack returns what makes files and manager again what they are now.
func (s service) putBack(ctx context.Context) (func(context.Context) error, error) {
	before := make([][]byte, len(s.files))
	loaded, atLogin := false, s.startsAtLogin(ctx)
	for i, f := range s.files {
		there, err := os.ReadFile(f.path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, files.StorageError(err)
		}
		before[i] = there
		loaded = loaded || there != nil
	}
	if s.manager == "systemd" {
		loaded = enabled(ctx, "ccagent.socket")
	}
	return func(ctx context.Context) error {
		if !loaded {
			runAll(ctx, s.disable) // it may never have been enabled
		}
		for i, f := range s.files {
			there, err := os.ReadFile(f.path)
			switch {
			case before[i] == nil && errors.Is(err, fs.ErrNotExist), err == nil && before[i] != nil && bytes.Equal(there, before[i]):
				continue
			case before[i] == nil:
				err = os.Remove(f.path)
			default:
				err = files.Replace(f.path, before[i], 0o644)
			}
			if err != nil {
				return files.StorageError(err)
			}
		}
		if err := runAll(ctx, s.forget); err != nil || !loaded {
			return err
		}
		if s.manager == "launchd" {
			runAll(ctx, s.disable) // a job that is loaded can't be loaded again
		}
		if err := runAll(ctx, s.enable); err != nil || s.atLogin == nil || atLogin {
			return err
		}
		_, err := outputOf(ctx, "systemctl", "--user", "-q", "disable", "ccagent.service")
		return err
	}, nil
}

// remove removes our files and the links to them, and returns which files; kept are those that somebody has changed, which
// all removes as well.
func (s service) remove(all bool) (removed, kept []string, err error) {
	for _, f := range s.files {
		there, err := os.ReadFile(f.path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil && !all && !isMarked(there) {
			kept = append(kept, f.path)
			continue
		}
		if err == nil {
			err = os.Remove(f.path)
		}
		if err != nil {
			return removed, kept, files.StorageError(err)
		}
		removed = append(removed, f.path)
	}
	for _, link := range s.links { // the manager has removed them, if there was one
		if target, err := os.Readlink(link); err == nil && slices.Contains(removed, target) {
			os.Remove(link)
		}
	}
	return removed, kept, nil
}

// runAll runs commands until one fails.
func runAll(ctx context.Context, commands [][]string) error {
	for _, argv := range commands {
		if _, err := outputOf(ctx, argv...); err != nil {
			return err
		}
	}
	return nil
}

// managerTime bounds what a service manager is asked to do. It ends an agent in 45 s (the units say so).
const managerTime = 60 * time.Second

// outputOf runs a command. Its error is the first line that the command wrote to standard error.
func outputOf(ctx context.Context, argv ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, managerTime)
	defer cancel()
	out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).Output()
	if err == nil {
		return strings.TrimSpace(string(out)), nil
	}
	said := err.Error()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		if line, _, _ := strings.Cut(strings.TrimSpace(string(exit.Stderr)), "\n"); line != "" {
			said = line
		}
	}
	return "", &protocol.Error{Code: protocol.CodeUnavailable, Message: fmt.Sprintf("%s: %s", strings.Join(argv, " "), said)}
}
