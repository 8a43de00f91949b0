package main

import (
	"os"
	"regexp"
	"runtime"
	"strconv"
	"testing"
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
	returnMemory()
	if after := resident(t, "RssAnon"); after > anonymous-size/2 {
		t.Errorf("of %d bytes, %d of them garbage, %d are left", anonymous, size, after)
	}
	if after := resident(t, "RssFile"); after >= file {
		t.Errorf("%d bytes of the program were resident, and %d are", file, after)
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
