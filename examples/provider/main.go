// Command provider serves an agent with a provider of its own. This one signs its tokens itself; a company's would ask a server.
//
//	CCAGENT_SOCK=/run/user/1000/example/agent.sock go run ./examples/provider
package main

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/signal"
	"time"

	"github.com/ccagent/ccagent/agent"
	"github.com/ccagent/ccagent/agent/embed"
	"github.com/ccagent/ccagent/agent/socket"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Getenv("CCAGENT_SOCK"), signer{[]byte(rand.Text()), 15 * time.Minute}); err != nil {
		fmt.Fprint(os.Stderr, protocol.Explain(err))
		os.Exit(protocol.ExitCode(err))
	}
}

// signer is an embed.Provider: each token names its end, and is signed with a key that stays here.
type signer struct {
	key      []byte
	lifetime time.Duration
}

func (s signer) Renew(_ context.Context, r store.Record) (store.Record, error) {
	r.Issued, r.Expiry = time.Now(), time.Now().Add(s.lifetime)
	mac := hmac.New(sha256.New, s.key)
	fmt.Fprint(mac, r.Expiry.Unix())
	r.AccessToken = protocol.NewSecret(fmt.Sprint(r.Expiry.Unix()) + "." + hex.EncodeToString(mac.Sum(nil)))
	return r, nil
}

func run(ctx context.Context, path string, p embed.Provider) error {
	l, err := socket.Listen(ctx, path)
	if err != nil {
		return err
	}
	defer l.Release()
	config := agent.Config{Default: "main", Profiles: []agent.Profile{{Name: "main"}}}
	runner := &embed.Runner{Profiles: map[string]embed.Profile{"main": {Provider: p}}}
	a := agent.New(agent.Options{Runner: runner, Load: func() (agent.Config, error) { return config, nil }})
	defer a.Close(context.Background())
	defer context.AfterFunc(ctx, a.Stop)()
	return a.Serve(l, socket.OnlyUser(uint32(os.Geteuid())))
}
