package socket

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// kept is a listener that answers and keeps its place, as an agent's does.
type kept struct {
	*Listener
	log  bytes.Buffer // of Keep; guarded by mu
	mu   sync.Mutex
	lost error // guarded by mu
}

func (k *kept) Write(b []byte) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.log.Write(b)
}

func (k *kept) why() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.lost
}

func keep(t *testing.T, l *Listener) *kept {
	k := &kept{Listener: l}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		l.Keep(ctx, slog.New(slog.NewTextHandler(k, nil)), func(why error) {
			k.mu.Lock()
			defer k.mu.Unlock()
			k.lost = why
		})
	})
	wg.Go(func() {
		for {
			fd, err := l.Accept()
			if err != nil {
				return
			}
			os.NewFile(uintptr(fd), "").Close()
		}
	})
	t.Cleanup(func() {
		cancel()
		l.SetReadDeadline(time.Unix(1, 0))
		wg.Wait()
		l.Release()
	})
	return k
}

// until waits for something that happens soon.
func until(t *testing.T, what string, happened func() bool) {
	t.Helper()
	for began := time.Now(); !happened(); time.Sleep(5 * time.Millisecond) {
		if time.Since(began) > 20*time.Second {
			t.Fatal("it does not happen: ", what)
		}
	}
}

// has reports whether the agent's own socket answers at path, and its lock is the one there.
func (k *kept) has(path string) bool {
	k.Listener.mu.Lock()
	defer k.Listener.mu.Unlock()
	return isAt(k.file, path) && hasName(k.lock, path+".lock") && answers(path)
}

// What lies on disk of an agent's place is made again, whatever of it goes.
func TestKeep(t *testing.T) {
	for name, remove := range map[string]func(path string) error{
		"socket": os.Remove,
		"lock":   func(path string) error { return os.Remove(path + ".lock") },
		"both":   func(path string) error { return errors.Join(os.Remove(path), os.Remove(path+".lock")) },
		"folder": func(path string) error { return os.RemoveAll(filepath.Dir(path)) },
		"folder, renamed": func(path string) error {
			return os.Rename(filepath.Dir(path), filepath.Dir(path)+".old")
		},
		"folder, replaced": func(path string) error {
			dir := filepath.Dir(path)
			return errors.Join(os.Rename(dir, dir+".old"), os.Mkdir(dir, 0o700))
		},
		"socket, replaced by a dead one": func(path string) error {
			if err := os.Remove(path); err != nil {
				return err
			}
			l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
			if err == nil {
				l.SetUnlinkOnClose(false)
				err = l.Close()
			}
			return err
		},
	} {
		for _, by := range []string{"itself", "a service manager"} {
			t.Run(name+" of "+by, func(t *testing.T) {
				t.Parallel()
				path := socketDir(t) + "/ccagent/agent.sock"
				l := place(t, path, by == "a service manager")
				k := keep(t, l)
				for range 3 {
					until(t, "it has its place", func() bool { return k.has(path) })
					k.Listener.mu.Lock() // until all of it is done
					err := remove(path)
					k.Listener.mu.Unlock()
					if err != nil {
						t.Fatal(err)
					}
					os.RemoveAll(filepath.Dir(path) + ".old")
				}
				until(t, "it has its place again", func() bool { return k.has(path) })
				if why := k.why(); why != nil {
					t.Error(why)
				}
				l.Release()
				if name != "lock" {
					if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
						t.Errorf("its own socket is left behind: %v", err)
					}
				}
			})
		}
	}
}

// place makes a listener at path, or adopts one that somebody else has made.
func place(t *testing.T, path string, adopted bool) *Listener {
	t.Helper()
	if !adopted {
		l, err := Listen(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	manager, err := ln.File() // stays open, as the manager's does
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { manager.Close() })
	l, err := Adopt(t.Context(), ln)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// An agent that can't have its place says why, so that it can end; it has the place again once that is free.
func TestKeepLost(t *testing.T) {
	for name, test := range map[string]struct {
		take func(t *testing.T, path string) (give func())
		says string
	}{
		"a file in the way": {func(t *testing.T, path string) func() {
			os.Remove(path)
			os.WriteFile(path, nil, 0o600)
			return func() { os.Remove(path) }
		}, "it is a file"},
		"another agent": {func(t *testing.T, path string) func() {
			os.Rename(filepath.Dir(path), filepath.Dir(path)+".old")
			other, err := Listen(t.Context(), path)
			if err != nil {
				t.Fatal(err)
			}
			return func() { other.Release(); os.Remove(path + ".lock") }
		}, errTaken.Error()},
		"another program": {func(t *testing.T, path string) func() {
			other, err := net.Listen("unix", path+"2")
			if err != nil {
				t.Fatal(err)
			}
			os.Rename(path+"2", path)
			return func() { other.Close() }
		}, "another program listens"},
		"no place": {func(t *testing.T, path string) func() {
			run := filepath.Dir(filepath.Dir(path))
			os.Rename(run, run+".old")
			return func() { os.Rename(run+".old", run); os.Remove(path) }
		}, "XDG_RUNTIME_DIR is "},
	} {
		t.Run(name, func(t *testing.T) {
			run := socketDir(t) + "/run"
			os.Mkdir(run, 0o700)
			t.Setenv("CCAGENT_SOCK", "")
			t.Setenv("XDG_RUNTIME_DIR", run)
			path := run + "/ccagent/agent.sock"
			k := keep(t, place(t, path, false))
			k.Listener.mu.Lock() // until all of it is done
			give := test.take(t, path)
			k.Listener.mu.Unlock()
			until(t, "it is lost", func() bool { k.look(t); return k.why() != nil })
			if !strings.Contains(k.why().Error(), test.says) {
				t.Errorf("%v", k.why())
			}
			give()
			until(t, "it has its place again", func() bool { k.look(t); return k.has(path) })
		})
	}
}

// look does what Keep does when the time has come, for what the kernel does not tell.
func (k *kept) look(t *testing.T) {
	if _, err := k.hold(t.Context()); err != nil {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.lost = err
	}
}

// Where the default path is another one by now, the agent goes there.
func TestKeepFollowsTheDefaultPath(t *testing.T) {
	dir := socketDir(t)
	for _, name := range []string{"before", "after"} {
		os.Mkdir(dir+"/"+name, 0o700)
	}
	t.Setenv("CCAGENT_SOCK", "")
	t.Setenv("XDG_RUNTIME_DIR", dir+"/before")
	before, after := dir+"/before/ccagent/agent.sock", dir+"/after/ccagent/agent.sock"
	k := keep(t, place(t, before, false))
	t.Setenv("XDG_RUNTIME_DIR", dir+"/after")
	until(t, "it moves", func() bool { k.look(t); return k.has(after) })
	if _, err := os.Lstat(before); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is left behind: %v", err)
	}
	if k.Path() != after {
		t.Errorf("it says %s", k.Path())
	}
	// Another agent may have what was left, and has the default path if that is there again.
	other := listen(t, before)
	t.Setenv("XDG_RUNTIME_DIR", dir+"/before")
	until(t, "it is lost", func() bool { k.look(t); return errors.Is(k.why(), errTaken) })
	other.Release()
}
