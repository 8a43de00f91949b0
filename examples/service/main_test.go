package main

import (
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
)

func TestService(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "tokens")
	if err := os.WriteFile(path, []byte("fake-token-1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	handler, err := service(path, "", "")
	if err != nil {
		t.Fatal(err)
	}
	for authorization, want := range map[string]struct {
		status int
		body   string
	}{
		"Bearer fake-token-1": {200, "hello, friend\n"},
		"Bearer fake-token-2": {401, "the bearer token is not accepted\n"},
		"Bearer ":             {400, "the Authorization header is malformed\n"},
	} {
		r, w := httptest.NewRequest("GET", "/", nil), httptest.NewRecorder()
		r.Header.Set("Authorization", authorization)
		handler.ServeHTTP(w, r)
		if w.Code != want.status || w.Body.String() != want.body {
			t.Errorf("%q: %d, %q; want %+v", authorization, w.Code, w.Body, want)
		}
	}
	if _, err := service("", "", ""); err == nil {
		t.Error("a service that accepts nobody was made")
	}
	if _, err := service(path, "http://sso.example.com", "service"); err == nil {
		t.Error("an issuer in the clear was accepted")
	}
}
