package oauth

import (
	"context"
	"encoding/binary"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"
)

// Only a browser of the same user completes a sign-in without a question. Another user's answer is refused, and the sign-in
// goes on waiting.
func TestCallbackOfAnother(t *testing.T) {
	t.Parallel()
	other := os.Geteuid() + 1
	for _, test := range []struct {
		name     string
		uid      int
		err      error
		taken    bool
		unproven bool
		told     bool
	}{
		{"own", os.Geteuid(), nil, true, false, false},
		{"another user", other, nil, false, false, true},
		{"one who is gone", 0, errHungUp, false, false, false},
		{"one who can't be looked up", 0, errNotTold, true, true, false},
		{"one without a number here", overflowUID(), nil, true, os.Geteuid() != overflowUID(), false},
		{"root, for whomever", 0, nil, true, os.Geteuid() != 0, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.uid < 0 {
				t.Skip("this system has no such user")
			}
			t.Parallel()
			told := make(chan int, 4)
			l, a := listeningFor(t, func(uid int) { told <- uid }, func(server, client netip.AddrPort) (int, error) {
				if !server.Addr().IsLoopback() || client.Addr() != server.Addr() || client.Port() == server.Port() {
					t.Errorf("asked for %v to %v", client, server)
				}
				return test.uid, test.err
			})
			answer := l.RedirectURI() + "?code=fake-code-1&state=" + a.State
			ctx, cancel := context.WithCancel(t.Context())
			got := make(chan Callback, 1)
			go func() {
				if cb, err := l.Wait(ctx, a); err == nil {
					got <- cb
				}
				close(got)
			}()
			if !test.taken {
				for range 2 {
					resp, body := visit(t, http.MethodGet, answer, "")
					if resp.StatusCode != http.StatusForbidden || strings.Contains(body, "fake-code") {
						t.Errorf("%d: %s", resp.StatusCode, body)
					}
				}
				cancel()
				if cb, ok := <-got; ok {
					t.Errorf("taken: %+v", cb)
				}
			} else {
				page := make(chan int, 1)
				go func() {
					resp, _ := visit(t, http.MethodGet, answer, "")
					page <- resp.StatusCode
				}()
				cb := <-got
				if cb.Code.Reveal() != "fake-code-1" || cb.Unproven != test.unproven {
					t.Errorf("callback %+v", cb)
				}
				l.Finish(nil)
				if status := <-page; status != http.StatusOK {
					t.Errorf("status %d", status)
				}
				cancel()
			}
			close(told)
			var uids []int
			for uid := range told {
				uids = append(uids, uid)
			}
			if (len(uids) == 1) != test.told || len(uids) > 1 || test.told && uids[0] != other {
				t.Errorf("told of %v", uids)
			}
		})
	}
}

// What the system says about a browser of the same user.
func TestOwnCallback(t *testing.T) {
	t.Parallel()
	for _, host := range []string{"127.0.0.1", "localhost"} {
		l, err := Listen(host, 0, "", "work", func(uid int) { t.Errorf("user %d was refused", uid) })
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(l.Close)
		a, err := (&Client{AuthorizeURL: "https://sso.example.com/authorize", ClientID: "fake-client"}).Authorize(l.RedirectURI())
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		t.Cleanup(cancel)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			visit(t, http.MethodGet, l.RedirectURI()+"?code=fake-code-1&state="+a.State, "")
		}()
		cb, err := l.Wait(ctx, a)
		if err != nil || cb.Unproven && exists("/proc/net/tcp") {
			t.Errorf("%s: %+v, %v", host, cb, err)
		}
		l.Finish(nil)
		<-ended
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// pcb is the entry of one socket in the list of macOS.
func pcb(local, remote netip.AddrPort, uid uint32) []byte {
	record := func(kind uint32, size int) []byte {
		b := make([]byte, (size+7)&^7)
		binary.LittleEndian.PutUint32(b, uint32(size))
		binary.LittleEndian.PutUint32(b[4:], kind)
		return b
	}
	in := record(kindInpcb, 104)
	binary.BigEndian.PutUint16(in[16:], remote.Port())
	binary.BigEndian.PutUint16(in[18:], local.Port())
	from, to := remote.Addr().As16(), local.Addr().As16()
	copy(in[48:], from[:])
	copy(in[64:], to[:])
	if in[44] = 2; local.Addr().Is4() {
		in[44] = isIPv4
	}
	so := record(kindSocket, 76)
	binary.LittleEndian.PutUint32(so[64:], uid)
	list := append(in, so...)
	for _, kind := range []uint32{2, 4, 8} {
		list = append(list, record(kind, 52)...)
	}
	return append(list, record(0x20, 204)...)
}

func TestOwnerIn(t *testing.T) {
	t.Parallel()
	at := netip.MustParseAddrPort
	head := make([]byte, 24)
	head[0] = 24
	for _, ends := range [][2]netip.AddrPort{{at("127.0.0.1:8080"), at("127.0.0.1:50000")}, {at("[::1]:8080"), at("[::1]:50000")}} {
		server, client := ends[0], ends[1]
		elsewhere := netip.AddrPortFrom(server.Addr(), 50001)
		list := func(parts ...[]byte) []byte {
			all := append([]byte{}, head...)
			for _, p := range parts {
				all = append(all, p...)
			}
			return append(all, head...)
		}
		for name, test := range map[string]struct {
			list []byte
			uid  int
			err  error
		}{
			"found":              {list(pcb(elsewhere, server, 7), pcb(server, client, 501), pcb(client, server, 502)), 502, nil},
			"not there":          {list(pcb(elsewhere, server, 502), pcb(server, client, 501)), 0, errNotTold},
			"ours is not there":  {list(pcb(client, server, 502)), 0, errNotTold},
			"ours is not ours":   {list(pcb(server, client, 0), pcb(client, server, 502)), 0, errNotTold},
			"empty":              {nil, 0, errNotTold},
			"a head alone":       {head, 0, errNotTold},
			"cut off":            {list(pcb(client, server, 502), pcb(server, client, 501))[:500], 0, errNotTold},
			"a length of 0":      {append(append([]byte{}, head...), make([]byte, 100)...), 0, errNotTold},
			"a length too great": {append(append([]byte{}, head...), 0xff, 0xff, 0xff, 0xff, 0x10, 0, 0, 0), 0, errNotTold},
		} {
			if uid, err := ownerIn(test.list, server, client, 501); uid != test.uid || err != test.err {
				t.Errorf("%s, %v: %d, %v; want %d, %v", name, server, uid, err, test.uid, test.err)
			}
		}
	}
}
