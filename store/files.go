package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/ccagent/ccagent/disk"
	"github.com/ccagent/ccagent/protocol"
)

// MaxFile is how large a credentials file may be, in bytes. Anything larger is refused, and no more than this is read of it.
const MaxFile = disk.MaxSize

// spare is how much room is made beyond what is stored: renewed tokens may be longer than those before.
const spare = 8 << 10

// readFile returns what is in the file at path, up to [MaxFile] bytes: ErrNotFound if it is missing, ErrInvalid if it is no file
// or too large, else ErrStorage.
func readFile(path string) ([]byte, error) { return readUpTo(path, MaxFile) }

func readUpTo(path string, limit int64) ([]byte, error) {
	b, err := disk.Read(path, limit)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, missingFile(path)
	case errors.Is(err, disk.ErrTooLarge):
		return nil, invalid(path, fmt.Sprintf("is larger than %d MiB", limit>>20))
	case err != nil:
		return nil, fileError("reading", path, err)
	case len(b) == 0 && disk.IsMount(path): // emptied, because a mount point can't be removed
		return nil, &protocol.Error{Code: protocol.CodeNotFound, Message: "nothing is stored: " + path + " is empty"}
	}
	return b, nil
}

// fileError is an error of package disk for a user.
func fileError(doing, path string, err error) error {
	switch {
	case errors.Is(err, disk.ErrNotRegular):
		return invalid(path, "is not a regular file")
	case errors.Is(err, disk.ErrTooLarge):
		return invalid(path, fmt.Sprintf("is larger than %d MiB", MaxFile>>20))
	case err == nil:
		return nil
	}
	return disk.Error(doing, path, err)
}

// writeFile replaces the file at path, as [disk.Write] does. The caller holds the lock of the record.
func writeFile(path string, data []byte, check func() error) error {
	d, err := prepareFile(path, 0)
	if err != nil {
		return err
	}
	defer d.Discard()
	return fileError("writing", path, d.Write(data, check))
}

// prepareFile makes the draft of a file, as [disk.Prepare] does.
func prepareFile(path string, size int) (*disk.Draft, error) {
	if err := lasting(path); err != nil {
		return nil, err
	}
	d, err := disk.Prepare(path, size)
	return d, fileError("writing", path, err)
}

// removeFile removes the file at path, as [disk.Remove] does. The caller holds its lock.
func removeFile(path string) error {
	err := disk.Remove(path)
	if errors.Is(err, fs.ErrNotExist) {
		return missingFile(path)
	}
	return fileError("removing", path, err)
}

// ReplaceFile replaces a small file of ours whose writers take no lock, and makes its folder where needed. After a crash or power
// cut it holds the old bytes or the new ones.
func ReplaceFile(path string, data []byte) error {
	if err := disk.MakeFolder(filepath.Dir(path)); err != nil {
		return err
	}
	return fileError("writing", path, disk.WriteUnlocked(path, data))
}

// FolderThere fails (ErrStorage) if the folder of a place's file is gone, or that of what the file is a link to: then what was
// stored is out of reach, and nobody has removed it.
func FolderThere(at Place) error {
	if len(at.Watch) == 0 {
		return nil
	}
	if dir := disk.MissingFolder(at.Watch[0]); dir != "" {
		return &protocol.Error{Code: protocol.CodeStorage, Message: dir + " is gone, and what was stored in it can't be reached",
			Hint: "is its file system mounted?"}
	}
	return nil
}

// replaceable fails if the file at path can't be replaced, or if what is written there would not last, as far as that can be
// seen. It changes nothing.
func replaceable(path string) error {
	if err := lasting(path); err != nil {
		return err
	}
	return fileError("writing", path, disk.Replaceable(path))
}

// lasting fails if the file at path is in a volume that Kubernetes fills: `..data` is a link to the folder of the day there, and
// that is made anew from what the cluster holds.
func lasting(path string) error {
	dir := filepath.Dir(path)
	for above := dir; above != filepath.Dir(above); above = filepath.Dir(above) {
		link, err := os.Readlink(filepath.Join(filepath.Dir(above), "..data"))
		if err == nil && link == filepath.Base(above) {
			return &protocol.Error{Code: protocol.CodeStorage,
				Message: path + " is in a volume that Kubernetes fills: what is written there does not last",
				Hint: "move the sign-in to a volume that may be written, so that it has one home, " +
					"and name that (config_dir in config.toml)"}
		}
	}
	return nil
}
