// Package service registers the agent with systemd or launchd: it writes their files, makes them listen, and takes the socket
// that they pass to the agent.
package service

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/ccagent/ccagent/cmd/ccagent/environ"
	"github.com/ccagent/ccagent/cmd/ccagent/files"
	"github.com/ccagent/ccagent/protocol"
)

// Service describes how to register the agent with a service manager: the files, and the commands in the order in which they are
// run. Only the functions that make a Service depend on the manager, so both kinds can be tested on either system.
type Service struct {
	Manager     string // its name: systemd or launchd
	Absent      error  // why it can't be reached; nil if it can
	Files       []File
	links       []string     // the links that the manager makes when it enables the units
	enable      [][]string   // the commands that make it listen
	disable     [][]string   // the commands that make it stop listening, and end the agent
	forget      [][]string   // the commands to run after the files were removed
	atLogin     []string     // the command that makes it start the agent at login; nil if a file says so
	elsewhere   []string     // folders in which a package may have put the same files; the first has priority
	socket      string       // the path at which the manager listens; "" if it is not known yet
	environment environ.Vars // the environment of the agent that the manager starts; nil if it is not known
}

// File is a file that a service manager reads.
type File struct {
	Path    string
	content []byte
}

// markText is the beginning of the last line of each file that we write. It is followed by a digest of the lines before it, which
// shows whether somebody has changed the file.
const markText = " installed by ccagent, and removed by: ccagent uninstall; digest "

// marked returns text with that line at the end. It can't be the first line, because in XML the declaration has to be.
func marked(open, end, text string) []byte {
	sum := sha256.Sum256([]byte(text))
	return []byte(text + open + markText + hex.EncodeToString(sum[:8]) + end + "\n")
}

// isMarked reports whether we wrote the file and nobody has changed it.
func isMarked(content []byte) bool {
	m := regexp.MustCompile(`(?s)^(.*\n)(#|<!--)` + regexp.QuoteMeta(markText) + `([0-9a-f]{16})( -->)?\n$`).FindSubmatch(content)
	if m == nil {
		return false
	}
	sum := sha256.Sum256(m[1])
	return hex.EncodeToString(sum[:8]) == string(m[3])
}

// Packaged reports whether a package has installed the files for this program in a folder of the manager. Then there is nothing
// to write and nothing to remove.
func (s Service) Packaged() bool {
	for _, f := range s.Files {
		want, _, _ := bytes.Cut(f.content, []byte("#"+markText))
		i := slices.IndexFunc(s.elsewhere, func(dir string) bool {
			_, err := os.Lstat(filepath.Join(dir, filepath.Base(f.Path)))
			return err == nil
		})
		if i < 0 {
			return false
		}
		if text, err := os.ReadFile(filepath.Join(s.elsewhere[i], filepath.Base(f.Path))); err != nil || !bytes.Equal(text, want) {
			return false
		}
	}
	return true
}

// Installed reports whether install has written one of the files, even if somebody has changed it since.
func (s Service) Installed() bool {
	return slices.ContainsFunc(s.Files, func(f File) bool {
		there, err := os.ReadFile(f.Path)
		return err == nil && bytes.Contains(there, []byte(markText))
	})
}

// StartsAtLogin reports whether the manager was told to start the agent at login.
func (s Service) StartsAtLogin(ctx context.Context) bool {
	if s.Manager == "launchd" {
		text, err := os.ReadFile(s.Files[0].Path)
		return err == nil && bytes.Contains(text, []byte(runAtLoad))
	}
	return s.Absent == nil && enabled(ctx, "ccagent.service")
}

// Foreign returns the files that exist and are not as we write them. A masked unit, which is a link to /dev/null, has no content.
func (s Service) Foreign() ([]File, error) {
	var found []File
	for _, f := range s.Files {
		there, err := os.ReadFile(f.Path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, files.StorageError(err)
		}
		if !bytes.Equal(there, f.content) && !isMarked(there) {
			found = append(found, File{f.Path, there})
		}
	}
	return found, nil
}

// write writes the files that are missing or differ, and returns their paths.
func (s Service) write() (written []string, err error) {
	for _, f := range s.Files {
		there, err := os.ReadFile(f.Path)
		if err == nil && bytes.Equal(there, f.content) {
			continue
		}
		if err == nil && !isMarked(there) { // a link is removed first, because its target is somebody else's file, or /dev/null
			err = os.Remove(f.Path)
		} else {
			err = os.MkdirAll(filepath.Dir(f.Path), 0o755)
		}
		if err == nil {
			err = files.Replace(f.Path, f.content, 0o644)
		}
		if err != nil {
			return written, files.StorageError(err)
		}
		written = append(written, f.Path)
	}
	return written, nil
}

// putBack returns a function that restores the present state of the files and the manager.
func (s Service) putBack(ctx context.Context) (func(context.Context) error, error) {
	before := make([][]byte, len(s.Files))
	loaded, atLogin := false, s.StartsAtLogin(ctx)
	for i, f := range s.Files {
		there, err := os.ReadFile(f.Path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, files.StorageError(err)
		}
		before[i] = there
		loaded = loaded || there != nil
	}
	if s.Manager == "systemd" {
		loaded = enabled(ctx, "ccagent.socket")
	}
	return func(ctx context.Context) error {
		if !loaded {
			runAll(ctx, s.disable) // it fails if the unit was never enabled
		}
		for i, f := range s.Files {
			there, err := os.ReadFile(f.Path)
			switch {
			case before[i] == nil && errors.Is(err, fs.ErrNotExist), err == nil && before[i] != nil && bytes.Equal(there, before[i]):
				continue
			case before[i] == nil:
				err = os.Remove(f.Path)
			default:
				err = files.Replace(f.Path, before[i], 0o644)
			}
			if err != nil {
				return files.StorageError(err)
			}
		}
		if err := runAll(ctx, s.forget); err != nil || !loaded {
			return err
		}
		if s.Manager == "launchd" {
			runAll(ctx, s.disable) // a job that is loaded can't be loaded again
		}
		if err := runAll(ctx, s.enable); err != nil || s.atLogin == nil || atLogin {
			return err
		}
		_, err := outputOf(ctx, "systemctl", "--user", "-q", "disable", "ccagent.service")
		return err
	}, nil
}

// remove removes our files and the links to them, and returns the paths of the files. It does not remove files that somebody has
// changed, and returns them in kept; with all it removes these too.
func (s Service) remove(all bool) (removed, kept []string, err error) {
	for _, f := range s.Files {
		there, err := os.ReadFile(f.Path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil && !all && !isMarked(there) {
			kept = append(kept, f.Path)
			continue
		}
		if err == nil {
			err = os.Remove(f.Path)
		}
		if err != nil {
			return removed, kept, files.StorageError(err)
		}
		removed = append(removed, f.Path)
	}
	for _, link := range s.links { // only needed if there is no manager, which would have removed them
		if target, err := os.Readlink(link); err == nil && slices.Contains(removed, target) {
			os.Remove(link)
		}
	}
	return removed, kept, nil
}

// runAll runs the commands in turn, until one fails.
func runAll(ctx context.Context, commands [][]string) error {
	for _, argv := range commands {
		if _, err := outputOf(ctx, argv...); err != nil {
			return err
		}
	}
	return nil
}

// managerTime limits each command for the service manager. The manager ends an agent within 45 s, as the units say.
const managerTime = 60 * time.Second

// outputOf runs a command and returns its output. If the command fails, the error (ErrUnavailable) has the first line that it
// wrote to standard error.
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
