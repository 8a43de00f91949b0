package embed_test

import (
	"context"
	"fmt"
	"time"

	"github.com/ccagent/ccagent/agent"
	"github.com/ccagent/ccagent/agent/embed"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store"
)

// An agent within the program, with a provider of the program's own and a record in memory.
func Example() {
	n := 0
	provider := embed.ProviderFunc(func(_ context.Context, r store.Record) (store.Record, error) {
		n++
		r.AccessToken = protocol.NewSecret(fmt.Sprint("fake-access-", n))
		r.Issued, r.Expiry = time.Now(), time.Now().Add(time.Hour)
		return r, nil
	})
	a := agent.New(agent.Options{
		Runner: &embed.Runner{Profiles: map[string]embed.Profile{"main": {Provider: provider}}},
		Load: func() (agent.Config, error) {
			return agent.Config{Default: "main", Profiles: []agent.Profile{{Name: "main"}}}, nil
		},
	})
	ctx := context.Background()
	defer a.Close(ctx)

	for range 3 {
		token, err := a.Token(ctx, protocol.TokenRequest{})
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(token.Profile, token.Value.Reveal())
	}
	// Output:
	// main fake-access-1
	// main fake-access-1
	// main fake-access-1
}
