package httpauth

import (
	"net/http"
	"strconv"
	"strings"
)

// retryAfter is how many seconds a client that gets a 503 is asked to wait.
const retryAfter = "5"

// refusal is the answer to a request that is not accepted. It is made once for a policy, and holds nothing of the request.
type refusal struct {
	status     int
	challenge  string // the WWW-Authenticate header; "": none
	retry      bool   // with a Retry-After header
	text, json string // the body
}

// refusals makes the answers of RFC 6750 section 3. The answer to a request without authentication has no error code (section
// 3.1).
func (g *guard) refusals() {
	g.missing = g.refusal(http.StatusUnauthorized, "", "a bearer token is required")
	g.signedOut = g.refusal(http.StatusUnauthorized, "", "authentication is required: the service is not signed in")
	g.malformed = g.refusal(http.StatusBadRequest, "invalid_request", "the Authorization header is malformed")
	g.invalid = g.refusal(http.StatusUnauthorized, "invalid_token", "the bearer token is not accepted")
	g.scope = g.refusal(http.StatusForbidden, "insufficient_scope", "a scope is missing")
	g.later = g.refusal(http.StatusServiceUnavailable, "", "authentication is not available at the moment")
	g.broken = g.refusal(http.StatusInternalServerError, "", "authentication is not configured correctly")
}

func (g *guard) refusal(status int, code, text string) *refusal {
	r := &refusal{status: status, retry: status == http.StatusServiceUnavailable, text: text + "\n"}
	name := code
	if code == "" {
		name = map[int]string{
			http.StatusUnauthorized:        "unauthorized",
			http.StatusServiceUnavailable:  "temporarily_unavailable",
			http.StatusInternalServerError: "server_error",
		}[status]
	}
	r.json = `{"error":"` + name + `","error_description":"` + text + `"}` + "\n"
	if status >= http.StatusInternalServerError {
		return r
	}
	var params []string
	if g.policy.Realm != "" {
		params = append(params, `realm="`+g.policy.Realm+`"`)
	}
	if code != "" {
		params = append(params, `error="`+code+`"`, `error_description="`+text+`"`)
	}
	if code == "insufficient_scope" {
		params = append(params, `scope="`+strings.Join(g.policy.Scopes, " ")+`"`)
	}
	r.challenge = strings.TrimSpace("Bearer " + strings.Join(params, ", "))
	return r
}

// write sends the refusal.
func (r *refusal) write(w http.ResponseWriter, req *http.Request) {
	h := w.Header()
	body := r.text
	h.Set("Content-Type", "text/plain; charset=utf-8")
	if wantsJSON(req.Header["Accept"]) {
		body = r.json
		h.Set("Content-Type", "application/json")
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Add("Vary", "Accept")
	if r.challenge != "" {
		h.Set("WWW-Authenticate", r.challenge)
	}
	if r.retry {
		h.Set("Retry-After", retryAfter)
	}
	w.WriteHeader(r.status)
	if req.Method != http.MethodHead {
		w.Write([]byte(body))
	}
}

// wantsJSON reports whether Accept header fields (RFC 9110 section 12.5.1) name JSON, and do not prefer text to it. A client that
// accepts anything gets text.
func wantsJSON(fields []string) bool {
	json, text := 0.0, 0.0
	for _, field := range fields {
		for part := range strings.SplitSeq(field, ",") {
			media, params, _ := strings.Cut(part, ";")
			q := quality(params)
			switch media = strings.ToLower(strings.TrimSpace(media)); {
			case media == "application/json",
				media == "application/*",
				strings.HasPrefix(media, "application/") && strings.HasSuffix(media, "+json"):
				json = max(json, q)
			case media == "text/plain", media == "text/*":
				text = max(text, q)
			}
		}
	}
	return json > 0 && json >= text
}

// quality returns the weight among the parameters of a media range, 1 where there is none that can be read.
func quality(params string) float64 {
	for p := range strings.SplitSeq(params, ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(p), "=")
		if !strings.EqualFold(name, "q") {
			continue
		}
		if q, err := strconv.ParseFloat(value, 64); err == nil && q >= 0 && q <= 1 {
			return q
		}
	}
	return 1
}
