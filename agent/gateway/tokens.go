package gateway

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/ccagent/ccagent/agent/gateway/scrub"
	"github.com/ccagent/ccagent/protocol"
)

// keptTokens is how many tokens of a profile are looked for in answers: that with which a request was sent, the one that was sent
// after a renewal, and as many again for those that other programs have caused meanwhile.
const keptTokens = 4

// tokens are the last tokens that the agent has given for a profile. They are what must not come back to the tool.
type tokens struct {
	mu    sync.Mutex
	last  []string        // the newest at the end
	clean *scrub.Scrubber // of these; nil until one is needed
}

func (t *tokens) add(token string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if i := slices.Index(t.last, token); i >= 0 {
		if i < len(t.last)-1 {
			t.last = append(slices.Delete(t.last, i, i+1), token)
		}
		return
	}
	t.last, t.clean = append(t.last[max(0, len(t.last)-keptTokens+1):len(t.last):len(t.last)], token), nil
}

// scrubber returns what takes the tokens out of an answer.
func (t *tokens) scrubber() *scrub.Scrubber {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.clean == nil {
		t.clean = scrub.New(t.last...)
	}
	return t.clean
}

// header takes the tokens out of a header. A field whose name holds one goes altogether. Such a name may have come in another
// case.
func (t *tokens) header(h http.Header) {
	clean := t.scrubber()
	t.mu.Lock()
	last := t.last
	t.mu.Unlock()
	for name, values := range h {
		if slices.ContainsFunc(last, func(token string) bool {
			return len(token) >= scrub.MinLength && len(name) >= len(token) &&
				strings.Contains(strings.ToLower(name), strings.ToLower(token))
		}) {
			delete(h, name)
			continue
		}
		for i, value := range values {
			values[i] = clean.String(value)
		}
	}
}

// noting returns an agent that notes each token which it gives. It watches the agent's tokens where a can do so.
func noting(a protocol.Agent, by map[string]*tokens) protocol.Agent {
	noted := &notingAgent{a, by}
	if w, ok := a.(protocol.Watcher); ok {
		return struct {
			protocol.Agent
			protocol.Watcher
		}{noted, w}
	}
	return noted
}

type notingAgent struct {
	protocol.Agent
	by map[string]*tokens // by profile
}

func (a *notingAgent) Token(ctx context.Context, req protocol.TokenRequest) (protocol.Token, error) {
	token, err := a.Agent.Token(ctx, req)
	if err == nil {
		a.by[req.Profile].add(token.Value.Reveal())
	}
	return token, err
}
