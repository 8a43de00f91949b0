//go:build e2e

package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"strings"
	"sync"
	"testing"
)

// answer is what the stand-in's model says to everything.
const answer = "the token was good"

// messagesAPI stands in for the Messages API: it answers a prompt to whoever shows a live token, and keeps what it was shown.
type messagesAPI struct {
	URL string

	live func(token string) bool

	mu    sync.Mutex
	shown []shown
	raw   bytes.Buffer // all requests, as they came
}

// shown is how one prompt's request was authenticated.
type shown struct {
	Bearer string // of the Authorization header
	APIKey string // of x-api-key
	Beta   string // anthropic-beta
	Status int    // what it was answered with
}

func newMessagesAPI(t *testing.T, live func(token string) bool) *messagesAPI {
	t.Helper()
	api := &messagesAPI{live: live}
	mux := http.NewServeMux()
	mux.HandleFunc("HEAD /{$}", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("POST /v1/messages", api.messages)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if text, err := httputil.DumpRequest(r, true); err == nil {
			api.mu.Lock()
			api.raw.Write(text)
			api.mu.Unlock()
		}
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	api.URL = server.URL
	return api
}

// seen returns how the prompts so far were authenticated.
func (api *messagesAPI) seen() []shown {
	api.mu.Lock()
	defer api.mu.Unlock()
	return append([]shown(nil), api.shown...)
}

func (api *messagesAPI) messages(w http.ResponseWriter, r *http.Request) {
	bearer, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	s := shown{Bearer: bearer, APIKey: r.Header.Get("X-Api-Key"), Beta: r.Header.Get("Anthropic-Beta"), Status: http.StatusOK}
	if !api.live(bearer) && !api.live(s.APIKey) {
		s.Status = http.StatusUnauthorized
	}
	api.mu.Lock()
	api.shown = append(api.shown, s)
	api.mu.Unlock()

	var request struct {
		Model  string `json:"model"`
		Stream bool   `json:"stream"`
	}
	if err := json.NewDecoder(r.Body).Decode(&request); err != nil {
		http.Error(w, "bad request", http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if s.Status != http.StatusOK {
		w.WriteHeader(s.Status)
		fmt.Fprint(w, `{"type":"error","error":{"type":"authentication_error","message":"invalid bearer token"}}`)
		return
	}
	message := map[string]any{
		"id": "msg_1", "type": "message", "role": "assistant", "model": request.Model,
		"content": []any{}, "stop_reason": nil, "stop_sequence": nil,
		"usage": map[string]int{"input_tokens": 1, "output_tokens": 1},
	}
	if !request.Stream {
		message["content"] = []any{map[string]string{"type": "text", "text": answer}}
		message["stop_reason"] = "end_turn"
		json.NewEncoder(w).Encode(message)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	for _, event := range []map[string]any{
		{"type": "message_start", "message": message},
		{"type": "content_block_start", "index": 0, "content_block": map[string]string{"type": "text", "text": ""}},
		{"type": "content_block_delta", "index": 0, "delta": map[string]string{"type": "text_delta", "text": answer}},
		{"type": "content_block_stop", "index": 0},
		{"type": "message_delta", "delta": map[string]any{"stop_reason": "end_turn"}, "usage": map[string]int{"output_tokens": 5}},
		{"type": "message_stop"},
	} {
		data, err := json.Marshal(event)
		if err != nil {
			return
		}
		fmt.Fprintf(w, "event: %s\ndata: %s\n\n", event["type"], data)
	}
}
