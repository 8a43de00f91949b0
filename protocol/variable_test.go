package protocol_test

import (
	"strings"
	"testing"

	"github.com/ccagent/ccagent/protocol"
)

// TestCheckVariable: the error shows what is wrong with a value, but for a variable in which people put a token by mistake.
func TestCheckVariable(t *testing.T) {
	t.Parallel()
	for _, good := range []string{"", "work", "a b"} {
		if err := protocol.CheckVariable("CCAGENT_PROFILE", good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{" work", "work ", "work\n", "wo\trk"} {
		err := protocol.CheckVariable("CCAGENT_PROFILE", bad)
		if err == nil || !strings.Contains(err.Error(), "wo") {
			t.Errorf("%q: %v", bad, err)
		}
	}
	err := protocol.CheckVariable("CCAGENT_HEADER", "Authorization: Bearer fake-token\n")
	if err == nil || strings.Contains(err.Error(), "fake") || !strings.Contains(err.Error(), "CCAGENT_HEADER") {
		t.Errorf("%v", err)
	}
}
