// Package service tells systemd or launchd of the agent: it writes their files, has them listen, and takes over the socket that
// they hand to the agent.
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

// Service is how a service manager is told of the agent: files, and commands in the order in which they are run. What it is
// for which system is decided by its maker alone, so that both can be looked at on either.
type Service struct {
	Manager     string // for a person
	Absent      error  // why it can't be talked to
	Files       []File
	links       []string     // what enabling makes beside the files
	enable      [][]string   // begins to listen
	disable     [][]string   // stops listening, and ends the agent
	forget      [][]string   // once the files are gone
	atLogin     []string     // has it started at login too; nil: its file says so
	elsewhere   []string     // folders where a package may have put the same files, the one that wins first
	socket      string       // where the manager listens; "": not known before
	environment environ.Vars // what the agent finds in its environment; nil: not known
}

// File is a file that a service manager reads.
type File struct {
	Path    string
	content []byte
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

// Packaged reports whether a package has put files for the very same program where the manager looks: then there is nothing
// to write, and nothing to remove.
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

// Installed reports whether install wrote one of the files, be it changed since then or not.
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

// Foreign are the files that are there already and not as we wrote them. One that is masked, by a link to nowhere, is empty.
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

// write writes the files that are not there yet, and returns their paths.
func (s Service) write() (written []string, err error) {
	for _, f := range s.Files {
		there, err := os.ReadFile(f.Path)
		if err == nil && bytes.Equal(there, f.content) {
			continue
		}
		if err == nil && !isMarked(there) { // not through a link: what it leads to is somebody else's, or /dev/null
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

// putBack returns what makes files and manager again what they are now.
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
			runAll(ctx, s.disable) // it may never have been enabled
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

// remove removes our files and the links to them, and returns which files; kept are those that somebody has changed, which
// all removes as well.
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
