//go:build !linux || !(amd64 || arm64)

package early

import (
	"context"
	"io"
	"os"

	"github.com/ccagent/ccagent/protocol"
)

// Token asks with client: nothing is asked early on this system.
func Token(ctx context.Context, client *protocol.Client, req protocol.TokenRequest) (protocol.Token, error) {
	return client.Token(ctx, req)
}

// Stdout is os.Stdout: nothing is written early on this system.
func Stdout() io.Writer { return os.Stdout }
