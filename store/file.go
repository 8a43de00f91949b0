package store

import (
	"context"
	"path/filepath"
	"strings"

	"github.com/ccagent/ccagent/disk"
)

// File stores one profile's record in a file of ours, `<data dir>/<profile>.json`, in the versioned form of [Record.Marshal]. The
// file is 0600, and its folder 0700.
type File struct{ own }

var _ Store = (*File)(nil)

// NewFile returns the store of that profile in the data directory, which is made when something is first stored. profile is a
// valid profile name, in whatever case.
func NewFile(dataDir, profile string) *File {
	base := filepath.Join(dataDir, strings.ToLower(profile))
	path := base + ".json"
	return &File{own{
		medium:   file(path),
		place:    Place{Kind: KindFile, Location: path, Watch: []string{path}},
		lockPath: base + ".lock",
	}}
}

// file is the medium that is one plain file, 0600. It is the file's path.
type file string

// path is the file that the medium is; a medium that is none has no such method.
func (f file) path() string { return string(f) }

func (f file) read(context.Context) ([]byte, error) { return readFile(string(f)) }

func (f file) ready(_ context.Context, src []byte) (*disk.Draft, error) {
	return f.prepare(len(src) + spare)
}

func (f file) prepare(size int) (*disk.Draft, error) {
	if err := disk.MakeFolder(filepath.Dir(string(f))); err != nil {
		return nil, err
	}
	return prepareFile(string(f), size)
}

func (f file) write(_ context.Context, data []byte, d *disk.Draft) error {
	if d == nil {
		var err error
		if d, err = f.prepare(0); err != nil {
			return err
		}
		defer d.Discard()
	}
	return fileError("writing", string(f), d.Write(data, disk.Always))
}

func (f file) remove(context.Context) error { return removeFile(string(f)) }
