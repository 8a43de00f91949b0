package disk

import (
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/ccagent/ccagent/protocol"
)

// Draft is a new version of a file that is not in its place yet: a temporary file beside it, `.<name>.ccagent-<random>.tmp`,
// which is 0600 until it is whole. [Draft.Replace] and [Draft.Write] put it in place. Whoever has a draft calls [Draft.Discard]
// in the end, whatever became of it.
type Draft struct {
	path string
	mode fs.FileMode
	temp *os.File // nil: in place, or discarded
}

// tempMark is in the name of every temporary file.
const tempMark = ".ccagent-"

// Always is the check of a write that depends on nothing.
func Always() error { return nil }

// NewDraft makes the draft of the file at path, which must not be a link. name is what the temporary file is called after, and
// mode what the file gets. If this process is root's, the owner stays who it is.
func NewDraft(path, name string, mode fs.FileMode) (*Draft, error) {
	f, err := os.OpenFile(filepath.Join(filepath.Dir(path), "."+name+tempMark+rand.Text()+".tmp"),
		os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600)
	d := &Draft{path: path, mode: mode, temp: f}
	if err != nil {
		return nil, d.named(err)
	}
	if err := d.own(); err != nil {
		d.Discard()
		return nil, d.named(err)
	}
	return d, nil
}

// named is an error of the temporary file with the name of the file that it is for, which is the one that a person knows.
func (d *Draft) named(err error) error {
	var path *fs.PathError
	var link *os.LinkError
	if errors.As(err, &path) || errors.As(err, &link) {
		return &fs.PathError{Op: "write", Path: d.path, Err: Reason(err)}
	}
	return err
}

// own gives the temporary file the owner of the file that it is to replace, or of the folder.
func (d *Draft) own() error {
	info, err := os.Lstat(d.path)
	if errors.Is(err, fs.ErrNotExist) {
		giveToOwner(d.temp, filepath.Dir(d.path))
	} else if err == nil && os.Geteuid() == 0 {
		if uid, gid, ok := owner(info); ok && uid != 0 {
			return d.temp.Chown(uid, gid)
		}
	}
	return nil
}

// Prepare makes the draft of a file whose writers hold a lock. Any other temporary file of the same name is a dead writer's,
// and is removed; a write in place that was cut off is finished. Room for size bytes is made, see [Draft.Reserve].
func Prepare(path string, size int) (*Draft, error) {
	if err := Finish(path); err != nil {
		return nil, err
	}
	dir, base := filepath.Split(path)
	if err := removeTemps(dir, base); err != nil {
		return nil, err
	}
	if err := Replaceable(path); err != nil {
		return nil, err
	}
	d, err := NewDraft(path, base, 0o600)
	if err != nil {
		return nil, err
	}
	if err := d.Reserve(size); err != nil {
		d.Discard()
		return nil, err
	}
	return d, nil
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

// Path is the file that the draft is of.
func (d *Draft) Path() string { return d.path }

// Temp is the path of the temporary file.
func (d *Draft) Temp() string { return d.temp.Name() }

// Reserve makes room on the disk for a content of size bytes: what can go wrong with a write has gone wrong then, but for a
// failing disk.
func (d *Draft) Reserve(size int) error {
	if size == 0 {
		return nil
	}
	if IsMount(d.path) {
		// The temporary file becomes the one that holds the old content too.
		old, err := readyInPlace(d.path, size)
		if err != nil {
			return err
		}
		size += old + len(unfinishedHead(old, size))
	}
	if _, err := d.temp.Write(make([]byte, size)); err != nil {
		return d.named(err)
	}
	return d.named(d.temp.Sync())
}

// Fill makes parts the content of the temporary file, and gives it its mode.
func (d *Draft) Fill(parts ...[]byte) error {
	var at int64
	for _, part := range parts {
		if _, err := d.temp.WriteAt(part, at); err != nil {
			return d.named(err)
		}
		at += int64(len(part))
	}
	if err := d.temp.Truncate(at); err != nil {
		return d.named(err)
	}
	if err := d.temp.Chmod(d.mode); err != nil {
		return d.named(err)
	}
	return d.named(d.temp.Sync())
}

// Replace makes data the content of the file, so that after a crash or power cut it holds the old bytes or the new ones. check
// is asked last before the change. A mount point can't be replaced (EBUSY).
func (d *Draft) Replace(data []byte, check func() error) error {
	if err := d.Fill(data); err != nil {
		return err
	}
	if err := check(); err != nil {
		return err
	}
	if err := os.Rename(d.temp.Name(), d.path); err != nil {
		return d.named(err)
	}
	d.done()
	return SyncFolder(filepath.Dir(d.path))
}

// Write is Replace, but that a mount point is written in place. Its readers use [Read], and its writers hold a lock.
func (d *Draft) Write(data []byte, check func() error) error {
	if IsMount(d.path) {
		return d.writeInPlace(data, check)
	}
	err := d.Replace(data, check)
	if errors.Is(err, unix.EBUSY) && d.temp != nil { // a mount point after all
		return d.writeInPlace(data, check)
	}
	return err
}

// done lets go of the temporary file, which has another name by now.
func (d *Draft) done() {
	d.temp.Close()
	d.temp = nil
}

// Discard removes the temporary file unless it was put in place. It may be called again, and for nil.
func (d *Draft) Discard() {
	if d != nil && d.temp != nil {
		os.Remove(d.temp.Name())
		d.done()
	}
}

// Write replaces the file at path, 0600, as [Draft.Write] does. The path must not be a link, and the caller holds the file's
// lock.
func Write(path string, data []byte, check func() error) error {
	d, err := Prepare(path, 0)
	if err != nil {
		return err
	}
	defer d.Discard()
	return d.Write(data, check)
}

// Overwrite is Write, but a file that is there is written in place, whether or not it is a mount point here: where somebody else
// has mounted it as a single file, it is the same file afterwards. It gets the mode 0600 too.
func Overwrite(path string, data []byte, check func() error) error {
	d, err := Prepare(path, 0)
	if err != nil {
		return err
	}
	defer d.Discard()
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return d.Replace(data, check)
	case err != nil:
		return err
	case info.Mode().Perm() != 0o600:
		if err := os.Chmod(path, 0o600); err != nil {
			return err
		}
	}
	return d.writeInPlace(data, check)
}

// WriteUnlocked is Write for a file whose writers take no lock: of two at once one wins.
func WriteUnlocked(path string, data []byte) error {
	if err := Replaceable(path); err != nil {
		return err
	}
	d, err := NewDraft(path, rand.Text()+"-"+filepath.Base(path), 0o600)
	if err != nil {
		return err
	}
	defer d.Discard()
	return d.Write(data, Always)
}

// Replaceable fails if the file at path can't be replaced, as far as that can be seen. It changes nothing, so it can be asked at
// any time. What it finds is a protocol.Error, or an error of the system.
func Replaceable(path string) error {
	dir := filepath.Dir(path)
	if err := unix.Access(dir, unix.W_OK|unix.X_OK); err != nil && !errors.Is(err, unix.ENOENT) {
		return err
	}
	if err := Changeable(dir); err != nil {
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
	case IsMount(path):
		return writableInPlace(path, info)
	}
	if folder, err := os.Stat(dir); err == nil && folder.Mode()&fs.ModeSticky != 0 && !isOurs(folder) && !isOurs(info) {
		return &protocol.Error{Code: protocol.CodeStorage, Hint: "the file or its folder must belong to you",
			Message: path + " is another user's, in a folder where only its owner may replace it"}
	}
	return nil
}

// Changeable fails if the folder has a mark of its file system by which nothing in it can be made, removed or renamed.
func Changeable(dir string) error {
	if info, err := os.Stat(dir); err == nil && isFixed(dir+"/.", info) { // the folder, and not a link to it
		return fixed(dir)
	}
	return nil
}

func fixed(path string) error {
	return &protocol.Error{Code: protocol.CodeStorage, Message: path + " is marked so that nobody can change it",
		Hint: "remove the mark: " + unfix + " " + protocol.ShellLine(path)}
}
