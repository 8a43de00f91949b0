package gateway

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/ccagent/ccagent/agent/gateway/address"
	"github.com/ccagent/ccagent/agent/gateway/route"
	"github.com/ccagent/ccagent/protocol"
)

// refusal is an answer of the gateway itself. As an error it is its message.
type refusal struct {
	status  int
	kind    kind
	message string        // what happened, and what to do about it
	retry   time.Duration // when to try again; 0: nothing is said of that
	quotes  bool          // what the message quotes is of the service's answer
}

func (r *refusal) Error() string { return r.message }

// kind says what a refusal is about, and what each API calls that.
type kind struct{ anthropic, openai, google string }

var (
	invalid         = kind{"invalid_request_error", "invalid_request_error", "INVALID_ARGUMENT"}
	unauthenticated = kind{"authentication_error", "invalid_request_error", "UNAUTHENTICATED"}
	denied          = kind{"permission_error", "invalid_request_error", "PERMISSION_DENIED"}
	notFound        = kind{"not_found_error", "invalid_request_error", "NOT_FOUND"}
	tooMany         = kind{"rate_limit_error", "rate_limit_error", "RESOURCE_EXHAUSTED"}
	overloaded      = kind{"overloaded_error", "server_error", "UNAVAILABLE"}
	broken          = kind{"api_error", "server_error", "INTERNAL"}
)

// judged is the refusal for what the rules say.
func judged(err error) *refusal {
	no := &refusal{status: http.StatusBadRequest, kind: invalid, message: err.Error()}
	var why *route.Refusal
	if errors.As(err, &why) {
		switch why.Kind {
		case route.NoRoute:
			no.status, no.kind = http.StatusNotFound, notFound
		case route.Forbidden:
			no.status, no.kind = http.StatusForbidden, denied
		case route.BadMethod:
			no.status = http.StatusMethodNotAllowed
		}
	}
	return no
}

// unsent is the refusal for a request that could not be sent.
func unsent(err error, r *route.Route) *refusal {
	var e *protocol.Error
	switch {
	case errors.As(err, &e):
	case errors.Is(err, address.ErrRefused):
		no := &refusal{status: http.StatusForbidden, kind: denied, message: err.Error()}
		if errors.Is(err, address.ErrPrivate) {
			no.message += " (to allow it, write into config.toml, under [gateway.routes." + r.Name + "]: private = true)"
		}
		return no
	default:
		return &refusal{status: http.StatusBadGateway, kind: broken, message: "the service can't be reached: " + err.Error(),
			quotes: true}
	}
	no := &refusal{status: http.StatusInternalServerError, kind: broken}
	hint := e.Hint
	switch {
	case errors.Is(err, protocol.ErrLoginRequired), errors.Is(err, protocol.ErrExpired), errors.Is(err, protocol.ErrNotFound):
		no.status, no.kind = http.StatusUnauthorized, unauthenticated
		if !strings.Contains(hint, "ccagent login") {
			hint = "run: " + protocol.ShellLine("ccagent", "login", r.Profile)
		}
	case errors.Is(err, protocol.ErrDenied), errors.Is(err, protocol.ErrLocked):
		no.status, no.kind = http.StatusForbidden, denied
	case errors.Is(err, protocol.ErrUnavailable), errors.Is(err, protocol.ErrNoAgent):
		no.status, no.kind, no.retry = http.StatusServiceUnavailable, overloaded, 5*time.Second
	}
	no.message = e.Message
	if hint != "" {
		no.message += " (" + strings.ReplaceAll(hint, "\n", "; ") + ")"
	}
	return no
}

// unrenewed is the refusal in place of an upstream's own, for which a renewal failed. It is nil where the upstream's says more: a
// key that nobody can renew is refused by the service for its own reasons.
func unrenewed(err error, r *route.Route) *refusal {
	if err == nil {
		return nil
	}
	if no := unsent(err, r); no.status != http.StatusInternalServerError && no.status != http.StatusBadGateway {
		return no
	}
	return nil
}

// write answers a request in the shape of an API. r is its route, nil if there is none.
func (no *refusal) write(w http.ResponseWriter, shape route.Shape, r *route.Route) {
	message := "ccagent: " + no.message
	var body any
	switch shape {
	case route.Anthropic:
		body = map[string]any{"type": "error", "error": map[string]any{"type": no.kind.anthropic, "message": message}}
	case route.OpenAI:
		body = map[string]any{"error": map[string]any{"message": message, "type": no.kind.openai, "param": nil, "code": nil}}
	case route.Google:
		body = map[string]any{"error": map[string]any{"code": no.status, "message": message, "status": no.kind.google}}
	case route.GitHub:
		body = map[string]any{"message": message, "status": strconv.Itoa(no.status)}
	}
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	if no.status == http.StatusUnauthorized {
		scheme := "Bearer"
		if r != nil && strings.HasPrefix(r.Place.String(), "basic:") {
			scheme = "Basic" // git sends no password before it is asked for one
		}
		h.Set("WWW-Authenticate", scheme+` realm="ccagent"`)
	}
	if no.retry > 0 {
		h.Set("Retry-After", strconv.Itoa(int((no.retry+time.Second-1)/time.Second)))
	}
	if body == nil {
		h.Set("Content-Type", "text/plain; charset=utf-8")
		w.WriteHeader(no.status)
		io.WriteString(w, message+"\n")
		return
	}
	h.Set("Content-Type", "application/json")
	w.WriteHeader(no.status)
	json.NewEncoder(w).Encode(body) // a tool that has gone needs no answer
}
