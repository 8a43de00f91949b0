package protocoltest_test

import (
	"testing"

	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/protocol/protocoltest"
)

func fake(profiles []protocoltest.Profile) *protocoltest.Fake {
	f := protocoltest.NewFake(profiles...)
	f.Home = protocoltest.Home
	return f
}

func TestFake(t *testing.T) {
	protocoltest.Run(t, func(t *testing.T, profiles []protocoltest.Profile) protocol.Agent {
		return fake(profiles)
	})
}

func TestClient(t *testing.T) {
	protocoltest.Run(t, func(t *testing.T, profiles []protocoltest.Profile) protocol.Agent {
		client := protocol.NewClient(protocoltest.Serve(t, fake(profiles)))
		t.Cleanup(func() { client.Close() })
		return client
	})
}
