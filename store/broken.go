package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/ccagent/ccagent/disk"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store/splice"
)

// Broken reports whether err says that nobody can read what a store holds: it is empty, cut off, or of a wrong type. What a newer
// version of ccagent has written is not broken.
func Broken(err error) bool { return errors.Is(err, protocol.ErrInvalid) && !isNewer(err) }

// Copy is the copy that is made of broken bytes before they are written over: a file in the state directory, 0600.
type Copy struct {
	dir, key string
	path     string
}

// maxCopy is how large a broken file may be, in bytes. A larger one is not copied, and so it is not written over.
const maxCopy = 64 << 20

// Path is the file with the copy, "" if none was made.
func (c *Copy) Path() string { return c.path }

func newCopy(stateDir string, at Place) *Copy {
	return &Copy{dir: filepath.Join(stateDir, "broken"), key: placeKey(at)}
}

// keep makes the copy. There is one copy of the same bytes, and none of white space.
func (c *Copy) keep(src []byte) error {
	if len(bytes.TrimSpace(src)) == 0 {
		return nil
	}
	if err := disk.MakeFolder(c.dir); err != nil {
		return err
	}
	sum := sha256.Sum256(src)
	path := filepath.Join(c.dir, c.key+"."+hex.EncodeToString(sum[:4])+".copy")
	if err := writeFile(path, src, disk.Always); err != nil {
		return err
	}
	c.path = path
	return nil
}

// clear removes all copies of what was in the place.
func (c *Copy) clear() error {
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		return nil // there are none
	}
	for _, e := range entries {
		if path := filepath.Join(c.dir, e.Name()); strings.HasPrefix(e.Name(), c.key+".") {
			if err := os.Remove(path); err != nil {
				return disk.Error("removing", path, err)
			}
		}
	}
	return nil
}

// Overwrite lets the next Save of st write a record over what is broken there, after it has made a copy of that. It is for what a
// person has asked for: nothing of ours writes over what it can't read unless it is told to. A store of somebody else's making
// does not do it.
func Overwrite(stateDir string, st Store) *Copy {
	c := newCopy(stateDir, st.Place())
	if s, ok := st.(interface{ overwrite(*Copy) }); ok {
		s.overwrite(c)
	}
	return c
}

func (s *own) overwrite(c *Copy)        { s.copy = c }
func (s *ClaudeCode) overwrite(c *Copy) { s.copy = c }

// keepBroken makes a copy of what the medium holds if err says that it is broken. If it is not, or the bytes can't be read at
// all, it returns err.
func (s *own) keepBroken(ctx context.Context, err error) error {
	if s.copy == nil || !Broken(err) {
		return err
	}
	var src []byte
	var rawErr error
	if path := s.file(); path != "" {
		src, rawErr = readUpTo(path, maxCopy)
	} else {
		src, rawErr = s.medium.read(ctx)
	}
	if rawErr != nil { // it is no file, or too large for a copy
		return err
	}
	return s.copy.keep(src)
}

// withoutBroken is Claude Code's JSON without a sign-in that can't be read, nil if none of the JSON can be read.
func withoutBroken(src []byte) []byte {
	if _, err := readObject("", src); err != nil {
		return nil
	}
	rest, _, err := splice.Remove(src, claudeKey)
	if err != nil {
		return nil
	}
	return rest
}
