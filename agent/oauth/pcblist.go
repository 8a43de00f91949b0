package oauth

import (
	"encoding/binary"
	"net/netip"
)

// macOS lists its TCP sockets in net.inet.tcp.pcblist_n (struct xinpgen, xinpcb_n, xsocket_n and xtcpcb_n in xnu's
// netinet/in_pcb.h, sys/socketvar.h and netinet/tcp_var.h). The list begins with a header. After it come several records for each
// socket. Each record begins with its length and its kind, and is padded to a multiple of 8 bytes. So far fields have only been
// added at the end of a record.
const (
	kindSocket = 0x001 // xsocket_n: the user's id at byte 64
	kindInpcb  = 0x010 // xinpcb_n: ports at bytes 16 and 18, the IP version at 44, addresses at 48 and 64
	isIPv4     = 0x1   // INP_IPV4
)

// ownerIn finds in the list which user has the client's end of a connection. own is the user who has the server's end. If the
// list does not say so, it can't be read as we expect, and the result is errNotTold.
func ownerIn(list []byte, server, client netip.AddrPort, own int) (int, error) {
	found, open := -1, false
	var local, remote netip.AddrPort
	for rest := skip(list); len(rest) >= 8; rest = skip(rest) {
		record := rest[:min(int(binary.LittleEndian.Uint32(rest)), len(rest))]
		switch kind := binary.LittleEndian.Uint32(rest[4:]); {
		case kind == kindInpcb && len(record) >= 80: // the first record of a socket
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
		return 0, errNotTold
	}
	return found, nil
}

// skip cuts off the first record. It returns nil where the record's length can't be right.
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

// end reads one end of a connection: a port in network order, and 16 bytes for the address, of which IPv4 uses the last 4.
func end(record []byte, port, addr int) netip.AddrPort {
	host := netip.AddrFrom16([16]byte(record[addr : addr+16]))
	if record[44]&isIPv4 != 0 {
		host = netip.AddrFrom4([4]byte(record[addr+12 : addr+16]))
	}
	return plainAddr(netip.AddrPortFrom(host, binary.BigEndian.Uint16(record[port:])))
}
