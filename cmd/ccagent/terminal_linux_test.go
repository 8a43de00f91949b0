package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"
)

func init() { terminalCommands["types"] = types }

// types runs a program on a terminal of its own, types keys there once it shows what is waited for, and wants it to end as
// whoever declines is told: types KEYS SHOWN WANTED PROGRAM [ARGUMENTS]. In KEYS, ^C and ^D are those keys. A whole line of what
// the program shows must be WANTED, and its exit code 130.
func types(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 4 {
		ts.Fatalf("usage: types KEYS SHOWN WANTED PROGRAM [ARGUMENTS]")
	}
	keys := strings.NewReplacer("^C", "\x03", "^D", "\x04", `\n`, "\n").Replace(args[0])
	program, err := exec.LookPath(args[3])
	ts.Check(err)
	keyboard, tty, err := openTerminal()
	ts.Check(err)
	defer keyboard.Close()
	cmd := exec.Command(program, args[4:]...)
	cmd.Dir, cmd.Env = ts.Getenv("WORK"), append(scriptEnv(ts), "SSH_CONNECTION=1", "TERM=dumb")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	ts.Check(cmd.Start())
	tty.Close()
	var shown strings.Builder
	typed := false
	for buf := make([]byte, 4096); ; {
		n, err := keyboard.Read(buf)
		shown.Write(buf[:n])
		if !typed && strings.Contains(shown.String(), args[1]) {
			typed = true
			io.WriteString(keyboard, keys)
		}
		if err != nil { // EIO: nobody has the terminal open any more
			break
		}
	}
	cmd.Wait()
	text := strings.ReplaceAll(shown.String(), "\r\n", "\n")
	ts.Logf("%s", text)
	if code := cmd.ProcessState.ExitCode(); code != exitDeclined {
		ts.Fatalf("exit code %d, want %d", code, exitDeclined)
	}
	if !strings.Contains("\n"+text, "\n"+args[2]+"\n") {
		ts.Fatalf("no line %q is shown", args[2])
	}
}

// openTerminal makes a pseudo-terminal. Ctrl-C does not make it forget what is not read yet (NOFLSH): the kernel does that after
// it has sent the signal, and so perhaps after the program has written its last line.
func openTerminal() (keyboard, tty *os.File, err error) {
	if keyboard, err = os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0); err != nil {
		return nil, nil, err
	}
	if err = unix.IoctlSetPointerInt(int(keyboard.Fd()), unix.TIOCSPTLCK, 0); err == nil {
		var n int
		if n, err = unix.IoctlGetInt(int(keyboard.Fd()), unix.TIOCGPTN); err == nil {
			tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
		}
	}
	if err == nil {
		err = unix.IoctlSetWinsize(int(tty.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 40, Col: 500})
	}
	if err == nil {
		var mode *unix.Termios
		if mode, err = unix.IoctlGetTermios(int(tty.Fd()), unix.TCGETS); err == nil {
			mode.Lflag |= unix.NOFLSH
			err = unix.IoctlSetTermios(int(tty.Fd()), unix.TCSETS, mode)
		}
	}
	if err != nil {
		keyboard.Close()
	}
	return keyboard, tty, err
}
