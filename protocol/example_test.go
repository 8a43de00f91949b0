//go:build unix

package protocol_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ccagent/ccagent/protocol"
)

// A program asks this environment's agent for a token, and tells what to do if there is no agent.
func ExamplePool() {
	pool := protocol.NewPool(protocol.NewClient("/run/user/1000/no-such-folder/agent.sock"), 0) // or protocol.PoolFromEnv(true)
	defer pool.Close()

	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	token, err := pool.Token(ctx, protocol.TokenRequest{Profile: "gateway", MinTTL: time.Minute})
	switch {
	case err == nil:
		fmt.Println("a token of kind", token.Kind)
	case errors.Is(err, protocol.ErrLoginRequired):
		fmt.Println("sign in first")
	case errors.Is(err, protocol.ErrNoAgent):
		fmt.Println("no agent is listening")
	default:
		fmt.Println(err)
	}
	// Output: no agent is listening
}
