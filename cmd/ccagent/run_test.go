package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"sync"

	"github.com/rogpeppe/go-internal/testscript"
)

// fakeService starts a service that wants a token, and sets SERVICE to its URL: service TOKEN. It says to what it was asked, and
// writes what it got into the file asked.
func fakeService(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: service TOKEN")
	}
	var mu sync.Mutex
	asked := ts.MkAbs("asked")
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		var got bytes.Buffer
		r.Write(&got)
		os.WriteFile(asked, got.Bytes(), 0o600)
		if r.Header.Get("X-Api-Key") != args[0] {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		fmt.Fprintln(w, r.Method, r.URL)
	}))
	ts.Defer(server.Close)
	ts.Setenv("SERVICE", server.URL)
}

// fetch is the tool that scripts run: it asks the service at $LLM_URL, with $LLM_KEY, and prints the answer: fetch [PATH]. It
// ends with 1 for an answer that is none of success, and with 2 if there is no answer.
func fetch() {
	target := os.Getenv("LLM_URL")
	if len(os.Args) > 1 {
		target += os.Args[1]
	}
	req, err := http.NewRequest("GET", target, nil)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	req.Header.Set("Authorization", "Bearer "+os.Getenv("LLM_KEY"))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	defer resp.Body.Close()
	io.Copy(os.Stdout, resp.Body)
	if resp.StatusCode != http.StatusOK {
		os.Exit(1)
	}
}
