package worker

import (
	"strings"
	"testing"
	"time"

	"github.com/ccagent/ccagent/agent/job"
	"github.com/ccagent/ccagent/agent/oauth/oauthtest"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store"
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

// A hint's command is for the profile that was asked for. Without a name it would be for the default one.
func TestHintsNameTheProfile(t *testing.T) {
	t.Parallel()
	w := newGateway(t, oauthtest.Options{})
	w.put(w.server.Issue(), func(r *store.Record) {
		r.Identity = protocol.Identity{Account: "bob-1", Fetched: time.UnixMilli(1767225600123)}
	})
	for _, tt := range []struct {
		status     int
		body, want string
	}{
		{401, `{"error":"invalid_token"}`, "ccagent refresh -p gateway"},
		{403, `{"error":"insufficient_scope"}`, "ccagent login --scope SCOPE gateway"},
		{403, `{"error":"insufficient_scope","scope":"a b"}`, "ccagent login --scope a --scope b gateway"},
		{200, `{"sub":"mallory"}`, "ccagent login gateway"},
	} {
		w.server.SetFaultAt("/userinfo", says(tt.status, tt.body))
		if _, _, done := w.run(job.Job{Op: job.Identify, Force: true}); !strings.Contains(done.Err.Hint+"\n", ": "+tt.want+"\n") {
			t.Errorf("%s: %+v", tt.body, done.Err)
		}
	}
	w.settings.TokenURL = "https://elsewhere.example.com/token"
	_, _, done := w.run(job.Job{Op: job.Renew, Force: true})
	for _, want := range []string{"ccagent login gateway", "ccagent refresh -p gateway"} {
		if !strings.Contains(done.Err.Hint, want) {
			t.Errorf("the token endpoint has moved: %+v", done.Err)
		}
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
