// Command client fetches a URL and sends an agent's token in the Authorization header. The agent keeps the token valid.
//
//	go run ./examples/client -p gateway https://llm.example.com/v1/models
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"

	"github.com/ccagent/ccagent/agent/httpauth"
	"github.com/ccagent/ccagent/protocol"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprint(os.Stderr, protocol.Explain(err))
		os.Exit(protocol.ExitCode(err))
	}
}

func run(ctx context.Context, args []string, stdout io.Writer) error {
	flags := flag.NewFlagSet("client", flag.ContinueOnError)
	profile := flags.String("p", "", "the `profile`; the agent's default one if empty")
	if err := flags.Parse(args); err != nil || flags.NArg() != 1 {
		return &protocol.Error{Code: protocol.CodeConfig, Message: "usage: client [-p PROFILE] URL"}
	}
	pool, err := protocol.PoolFromEnv(true)
	if err != nil {
		return err
	}
	defer pool.Close()
	auth := httpauth.NewAgent(pool, *profile)
	defer auth.Close()

	client := &http.Client{Transport: &httpauth.Transport{Agent: auth}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, flags.Arg(0), nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(stdout, resp.Body)
	return err
}
