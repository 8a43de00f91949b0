package oauthtest

import (
	"fmt"
	"html"
	"net/http"
	"strings"
	"time"
)

// device is one attempt of the device flow (RFC 8628).
type device struct {
	userCode string
	expiry   time.Time
	grant    *grant
	verdict  string // "" until the person has decided, then an error code, or allowed
	slow     bool   // the next poll is answered with slow_down
}

const allowed = "allowed"

// DeviceURL is the device authorization endpoint.
func (s *Server) DeviceURL() string { return s.URL() + "/device" }

// Approve is the person who allows the attempt with a user code. Like the methods below it reports whether there is such an
// attempt.
func (s *Server) Approve(userCode string) bool {
	return s.decide(userCode, func(d *device) { d.verdict = allowed })
}

// Deny is the person who says no.
func (s *Server) Deny(userCode string) bool {
	return s.decide(userCode, func(d *device) { d.verdict = "access_denied" })
}

// Expire ends the time of the attempt.
func (s *Server) Expire(userCode string) bool {
	return s.decide(userCode, func(d *device) { d.expiry = time.Time{} })
}

// SlowDown makes the server answer the next poll with slow_down.
func (s *Server) SlowDown(userCode string) bool {
	return s.decide(userCode, func(d *device) { d.slow = true })
}

func (s *Server) decide(userCode string, change func(*device)) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range s.devices {
		if strings.EqualFold(d.userCode, strings.TrimSpace(userCode)) {
			change(d)
			return true
		}
	}
	return false
}

func (s *Server) serveDevice(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
	params := formOf(r)
	s.remember(r, params)
	if !s.authenticated(r, params) {
		writeJSON(w, http.StatusUnauthorized, map[string]any{"error": "invalid_client"})
		return
	}
	scopes := strings.Fields(params["scope"])
	if len(scopes) == 0 {
		scopes = defaultScopes
	}
	s.mu.Lock()
	s.serial++
	code, user := fmt.Sprintf("fake-device-%d", s.serial), fmt.Sprintf("FAKE-%04d", s.serial)
	s.devices[code] = &device{userCode: user, expiry: time.Now().Add(5 * time.Minute),
		grant: &grant{scopes: scopes, audience: audienceOf(params["audience"], params["resource"])}}
	s.mu.Unlock()
	writeJSON(w, http.StatusOK, map[string]any{
		"device_code": code, "user_code": user, "verification_uri": s.URL() + "/activate",
		"verification_uri_complete": s.URL() + "/activate?user_code=" + user, "expires_in": 300, "interval": 1,
	})
}

// poll answers for a device code (RFC 8628 section 3.5).
func (s *Server) poll(code string) (SignIn, string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts.Polls++
	d := s.devices[code]
	switch {
	case d == nil:
		return SignIn{}, "invalid_grant"
	case time.Now().After(d.expiry):
		return SignIn{}, "expired_token"
	case d.slow:
		d.slow = false
		return SignIn{}, "slow_down"
	case d.verdict == "":
		return SignIn{}, "authorization_pending"
	case d.verdict != allowed:
		return SignIn{}, d.verdict
	}
	delete(s.devices, code)
	return s.issue(d.grant), ""
}

func (s *Server) serveActivate(w http.ResponseWriter, r *http.Request) {
	showPage(w, http.StatusOK, "Enter the code", `<form method="post" action="/activate"><input name="user_code" value="`+
		html.EscapeString(
			r.URL.Query().Get("user_code"),
		)+`"> <button name="decision" value="allow" id="allow">Allow</button> <button name="decision" value="deny" id="deny">Deny</button></form>`)
}

func (s *Server) serveActivation(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
	decide := s.Approve
	if r.PostFormValue("decision") != "allow" {
		decide = s.Deny
	}
	if !decide(r.PostFormValue("user_code")) {
		showPage(w, http.StatusNotFound, "No such code", "<p>Check it, and enter it again.</p>")
		return
	}
	showPage(w, http.StatusOK, "Done", "<p>Go back to your terminal.</p>")
}
