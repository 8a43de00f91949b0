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
		place:    Place{Kind: KindFile, Location: path, Watch: []string{path}},
		lockPath: base + ".lock",
	}}
}

// file is the medium that is one plain file, 0600.
type file string

func (f file) read(context.Context) ([]byte, error) { return readFile(string(f)) }

func (f file) ready(_ context.Context, src []byte) (*draft, error) {
	return f.prepare(len(src) + spare)
}

func (f file) prepare(size int) (*draft, error) {
	if err := makeFolder(filepath.Dir(string(f))); err != nil {
		return nil, err
	}
	return prepareFile(string(f), size)
}

func (f file) write(_ context.Context, data []byte, d *draft) error {
	if d == nil {
		var err error
		if d, err = f.prepare(0); err != nil {
			return err
		}
		defer d.discard()
	}
	return d.write(data, func() error { return nil })
}

func (f file) remove(context.Context) error { return removeFile(string(f)) }

// removeFile unlinks path for good, or empties it where it is a mount point. The caller holds its lock.
func removeFile(path string) error {
	if isMount(path) {
		return writeFile(path, nil, func() error { return nil })
	}
	err := os.Remove(path)
	if err == nil && hasUnfinished(path) {
		err = os.Remove(spillOf(path))
	}
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
