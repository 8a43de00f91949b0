package protocol_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/ccagent/ccagent/protocol"
)

// A token goes into the variable of its kind, however it was stored. Another vendor's key goes into none.
func TestVariable(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		token string
		kept  protocol.Kind
		want  string // "": refused
	}{
		{"fake-1", protocol.KindOAuth, "CLAUDE_CODE_OAUTH_TOKEN"},
		{"fake-1", protocol.KindAPIKey, "ANTHROPIC_API_KEY"},
		{"fake-1", protocol.KindBearer, "ANTHROPIC_AUTH_TOKEN"},
		{"fake-1", "", "ANTHROPIC_AUTH_TOKEN"},
		{"sk-ant-oat01-fake", protocol.KindAPIKey, "CLAUDE_CODE_OAUTH_TOKEN"},
		{"sk-ant-oat02-fake", protocol.KindBearer, "CLAUDE_CODE_OAUTH_TOKEN"},
		{"sk-ant-api03-fake", protocol.KindBearer, "ANTHROPIC_API_KEY"},
		{"sk-ant-api03-fake", protocol.KindOAuth, "ANTHROPIC_API_KEY"},
		{"sk-ant-admin01-fake", protocol.KindAPIKey, "ANTHROPIC_API_KEY"},
		{"ghp_fake", protocol.KindAPIKey, ""},
		{"sk-proj-fake", protocol.KindAPIKey, ""},
		{"ya29.fake", protocol.KindBearer, "ANTHROPIC_AUTH_TOKEN"}, // a token of a gateway may begin with anything
	} {
		value := protocol.NewSecret(tt.token)
		got, err := protocol.Token{Profile: "robot", Value: value, Kind: protocol.KindOf(value, tt.kept)}.Variable()
		if got != tt.want || (err != nil) != (tt.want == "") {
			t.Errorf("%s kept as %q goes into %q, %v; want %q", tt.token, tt.kept, got, err, tt.want)
		}
		if err != nil &&
			(!errors.Is(err, protocol.ErrConfig) || strings.Contains(err.Error()+protocol.HintOf(err), "fake") ||
				!strings.Contains(protocol.HintOf(err), "--env ")) {
			t.Errorf("%s: %v (%s)", tt.token, err, protocol.HintOf(err))
		}
	}
}
