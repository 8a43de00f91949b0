package oauth

import (
	"cmp"
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

// Loopback receives the redirect of one sign-in (RFC 8252 section 7.3). It is an HTTP server on the loopback interface, which
// answers the person's browser when the sign-in has ended, successfully or not. Use [Listen], then Wait, then Finish, then Close.
// The methods may be called concurrently.
type Loopback struct {
	host, port, path string
	profile          string
	listeners        []net.Listener
	server           http.Server

	attempt *Authorization // set by Wait
	ownerOf ownerFunc
	refused func(uid int)
	waiting chan struct{} // closed by Wait: a browser may be quicker than the caller
	arrived chan Callback
	ended   chan struct{} // closed by Finish

	mu    sync.Mutex
	first bool  // a callback has arrived
	rogue bool  // a callback of another user has arrived
	err   error // how the sign-in ended, set before ended is closed
}

// DefaultRedirectPath is the path that providers send the browser to where the configuration names no other.
const DefaultRedirectPath = "/callback"

// maxTries is how many ports we try that are free on 127.0.0.1 and taken on ::1, before we give up.
const maxTries = 16

// lastPage is how much time Close gives a browser to fetch the last page.
const lastPage = 2 * time.Second

// Listen opens a port for redirects to http://host:port/path. host is 127.0.0.1, or localhost for a client that is registered
// with that name; for localhost it listens on ::1 as well. Port 0 is any free port (RFC 8252 section 7.3). path is as it is
// registered at the provider, and "" means [DefaultRedirectPath]. profile is shown on the page. An answer that another user of
// this machine brings is not taken. At the first such answer Listen calls refused, if that is not nil, with the user's id. It
// fails with ErrConfig, also where the port is taken.
func Listen(host string, port int, path, profile string, refused func(uid int)) (*Loopback, error) {
	return listen(host, port, path, profile, refused, ownerOf)
}

// listen is Listen with the function that looks up which user is at the other end of a connection.
func listen(host string, port int, path, profile string, refused func(int), ownerOf ownerFunc) (*Loopback, error) {
	if host == "" {
		host = "127.0.0.1"
	}
	if host != "127.0.0.1" && host != "localhost" {
		return nil, &protocol.Error{
			Code:    protocol.CodeConfig,
			Message: fmt.Sprintf("redirect_host is %q", printable(host)),
			Hint:    "it must be 127.0.0.1 or localhost",
		}
	}
	listeners, err := loopback4And6(host, port)
	if err != nil {
		e := &protocol.Error{
			Code:    protocol.CodeConfig,
			Message: fmt.Sprintf("port %d can't be opened for the browser's answer: %s", port, cause(err)),
		}
		if errors.Is(err, syscall.EADDRINUSE) {
			e.Message = fmt.Sprintf("port %d, which the browser's answer comes to, is taken by another program", port)
			e.Hint = "is another sign-in running? end it, or set redirect_port to another port that the provider knows"
		}
		return nil, e
	}
	_, actual, _ := net.SplitHostPort(listeners[0].Addr().String())
	l := &Loopback{
		host: host, port: actual, path: cmp.Or(path, DefaultRedirectPath), profile: profile,
		listeners: listeners, ownerOf: ownerOf, refused: refused,
		waiting: make(chan struct{}), arrived: make(chan Callback, 1), ended: make(chan struct{}),
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

// loopback4And6 listens on 127.0.0.1, and for host localhost on the same port of ::1 as well, which a browser may try first. On a
// machine without ::1 it listens on 127.0.0.1 alone. If another program has the port on ::1, that program would get the code.
// Then it takes another port, and fails where the port is configured.
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

// RedirectURI is the address that the provider must send the browser to.
func (l *Loopback) RedirectURI() string {
	return "http://" + net.JoinHostPort(l.host, l.port) + l.path
}

// RedirectURI is the address that the provider must send the browser to if [Listen] is called with the same host, port and path.
func RedirectURI(host string, port int, path string) string {
	return "http://" + net.JoinHostPort(cmp.Or(host, "127.0.0.1"), strconv.Itoa(port)) + cmp.Or(path, DefaultRedirectPath)
}

// Wait returns the first callback for an attempt, also one that came before Wait was called. It fails with ctx's error. Call it
// once.
func (l *Loopback) Wait(ctx context.Context, a *Authorization) (Callback, error) {
	l.attempt = a
	close(l.waiting)
	select {
	case cb := <-l.arrived:
		return cb, nil
	case <-ctx.Done():
		return Callback{}, ctx.Err()
	}
}

// Finish tells how the sign-in ended. The page that the browser waits for shows it, and so does every later one.
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

// Close ends the server. It gives a browser that is just fetching the page a moment to do so.
func (l *Loopback) Close() {
	l.Finish(&protocol.Error{Code: protocol.CodeLogin, Message: "the sign-in was given up", Hint: "start again where you began it"})
	ctx, cancel := context.WithTimeout(context.Background(), lastPage)
	defer cancel()
	if l.server.Shutdown(ctx) != nil {
		l.server.Close()
	}
	for _, listener := range l.listeners {
		listener.Close() // in case Serve had not started yet
	}
}

// ServeHTTP answers the browser.
func (l *Loopback) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case !l.local(r.Host):
		// DNS rebinding: a web site's own name may be made to lead here, and the browser would let that site read our pages.
		l.show(w, http.StatusForbidden, page{Title: "Not here", Text: "This page is only served under this machine's own name."})
		return
	case r.URL.Path != l.path:
		l.show(w, http.StatusNotFound,
			page{Title: "Nothing here", Text: "A sign-in is running at this address, and this page is not a part of it."})
		return
	case r.Method != http.MethodGet:
		w.Header().Set("Allow", http.MethodGet)
		l.show(w, http.StatusMethodNotAllowed, page{Title: "Nothing here", Text: "The answer to a sign-in must come with GET."})
		return
	}
	select {
	case <-l.waiting:
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
				Hint: "If you brought it, paste the address of this page where ccagent login waits."},
		)
		return
	case unknownPeer:
		cb.Unproven = true
	}
	if !l.take(cb) {
		if cb.State == "" && cb.Error != "" { // anybody could have sent it, so it does not end the sign-in
			l.show(w, http.StatusBadRequest, page{
				Title: "You are not signed in", Bad: true,
				Text: "The provider says " + strings.TrimSuffix(printable(cb.Error)+": "+printable(cb.ErrorDescription), ": ") + ".",
				Hint: "It does not say for which sign-in, so ccagent login still waits. End it with Ctrl-C if this is the answer to it.",
			})
			return
		}
		l.show(
			w,
			http.StatusBadRequest,
			page{Title: "Another sign-in", Text: "This answer does not belong to the sign-in that is running.",
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
	l.show(w, http.StatusOK,
		page{Title: "You are signed in", Text: "ccagent has your sign-in, and renews it from now on. You may close this page."})
}

// take passes on the first callback of this attempt, and reports whether cb belongs to it.
func (l *Loopback) take(cb Callback) bool {
	select {
	case <-l.waiting:
	default:
		return false // the sign-in ended before Wait was called
	}
	if !l.attempt.hasState(cb.State) {
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

// refuse reports the first answer of another user. It takes a negative uid for a user who is not known.
func (l *Loopback) refuse(uid int) {
	l.mu.Lock()
	first := uid >= 0 && !l.rogue
	l.rogue = l.rogue || first
	l.mu.Unlock()
	if first && l.refused != nil {
		l.refused(uid)
	}
}

// local reports whether a Host header names this machine, and our port.
func (l *Loopback) local(host string) bool {
	name, port, err := net.SplitHostPort(host)
	if err != nil || port != l.port {
		return false
	}
	return secureurl.Loopback(name)
}

// cause names the reason for which a port could not be opened.
func cause(err error) string {
	var number syscall.Errno
	if errors.As(err, &number) {
		return number.Error()
	}
	return "the address can't be used"
}
