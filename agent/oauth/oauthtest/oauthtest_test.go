package oauthtest

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// post sends one token request and returns the status and the reply.
func post(t *testing.T, s *Server, contentType, body string) (int, map[string]any) {
	t.Helper()
	resp, err := http.Post(s.TokenURL(), contentType, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var reply map[string]any
	if err := json.NewDecoder(resp.Body).Decode(&reply); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, reply
}

func form(refresh string) string {
	return url.Values{"grant_type": {"refresh_token"}, "refresh_token": {refresh}}.Encode()
}

const formType = "application/x-www-form-urlencoded"

// TestReuseEndsSignIn is what the server is for: when a refresh token is used twice, it ends the sign-in.
func TestReuseEndsSignIn(t *testing.T) {
	t.Parallel()
	s := New(t, Options{})
	first, other := s.Issue(), s.Issue()
	status, reply := post(t, s, formType, form(first.RefreshToken))
	second, _ := reply["access_token"].(string)
	if status != 200 || !s.Live(second) || !s.Live(first.AccessToken) || s.Renewable(first.RefreshToken) {
		t.Fatalf("a renewal: %d, %v", status, reply)
	}
	status, reply = post(t, s, formType, form(first.RefreshToken))
	if status != 400 || reply["error"] != "invalid_grant" {
		t.Errorf("reuse: %d, %v", status, reply)
	}
	if s.Live(second) || s.Live(first.AccessToken) || !s.Live(other.AccessToken) {
		t.Error("reuse ends all of its sign-in, and no other")
	}
	if got := s.Counts(); got != (Counts{Requests: 2, Refreshes: 1, Reuses: 1}) || s.Refreshes(second) != 1 {
		t.Errorf("counts %+v", got)
	}
}

func TestAPI(t *testing.T) {
	t.Parallel()
	s := New(t, Options{})
	live, revoked, ended := s.Issue(), s.Issue(), s.Issue()
	s.RevokeToken(revoked.AccessToken)
	s.RevokeGrant(ended.RefreshToken)
	s.SetLifetime(time.Nanosecond)
	expired := s.Issue()
	for _, tt := range []struct {
		header, value string
		want          int
	}{
		{"Authorization", "Bearer " + live.AccessToken, 200},
		{"X-Api-Key", live.AccessToken, 200},
		{"Authorization", "Bearer " + live.RefreshToken, 401},
		{"Authorization", "Bearer " + revoked.AccessToken, 401},
		{"Authorization", "Bearer " + ended.AccessToken, 401},
		{"Authorization", "Bearer " + expired.AccessToken, 401},
		{"Authorization", "Bearer ", 401},
	} {
		for _, request := range []string{"GET " + s.APIURL(), "GET " + s.ProfileURL(), "POST " + s.URL() + "/v1/messages"} {
			method, address, _ := strings.Cut(request, " ")
			req, err := http.NewRequest(method, address, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set(tt.header, tt.value)
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != tt.want {
				t.Errorf("%s with %s: %d, want %d", request, tt.value, resp.StatusCode, tt.want)
			}
		}
	}
	if got := s.Counts(); got.API != 6 || got.Refused != 15 {
		t.Errorf("counts %+v", got)
	}
	if !s.Renewable(revoked.RefreshToken) || s.Renewable(ended.RefreshToken) {
		t.Error("a revoked token ends alone, a revoked grant with all of its tokens")
	}
}

func TestFaultTimes(t *testing.T) {
	t.Parallel()
	s := New(t, Options{})
	signIn := s.Issue()
	s.SetFault(Fault{Times: 2, Status: 503, Body: "{}"})
	for range 2 {
		if status, _ := post(t, s, formType, form(signIn.RefreshToken)); status != 503 {
			t.Errorf("status %d, want the fault's", status)
		}
	}
	if status, _ := post(t, s, "application/json",
		`{"grant_type":"refresh_token","refresh_token":"`+signIn.RefreshToken+`"}`); status != 200 {
		t.Errorf("status %d after the faults", status)
	}
}
