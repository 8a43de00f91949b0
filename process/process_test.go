package process

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

func TestOf(t *testing.T) {
	t.Parallel()
	p, ok := Of(int32(os.Getpid()))
	if !ok || p.PID != int32(os.Getpid()) || p.Parent != int32(os.Getppid()) || p.Start == 0 ||
		!strings.HasPrefix("process.test", p.Name) {
		t.Errorf("%+v, %v", p, ok)
	}
	if p, ok := Of(-1); ok {
		t.Errorf("a process of no id: %+v", p)
	}
}

// TestConsumer: for whom the test's own process asks is whoever runs the test. For whom a child of it asks is the test, also with
// a shell in between.
func TestConsumer(t *testing.T) {
	t.Parallel()
	above, ok := Consumer(int32(os.Getpid()))
	if !ok {
		t.Fatal("nobody but shells above this test")
	}
	for _, args := range [][]string{{"cat"}, {"sh", "-c", "cat; exit"}} {
		child := exec.Command(args[0], args[1:]...)
		in, err := child.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		got, ok := Consumer(int32(child.Process.Pid))
		if !ok || got == above || got.PID != int32(os.Getpid()) {
			t.Errorf("%v asks for %+v, %v", args, got, ok)
		}
		in.Close()
		child.Wait()
	}
}
