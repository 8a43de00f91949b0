package oauthtest

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// rotate exchanges a refresh token for the next one, or returns an error code of RFC 6749 section 5.2. A refresh token that is
// used twice ends its sign-in (RFC 9700 section 4.14.2).
func (s *Server) rotate(presented string) (SignIn, string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.refresh[presented]
	switch {
	case t == nil || t.grant.revoked && !t.spent:
		return SignIn{}, "invalid_grant"
	case t.spent:
		s.counts.Reuses++
		t.grant.revoked = true
		return SignIn{}, "invalid_grant"
	}
	t.spent = true
	t.grant.refreshes++
	s.counts.Refreshes++
	return s.issue(t.grant), ""
}

func (s *Server) serveToken(w http.ResponseWriter, r *http.Request) {
	fault := s.takeFault()
	if !fault.wait(r.Context(), fault.Delay) {
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
	params := make(map[string]string)
	if strings.HasPrefix(r.Header.Get("Content-Type"), "application/json") {
		if json.NewDecoder(r.Body).Decode(&params) != nil {
			fault.answer(w, r, http.StatusBadRequest, map[string]any{"error": "invalid_request"})
			return
		}
	} else {
		params = formOf(r)
	}
	s.remember(r, params)
	status, reply := http.StatusOK, map[string]any(nil)
	if spends := !fault.instead() || fault.Rotate; spends { // otherwise the fault has the answer
		if !s.authenticated(r, params) {
			status, reply = http.StatusUnauthorized, map[string]any{"error": "invalid_client"}
		} else if reply = s.grantToken(params); reply["error"] != nil {
			status = http.StatusBadRequest
		}
	}
	if !fault.wait(r.Context(), fault.Lag) {
		return
	}
	fault.answer(w, r, status, reply)
}

// formOf reads a form. A parameter that can't be parsed is missing. The values of one that is there twice are joined: that fits
// nothing, except for resource, which may be repeated (RFC 8707).
func formOf(r *http.Request) map[string]string {
	r.ParseForm()
	return joined(r.PostForm)
}

func joined(form url.Values) map[string]string {
	params := make(map[string]string)
	for name, values := range form {
		params[name] = strings.Join(values, " ")
	}
	return params
}

func audienceOf(audience, resource string) []string {
	return append(strings.Fields(audience), strings.Fields(resource)...)
}

// grantToken answers a token request of the known client, with an error of RFC 6749 section 5.2 where it refuses.
func (s *Server) grantToken(params map[string]string) map[string]any {
	var signIn SignIn
	code, nonce := "", ""
	switch params["grant_type"] {
	case "refresh_token":
		if params["refresh_token"] == "" {
			return map[string]any{"error": "invalid_request"}
		}
		signIn, code = s.rotate(params["refresh_token"])
	case "authorization_code":
		signIn, nonce, code = s.redeem(params)
	case "urn:ietf:params:oauth:grant-type:device_code":
		signIn, code = s.poll(params["device_code"])
	case "client_credentials":
		if s.secret() == "" && s.ClientKey == nil {
			return map[string]any{"error": "unauthorized_client"}
		}
		return s.machine(params)
	case "urn:ietf:params:oauth:grant-type:jwt-bearer":
		if !s.asserted(s.AssertionKey, params["assertion"]) {
			return map[string]any{"error": "invalid_grant", "error_description": "assertion not valid"}
		}
		return s.machine(params)
	case exchangeGrant:
		return s.exchange(params)
	default:
		return map[string]any{"error": "unsupported_grant_type"}
	}
	if code != "" {
		return map[string]any{"error": code, "error_description": "the grant was not found, not valid, or not granted yet"}
	}
	reply := s.reply(signIn)
	reply["refresh_token"] = signIn.RefreshToken
	switch renews := params["grant_type"] == "refresh_token"; {
	case renews && s.ID.Once:
	case slices.Contains(signIn.Scopes, "openid"):
		reply["id_token"] = s.idToken(params["client_id"], nonce)
	default:
		reply["account"] = map[string]any{"uuid": "00000000-0000-4000-8000-000000000001", "email_address": "alice@example.com"}
		reply["organization"] = map[string]any{"uuid": "00000000-0000-4000-8000-000000000002", "name": "Example"}
	}
	return reply
}

// reply is the answer that all grants have in common.
func (s *Server) reply(signIn SignIn) map[string]any {
	return map[string]any{
		"token_type": "Bearer", "access_token": signIn.AccessToken, "expires_in": s.secondsOf(signIn),
		"scope": strings.Join(signIn.Scopes, " "),
	}
}

const exchangeGrant = "urn:ietf:params:oauth:grant-type:token-exchange"

// exchange issues an access token for another one (RFC 8693), for fewer scopes or for an audience.
func (s *Server) exchange(params map[string]string) map[string]any {
	refuse := func(code, description string) map[string]any {
		return map[string]any{"error": code, "error_description": description}
	}
	const accessToken = "urn:ietf:params:oauth:token-type:access_token"
	audience := audienceOf(params["audience"], params["resource"])
	other := func(name string) bool { return s.Audiences != nil && !slices.Contains(s.Audiences, name) }
	switch {
	case !s.Exchange:
		return refuse("unsupported_grant_type", "")
	case params["subject_token_type"] != accessToken || params["refresh_token"] != "":
		return refuse("invalid_request", "subject_token_type")
	case !s.Live(params["subject_token"]):
		return refuse("invalid_request", "Invalid token") // as section 2.2.2 has it, in Keycloak's words
	case slices.ContainsFunc(audience, other):
		return refuse("invalid_target", "")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	scopes := s.access[params["subject_token"]].grant.scopes
	if asked := strings.Fields(params["scope"]); len(asked) > 0 {
		if slices.ContainsFunc(asked, func(scope string) bool { return !slices.Contains(scopes, scope) }) {
			return refuse("invalid_scope", "")
		}
		scopes = asked
	}
	s.counts.Derived++
	signIn := s.issue(&grant{scopes: scopes, audience: audience})
	delete(s.refresh, signIn.RefreshToken)
	reply := s.reply(signIn)
	reply["issued_token_type"] = accessToken
	return reply
}

// machine issues an access token without a refresh token.
func (s *Server) machine(params map[string]string) map[string]any {
	s.mu.Lock()
	s.counts.Machines++
	signIn := s.issue(&grant{scopes: strings.Fields(params["scope"]), audience: audienceOf(params["audience"], params["resource"])})
	delete(s.refresh, signIn.RefreshToken)
	s.mu.Unlock()
	return s.reply(signIn)
}

// secondsOf is the lifetime as an answer states it: in whole seconds, as servers do, unless it is very short.
func (s *Server) secondsOf(signIn SignIn) any {
	left := time.Until(signIn.Expiry)
	if left < 2*time.Second {
		return max(left, 0).Seconds()
	}
	return int64(left.Round(time.Second) / time.Second)
}
