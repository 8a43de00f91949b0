package oauthtest

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"strings"
	"time"
)

// Fault is how an endpoint misbehaves. Its fields combine. The zero Fault is good behaviour.
type Fault struct {
	Times int // how many requests it affects; 0: all, until the next SetFault

	Delay time.Duration // before the request is read, so before anything is rotated
	Lag   time.Duration // after that, before the answer

	// Drop ends the connection without an answer. Status, Header and Body replace the answer. Nothing is rotated then, unless
	// Rotate is set, as when the provider has rotated and its answer got lost.
	Drop   bool
	Status int
	Header map[string]string // Location, Retry-After, Content-Type ...
	Body   string
	Rotate bool

	Edit     func(reply map[string]any) // changes an answer before it is encoded: missing fields, wrong types
	Truncate bool                       // the connection ends after half of the answer
	Drip     time.Duration              // the answer comes byte by byte, with this pause
	Endless  bool                       // after the answer come blanks without end
}

// SetFault makes the token endpoint misbehave from the next request on. It replaces the fault that was set before.
func (s *Server) SetFault(f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = f
}

// SetFaultAt does the same for another endpoint, by its path: /authorize, /.well-known/openid-configuration. Some fields have no
// effect there: Lag, Rotate and Edit, and without a Body also Truncate, Drip and Endless.
func (s *Server) SetFaultAt(path string, f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults[path] = f
}

// Hits returns how many requests the endpoint at a path has had, answered or not.
func (s *Server) Hits(path string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hits[path]
}

// Sent returns the parameters of the last request at /authorize, /device or the token endpoint's path. It is nil where there was
// none. The values of one that was sent more than once are joined with blanks.
func (s *Server) Sent(path string) map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.sent[path])
}

// remember keeps what a request has sent, for Sent.
func (s *Server) remember(r *http.Request, params map[string]string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sent[r.URL.Path] = maps.Clone(params)
}

// faulty counts requests, and makes endpoints misbehave. The token endpoint handles its own faults.
func (s *Server) faulty(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.hits[r.URL.Path]++
		f := s.faults[r.URL.Path]
		if f.Times == 1 {
			delete(s.faults, r.URL.Path)
		} else if f.Times > 1 {
			left := f
			left.Times--
			s.faults[r.URL.Path] = left
		}
		s.mu.Unlock()
		if !f.wait(r.Context(), f.Delay) {
			return
		}
		if f.instead() {
			f.answer(w, r, http.StatusOK, nil)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// takeFault returns the fault for one request and counts the request.
func (s *Server) takeFault() Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts.Requests++
	f := s.fault
	if s.fault.Times > 0 {
		if s.fault.Times--; s.fault.Times == 0 {
			s.fault = Fault{}
		}
	}
	return f
}

// instead reports whether the fault replaces the endpoint's own answer.
func (f Fault) instead() bool { return f.Drop || f.Status != 0 || f.Body != "" }

// wait pauses. It reports false if the client has gone away meanwhile.
func (f Fault) wait(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// answer writes the reply, or what the fault makes of it.
func (f Fault) answer(w http.ResponseWriter, r *http.Request, status int, reply map[string]any) {
	if f.Drop {
		panic(http.ErrAbortHandler) // this is how net/http lets a handler end a connection
	}
	w.Header().Set("Content-Type", "application/json")
	for name, value := range f.Header {
		w.Header().Set(name, value)
	}
	body := f.Body
	if f.instead() {
		if f.Status != 0 {
			status = f.Status
		}
	} else {
		encoded, err := json.Marshal(edited(reply, f.Edit))
		if err != nil {
			encoded = nil // Edit put in something that JSON can't hold
		}
		body = string(encoded)
	}
	flush := http.NewResponseController(w).Flush
	switch {
	case f.Truncate:
		w.WriteHeader(status)
		w.Write([]byte(body[:len(body)/2]))
		flush()
		panic(http.ErrAbortHandler)
	case f.Drip > 0:
		w.WriteHeader(status)
		for i := range len(body) {
			if _, err := w.Write([]byte{body[i]}); err != nil || flush() != nil || !f.wait(r.Context(), f.Drip) {
				return
			}
		}
	case f.Endless:
		w.WriteHeader(status)
		blanks := []byte(strings.Repeat(" ", 64<<10))
		_, err := w.Write([]byte(body))
		for err == nil {
			_, err = w.Write(blanks)
		}
	default:
		w.WriteHeader(status)
		w.Write([]byte(body))
	}
}

// edited returns a copy of reply, changed by edit.
func edited(reply map[string]any, edit func(map[string]any)) map[string]any {
	if edit == nil || reply == nil {
		return reply
	}
	reply = maps.Clone(reply)
	edit(reply)
	return reply
}
