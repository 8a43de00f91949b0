package oauth

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/secureurl"
)

// Loopback receives the redirect of one sign-in (RFC 8252 section 7.3): an HTTP server on the loopback interface that
// answers the person's browser once the sign-in has ended, well or not. Use [Listen], then Wait, then Finish, then Close. Its
// methods may be called concurrently.
type Loopback struct {
	host, port string
	profile    string
	listeners  []net.Listener
	server     http.Server

	want    *Authorization
	ownerOf ownerFunc
	refused func(uid int)
	begun   chan struct{} // closed by Wait: a browser may be quicker than the caller
	arrived chan Callback
	ended   chan struct{} // closed by Finish

	mu    sync.Mutex
	first bool  // a callback has arrived
	rogue bool  // another user's has
	err   error // how it ended, set before ended is closed
}

// callbackPath is where providers send the browser to.
const callbackPath = "/callback"

// maxTries is how many ports that are free on 127.0.0.1 may be taken on ::1 before that is an error.
const maxTries = 16

// lastPage is how long Close leaves a browser to fetch the page.
const lastPage = 2 * time.Second

// Listen opens a port for redirects to http://host:port/callback. host is 127.0.0.1, or localhost for a client that is
// registered so, which is then heard on ::1 too. Port 0 is any that is free (RFC 8252 section 7.3). profile is shown on the
// page. refused, if not nil, is called at the first answer that another user of this machine brings, with his uid: such an answer
// is not taken. It fails with ErrConfig, also when the port is taken.
func Listen(host string, port int, profile string, refused func(uid int)) (*Loopback, error) {
	return listen(host, port, profile, refused, ownerOf)
}

// listen has ownerOf look up who is at the other end of a connection.
func listen(host string, port int, profile string, refused func(int), ownerOf ownerFunc) (*Loopback, error) {
	if host == "" {
		host = "127.0.0.1"
	}
	if host != "127.0.0.1" && host != "localhost" {
		return nil, &protocol.Error{
			Code:    protocol.CodeConfig,
			Message: fmt.Sprintf("redirect_host is %q", clean(host, nil)),
			Hint:    "it is 127.0.0.1 or localhost",
		}
	}
	listeners, err := loopback4And6(host, port)
	if err != nil {
		e := &protocol.Error{
			Code:    protocol.CodeConfig,
			Message: fmt.Sprintf("port %d can't be opened for the browser's answer: %s", port, cause(err)),
		}
		if errors.Is(err, syscall.EADDRINUSE) {
			e.Message = fmt.Sprintf("port %d, where the browser's answer comes to, is taken by another program", port)
			e.Hint = "is another sign-in under way? end it, or set redirect_port to one that the provider knows; or use: ccagent login " +
				"--no-browser"
		}
		return nil, e
	}
	_, actual, _ := net.SplitHostPort(listeners[0].Addr().String())
	l := &Loopback{
		host: host, port: actual, profile: profile, listeners: listeners, ownerOf: ownerOf, refused: refused,
		begun: make(chan struct{}), arrived: make(chan Callback, 1), ended: make(chan struct{}),
	}
	l.server = http.Server{
		Handler:           l,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		IdleTimeout:       5 * time.Second,
		MaxHeaderBytes:    32 << 10,
		ErrorLog:          silent,
	}
	for _, listener := range l.listeners {
		go l.server.Serve(listener) // ends with Close
	}
	return l, nil
}

// loopback4And6 listens on 127.0.0.1, and for host localhost on the same port of ::1: a browser may try that one first. Where
// there is no ::1 it goes on to 127.0.0.1. Where another program has the port there, the code would be that program's, so
// another port is taken, and one that is configured is an error.
func loopback4And6(host string, port int) ([]net.Listener, error) {
	for tries := 0; ; tries++ {
		first, err := net.Listen("tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil || host != "localhost" {
			return []net.Listener{first}, err
		}
		second, err := net.Listen("tcp6", net.JoinHostPort("::1", strconv.Itoa(first.Addr().(*net.TCPAddr).Port)))
		switch {
		case err == nil:
			return []net.Listener{first, second}, nil
		case !errors.Is(err, syscall.EADDRINUSE):
			return []net.Listener{first}, nil
		}
		first.Close()
		if port != 0 || tries == maxTries {
			return nil, err
		}
	}
}

// RedirectURI is where the provider is to send the browser.
func (l *Loopback) RedirectURI() string {
	return "http://" + net.JoinHostPort(l.host, l.port) + callbackPath
}

// Wait returns the first callback to a, also one that came before Wait was called. It fails with ctx's error. It is called
// once.
func (l *Loopback) Wait(ctx context.Context, a *Authorization) (Callback, error) {
	l.want = a
	close(l.begun)
	select {
	case cb := <-l.arrived:
		return cb, nil
	case <-ctx.Done():
		return Callback{}, ctx.Err()
	}
}

// Finish says how the sign-in ended, which whoever waits for the page is shown, and whoever comes after.
func (l *Loopback) Finish(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.ended:
	default:
		l.err = err
		close(l.ended)
	}
}

// Close ends the server after the pages under way, for which it waits a moment.
func (l *Loopback) Close() {
	l.Finish(&protocol.Error{Code: protocol.CodeLogin, Message: "the sign-in was given up", Hint: "start it again: ccagent login"})
	ctx, cancel := context.WithTimeout(context.Background(), lastPage)
	defer cancel()
	if l.server.Shutdown(ctx) != nil {
		l.server.Close()
	}
	for _, listener := range l.listeners {
		listener.Close() // one that Serve had not taken yet
	}
}

// ServeHTTP answers the browser.
func (l *Loopback) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case !l.local(r.Host):
		// A name of somebody else's that leads here would make their page one of ours (DNS rebinding).
		l.show(w, http.StatusForbidden, page{Title: "Not here", Text: "This address answers to this machine's own name only."})
		return
	case r.URL.Path != callbackPath:
		l.show(
			w,
			http.StatusNotFound,
			page{Title: "Nothing here", Text: "A sign-in is under way at this address, and this is not a part of it."},
		)
		return
	case r.Method != http.MethodGet:
		w.Header().Set("Allow", http.MethodGet)
		l.show(w, http.StatusMethodNotAllowed, page{Title: "Nothing here", Text: "A sign-in's answer comes with GET."})
		return
	}
	select {
	case <-l.begun:
	case <-l.ended:
	case <-r.Context().Done():
		return
	}
	cb := callbackOf(r.URL.Query())
	switch who, uid := l.peerOf(r); who {
	case otherPeer:
		l.refuse(uid)
		l.show(
			w,
			http.StatusForbidden,
			page{Title: "Another user", Text: "This answer came from another user of this machine, so it was not taken.",
				Hint: "If it is yours, paste the address of this page where ccagent login waits."},
		)
		return
	case unknownPeer:
		cb.Unproven = true
	}
	if !l.take(cb) {
		l.show(
			w,
			http.StatusBadRequest,
			page{Title: "Another sign-in", Text: "This answer does not belong to the sign-in that is under way.",
				Hint: "Use the address that ccagent login printed last. The sign-in still waits for it."},
		)
		return
	}
	select {
	case <-l.ended:
	case <-r.Context().Done():
		return
	}
	if l.err != nil {
		what, hint := protocol.Explain(l.err), ""
		what, hint, _ = strings.Cut(what, "\n")
		l.show(w, http.StatusOK, page{Title: "You are not signed in", Bad: true, Text: strings.TrimPrefix(what, "ccagent: "),
			Hint: strings.TrimSpace(strings.ReplaceAll(hint, "hint: ", ""))})
		return
	}
	l.show(
		w,
		http.StatusOK,
		page{Title: "You are signed in", Text: "ccagent has your sign-in and renews it from now on. You may close this page."},
	)
}

// take passes the first callback of this attempt on, and reports whether cb is of this attempt.
func (l *Loopback) take(cb Callback) bool {
	select {
	case <-l.begun:
	default:
		return false // given up before it began
	}
	if !l.want.answers(cb.State) {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.first {
		l.first = true
		l.arrived <- cb
	}
	return true
}

// refuse says once that another user brought an answer.
func (l *Loopback) refuse(uid int) {
	l.mu.Lock()
	first := uid >= 0 && !l.rogue
	l.rogue = l.rogue || first
	l.mu.Unlock()
	if first && l.refused != nil {
		l.refused(uid)
	}
}

// local reports whether a Host header names this machine.
func (l *Loopback) local(host string) bool {
	name, port, err := net.SplitHostPort(host)
	if err != nil || port != l.port {
		return false
	}
	return secureurl.Loopback(name)
}

func cause(err error) string {
	var number syscall.Errno
	if errors.As(err, &number) {
		return number.Error()
	}
	return "the address can't be used"
}
