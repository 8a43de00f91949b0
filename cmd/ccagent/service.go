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
	"strconv"
	"strings"

	"github.com/ccagent/ccagent/packaging"
	"github.com/ccagent/ccagent/protocol"
)

// service is how a service manager is told of the agent: files, and commands in the order in which they are run. What it is
// for which system is decided by its maker alone, so that both can be looked at on either.
type service struct {
	manager   string // for a person
	files     []serviceFile
	reachable []string   // succeeds if there is a manager to talk to
	enable    [][]string // begins to listen
	disable   [][]string // stops listening, and ends the agent
	forget    [][]string // once the files are gone
	atLogin   []string   // has it started at login too; nil: it is already
	elsewhere []string   // folders where a package may have put the same files
}

type serviceFile struct {
	path    string
	content []byte
}

// systemdService describes the program at exe to systemd's user manager.
func systemdService(env environ, exe string) (service, error) {
	dir := env("XDG_CONFIG_HOME")
	if !filepath.IsAbs(dir) {
		if !filepath.IsAbs(env("HOME")) {
			return service{}, errors.New("HOME is not set")
		}
		dir = filepath.Join(env("HOME"), ".config")
	}
	dir = filepath.Join(dir, "systemd/user")
	data := env("XDG_DATA_HOME")
	if !filepath.IsAbs(data) {
		data = filepath.Join(env("HOME"), ".local/share")
	}
	// systemd.service(5): a % begins a specifier, and a path with a blank in it is quoted.
	program := strings.ReplaceAll(exe, "%", "%%")
	if strings.ContainsAny(program, " \t\"'\\;$") {
		program = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "$", "$$").Replace(program) + `"`
	}
	systemctl := func(args ...string) []string { return append([]string{"systemctl", "--user"}, args...) }
	return service{
		manager: "systemd",
		files: []serviceFile{
			{filepath.Join(dir, "ccagent.socket"), marked("#", "", packaging.Socket)},
			{filepath.Join(dir, "ccagent.service"), marked("#", "", strings.Replace(packaging.Service, packaging.Program, program, 1))},
		},
		reachable: systemctl("show", "--property=Version"),
		enable:    [][]string{systemctl("daemon-reload"), systemctl("enable", "--now", "ccagent.socket")},
		disable:   [][]string{systemctl("disable", "--now", "ccagent.socket", "ccagent.service")},
		forget:    [][]string{systemctl("daemon-reload")},
		atLogin:   systemctl("enable", "ccagent.service"),
		elsewhere: []string{filepath.Join(data, "systemd/user"), "/etc/systemd/user", "/usr/local/lib/systemd/user", "/usr/local/share/systemd/user", "/usr/lib/systemd/user", "/usr/share/systemd/user"},
	}, nil
}

// launchdService describes the program at exe to launchd.
func launchdService(env environ, exe string, uid int) (service, error) {
	if !filepath.IsAbs(env("HOME")) {
		return service{}, errors.New("HOME is not set")
	}
	var program bytes.Buffer
	xml.EscapeText(&program, []byte(exe))
	text := strings.Replace(packaging.Plist, "<string>"+packaging.Program+"</string>", "<string>"+program.String()+"</string>", 1)
	path := filepath.Join(env("HOME"), "Library/LaunchAgents/com.github.ccagent.plist")
	domain := "gui/" + strconv.Itoa(uid)
	return service{
		manager:   "launchd",
		files:     []serviceFile{{path, marked("<!--", " -->", text)}},
		reachable: []string{"launchctl", "print", domain},
		enable:    [][]string{{"launchctl", "enable", domain + "/com.github.ccagent"}, {"launchctl", "bootstrap", domain, path}},
		disable:   [][]string{{"launchctl", "bootout", domain + "/com.github.ccagent"}},
	}, nil
}

// markText begins the last line of what we wrote. The digest of what stands before it tells whether somebody has changed it since.
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

// packaged reports whether a package has put units for the very same program where the manager looks: then there is nothing
// to write, and nothing to remove.
func (s service) packaged() bool {
	for _, dir := range s.elsewhere {
		same := 0
		for _, f := range s.files {
			there, err := os.ReadFile(filepath.Join(dir, filepath.Base(f.path)))
			want, _, _ := bytes.Cut(f.content, []byte("#"+markText))
			if err == nil && bytes.Equal(there, want) {
				same++
			}
		}
		if same == len(s.files) {
			return true
		}
	}
	return false
}

// foreign are the files that are there already and not as we wrote them.
func (s service) foreign() ([]serviceFile, error) {
	var found []serviceFile
	for _, f := range s.files {
		there, err := os.ReadFile(f.path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return nil, err
		case !bytes.Equal(there, f.content) && !isMarked(there):
			found = append(found, serviceFile{f.path, there})
		}
	}
	return found, nil
}

// write writes the files that are not there yet, and returns their paths.
func (s service) write() (written []string, err error) {
	for _, f := range s.files {
		if there, err := os.ReadFile(f.path); err == nil && bytes.Equal(there, f.content) {
			continue
		}
		if err := os.MkdirAll(filepath.Dir(f.path), 0o755); err != nil {
			return written, err
		}
		if err := replaceFile(f.path, f.content, 0o644); err != nil {
			return written, err
		}
		written = append(written, f.path)
	}
	return written, nil
}

// remove removes our files, and returns which; kept are those that somebody has changed.
func (s service) remove() (removed, kept []string, err error) {
	for _, f := range s.files {
		there, err := os.ReadFile(f.path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return removed, kept, err
		}
		if !isMarked(there) {
			kept = append(kept, f.path)
			continue
		}
		if err := os.Remove(f.path); err != nil {
			return removed, kept, err
		}
		removed = append(removed, f.path)
	}
	return removed, kept, nil
}

// replaceFile writes a file whole or not at all, through a link to its target.
func replaceFile(path string, data []byte, mode fs.FileMode) error {
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".ccagent-new-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	if err := errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// there reports whether the manager can be talked to.
func (s service) there(ctx context.Context) bool { return runQuietly(ctx, s.reachable) == nil }

// runAll runs commands until one fails, which the error shows with what it said.
func runAll(ctx context.Context, commands [][]string) error {
	for _, argv := range commands {
		if err := runQuietly(ctx, argv); err != nil {
			return err
		}
	}
	return nil
}

func runQuietly(ctx context.Context, argv []string) error {
	out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput()
	if err == nil {
		return nil
	}
	said, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	if said == "" {
		said = err.Error()
	}
	return &protocol.Error{Code: protocol.CodeUnavailable, Message: fmt.Sprintf("%s: %s", strings.Join(argv, " "), said)}
}
