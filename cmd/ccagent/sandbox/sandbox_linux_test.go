package sandbox

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// judge runs the filter for a system call, as the kernel does.
func judge(t *testing.T, audit, number, argument1 uint32) uint32 {
	t.Helper()
	text := filter()
	var loaded uint32
	for at := 0; ; at++ {
		op := text[8*at : 8*at+8]
		code, yes, no, k := binary.NativeEndian.Uint16(op), int(op[2]), int(op[3]), binary.NativeEndian.Uint32(op[4:])
		holds := false
		switch code {
		case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
			loaded = map[uint32]uint32{0: number, 4: audit, 24: argument1}[k]
			continue
		case unix.BPF_RET | unix.BPF_K:
			return k
		case unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K:
			holds = loaded == k
		case unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K:
			holds = loaded >= k
		default:
			t.Fatalf("instruction %d is %x", at, code)
		}
		if holds {
			at += yes
		} else {
			at += no
		}
	}
}

func TestFilter(t *testing.T) {
	t.Parallel()
	const allow = unix.SECCOMP_RET_ALLOW
	for _, m := range machines() {
		for number := range uint32(500) {
			refused := number == m.keys[0] || number == m.keys[1] || number == m.keys[2]
			if got := judge(t, m.audit, number, unix.TIOCGWINSZ); (got != allow) != refused {
				t.Errorf("machine %x, call %d: %x", m.audit, number, got)
			}
			refused = refused || number == m.ioctl
			for _, request := range []uint32{unix.TIOCSTI, unix.TIOCLINUX} {
				if got := judge(t, m.audit, number, request); (got != allow) != refused {
					t.Errorf("machine %x, call %d, request %x: %x", m.audit, number, request, got)
				}
			}
		}
		if m.foreign > 0 && judge(t, m.audit, m.foreign|514, 0) == allow {
			t.Errorf("machine %x: calls of another are let through", m.audit)
		}
	}
	if judge(t, 0xfe, 1, 0) == allow {
		t.Error("calls of an unknown machine are let through")
	}
	if m := machines()[0]; m.ioctl != unix.SYS_IOCTL || m.keys[0] != unix.SYS_ADD_KEY ||
		m.keys[1] != unix.SYS_REQUEST_KEY || m.keys[2] != unix.SYS_KEYCTL {
		t.Errorf("the numbers of this machine are %+v", m)
	}
}

// TestLook: the checks within see this process for what it is, which is in no sandbox.
func TestLook(t *testing.T) {
	t.Parallel()
	network, err := networkOf()
	if err != nil {
		t.Fatal(err)
	}
	if err := (inside{Network: network}).look(); err == nil || !strings.Contains(err.Error(), "its network is the one outside") {
		t.Errorf("the network outside: %v", err)
	}
	dir := t.TempDir()
	if p := place(literal(dir)); p.visible() != "" {
		t.Error("an empty folder counts")
	}
	if p := place(dir + "/none"); p.visible() != "" {
		t.Error("what is not there counts")
	}
	if err := os.WriteFile(filepath.Join(dir, "key"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, p := range []place{place(dir), place(dir + "/k*"), place(dir + "/key")} {
		if p.visible() == "" {
			t.Errorf("%s is not seen", p)
		}
	}
}
