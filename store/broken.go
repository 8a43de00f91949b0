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

// Broken reports whether err says that what a store holds can't be read by anybody: it is empty, cut off, or of a wrong type.
// What a newer version of ours has written is not broken.
func Broken(err error) bool { return errors.Is(err, protocol.ErrInvalid) && !isNewer(err) }

// Copy is what becomes of something broken that is written over: its bytes are kept in the state directory, 0600.
type Copy struct {
	dir, key string
	path     string
}

// maxCopy is how large a file may be for a copy of it to be made. One that is larger still is not written over.
const maxCopy = 64 << 20

// Path is the file with what was there, "" where nothing was written over.
func (c *Copy) Path() string { return c.path }

func newCopy(stateDir string, at Place) *Copy {
	return &Copy{dir: filepath.Join(stateDir, "broken"), key: placeKey(at)}
}

// keep makes the copy. The same bytes are kept once, and blanks not at all.
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

// clear removes all copies of the place.
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

// Overwrite lets the next Save of st create a record over what is broken there, and keep a copy of that first. It is for what a
// person has asked for: by itself nothing of ours writes over what it can't read. Of a store that can't do so what is broken
// stays.
func Overwrite(stateDir string, st Store) *Copy {
	c := newCopy(stateDir, st.Place())
	if s, ok := st.(interface{ overwrite(*Copy) }); ok {
		s.overwrite(c)
	}
	return c
}

func (s *own) overwrite(c *Copy)        { s.copy = c }
func (s *ClaudeCode) overwrite(c *Copy) { s.copy = c }

// keepBroken makes a copy of what the medium holds, if that can be had and is broken as err says. Otherwise it returns err.
func (s *own) keepBroken(ctx context.Context, err error) error {
	if s.copy == nil || !Broken(err) {
		return err
	}
	var src []byte
	var rawErr error
	switch m := s.medium.(type) {
	case file:
		src, rawErr = readUpTo(string(m), maxCopy)
	case sealed:
		src, rawErr = readUpTo(string(m.file), maxCopy)
	default:
		src, rawErr = s.medium.read(ctx)
	}
	if rawErr != nil { // it is no file, or too large for a copy
		return err
	}
	return s.copy.keep(src)
}

// withoutBroken is Claude Code's JSON without a sign-in that can't be read, nil where nothing of it can be.
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
