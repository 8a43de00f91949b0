package oauthtest

import (
	"cmp"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"html"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/ccagent/ccagent/secureurl"
)

// attempt is what an authorization code was issued for.
type attempt struct {
	redirectURI, challenge, nonce, clientID string
	grant                                   *grant
	spent                                   bool
}

// AuthorizeURL is the authorize endpoint (RFC 6749 section 4.1.1). It wants PKCE S256. It redirects to any port of the loopback
// interface (RFC 8252 section 7.3), or to PasteURL.
func (s *Server) AuthorizeURL() string { return s.URL() + "/authorize" }

// PasteURL is a page that shows the code for copying, as CODE#STATE.
func (s *Server) PasteURL() string { return s.URL() + "/paste" }

// redirectable reports whether the server redirects to an address.
func (s *Server) redirectable(raw string) bool {
	u, err := url.Parse(raw)
	if err != nil || raw == s.PasteURL() {
		return err == nil
	}
	return u.Scheme == "http" && u.Path == cmp.Or(s.RedirectPath, "/callback") && secureurl.Loopback(u.Hostname())
}

// authorizeError returns what is wrong with an authorize request: the text of a page, where nobody must be redirected, or an
// error code for the redirect. Both are "" where nothing is wrong.
func (s *Server) authorizeError(q url.Values) (page, code string) {
	client := s.registered(q.Get("client_id"))
	switch {
	case s.Registers && client == nil:
		return "This client is not known.", ""
	case client != nil && !slices.Contains(client.redirects, q.Get("redirect_uri")):
		return "This redirect_uri is not registered.", ""
	case q.Get("client_id") == "" || s.ClientID != "" && q.Get("client_id") != s.ClientID:
		return "This client is not known.", ""
	case !s.redirectable(q.Get("redirect_uri")):
		return "This redirect_uri is not registered.", ""
	case q.Get("response_type") != "code":
		return "", "unsupported_response_type"
	case q.Get("code_challenge_method") != "S256" || len(q.Get("code_challenge")) != 43 || q.Get("state") == "":
		return "", "invalid_request"
	}
	return "", ""
}

func (s *Server) serveAuthorize(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	s.remember(r, joined(q))
	page, code := s.authorizeError(q)
	switch {
	case page != "":
		showPage(w, http.StatusBadRequest, "Refused", "<p>"+html.EscapeString(page)+"</p>")
	case code != "":
		s.redirect(w, r, q, url.Values{"error": {code}})
	case !s.Ask:
		s.consent(w, r, q)
	default:
		fields := ""
		for name, values := range q {
			for _, value := range values {
				fields += fmt.Sprintf(`<input type="hidden" name="%s" value="%s">`, html.EscapeString(name), html.EscapeString(value))
			}
		}
		showPage(
			w,
			http.StatusOK,
			"Sign in to the example provider",
			`<p>May <b>`+html.EscapeString(q.Get("client_id"))+`</b> act as <b>alice@example.com</b>?</p>
<form method="post" action="/authorize">`+fields+`<button name="decision" value="allow" id="allow">Allow</button> <button name="decision" value="deny" id="deny">Deny</button></form>`,
		)
	}
}

func (s *Server) serveConsent(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
	r.ParseForm() // what can't be parsed is missing below
	page, code := s.authorizeError(r.PostForm)
	switch {
	case page != "":
		showPage(w, http.StatusBadRequest, "Refused", "<p>"+html.EscapeString(page)+"</p>")
	case code == "" && r.PostForm.Get("decision") == "allow":
		s.consent(w, r, r.PostForm)
	default:
		if code == "" {
			code = "access_denied"
		}
		s.redirect(w, r, r.PostForm, url.Values{"error": {code}, "error_description": {"the person said no"}})
	}
}

// consent issues a code, and redirects with it.
func (s *Server) consent(w http.ResponseWriter, r *http.Request, q url.Values) {
	scopes := strings.Fields(q.Get("scope"))
	if len(scopes) == 0 {
		scopes = defaultScopes
	}
	s.mu.Lock()
	s.serial++
	code := fmt.Sprintf("fake-code-%d", s.serial)
	s.codes[code] = &attempt{
		redirectURI: q.Get("redirect_uri"), challenge: q.Get("code_challenge"), nonce: q.Get("nonce"), clientID: q.Get("client_id"),
		grant: &grant{scopes: scopes, audience: audienceOf(q.Get("audience"), strings.Join(q["resource"], " "))},
	}
	s.mu.Unlock()
	s.redirect(w, r, q, url.Values{"code": {code}})
}

// redirect sends the browser back, with state and iss (RFC 9207).
func (s *Server) redirect(w http.ResponseWriter, r *http.Request, q, answer url.Values) {
	answer.Set("state", q.Get("state"))
	answer.Set("iss", s.URL())
	http.Redirect(w, r, q.Get("redirect_uri")+"?"+answer.Encode(), http.StatusFound)
}

func servePaste(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	showPage(w, http.StatusOK, "Copy this code", `<p id="code">`+html.EscapeString(q.Get("code")+"#"+q.Get("state"))+`</p>`)
}

// redeem exchanges an authorization code for a sign-in (RFC 6749 section 4.1.3, RFC 7636 section 4.6). A code that is used twice
// ends the sign-in that it brought the first time (RFC 6749 section 4.1.2).
func (s *Server) redeem(params map[string]string) (signIn SignIn, nonce, code string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.codes[params["code"]]
	if a != nil && a.spent {
		s.counts.Replays++
		a.grant.revoked = true
	}
	sum := sha256.Sum256([]byte(params["code_verifier"]))
	challenge := base64.RawURLEncoding.EncodeToString(sum[:])
	if a == nil || a.spent || a.redirectURI != params["redirect_uri"] || a.clientID != params["client_id"] ||
		subtle.ConstantTimeCompare([]byte(challenge), []byte(a.challenge)) != 1 {
		return SignIn{}, "", "invalid_grant"
	}
	a.spent = true
	s.counts.Exchanges++
	return s.issue(a.grant), a.nonce, ""
}

// showPage writes a page. inner is HTML.
func showPage(w http.ResponseWriter, status int, title, inner string) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'")
	w.WriteHeader(status)
	fmt.Fprintf(w, `<!doctype html><html lang="en"><meta charset="utf-8"><title>%s</title><body><h1>%[1]s</h1>%s</body></html>`,
		html.EscapeString(title), inner)
}
