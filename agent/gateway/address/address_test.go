package address

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
)

// TestCheck: which addresses may be dialled, in every spelling that leads to them.
func TestCheck(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		from      Reach // the first that may dial it
		addresses string
	}{
		{Public, "8.8.8.8 1.1.1.1 172.32.0.1 172.15.0.1 11.0.0.1 192.167.0.1 192.169.0.1 100.63.0.1 100.128.0.1 169.253.0.1 " +
			"126.0.0.1 223.0.0.1 2606:4700::1 2a00::1 2400::1 ::ffff:8.8.8.8 64:ff9b::8.8.8.8 2002:808:808::1"},
		{Private, "10.0.0.1 10.255.255.255 172.16.0.1 172.31.255.255 192.168.0.1 100.64.0.1 100.127.255.255 fc00::1 fdff::1 " +
			"::ffff:10.0.0.1 ::ffff:192.168.1.1 64:ff9b::10.0.0.1 64:ff9b:1::10.0.0.1 2002:a00:1::1 ::10.0.0.1"},
		{Loopback, "127.0.0.1 127.1.2.3 ::1 ::ffff:127.0.0.1 64:ff9b::127.0.0.1 2002:7f00:1::1"},
		{never, "169.254.169.254 169.254.0.1 ::ffff:169.254.169.254 64:ff9b::169.254.169.254 2002:a9fe:a9fe::1 ::169.254.169.254 " +
			"fd00:ec2::254 fd20:ce::254 100.100.100.200 168.63.129.16 192.0.0.192 0.0.0.0 0.1.2.3 :: fe80::1 fe80::1%eth0 fec0::1 " +
			"224.0.0.1 255.255.255.255 240.0.0.1 ff02::1 192.0.2.1 198.18.0.1 198.51.100.1 203.0.113.1 2001::1 2001:db8::1"},
	} {
		for address := range strings.FieldsSeq(tt.addresses) {
			addr := netip.MustParseAddr(address)
			for reach := Public; reach <= Loopback; reach++ {
				if err := Check(addr, reach); (err == nil) != (reach >= tt.from) || err != nil && !errors.Is(err, ErrRefused) ||
					errors.Is(err, ErrPrivate) != (err != nil && tt.from == Private) {
					t.Errorf("%s with reach %d: %v", address, reach, err)
				}
			}
		}
	}
}

// TestDialer: a connection is made where the address may be dialled, and refused by the address that a name has, not by the name.
func TestDialer(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	conn, err := Dialer(Loopback).DialContext(t.Context(), "tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	for _, host := range []string{"127.0.0.1", "localhost", "::ffff:127.0.0.1", "0.0.0.0"} {
		conn, err := Dialer(Private).DialContext(t.Context(), "tcp", net.JoinHostPort(host, port))
		if !errors.Is(err, ErrRefused) {
			t.Errorf("%s: connected %v, error %v", host, conn != nil, err)
		}
	}
}
