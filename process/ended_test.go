//go:build linux || darwin

package process

import (
	"os"
	"os/exec"
	"testing"
)

// TestEnded: a process that becomes another program has not ended, and one that nobody has waited for has.
func TestEnded(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("sh", "-c", "read go; exec sh -c 'echo new; read end'")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p, ok := Of(int32(cmd.Process.Pid))
	if !ok {
		t.Fatal("it is not there")
	}
	ended := Ended(p.ID)
	in.Write([]byte("go\n"))
	if _, err := out.Read(make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ended:
		t.Error("it ended when it became another program")
	default:
	}
	<-Ended(ID{p.PID, p.Start + 1}) // another process, which had the id before
	in.Write([]byte("end\n"))
	<-ended // before anybody waits for it
	cmd.Wait()
	<-Ended(p.ID)

	self, ok := Of(int32(os.Getpid()))
	select {
	case <-Ended(self.ID):
		t.Error("this process has ended")
	default:
		if !ok {
			t.Error("this process is not there")
		}
	}
}
