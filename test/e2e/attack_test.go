//go:build e2e

package e2e

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ccagent/ccagent/agent/oauth/oauthtest"
)

// attackVar makes this test binary an attacker: what it holds is the attack and what is attacked.
const attackVar = "CCAGENT_E2E_ATTACK"

// attack is the attacker's main. It runs as the user whose secrets it is after.
func attack(how string) int {
	kind, target, _ := strings.Cut(how, " ")
	var err error
	switch kind {
	case "trace":
		err = attackTraced(target)
	case "start":
		err = attackStarts(target)
	default:
		err = errors.New("unknown attack")
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

// attackTraced starts the program in such a way that it is stopped before its first instruction, and opens its memory then. What
// is opened stays open, whatever the program does later.
func attackTraced(program string) error {
	runtime.LockOSThread() // the tracer is a thread
	cmd := exec.Command(program, "version")
	cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(cmd.Process.Pid, &status, 0, nil); err != nil || !status.Stopped() {
		return fmt.Errorf("it was not stopped: %v, %v", status, err)
	}
	fd, err := openMemory(cmd.Process.Pid)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

func openMemory(pid int) (fd int, err error) {
	return unix.Open("/proc/"+strconv.Itoa(pid)+"/mem", unix.O_RDONLY|unix.O_CLOEXEC, 0)
}

// attackStarts sleeps until something in the folder is opened, which is how a program's start begins, and then tries to open the
// memory of each process that is new. It prints the command line of those whose memory it can read from then on.
func attackStarts(folder string) error {
	watch, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	if err != nil {
		return err
	}
	if _, err := unix.InotifyAddWatch(watch, folder, unix.IN_OPEN); err != nil {
		return err
	}
	go func() {
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	fmt.Println("ready")
	buffer := make([]byte, 4096)
	seen := map[int]bool{os.Getpid(): true}
	for {
		if _, err := unix.Read(watch, buffer); err != nil && err != unix.EINTR {
			return err
		}
		first := lastPID() - 4
		for end := time.Now().Add(30 * time.Millisecond); time.Now().Before(end); {
			for pid := first; pid <= lastPID()+1; pid++ {
				if seen[pid] {
					continue
				}
				if memory, err := openMemory(pid); err == nil {
					seen[pid] = true
					tell(pid, memory)
				}
			}
		}
	}
}

// tell prints what process it is whose memory was opened, if that is a process and not a thread, and can be read.
func tell(pid, memory int) {
	defer unix.Close(memory)
	const program = 0x400000 // where the linker puts it
	magic := make([]byte, 4)
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if n, _ := unix.Pread(memory, magic, program); err == nil && string(magic[:max(n, 0)]) == "\x7fELF" &&
		strings.Contains(string(status), fmt.Sprintf("\nTgid:\t%d\n", pid)) {
		fmt.Printf("reads %s\n", bytes.ReplaceAll(bytes.TrimRight(line, "\x00"), []byte{0}, []byte{' '}))
	}
}

// lastPID is the last process that the kernel has made (proc_loadavg(5)).
func lastPID() int {
	text, _ := os.ReadFile("/proc/loadavg")
	fields := bytes.Fields(text)
	pid, _ := strconv.Atoi(string(fields[len(fields)-1]))
	return pid
}

// installed puts both programs, and this one, where a package would: root's, in a folder of root's. It returns the folders.
func installed(t *testing.T, mode os.FileMode) (programs, attacker string) {
	t.Helper()
	root, err := os.MkdirTemp("/tmp", "ccea")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(root) })
	programs, attacker = filepath.Join(root, "bin"), filepath.Join(root, "attacker")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{root, programs} {
		mkdir(t, dir, 0o755)
	}
	for to, from := range map[string]string{
		programs + "/ccagent": program("ccagent"), programs + "/cchelper": program("cchelper"), attacker: self,
	} {
		text, err := os.ReadFile(from)
		if err == nil {
			err = os.WriteFile(to, text, 0o700)
		}
		if err == nil {
			err = os.Chmod(to, map[bool]os.FileMode{true: 0o755, false: mode}[to == attacker])
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return programs, attacker
}

// nobodyElse is a user whom no other process has.
func nobodyElse() *syscall.Credential {
	id := uint32(2_000_000 + os.Getpid())
	return &syscall.Credential{Uid: id, Gid: id}
}

func ptraceScope() string {
	scope, err := os.ReadFile("/proc/sys/kernel/yama/ptrace_scope")
	if err != nil {
		return "0"
	}
	return strings.TrimSpace(string(scope))
}

// TestStartIsClosed: the kernel starts a program that its user may run and not read with its memory closed to that user, and
// doctor says so.
func TestStartIsClosed(t *testing.T) {
	needRoot(t)
	if scope := ptraceScope(); scope > "1" {
		t.Skipf("ptrace_scope is %s: nobody traces anybody", scope)
	}
	for mode, opens := range map[os.FileMode]bool{0o711: false, 0o755: true} {
		programs, attacker := installed(t, mode)
		for _, name := range []string{"ccagent", "cchelper"} {
			cmd := exec.Command(attacker)
			cmd.Env = []string{attackVar + "=trace " + filepath.Join(programs, name)}
			cmd.SysProcAttr = &syscall.SysProcAttr{Credential: nobodyElse()}
			r := finish(t, cmd)
			if opened := r.exit == 0; opened != opens || !opened && !strings.Contains(r.stdout, syscall.EACCES.Error()) {
				t.Errorf("%s, mode %04o: opened: %v, want %v; it says %q", name, mode, opened, opens, r.stdout)
			}
		}
		if ptraceScope() != "0" {
			continue // doctor speaks of that
		}
		h := newHome(t)
		h.giveTo(nobodyElse())
		says := map[bool]string{true: " is readable, so ", false: " its memory is protected from the start"}[opens]
		if r := h.run(filepath.Join(programs, "ccagent"), "doctor"); strings.Count(r.stdout, says) != 2 {
			t.Errorf("mode %04o: doctor does not say of both that %q:\n%s", mode, says, r.stdout)
		}
	}
}

// TestAttackOnStarts has a program of the same user wait for the start of programs, to look into their memory before they close
// it.
func TestAttackOnStarts(t *testing.T) {
	needRoot(t)
	if read := attackRenewals(t, 0o711); len(read) > 0 {
		t.Errorf("from programs as they are packaged it reads the memory of %q", read)
	}
	// That the attack is one is seen where the user may read the programs, unless the kernel keeps the user's programs apart.
	if ptraceScope() == "0" && !slices.Contains(attackRenewals(t, 0o755), "ccagent worker") {
		t.Error("it reads the memory of no worker of a program that its user may read either, and so proves nothing")
	}
}

// attackRenewals returns the command lines of the processes whose memory an attacker can read, while each of many sign-ins is
// renewed once.
func attackRenewals(t *testing.T, mode os.FileMode) (read []string) {
	t.Helper()
	const renewals = 20
	programs, attacker := installed(t, mode)
	h := newHome(t)
	provider := oauthtest.New(t, oauthtest.Options{})
	config := ""
	for i := range renewals {
		name := "p" + strconv.Itoa(i)
		config += claudeProfile(name, h.path(name), provider)
		h.write(name+"/.credentials.json", string(provider.Issue().CredentialsFile()))
	}
	h.config(config)
	h.giveTo(nobodyElse())
	h.serveOn(h.socket(), h.command(filepath.Join(programs, "ccagent"), h.serveArgs()...))

	cmd := h.command(attacker)
	cmd.Env = append(cmd.Env, attackVar+"=start "+programs)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stdout)
	if !lines.Scan() || lines.Text() != "ready" {
		t.Fatalf("the attacker says %q", lines.Text())
	}
	var reading sync.WaitGroup
	reading.Go(func() {
		for lines.Scan() {
			read = append(read, strings.TrimPrefix(lines.Text(), "reads "))
		}
	})
	for i := range renewals {
		h.run(filepath.Join(programs, "ccagent"), "refresh", "-p", "p"+strconv.Itoa(i)).must(t)
	}
	stdin.Close()
	reading.Wait()
	cmd.Wait()
	if n := provider.Counts().Refreshes; n != renewals {
		t.Errorf("%d renewals, want %d", n, renewals)
	}
	t.Logf("mode %04o: in %d renewals it reads the memory of %d processes", mode, renewals, len(read))
	return read
}
