// Command embedded runs an agent within itself: no socket, no other process. Its provider is the simplest there is, a key in the
// environment; examples/provider has one that renews.
//
//	LLM_KEY=... go run ./examples/embedded
package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/ccagent/ccagent/agent"
	"github.com/ccagent/ccagent/agent/embed"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store"
)

func main() {
	if err := run(context.Background(), os.Getenv, os.Stdout); err != nil {
		fmt.Fprint(os.Stderr, protocol.Explain(err))
		os.Exit(protocol.ExitCode(err))
	}
}

func run(ctx context.Context, getenv func(string) string, stdout io.Writer) error {
	key := embed.ProviderFunc(func(context.Context, store.Record) (store.Record, error) {
		value := protocol.NewSecret(getenv("LLM_KEY"))
		if value.Empty() {
			return store.Record{}, &protocol.Error{Code: protocol.CodeNotFound, Message: "LLM_KEY is not set"}
		}
		return store.Record{Kind: protocol.KindAPIKey, AccessToken: value}, nil
	})
	a := agent.New(agent.Options{
		Runner: &embed.Runner{Profiles: map[string]embed.Profile{"main": {Provider: key}}},
		Load: func() (agent.Config, error) {
			return agent.Config{Default: "main", Profiles: []agent.Profile{{Name: "main"}}}, nil
		},
	})
	defer a.Close(ctx)

	token, err := a.Token(ctx, protocol.TokenRequest{})
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "profile %s has a token of kind %s and %d characters\n", token.Profile, token.Kind,
		len(token.Value.Reveal()))
	return nil
}
