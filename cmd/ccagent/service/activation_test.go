package service

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestListenerOf gets sockets that a unit of somebody else could pass.
func TestListenerOf(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("/tmp", "cc") // short: a socket's path has about 100 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	file := func(f *os.File, err error) *os.File {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	bound := func(kind int, path string, listen bool) *os.File {
		t.Helper()
		fd, err := unix.Socket(unix.AF_UNIX, kind, 0)
		if err == nil && path != "" {
			err = unix.Bind(fd, &unix.SockaddrUnix{Name: path})
		}
		if err == nil && listen {
			err = unix.Listen(fd, 1)
		}
		return file(os.NewFile(uintptr(fd), "socket"), err)
	}
	tcp, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	for _, test := range []struct {
		name string
		file *os.File
		want string // in the error; "": there is none
	}{
		{"ours", bound(unix.SOCK_STREAM, filepath.Join(dir, "a"), true), ""},
		{"not listening", bound(unix.SOCK_STREAM, filepath.Join(dir, "b"), false), "not a listening socket"},
		{"datagrams", bound(unix.SOCK_DGRAM, filepath.Join(dir, "c"), false), "not a listening socket"},
		{"tcp", file(tcp.File()), "is a tcp socket"},
		{"a file", file(os.Open(os.DevNull)), "not a listening socket"},
	} {
		ln, err := listenerOf(test.file)
		if err == nil {
			ln.Close()
		}
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		}
	}
}
