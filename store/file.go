package store

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/ccagent/ccagent/protocol"
)

// File keeps one profile's record in a file of our own, 0600 in a folder 0700: `<data dir>/<profile>.json`, in the versioned
// form of [Record.Marshal].
type File struct{ own }

var _ Store = (*File)(nil)

// NewFile returns the store of that profile in the data directory, which is made when something is first stored. The profile
// is a valid profile name; names that differ in case alone are one.
func NewFile(dataDir, profile string) *File {
	base := filepath.Join(dataDir, strings.ToLower(profile))
	path := base + ".json"
	return &File{own{
		medium:   file(path),
		place:    Place{Kind: "file", Location: path, Watch: []string{path}},
		lockPath: base + ".lock",
	}}
}

// file is the medium that is one plain file, 0600.
type file string

func (f file) read(context.Context) ([]byte, error) { return readFile(string(f)) }

func (f file) write(_ context.Context, data []byte) error {
	if err := makeFolder(filepath.Dir(string(f))); err != nil {
		return err
	}
	return writeFile(string(f), data, func() error { return nil })
}

func (f file) remove(context.Context) error { return removeFile(string(f)) }

// removeFile unlinks path for good.
func removeFile(path string) error {
	err := os.Remove(path)
	if errors.Is(err, fs.ErrNotExist) {
		return &protocol.Error{Code: protocol.CodeNotFound, Message: "nothing is stored: there is no " + path}
	}
	if err != nil {
		return storageError("removing", path, err)
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		return storageError("removing", path, err)
	}
	return nil
}
