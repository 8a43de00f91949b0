package store

import (
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/ccagent/ccagent/protocol"
)

// A draft is a file's new content before it is known: the temporary file is there, as long as the content will be, and on the
// disk, and the file is known to be one that can be replaced. What can go wrong with a write has gone wrong by then, but for a
// failing disk.
//
// A file is replaced by renaming the draft over it. Where it is a mount point (a single file mounted into a container), that
// can't be done, and it is written in place: see inplace.go.
type draft struct {
	path string
	temp *os.File // nil: written or discarded
}

// spare is how much longer than what is stored a draft is made: renewed tokens may be longer than those before.
const spare = 8 << 10

// tempMark is in the name of every temporary file of ours: `.<name>.ccagent-<random>.tmp`.
const tempMark = ".ccagent-"

// writeFile replaces the file at path, which must not be a link, so that after a crash or power cut it holds the old bytes
// or the new ones. The mode is 0600 from birth; root keeps the owner. The caller holds the flock of the record: any
// other temporary file of the same name is a dead writer's and is removed. check is asked for the last time before the
// change.
func writeFile(path string, data []byte, check func() error) error {
	d, err := prepareFile(path, 0)
	if err != nil {
		return err
	}
	defer d.discard()
	return d.write(data, check)
}

// prepareFile makes the draft of a file whose writers hold a lock, as [writeFile] says.
func prepareFile(path string, size int) (*draft, error) {
	dir, base := filepath.Split(path)
	err := finish(path)
	if err == nil {
		err = removeTemps(dir, base)
	}
	if err != nil {
		return nil, writeError(path, err)
	}
	return makeDraft(path, base, size)
}

// makeDraft makes the draft of the file at path, size bytes long; 0 where it is about to be written anyway. name is what the
// temporary file is called after.
func makeDraft(path, name string, size int) (*draft, error) {
	if err := replaceable(path); err != nil {
		return nil, writeError(path, err)
	}
	f, err := os.OpenFile(filepath.Join(filepath.Dir(path), "."+name+tempMark+rand.Text()+".tmp"),
		os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, writeError(path, err)
	}
	d := &draft{path: path, temp: f}
	if err = d.own(); err == nil && size > 0 {
		err = d.fit(size)
	}
	if err != nil {
		d.discard()
		return nil, writeError(path, err)
	}
	return d, nil
}

// own gives the temporary file the mode and the owner of the file that it is the draft of.
func (d *draft) own() error {
	if err := d.temp.Chmod(0o600); err != nil { // a umask may have taken more away
		return err
	}
	info, err := os.Lstat(d.path)
	if errors.Is(err, fs.ErrNotExist) {
		giveToOwner(d.temp, filepath.Dir(d.path))
	} else if err == nil && os.Geteuid() == 0 {
		if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Uid != 0 {
			return d.temp.Chown(int(st.Uid), int(st.Gid))
		}
	}
	return nil
}

// fit makes the temporary file long enough for a content of size bytes.
func (d *draft) fit(size int) error {
	if isMount(d.path) {
		// The temporary file becomes the spill, which holds the old content too.
		old, err := readyInPlace(d.path, size)
		if err != nil {
			return err
		}
		size += old + len(spillHead(old, size))
	}
	if _, err := d.temp.Write(make([]byte, size)); err != nil {
		return err
	}
	return d.temp.Sync()
}

// write makes data the content of the file, for good. A draft is written once.
func (d *draft) write(data []byte, check func() error) (err error) {
	defer func() {
		if err != nil {
			err = writeError(d.path, err)
		}
	}()
	if isMount(d.path) {
		return d.writeInPlace(data, check)
	}
	if err := d.fill(data); err != nil {
		return err
	}
	if err := check(); err != nil {
		return err
	}
	err = os.Rename(d.temp.Name(), d.path)
	if errors.Is(err, unix.EBUSY) { // a mount point after all
		return d.writeInPlace(data, check)
	}
	if err != nil {
		return err
	}
	d.done()
	return syncDir(filepath.Dir(d.path))
}

// fill makes parts the content of the temporary file.
func (d *draft) fill(parts ...[]byte) error {
	var at int64
	for _, part := range parts {
		if _, err := d.temp.WriteAt(part, at); err != nil {
			return err
		}
		at += int64(len(part))
	}
	if err := d.temp.Truncate(at); err != nil {
		return err
	}
	return d.temp.Sync()
}

// done lets go of the temporary file, which has another name by now.
func (d *draft) done() {
	d.temp.Close()
	d.temp = nil
}

// discard removes the temporary file unless it was written. A nil draft has none.
func (d *draft) discard() {
	if d != nil && d.temp != nil {
		os.Remove(d.temp.Name())
		d.done()
	}
}

// writeError says where err came up, unless it does.
func writeError(path string, err error) error {
	if protocol.CodeOf(err) == protocol.CodeInternal {
		return storageError("writing", path, err)
	}
	return err
}

func removeTemps(dir, base string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "."+base+tempMark) && strings.HasSuffix(e.Name(), ".tmp") {
			os.Remove(filepath.Join(dir, e.Name()))
		}
	}
	return nil
}

// replaceable fails where a look is enough to see that the file at path can't be replaced, or that what is written there would
// not last. It changes nothing, so it can be asked at any time.
func replaceable(path string) error {
	dir := filepath.Dir(path)
	for above := dir; above != filepath.Dir(above); above = filepath.Dir(above) {
		// The volumes of Kubernetes: `..data` is a link to the folder of the day, and that is made anew from what the cluster
		// holds.
		link, err := os.Readlink(filepath.Join(filepath.Dir(above), "..data"))
		if err == nil && link == filepath.Base(above) {
			return &protocol.Error{Code: protocol.CodeStorage,
				Message: path + " is in a volume that Kubernetes fills: what is written there does not last",
				Hint: "move the sign-in to a volume that may be written, so that it has one home, " +
					"and name that (config_dir in config.toml)"}
		}
	}
	if err := unix.Access(dir, unix.W_OK|unix.X_OK); err != nil && !errors.Is(err, unix.ENOENT) {
		return storageError("writing", path, err)
	}
	if err := changeable(dir); err != nil {
		return err
	}
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case isFixed(path, info):
		return fixed(path)
	case isMount(path):
		return writableInPlace(path, info)
	}
	if folder, err := os.Stat(dir); err == nil && folder.Mode()&fs.ModeSticky != 0 && !isOurs(folder) && !isOurs(info) {
		return &protocol.Error{Code: protocol.CodeStorage, Hint: "the file or its folder must belong to you",
			Message: path + " is another user's, in a folder where only its owner may replace it"}
	}
	return nil
}

// changeable fails if the folder is marked so that what is made in it can't be removed or renamed, or that nothing can be made in
// it.
func changeable(dir string) error {
	if info, err := os.Stat(dir); err == nil && isFixed(dir+"/.", info) { // the folder, and not a link to it
		return fixed(dir)
	}
	return nil
}

func fixed(path string) error {
	return &protocol.Error{Code: protocol.CodeStorage, Message: path + " is marked so that nobody can change it",
		Hint: "take the mark away: " + unfix + " " + protocol.ShellLine(path)}
}
