package disk

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// TestMain removes the umask, so that a mode is what the code asks for. With CCAGENT_DISK_WRITER set, the process writes a file
// in place again and again, until it is killed.
func TestMain(m *testing.M) {
	unix.Umask(0)
	os.Setenv("GORACE", "atexit_sleep_ms=0") // under the race detector each of them would stay for a second
	if os.Getenv("CCAGENT_DISK_WRITER") != "" {
		for n, _ := strconv.Atoi(os.Args[2]); ; n++ {
			if err := writeOver(os.Args[1], inPlaceContent(n)); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
		}
	}
	os.Exit(m.Run())
}

// play starts the writer.
func play(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), "CCAGENT_DISK_WRITER=1")
	var said bytes.Buffer
	cmd.Stderr = &said
	t.Cleanup(func() {
		if said.Len() > 0 {
			t.Error(said.String())
		}
	})
	check(t, cmd.Start())
	return cmd
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func contentOf(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	check(t, err)
	return string(b)
}

// names lists a folder's entries besides those named.
func names(t testing.TB, dir string, but ...string) (list []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	check(t, err)
	for _, e := range entries {
		if !slices.Contains(but, e.Name()) {
			list = append(list, e.Name())
		}
	}
	return list
}
