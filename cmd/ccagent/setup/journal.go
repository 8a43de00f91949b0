package setup

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/ccagent/ccagent/cmd/ccagent/config"
	"github.com/ccagent/ccagent/cmd/ccagent/environ"
	"github.com/ccagent/ccagent/cmd/ccagent/files"
	"github.com/ccagent/ccagent/cmd/ccagent/undo"
	"github.com/ccagent/ccagent/protocol"
)

// Journal records what one setup did, so that --undo can restore exactly what was there. With a journal, --undo needs neither the
// profile nor the tool's plan, which may have changed by then or be gone.
type Journal struct {
	file string // the path of the journal itself

	Version int               `json:"version"`
	Tool    string            `json:"tool"`
	Profile string            `json:"profile"`
	Hosts   []string          `json:"hosts,omitempty"`
	Name    string            `json:"name,omitempty"`
	MCP     bool              `json:"mcp,omitempty"`     // the MCP server was added that the profile is for
	Project string            `json:"project,omitempty"` // the folder of the project whose settings were changed
	At      time.Time         `json:"at"`
	Files   map[string]Entry  `json:"files,omitempty"`
	Links   map[string]string `json:"links,omitempty"` // the target, by the path of the link
	Views   []config.View     `json:"views,omitempty"` // that the profile got
	Guard   bool              `json:"guard,omitempty"` // the sign-in was guarded
}

// Entry is the record of one edited file. Original is nil if there was no file.
type Entry struct {
	Digest   string `json:"digest"` // of the file as setup left it; "" if that is not known
	Original []byte `json:"original"`
	Puts     []put  `json:"puts"`
}

// In reports whether a file still contains everything that setup has added.
func (e Entry) In(src []byte) bool {
	return !slices.ContainsFunc(e.Puts, func(p put) bool { return !p.in(src) })
}

func digestOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// takeOut returns what a file is to contain after --undo. If nobody has changed the file since setup, that is the original. If
// somebody has, it is the present content without what setup has added.
func (e Entry) takeOut(src []byte) ([]byte, error) {
	switch {
	case src == nil: // somebody has removed the file
		return nil, nil
	case e.Digest == digestOf(src):
		return e.Original, nil
	}
	out := src
	for _, p := range slices.Backward(e.Puts) {
		next, err := p.cut(out, e.Original)
		if err != nil {
			return nil, err
		}
		out = next
	}
	if e.Digest != "" && e.Original == nil && !bytes.Equal(out, src) &&
		slices.Contains([]string{"", "{}"}, string(bytes.TrimSpace(out))) {
		return nil, nil
	}
	if out == nil {
		out = []byte{}
	}
	return out, nil
}

// JournalDir returns the folder of the journals.
func JournalDir(env environ.Vars) (string, error) {
	state, err := env.StateDir()
	return filepath.Join(state, "setup"), err
}

// newJournal returns the journal for a tool and a wish. It has no changes in it yet.
func newJournal(dir, tool string, w wish) Journal {
	j := Journal{Version: 1, Tool: tool, Profile: w.profile.Name, Hosts: w.hosts, Name: w.name, MCP: w.mcp, Project: w.project}
	key := []any{protocol.FoldProfile(j.Profile), j.Hosts, j.Name}
	if j.MCP {
		key = append(key, j.Project)
	}
	what, _ := json.Marshal(key)
	j.file = filepath.Join(dir, tool+"-"+digestOf(what)[:16]+".json")
	return j
}

// ReadJournal reads one journal. The error is ErrStorage if it can't be read or is of another version.
func ReadJournal(path string) (Journal, error) {
	j := Journal{file: path}
	data, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(data, &j)
	}
	if err == nil && (j.Version != 1 || j.Tool == "") {
		err = errors.New("it is of another version")
	}
	if err != nil {
		return j, &protocol.Error{
			Code:    protocol.CodeStorage,
			Message: fmt.Sprintf("the record of an earlier setup can't be read from %s: %s", path, err),
			Hint:    "move that file away; --undo then removes what setup would add, and leaves the rest of the settings as they are",
		}
	}
	return j, nil
}

// journalsOf returns the journals of one tool, the latest first.
func journalsOf(dir, tool string) ([]Journal, error) {
	paths, err := filepath.Glob(filepath.Join(dir, tool+"-*.json"))
	if err != nil {
		return nil, err
	}
	var all []Journal
	for _, path := range paths {
		j, err := ReadJournal(path)
		if err != nil {
			return nil, err
		}
		if j.Tool == tool {
			all = append(all, j)
		}
	}
	slices.SortFunc(all, func(a, b Journal) int { return b.At.Compare(a.At) })
	return all, nil
}

// Command is the command line that does the same setup again.
func (j Journal) Command() string {
	flag, before := "-p", ""
	if j.MCP {
		flag = "--mcp"
	}
	words := []string{"ccagent", "setup", j.Tool, flag, j.Profile}
	for _, host := range j.Hosts {
		words = append(words, "--host", host)
	}
	if j.Name != "" {
		words = append(words, "--name", j.Name)
	}
	if j.Project != "" {
		words, before = append(words, "--project"), protocol.ShellLine("cd", j.Project)+" && "
	}
	return before + protocol.ShellLine(words...)
}

// write saves the journal. Its mode is 0600, because settings may contain secrets.
func (j Journal) write() error {
	data, err := json.Marshal(j)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(j.file), 0o700)
	}
	if err == nil {
		err = files.Replace(j.file, append(data, '\n'), 0o600)
	}
	if err != nil {
		return files.StorageError(fmt.Errorf("no copy of the settings could be saved: %w", err))
	}
	return nil
}

// forget deletes the journal.
func (j Journal) forget() error {
	if err := os.Remove(j.file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return &protocol.Error{Code: protocol.CodeStorage, Message: "the copy of the settings can't be removed: " + err.Error()}
	}
	return nil
}

// writeJournal writes a journal, as one of the steps done.
func writeJournal(done *undo.Steps, j Journal) error { return journalStep(done, j, j.write) }

// forgetJournal deletes a journal, as one of the steps done.
func forgetJournal(done *undo.Steps, j Journal) error { return journalStep(done, j, j.forget) }

// journalStep writes or deletes a journal, and adds to done how to restore what was there.
func journalStep(done *undo.Steps, j Journal, do func() error) error {
	was, err := os.ReadFile(j.file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return files.StorageError(err)
	}
	absent := err != nil
	if err := do(); err != nil {
		return err
	}
	done.Did(undo.Step{
		Back: func(context.Context) error {
			if absent {
				return os.Remove(j.file)
			}
			return files.Replace(j.file, was, 0o600)
		},
		Left: "what has to be undone is recorded in " + j.file, Mend: j.Command() + " --undo",
	})
	return nil
}
