//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// exchanges has a user swap two names for as long as the test runs, as fast as he can.
func exchanges(t *testing.T, who *syscall.Credential, a, b string) {
	t.Helper()
	const script = `
import ctypes, sys
libc = ctypes.CDLL(None)
a, b = (s.encode() for s in sys.argv[1:])
print("ready", flush=True)
while True:
    libc.syscall(316, -100, a, -100, b, 2)  # renameat2, RENAME_EXCHANGE; of amd64
`
	cmd := exec.Command(need(t, "/usr/bin/python3"), "-c", script, a, b)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/bin:/bin"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: who}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	if _, err := out.Read(make([]byte, 16)); err != nil {
		t.Fatal(err)
	}
}

// TestExportGivesTheGroupNoFile has a member of the group that an export lets in put links in the way of the socket.
func TestExportGivesTheGroupNoFile(t *testing.T) {
	alice, bob := credential(t, "ccagent-alice"), credential(t, "ccagent-bob")
	alice.Groups = []uint32{bob.Gid} // alice is of bob's group, as the owner of a socket for it has to be
	h, _ := newExporter(t)
	shared := h.root + "/s"
	mkdir(t, shared, 0o700)
	h.giveTo(alice)
	if err := os.Chmod(h.dir, 0o711); err != nil {
		t.Fatal(err)
	}
	give := func(path string, mode os.FileMode) {
		t.Helper()
		mkdir(t, path, mode)
		if err := os.Chown(path, int(alice.Uid), int(bob.Gid)); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	give(shared, 0o770)
	secret := filepath.Join(h.root, "h/.claude/.credentials.json")
	tries := 0
	export := func(socket string) {
		t.Helper()
		cmd := h.command("timeout", "-s", "KILL", "0.1", program("ccagent"), "serve", "--export", socket, "--profiles", "claude",
			"--allow-gid", fmt.Sprint(bob.Gid))
		cmd.Dir = "/"
		finish(t, cmd)
		tries++
		info, err := os.Stat(secret)
		if err != nil {
			t.Fatal(err)
		}
		if st := info.Sys().(*syscall.Stat_t); info.Mode().Perm() != 0o600 || st.Gid != alice.Gid {
			t.Fatalf("after %d tries the sign-in is of mode %v and group %d", tries, info.Mode(), st.Gid)
		}
	}
	as := func(who *syscall.Credential, script string, args ...string) {
		t.Helper()
		cmd := exec.Command("/bin/sh", append([]string{"-c", script, "sh"}, args...)...)
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: who}
		finish(t, cmd).must(t)
	}

	// The group may write in the folder: refused, whatever lies there.
	give(shared+"/box", 0o770)
	as(bob, `ln -s "$1" "$2"`, secret, shared+"/box/x")
	cmd := h.command("timeout", "20", program("ccagent"), "serve", "--export", shared+"/box/agent.sock", "--profiles", "claude",
		"--allow-gid", fmt.Sprint(bob.Gid))
	cmd.Dir = "/"
	finish(t, cmd).fails(t, 2, "may be written by others (mode 0770)")
	exchanges(t, bob, shared+"/box/agent.sock", shared+"/box/x")
	for range 20 {
		export(shared + "/box/agent.sock")
	}

	// The group may write in the folder above, and swaps the whole folder for a link to where the sign-in is.
	give(shared+"/in", 0o710)
	as(bob, `ln -s "$1" "$2"`, filepath.Dir(secret), shared+"/y")
	exchanges(t, bob, shared+"/in", shared+"/y")
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); {
		export(shared + "/in/.credentials.json")
	}
	t.Logf("%d tries", tries)

	// In a folder of its owner's alone the group has what it is let in for.
	give(shared+"/well", 0o710)
	h.serveOn(
		shared+"/well/s",
		h.command(program("ccagent"), "serve", "--export", shared+"/well/s", "--profiles", "claude", "--allow-gid",
			fmt.Sprint(bob.Gid)),
	)
	info, err := os.Stat(shared + "/well/s")
	if err != nil {
		t.Fatal(err)
	}
	if st := info.Sys().(*syscall.Stat_t); info.Mode().Perm() != 0o660 || st.Gid != bob.Gid || st.Uid != alice.Uid {
		t.Errorf("the socket is of mode %v, user %d and group %d", info.Mode(), st.Uid, st.Gid)
	}
	if got := asksAs(t, bob, shared+"/well/s"); got == "0 bytes" || !strings.HasSuffix(got, " bytes") {
		t.Errorf("bob was answered with %s", got)
	}
	if left, err := filepath.Glob(shared + "/well/.cc*"); err != nil || len(left) > 0 {
		t.Errorf("%v is left over, %v", left, err)
	}
}
