package memory

import (
	"os"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// TestReturnMemory: both garbage and the pages of the program itself go back to the system.
func TestReturnMemory(t *testing.T) {
	const size = 16 << 20
	garbage := make([]byte, size)
	for i := range garbage {
		garbage[i] = 1
	}
	anonymous, file := resident(t, "RssAnon"), resident(t, "RssFile")
	runtime.KeepAlive(garbage)
	garbage = nil
	Return()
	if after := resident(t, "RssAnon"); after > anonymous-size/2 {
		t.Errorf("of %d bytes, %d of them garbage, %d are left", anonymous, size, after)
	}
	if after := resident(t, "RssFile"); after >= file {
		t.Errorf("%d bytes of the program were resident, and %d are", file, after)
	}
}

// TestReturnMemoryKeepsWhatIsOurs: a part of the program that was written before it became read-only keeps what was written. A
// loader writes addresses into a program that was built with -buildmode=pie in this way.
func TestReturnMemoryKeepsWhatIsOurs(t *testing.T) {
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	page, err := unix.Mmap(int(self.Fd()), 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(page)
	page[0]++
	want := page[0]
	if err := unix.Mprotect(page, unix.PROT_READ); err != nil {
		t.Fatal(err)
	}
	Return()
	if page[0] != want {
		t.Errorf("%#x was written, and %#x is there", want, page[0])
	}
}

// TestUnchanged: the name of the program does not matter. It may contain a blank, and the file may have been replaced.
func TestUnchanged(t *testing.T) {
	const smaps = `00400000-00900000 r-xp 00000000 fe:00 42                         /home/a b/ccagent (deleted)
Size:               5120 kB
Anonymous:             0 kB
AnonHugePages:         0 kB
VmFlags: rd ex mr mw me sd
00900000-00a00000 r--p 00500000 fe:00 42                         /home/a b/ccagent (deleted)
Anonymous:             4 kB
AnonHugePages:         0 kB
00a00000-00b00000 rw-p 00600000 fe:00 42                         /home/a b/ccagent (deleted)
Anonymous:             0 kB
00b00000-00c00000 ---p 00000000 00:00 0
Anonymous:             0 kB
7ffd00000000-7ffd00002000 r-xp 00000000 00:00 0                  [vdso]
Anonymous:             0 kB
`
	if got, want := unchanged([]byte(smaps)), []mapping{{0x400000, 0x900000}}; !slices.Equal(got, want) {
		t.Errorf("%x, want %x", got, want)
	}
	if got := unchanged([]byte("x\nAnonymous: 0 kB\na-b r--p 0 0 1 /x\nAnonymous: 0")); got != nil {
		t.Errorf("%x of a text that is cut off", got)
	}
}

// resident is a line of this process's proc_pid_status(5), in bytes.
func resident(t *testing.T, name string) int {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^` + name + `:\s+(\d+) kB$`).FindSubmatch(status)
	if found == nil {
		t.Fatalf("there is no %s in\n%s", name, status)
	}
	n, _ := strconv.Atoi(string(found[1]))
	return n << 10
}
