package worker

import (
	"strings"
	"testing"
	"time"

	"github.com/ccagent/ccagent/agent/job"
	"github.com/ccagent/ccagent/agent/oauth/oauthtest"
	"github.com/ccagent/ccagent/protocol"
)

func says(status int, body string) oauthtest.Fault {
	return oauthtest.Fault{Status: status, Body: body}
}

// What a provider refuses for good is told with what ends it, and what only passes by is not. A refresh token counts as spent
// where it was refused itself: one that a rule or a person stood in the way of can be brought back.
func TestRefusals(t *testing.T) {
	t.Parallel()
	login := protocol.ErrLoginRequired
	const again, mend = "ccagent login gateway", "mend it in config.toml"
	for _, tt := range []struct {
		name  string
		fault oauthtest.Fault
		want  error
		hint  string
		spent bool
	}{
		{"GitHub", says(200, `{"error":"bad_refresh_token"}`), login, again, true},
		{"OpenAI", says(401, `{"error":{"code":"refresh_token_reused","type":"invalid_request_error"}}`), login, again, true},
		{"a rule", says(400, `{"error":"interaction_required"}`), login, again, false},
		{"a bare 401", says(401, ""), login, again, false},
		{"the client", says(200, `{"error":"incorrect_client_credentials"}`), protocol.ErrConfig, mend, false},
		{"a guard", says(403, "<html>"), protocol.ErrUnavailable, "", false},
		{"a gateway that quotes", says(502, `{"error":"invalid_grant"}`), protocol.ErrUnavailable, "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newGateway(t, oauthtest.Options{})
			if _, done := w.put(w.server.Issue(), nil); done.Err != nil {
				t.Fatal(done.Err)
			}
			w.server.SetFault(tt.fault)
			_, _, done := w.run(job.Job{Op: job.Renew, Force: true})
			if done.Err == nil || !is(done.Err, tt.want) || !strings.Contains(done.Err.Hint, tt.hint) {
				t.Errorf("got %v, hint %q; want %v and %q", done.Err, done.Err.Hint, tt.want, tt.hint)
			}
			if done.Result.Token.Empty() {
				t.Error("the token that still lives is gone")
			}
			past := w.past()
			if len(past) != 1 || past[0].Renewable == tt.spent {
				t.Errorf("%+v: the refresh token counts as spent: want %v", past, tt.spent)
			}
		})
	}
}

// An emptied file is not mended with a sign-in that the provider refuses, which stays restorable where a rule refused it.
func TestMendRefused(t *testing.T) {
	t.Parallel()
	for body, spent := range map[string]bool{`{"error":"bad_refresh_token"}`: true, `{"error":"interaction_required"}`: false} {
		w := newWorld(t)
		_, base := w.known(time.Hour)
		w.write(stubFile)
		w.server.SetFault(says(400, body))
		_, _, done := w.run(job.Job{Op: job.Renew, Base: base})
		if !is(done.Err, protocol.ErrLoginRequired) || !done.Result.Gone {
			t.Errorf("%s: %+v", body, done)
		}
		if past := w.past(); len(past) != 1 || past[0].Renewable == spent {
			t.Errorf("%s: %+v, want it spent: %v", body, past, spent)
		}
	}
}
