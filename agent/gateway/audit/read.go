package audit

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ccagent/ccagent/disk"
)

// pollTime is how often new lines are looked for.
const pollTime = 200 * time.Millisecond

// names returns the sessions that have files in a folder, the oldest first. A folder that is missing has none.
func names(folder string) ([]string, error) {
	entries, err := os.ReadDir(folder)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, disk.Error("reading the records of requests", folder, err)
	}
	var found []string
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), newest)
		if name, _ = strings.CutSuffix(name, strings.TrimSuffix(older, newest)); ok && e.Type().IsRegular() {
			found = append(found, name)
		}
	}
	slices.Sort(found)
	return slices.Compact(found), nil
}

// Running returns the beginnings of the sessions that run, the oldest first.
func Running(folder string) ([]Entry, error) {
	sessions, err := names(folder)
	var running []Entry
	for _, name := range sessions {
		for _, end := range []string{newest, older, newest} { // a file may just be making room for the next
			if e, ok := beginning(filepath.Join(folder, name+end)); ok {
				running = append(running, e)
				break
			}
		}
	}
	return running, err
}

// beginning returns the first line of a file whose session runs.
func beginning(path string) (e Entry, ok bool) {
	f, err := open(path)
	if err != nil {
		return e, false
	}
	defer f.Close()
	line, _ := bufio.NewReader(f).ReadBytes('\n')
	return e, disk.Locked(f) && json.Unmarshal(line, &e) == nil && e.Began != nil
}

// Read gives each what the files of a folder hold, sorted by session and then as it was written. session names one; "": all.
// It ends with the error of each.
func Read(folder, session string, each func(Entry) error) error {
	return (&reader{folder: folder, session: session, each: each}).pass()
}

// Follow is Read, and goes on with what is written until ctx ends: that is no error.
func Follow(ctx context.Context, folder, session string, each func(Entry) error) error {
	r := &reader{folder: folder, session: session, each: each}
	defer r.close()
	tick := time.NewTicker(pollTime)
	defer tick.Stop()
	r.following = true
	for {
		if err := r.pass(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// reader reads files that grow.
type reader struct {
	folder, session string
	each            func(Entry) error
	following       bool
	at              map[string]*place // by session, the file that is its newest
	begun           map[string]bool   // the sessions whose beginning was passed on: each of their files has it
}

type place struct {
	file *os.File
	info fs.FileInfo
	rest []byte // of a line that is not whole yet
}

// pass reads what is new.
func (r *reader) pass() error {
	sessions, err := names(r.folder)
	if err != nil {
		return err
	}
	if r.at == nil {
		r.at, r.begun = map[string]*place{}, map[string]bool{}
	}
	for _, name := range sessions {
		if r.session != "" && name != r.session {
			continue
		}
		if err := r.read(name); err != nil {
			return err
		}
	}
	for name, p := range r.at {
		if !slices.Contains(sessions, name) {
			p.file.Close()
			delete(r.at, name)
		}
	}
	if !r.following {
		r.close()
	}
	return nil
}

// read reads what is new of a session.
func (r *reader) read(name string) error {
	path := filepath.Join(r.folder, name+newest)
	p := r.at[name]
	if p == nil {
		if f, err := open(filepath.Join(r.folder, name+older)); err == nil {
			err = r.lines(&place{file: f})
			f.Close()
			if err != nil {
				return err
			}
		}
	} else if info, err := os.Lstat(path); err == nil && os.SameFile(info, p.info) {
		return r.lines(p)
	} else if err := r.lines(p); err != nil { // what was written before another file took its place
		return err
	} else {
		p.file.Close()
		delete(r.at, name)
	}
	f, err := open(path)
	if err != nil {
		return nil // it has just ended, or there is the older file alone
	}
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		f.Close()
		return nil
	}
	r.at[name] = &place{file: f, info: info}
	return r.lines(r.at[name])
}

// lines passes on the whole lines that have come.
func (r *reader) lines(p *place) error {
	text, err := io.ReadAll(io.LimitReader(p.file, 2*maxSize))
	if err != nil {
		return disk.Error("reading the record of requests", p.file.Name(), err)
	}
	text = append(p.rest, text...)
	whole := bytes.LastIndexByte(text, '\n') + 1
	p.rest = slices.Clone(text[whole:])
	for line := range bytes.Lines(text[:whole]) {
		var e Entry
		if json.Unmarshal(line, &e) != nil || e.Began != nil && r.begun[e.Session] {
			continue
		}
		if e.Began != nil {
			r.begun[e.Session] = true
		}
		if err := r.each(e); err != nil {
			return err
		}
	}
	return nil
}

func (r *reader) close() {
	for _, p := range r.at {
		p.file.Close()
	}
	r.at = nil
}
