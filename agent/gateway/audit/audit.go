// Package audit keeps the record of what gateways have done: a line of JSON for each request, in a file for each session. What is
// in it is not secret. A file that can't be written costs lines, and never a request.
package audit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ccagent/ccagent/disk"
)

const (
	// maxSize bounds a file, in bytes. One that would exceed it takes the place of the session's older file.
	maxSize = 4 << 20
	// keepTime is how long the file of a session that has ended is kept after its last line.
	keepTime = 30 * 24 * time.Hour
	// maxWaiting is how many lines may wait to be written. Further ones are lost.
	maxWaiting = 4096
)

const (
	newest = ".jsonl"   // ends the name of a file
	older  = ".1.jsonl" // ends the name of the older file of the same session
)

// Entry is a line: a request that is over, or the beginning of a session, which is at the head of each file.
type Entry struct {
	Time    time.Time `json:"time"` // when it began
	Session string    `json:"session"`
	Began   *Began    `json:"began,omitempty"`

	PID     int32   `json:"pid,omitempty"`     // who sent the request, if the kernel says so
	Program string  `json:"program,omitempty"` // of that process, as the kernel names it
	Profile string  `json:"profile,omitempty"`
	Route   string  `json:"route,omitempty"` // "" if none was found
	Method  string  `json:"method,omitempty"`
	Host    string  `json:"host,omitempty"` // where it goes
	Path    string  `json:"path,omitempty"` // without the query
	Status  int     `json:"status,omitempty"`
	Sent    int64   `json:"sent,omitempty"` // of the bodies, in bytes
	Got     int64   `json:"received,omitempty"`
	Took    float64 `json:"ms,omitempty"`
	Renewed bool    `json:"renewed,omitempty"` // the token was renewed because of it
	Foreign bool    `json:"foreign,omitempty"` // it went on with a credential of the tool's own
	Refused string  `json:"refused,omitempty"` // why the gateway itself refused it
	Lost    int     `json:"lost,omitempty"`    // how many lines before this one could not be written
}

// Began says what a session is.
type Began struct {
	PID     int32    `json:"pid"` // of the gateway
	Tool    int32    `json:"tool,omitempty"`
	Program string   `json:"program,omitempty"` // of the tool, or of the gateway where it serves whoever comes
	Routes  []string `json:"routes"`
	Listen  string   `json:"listen"`
}

// Log is the file of a running session. It holds a lock, which tells others that the session runs. Its methods may be called
// concurrently.
type Log struct {
	// Session names the session among all.
	Session string

	path    string
	began   Entry
	notice  func(error)
	waiting chan Entry
	written sync.WaitGroup

	mu     sync.Mutex // guards what follows
	closed bool
	lost   int // since the last line

	// These are the writer's alone.
	file      *os.File
	size      int64
	unwritten int  // lines since the last that could be written
	wrote     bool // a request
}

// Open begins the file of a session in a folder, which is made where it is missing, and removes what is too old there. notice is
// told, from another goroutine, when lines begin to be lost; nil: nobody is. Its errors are made by [disk.Error].
func Open(folder string, began Began, notice func(error)) (*Log, error) {
	l, err := newLog(folder, began, notice)
	if err != nil {
		return nil, err
	}
	l.written.Go(func() {
		for e := range l.waiting {
			l.put(e)
		}
	})
	return l, nil
}

// newLog is Open, but nobody writes what is added.
func newLog(folder string, began Began, notice func(error)) (*Log, error) {
	if err := disk.MakeFolder(folder); err != nil {
		return nil, err
	}
	removeOld(folder, time.Now())
	now := time.Now()
	l := &Log{notice: notice, waiting: make(chan Entry, maxWaiting)}
	pid := began.Tool
	if pid == 0 {
		pid = began.PID
	}
	base := fmt.Sprintf("%s-%d", now.UTC().Format("20060102-150405"), pid)
	for n := 1; ; n++ {
		l.Session = base
		if n > 1 {
			l.Session = fmt.Sprintf("%s-%d", base, n)
		}
		l.path = filepath.Join(folder, l.Session+newest)
		var err error
		if l.file, err = create(l.path); err == nil {
			break
		} else if !errors.Is(err, fs.ErrExist) || n == 100 {
			return nil, disk.Error("beginning the record of requests", l.path, err)
		}
	}
	l.began = Entry{Time: now, Session: l.Session, Began: &began}
	if err := l.write(l.began); err != nil {
		os.Remove(l.path)
		l.file.Close()
		return nil, disk.Error("beginning the record of requests", l.path, err)
	}
	return l, nil
}

// create makes a file that is locked.
func create(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second) // whoever looks at it holds the lock for a moment
	defer cancel()
	if err := disk.WaitLock(ctx, f); err != nil {
		f.Close()
		os.Remove(path)
		return nil, err
	}
	return f, nil
}

// Add writes an entry soon. It waits for nothing: where the disk is too slow, the line is lost and counted.
func (l *Log) Add(e Entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	e.Session, e.Lost = l.Session, l.lost
	select {
	case l.waiting <- e:
		l.lost = 0
	default:
		l.lost++
	}
}

// Close writes what waits, and gives the lock back. A session without a request leaves no file.
func (l *Log) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	close(l.waiting)
	l.mu.Unlock()
	l.written.Wait()
	if !l.wrote {
		os.Remove(l.path)
	}
	return l.file.Close()
}

// put writes an entry, or counts it as lost.
func (l *Log) put(e Entry) {
	e.Lost += l.unwritten
	if err := l.write(e); err == nil {
		l.wrote, l.unwritten = true, 0
		return
	} else if l.unwritten == 0 && l.notice != nil {
		l.notice(disk.Error("writing the record of requests", l.path, err))
	}
	l.unwritten = e.Lost + 1
}

// write appends a line, whole or not at all.
func (l *Log) write(e Entry) error {
	e.Time = e.Time.UTC()
	line, err := json.Marshal(e)
	if err != nil {
		return err
	}
	line = append(line, '\n')
	if l.size > 0 && l.size+int64(len(line)) > maxSize {
		l.turn()
	}
	n, err := l.file.Write(line)
	if err == nil {
		l.size += int64(n)
	} else if n > 0 {
		err = errors.Join(err, l.file.Truncate(l.size))
	}
	return err
}

// turn begins a new file, and keeps the one that is full as the older one. If that can't be, the file is emptied, because its
// size is bounded.
func (l *Log) turn() {
	aside := strings.TrimSuffix(l.path, newest) + older
	if err := os.Rename(l.path, aside); err == nil {
		f, err := create(l.path)
		if err == nil {
			full := l.file
			l.file, l.size = f, 0
			l.write(l.began) // a session is also named by its requests
			full.Close()     // and with it goes its lock, which says until now that the session runs
			return
		}
		os.Rename(aside, l.path)
	}
	if l.file.Truncate(0) == nil {
		l.size = 0
	}
}

// removeOld removes the files of sessions that have ended long ago.
func removeOld(folder string, now time.Time) {
	paths, _ := filepath.Glob(filepath.Join(escape(folder), "*"+newest))
	for _, path := range paths {
		info, err := os.Lstat(path)
		if err != nil || !info.Mode().IsRegular() || now.Sub(info.ModTime()) < keepTime {
			continue
		}
		if f, err := open(path); err == nil {
			if !disk.Locked(f) {
				os.Remove(path)
			}
			f.Close()
		}
	}
}

// open opens a file for reading, and waits for nobody.
func open(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
}

// escape makes a path a pattern of filepath.Glob that matches it alone.
func escape(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}
