//go:build linux

// Command recording runs a program on a terminal of its own and draws what it prints as an animated SVG of plain text.
//
//	make recording                     # bin/ccagent demo into docs/demo.svg
//	go run ./test/recording -o FILE PROGRAM ARGUMENTS...
//
// The lines appear at a fixed pace, so that a new recording differs from the old one only where the text does. Where nothing is
// animated (a preference of the reader's, a converter of pictures) the picture shows all lines at once.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "recording:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	flags := flag.NewFlagSet("recording", flag.ContinueOnError)
	out := flags.String("o", "recording.svg", "the `file` to write")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() == 0 {
		return errors.New("usage: recording -o FILE PROGRAM [ARGUMENTS]")
	}
	text, err := record(flags.Args())
	if err != nil {
		return err
	}
	shown := append([]string{filepath.Base(flags.Arg(0))}, flags.Args()[1:]...)
	return os.WriteFile(*out, []byte(draw(strings.Join(shown, " "), text)), 0o644)
}

// record runs a program on a new terminal and returns what it wrote there.
func record(command []string) (string, error) {
	terminal, program, err := openTerminal()
	if err != nil {
		return "", err
	}
	defer terminal.Close()
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = program, program, program
	cmd.Env = append(os.Environ(), "TERM=xterm-256color", "LANG=C.UTF-8", "NO_COLOR=")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	err = cmd.Start()
	program.Close()
	if err != nil {
		return "", err
	}
	text, err := io.ReadAll(terminal)
	if err != nil && !isHangUp(err) {
		return "", err
	}
	if err := cmd.Wait(); err != nil {
		return "", fmt.Errorf("%s: %w\n%s", strings.Join(command, " "), err, text)
	}
	return string(text), nil
}

// openTerminal returns the two ends of a pseudo terminal: the one that a terminal emulator has, and the one for the program.
func openTerminal() (terminal, program *os.File, err error) {
	terminal, err = os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		return nil, nil, err
	}
	fd := int(terminal.Fd())
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		err = unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 50, Col: 200}) // the lines are broken in draw
	}
	if err == nil {
		program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	}
	if err != nil {
		terminal.Close()
		return nil, nil, err
	}
	return terminal, program, nil
}
