package sandbox

import (
	"bytes"
	"encoding/binary"
	"runtime"

	"golang.org/x/sys/unix"
)

// machine is one of the machines whose system calls a kernel knows, with their numbers there.
type machine struct {
	audit   uint32 // AUDIT_ARCH_*
	ioctl   uint32
	keys    []uint32 // add_key, request_key, keyctl
	foreign uint32   // numbers from here on are those of another machine, none of which is let through; 0: there are none
}

// machines returns those of which a process may choose one at each call; nil where they are not known.
func machines() []machine {
	i386 := machine{unix.AUDIT_ARCH_I386, 54, []uint32{286, 287, 288}, 0}
	arm := machine{unix.AUDIT_ARCH_ARM, 54, []uint32{309, 310, 311}, 0}
	switch runtime.GOARCH {
	case "amd64": // its foreign numbers are those of x32
		return []machine{{unix.AUDIT_ARCH_X86_64, 16, []uint32{248, 249, 250}, 0x40000000}, i386}
	case "386":
		return []machine{i386}
	case "arm64":
		return []machine{{unix.AUDIT_ARCH_AARCH64, 29, []uint32{217, 218, 219}, 0}, arm}
	case "arm":
		return []machine{arm}
	case "riscv64":
		return []machine{{unix.AUDIT_ARCH_RISCV64, 29, []uint32{217, 218, 219}, 0}}
	}
	return nil
}

// filter returns the program that judges the system calls of a tool (seccomp(2)); nil where this machine is not known. It
// refuses what types into the terminal (TIOCSTI, TIOCLINUX), which a shell outside would run, and the kernel's keyrings, which no
// namespace closes.
func filter() []byte {
	known := machines()
	if known == nil {
		return nil
	}
	// Where the fields of struct seccomp_data are. The lower half of an argument comes first on all these machines.
	const number, audit, argument1 = 0, 4, 24
	const allow, refuse = unix.SECCOMP_RET_ALLOW, unix.SECCOMP_RET_ERRNO
	var program []unix.SockFilter
	load := func(at uint32) {
		program = append(program, unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: at})
	}
	answer := func(k uint32) { program = append(program, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: k}) }
	jump := func(test uint16, k uint32, yes, no uint8) {
		program = append(program, unix.SockFilter{Code: unix.BPF_JMP | test | unix.BPF_K, Jt: yes, Jf: no, K: k})
	}
	for _, m := range known {
		start := len(program)
		load(audit)
		jump(unix.BPF_JEQ, m.audit, 0, 0) // mended below
		load(number)
		if m.foreign > 0 {
			jump(unix.BPF_JGE, m.foreign, 0, 1)
			answer(refuse | uint32(unix.ENOSYS))
		}
		for _, key := range m.keys {
			jump(unix.BPF_JEQ, key, 0, 1)
			answer(refuse | uint32(unix.EPERM))
		}
		jump(unix.BPF_JEQ, m.ioctl, 1, 0)
		answer(allow)
		load(argument1)
		for _, request := range []uint32{unix.TIOCSTI, unix.TIOCLINUX} {
			jump(unix.BPF_JEQ, request, 0, 1)
			answer(refuse | uint32(unix.EPERM))
		}
		answer(allow)
		program[start+1].Jf = uint8(len(program) - start - 2)
	}
	answer(refuse | uint32(unix.ENOSYS)) // another machine
	var text bytes.Buffer
	binary.Write(&text, binary.NativeEndian, program) // it can't fail: the struct has no padding
	return text.Bytes()
}
