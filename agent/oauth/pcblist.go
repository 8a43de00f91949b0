package oauth

import (
	"encoding/binary"
	"net/netip"
)

// What macOS lists of its TCP sockets (net.inet.tcp.pcblist_n; struct xinpgen, xinpcb_n, xsocket_n and xtcpcb_n of xnu's
// netinet/in_pcb.h, sys/socketvar.h and netinet/tcp_var.h): a head, and for each socket some records one after the other, each of
// which begins with its length and its kind, and is filled up to 8 bytes. Fields were only ever added at the end of a record.
const (
	kindSocket = 0x001 // xsocket_n: the user at 64
	kindInpcb  = 0x010 // xinpcb_n: ports at 16 and 18, the version at 44, addresses at 48 and 64
	isIPv4     = 0x1   // INP_IPV4
)

// ownerIn finds in the list the user who has the client's end of a connection whose server's end is own's. The latter must be
// there: where it is not, the list is none that can be read here.
func ownerIn(list []byte, server, client netip.AddrPort, own int) (int, error) {
	found, open := -1, false
	var local, remote netip.AddrPort
	for rest := skip(list); len(rest) >= 8; rest = skip(rest) {
		record := rest[:min(int(binary.LittleEndian.Uint32(rest)), len(rest))]
		switch kind := binary.LittleEndian.Uint32(rest[4:]); {
		case kind == kindInpcb && len(record) >= 80: // the first of a socket's
			remote, local = end(record, 16, 48), end(record, 18, 64)
		case kind == kindSocket && len(record) >= 68:
			uid := int(binary.LittleEndian.Uint32(record[64:]))
			switch {
			case local == client && remote == server:
				found = uid
			case local == server && remote == client:
				open = uid == own
			}
			local, remote = netip.AddrPort{}, netip.AddrPort{}
		}
	}
	if found < 0 || !open {
		return 0, errUntold
	}
	return found, nil
}

// skip cuts off the first record; what is left is empty where it has no length.
func skip(list []byte) []byte {
	if len(list) < 4 {
		return nil
	}
	size := uint64(binary.LittleEndian.Uint32(list))
	size = (size + 7) &^ 7
	if size == 0 || size > uint64(len(list)) {
		return nil
	}
	return list[size:]
}

// end is one end of a connection: a port in network order, and 16 bytes for the address, of which IPv4 takes the last 4.
func end(record []byte, port, addr int) netip.AddrPort {
	host := netip.AddrFrom16([16]byte(record[addr : addr+16]))
	if record[44]&isIPv4 != 0 {
		host = netip.AddrFrom4([4]byte(record[addr+12 : addr+16]))
	}
	return plainAddr(netip.AddrPortFrom(host, binary.BigEndian.Uint16(record[port:])))
}
