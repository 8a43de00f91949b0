package main

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/protocol/protocoltest"
)

func TestRun(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(protocoltest.SocketDir(t), "s", "agent.sock")
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, socket, signer{key: []byte("fake-key"), lifetime: 15 * time.Minute}) }()
	client := protocol.NewClient(socket)
	defer client.Close()
	token, err := client.Token(t.Context(), protocol.TokenRequest{})
	for errors.Is(err, protocol.ErrNoAgent) { // it is starting
		time.Sleep(time.Millisecond)
		token, err = client.Token(t.Context(), protocol.TokenRequest{})
	}
	if left := time.Until(token.Expiry); err != nil || left < 5*time.Minute || left > 15*time.Minute ||
		!strings.Contains(token.Value.Reveal(), ".") {
		t.Errorf("%+v, %v", token, err)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
