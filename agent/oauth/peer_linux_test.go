package oauth

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
)

// Tables as the kernel of a little-endian machine writes them.
const table4 = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 100 1 0000000000000000 100 0 0 10 0
   1: 0100007F:1F90 0100007F:C350 %s 00000000:00000000 00:00000000 00000000  1000        0 101 1 0000000000000000 20 4 30 10 -1
   2: 0100007F:C350 0100007F:1F90 %s 00000000:00000000 00:00000000 00000000  %s        0 %s 1 0000000000000000 20 4 30 10 -1
   3: 0100007F:C351 0100007F:1F90 01 00000000:00000000 00:00000000 00000000  1002        0 103 1 0000000000000000 20 4 30 10 -1
 torn 0100007F:C350
`

// A client that uses an IPv6 socket for IPv4.
const table6 = `  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0000000000000000FFFF00000100007F:C350 0000000000000000FFFF00000100007F:1F90 01 00000000:00000000 00:00000000 00000000  1003        0 104 1 0000000000000000 20 4 30 10 -1
   1: 00000000000000000000000001000000:C350 00000000000000000000000001000000:1F90 01 00000000:00000000 00:00000000 00000000  1004        0 105 1 0000000000000000 20 4 30 10 -1
   2: 00000000000000000000000001000000:1F90 00000000000000000000000001000000:C350 01 00000000:00000000 00:00000000 00000000  1000        0 106 1 0000000000000000 20 4 30 10 -1
`

func TestReadTables(t *testing.T) {
	t.Parallel()
	if a, _ := address("0100007F:1F90"); a.Addr() != netip.MustParseAddr("127.0.0.1") {
		t.Skip("this machine writes its words in another order")
	}
	dir := t.TempDir()
	table := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	server, client := netip.MustParseAddrPort("127.0.0.1:8080"), netip.MustParseAddrPort("127.0.0.1:50000")
	absent := filepath.Join(dir, "absent")
	for name, test := range map[string]struct {
		server, client netip.AddrPort
		tables         []string
		uid            int
		err            error
	}{
		"found": {server, client, []string{table("a", fmt.Sprintf(table4, "01", "01", "1001", "102")), absent}, 1001,
			nil},
		"closed by the client":    {server, client, []string{table("b", fmt.Sprintf(table4, "08", "05", "0", "0"))}, 0, errHungUp},
		"closed, and ours is not": {server, client, []string{table("c", fmt.Sprintf(table4, "01", "06", "0", "0"))}, 0, errNotTold},
		"without a process":       {server, client, []string{table("d", fmt.Sprintf(table4, "01", "01", "0", "0"))}, 0, errNotTold},
		"no table":                {server, client, []string{absent}, 0, errNotTold},
		"another port": {server, netip.MustParseAddrPort("127.0.0.1:50002"),
			[]string{table("e", fmt.Sprintf(table4, "01", "01", "1001", "102"))}, 0, errNotTold},
		"by a socket of IPv6": {server, client, []string{table("f", table6)}, 1003, nil},
		"IPv6": {netip.MustParseAddrPort("[::1]:8080"), netip.MustParseAddrPort("[::1]:50000"),
			[]string{table("g", table6)}, 1004, nil},
	} {
		if uid, err := readTables(test.server, test.client, test.tables...); uid != test.uid || err != test.err {
			t.Errorf("%s: %d, %v; want %d, %v", name, uid, err, test.uid, test.err)
		}
	}
}

// What the kernel says about a connection that is open, and about one whose other end is closed.
func TestOwnerOf(t *testing.T) {
	t.Parallel()
	for _, network := range [][2]string{{"tcp4", "127.0.0.1:0"}, {"tcp6", "[::1]:0"}} {
		l, err := net.Listen(network[0], network[1])
		if err != nil {
			t.Logf("%s: %v", network[0], err)
			continue
		}
		defer l.Close()
		client, err := net.Dial(network[0], l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		server, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer server.Close()
		here, there := server.LocalAddr().(*net.TCPAddr).AddrPort(), server.RemoteAddr().(*net.TCPAddr).AddrPort()
		if uid, err := ownerOf(here, there); uid != os.Geteuid() || err != nil {
			t.Errorf("%s: %d, %v", network[0], uid, err)
		}
		client.Close()
		server.Read(make([]byte, 1)) // until the end has come
		if uid, err := ownerOf(here, there); err != errHungUp {
			t.Errorf("%s, closed: %d, %v", network[0], uid, err)
		}
	}
}
