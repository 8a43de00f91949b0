package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/ccagent/ccagent/cmd/ccagent/session"
	"github.com/ccagent/ccagent/cmd/ccagent/terminal"
	"github.com/ccagent/ccagent/protocol"
)

func runtimeDir() string { return "/run/user/" + strconv.Itoa(os.Geteuid()) }

// networkOf returns the inode of the network namespace that this process is in.
func networkOf() (uint64, error) {
	var st unix.Stat_t
	err := unix.Stat("/proc/self/ns/net", &st)
	return st.Ino, err
}

// Check makes a sandbox once, with nothing in it but what is outside, to find out whether this machine allows it. Errors are
// ErrConfig where bubblewrap is missing or the tool could have replaced it, and ErrUnavailable where namespaces are forbidden.
func Check(ctx context.Context, o Options) error {
	bwrap, err := findBwrap(o.writable())
	if err != nil {
		return err
	}
	if filter() == nil {
		return &protocol.Error{Code: protocol.CodeUnavailable, Message: "no sandbox is known for this kind of processor",
			Hint: "run the tool without --sandbox"}
	}
	cmd := exec.CommandContext(ctx, bwrap, "--unshare-user", "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts",
		"--cap-drop", "ALL", "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "--", bwrap, "--version")
	said, err := cmd.CombinedOutput()
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err == nil:
		return nil
	case !errors.As(err, new(*exec.ExitError)):
		said = []byte(err.Error())
	}
	line, _, _ := strings.Cut(strings.TrimSpace(string(said)), "\n")
	return forbidden(readSetting, terminal.Sanitize(line))
}

// Become replaces this process by the sandbox with the tool in it. gateway is the socket of a gateway that waits for its
// listener. Become returns only if it failed.
func (s *Sandbox) Become(gateway *os.File) error {
	bwrap, err := findBwrap(s.writable)
	if err != nil {
		return err
	}
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return err
	}
	if s.inside.Network, err = networkOf(); err != nil {
		return err
	}
	// A Ctrl-C is for the tool. If bubblewrap ended by it, the kernel would kill the tool.
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGQUIT} {
		if signal.Ignored(sig) {
			s.inside.Ignored = append(s.inside.Ignored, int(sig))
		}
		signal.Ignore(sig)
	}
	told, err := json.Marshal(s.inside)
	if err != nil {
		return err
	}
	seccomp, err := inherited("filter", filter())
	if err != nil {
		return err
	}
	args, err := inherited("arguments", []byte(strings.Join(s.layout.arguments(self, seccomp), "\x00")+"\x00"))
	if err != nil {
		return err
	}
	plan, err := inherited("plan", told)
	if err != nil {
		return err
	}
	socket, err := unix.FcntlInt(gateway.Fd(), unix.F_DUPFD, 3)
	if err != nil {
		return err
	}
	return syscall.Exec(
		bwrap,
		[]string{"bwrap", "--args", fmt.Sprint(args), "--", initPath, "sandbox", "--plan", fmt.Sprint(plan),
			"--gateway", fmt.Sprint(socket)},
		s.vars,
	)
}

// inherited returns the number of a descriptor from which the programs that this process becomes read a text.
func inherited(name string, text []byte) (int, error) {
	fd, err := unix.MemfdCreate(name, 0)
	if err != nil {
		return 0, os.NewSyscallError("memfd_create", err)
	}
	for done := 0; done < len(text); {
		n, err := unix.Pwrite(fd, text[done:], int64(done))
		if err != nil {
			return 0, os.NewSyscallError("pwrite", err)
		}
		done += n
	}
	return fd, nil
}

// Enter is what the first program in the sandbox does: it looks around, makes the gateway's listener, and gives it to the
// gateway. plan and gateway are the descriptors that it was told. An error means that the tool must not be run.
func Enter(plan, gateway int) (Tool, error) {
	// Nothing that was open outside is for the tool, but its standard input and output.
	if err := unix.CloseRange(3, ^uint(0), unix.CLOSE_RANGE_CLOEXEC); err != nil {
		if err := closeOnExec(); err != nil {
			return Tool{}, err
		}
	}
	text := os.NewFile(uintptr(plan), "plan")
	defer text.Close()
	var told inside
	if err := json.NewDecoder(io.NewSectionReader(text, 0, 16<<20)).Decode(&told); err != nil {
		return Tool{}, fmt.Errorf("the plan of the sandbox can't be read: %w", err)
	}
	if err := told.look(); err != nil {
		return Tool{}, err
	}
	if err := os.MkdirAll(told.Runtime, 0o700); err != nil {
		return Tool{}, err
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return Tool{}, err
	}
	ready, err := session.Bring(os.NewFile(uintptr(gateway), "gateway"), l.(*net.TCPListener))
	if err != nil {
		return Tool{}, err
	}
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGQUIT} {
		signal.Notify(make(chan os.Signal, 1), sig) // what is caught is as usual in the program that this one becomes
	}
	for _, sig := range told.Ignored {
		signal.Ignore(syscall.Signal(sig))
	}
	return Tool{told.Program, told.Argv, ready}, nil
}

// closeOnExec marks all open files but the first three.
func closeOnExec() error {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if fd, err := strconv.Atoi(entry.Name()); err == nil && fd > 2 {
			unix.CloseOnExec(fd)
		}
	}
	return nil
}

// look returns an error if there is anything in the sandbox that must not be.
func (told inside) look() error {
	network, err := networkOf()
	if err != nil {
		return err
	}
	if network == told.Network {
		return open("its network is the one outside")
	}
	interfaces, err := net.Interfaces()
	if err != nil {
		return err
	}
	for _, i := range interfaces {
		if i.Flags&net.FlagLoopback == 0 {
			return open("its network has an interface " + i.Name)
		}
	}
	for _, p := range told.Hidden {
		if path := p.visible(); path != "" {
			return open(path + " is visible")
		}
	}
	for fd := range 3 {
		var st unix.Stat_t
		if unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR {
			return open("one of its first three open files is a folder outside")
		}
	}
	if n, err := capabilities(); err != nil || n != 0 {
		return open(fmt.Sprintf("it has rights of an administrator: %x, %v", n, err))
	}
	if mode, err := unix.PrctlRetInt(unix.PR_GET_SECCOMP, 0, 0, 0, 0); err != nil || mode != 2 {
		return open("its system calls are not filtered")
	}
	if err := os.WriteFile("/ccagent", nil, 0o600); !errors.Is(err, fs.ErrPermission) && !errors.Is(err, unix.EROFS) {
		return open("its root folder can be written")
	}
	return nil
}

// capabilities returns what this process may do beyond what its user may.
func capabilities() (uint64, error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	err := unix.Capget(&header, &data[0])
	return uint64(data[1].Permitted)<<32 | uint64(data[0].Permitted), err
}

// open is the error for a sandbox that is none.
func open(what string) error {
	return &protocol.Error{Code: protocol.CodeInternal, Message: "the sandbox is not closed, so the tool was not run: " + what,
		Hint: "please report it; what lies there may have come into being just now"}
}
