package protocoltest_test

import (
	"testing"

	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/protocol/protocoltest"
)

func TestFake(t *testing.T) {
	protocoltest.Run(t, func(t *testing.T, profiles []protocoltest.Profile) protocol.Agent {
		return protocoltest.NewFake(profiles...)
	})
}

func TestClient(t *testing.T) {
	protocoltest.Run(t, func(t *testing.T, profiles []protocoltest.Profile) protocol.Agent {
		client := protocol.NewClient(protocoltest.Serve(t, protocoltest.NewFake(profiles...)))
		t.Cleanup(func() { client.Close() })
		return client
	})
}
