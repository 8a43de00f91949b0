package agent

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ccagent/ccagent/protocol"
)

// TestDetailIsForWhoAsked: what a command or a provider said in its own words may hold a password. Who waited for the answer
// gets it, and nobody finds it later: not in the log, not in status, not in the next error.
func TestDetailIsForWhoAsked(t *testing.T) {
	const said = "bind DN cn=alice password=fake-password"
	for name, fail := range map[string]func(*provider){
		"a renewal": func(p *provider) {
			p.fail = &protocol.Error{Code: protocol.CodeUnavailable, Message: "the command failed", Detail: said}
		},
		"a renewal for good": func(p *provider) {
			p.fail = &protocol.Error{Code: protocol.CodeLoginRequired, Message: "the provider refuses", Hint: "sign in", Detail: said}
		},
		"a save": func(p *provider) {
			p.saveErr = &protocol.Error{Code: protocol.CodeStorage, Message: "the store refuses", Detail: said}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log bytes.Buffer
				p := &provider{}
				a := start(t, p, func(o *Options) {
					o.Log = slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
				})
				p.set(func() { fail(p) })
				_, err := a.Token(t.Context(), protocol.TokenRequest{Force: true})
				if p.fail != nil && !strings.Contains(protocol.Says(err), said) {
					t.Errorf("who asked is told %q", protocol.Says(err))
				}
				if err != nil && strings.Contains(err.Error(), said) {
					t.Errorf("%q would be logged by whoever logs errors", err)
				}
				if _, err = a.Token(t.Context(), protocol.TokenRequest{}); err != nil && strings.Contains(protocol.Says(err), said) {
					t.Errorf("kept for who asks later: %q", protocol.Says(err))
				}
				status, err := a.Status(t.Context(), protocol.StatusRequest{})
				if err != nil || status.Profiles[0].LastError == "" {
					t.Fatalf("%+v, %v", status, err)
				}
				if reply := string(protocol.AppendStatus(nil, status)); strings.Contains(reply, "fake-password") {
					t.Errorf("status holds %q", status.Profiles[0].LastError)
				}
				time.Sleep(time.Minute) // the background tries too
				synctest.Wait()
				if text := log.String(); text == "" || strings.Contains(text, "fake-password") {
					t.Errorf("log:\n%s", text)
				}
				p.set(func() { p.saveErr = nil })
				time.Sleep(time.Minute)
			})
		})
	}
}
