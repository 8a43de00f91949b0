package main

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/protocol/protocoltest"
)

func TestRun(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, r.Header.Get("Authorization"))
	}))
	defer server.Close()
	f := protocoltest.NewFake(protocoltest.Profile{Name: "main", Token: "fake-access-1"},
		protocoltest.Profile{Name: "gateway", Token: "fake-access-2", Hosts: []string{"llm.example.com"}})
	t.Setenv("CCAGENT_SOCK", protocoltest.Serve(t, f))

	var out strings.Builder
	if err := run(t.Context(), []string{server.URL}, &out); err != nil || out.String() != "Bearer fake-access-1" {
		t.Errorf("%q, %v", out.String(), err)
	}
	if err := run(t.Context(), []string{"-p", "gateway", server.URL}, io.Discard); !errors.Is(err, protocol.ErrDenied) {
		t.Errorf("to a host that the profile does not list: %v", err)
	}
	if err := run(t.Context(), nil, io.Discard); !errors.Is(err, protocol.ErrConfig) {
		t.Errorf("without a URL: %v", err)
	}
}
