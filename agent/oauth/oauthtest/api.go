package oauthtest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// authorized answers requests that carry a valid access token with the scope, as a bearer token or as x-api-key. It refuses
// others.
func (s *Server) authorized(scope string, reply func() any) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		token, isBearer := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if !isBearer {
			token = r.Header.Get("X-Api-Key")
		}
		live := s.Live(token)
		s.mu.Lock()
		missing := live && scope != "" && !slices.Contains(s.access[token].grant.scopes, scope)
		if live && !missing {
			s.counts.API++
		} else {
			s.counts.Refused++
		}
		s.mu.Unlock()
		if missing { // RFC 6750 section 3.1
			w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer error="insufficient_scope", scope=%q`, scope))
			writeJSON(w, http.StatusForbidden, map[string]any{"error": "insufficient_scope"})
			return
		}
		if !live {
			w.Header().Set("WWW-Authenticate", "Bearer")
			writeJSON(w, http.StatusUnauthorized, map[string]any{"type": "error",
				"error": map[string]any{"type": "authentication_error", "message": "invalid bearer token"}})
			return
		}
		writeJSON(w, http.StatusOK, reply())
	}
}

func whoami() any { return map[string]any{"id": "alice"} }

func profile() any {
	return map[string]any{
		"account": map[string]any{"uuid": "00000000-0000-4000-8000-000000000001", "email": "alice@example.com",
			"full_name": "Alice Example", "display_name": "Alice", "has_claude_max": true, "has_claude_pro": false},
		"organization": map[string]any{"uuid": "00000000-0000-4000-8000-000000000002", "name": "Example",
			"organization_type": "claude_max", "billing_type": "none", "rate_limit_tier": "default"},
	}
}

func message() any {
	return map[string]any{"id": "msg_fake", "type": "message", "role": "assistant", "model": "fake", "stop_reason": "end_turn",
		"content": []any{map[string]any{"type": "text", "text": "hello"}},
		"usage":   map[string]any{"input_tokens": 1, "output_tokens": 1}}
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v) // if the client has gone away, that is no error
}
