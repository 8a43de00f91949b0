package main

import (
	"reflect"
	"testing"
	"time"

	"github.com/ccagent/ccagent/agent/gateway/audit"
	"github.com/ccagent/ccagent/cmd/ccagent/config"
	"github.com/ccagent/ccagent/protocol"
)

// What a status says is in its JSON, whatever fields come to be added.
func TestStatusJSONIsWhole(t *testing.T) {
	t.Parallel()
	at := time.UnixMilli(1767225600123)
	out := newStatusJSON(protocol.Status{
		Agent: protocol.AgentStatus{
			PID:            1,
			Version:        "v1",
			Socket:         "/s",
			Started:        at,
			Requests:       1,
			Renewals:       1,
			Connections:    1,
			Memory:         1,
			DefaultProfile: "fake",
			Here:           "fake",
			ConfigError:    "fake",
			ConfigHint:     "fake",
			Locked:         true,
		},
		Profiles: []protocol.ProfileStatus{
			{Name: "fake", Provider: "claude", State: protocol.StateLive, Store: "file", Location: "/f",
				Kind: protocol.KindOAuth, HasToken: true, Expiry: at, Issued: at, LastRenewal: at, Retry: at, LastUsed: at,
				LastError: "fake", LastHint: "fake", LastCode: protocol.CodeStorage, Subscription: "max", Scopes: []string{"a"}, Note: "fake",
				SignInEnds: at},
		},
	}, []audit.Entry{{Time: at, Session: "fake", Began: &audit.Began{PID: 1, Tool: 2, Program: "fake", Routes: []string{"a"},
		Listen: "fake"}}}, map[string][]config.ViewFile{"fake": {{Kind: config.ViewToken, Path: "/v"}}})
	for _, part := range []any{out.Agent, out.Profiles[0], out.Gateways[0]} {
		v := reflect.ValueOf(part)
		for i := range v.NumField() {
			if v.Field(i).IsZero() {
				t.Errorf("%s has no %s", v.Type(), v.Type().Field(i).Name)
			}
		}
	}
}
