package main

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/ccagent/ccagent/protocol"
)

// memory looks at the agent that has served and renewed all this while, and at two that have loaded one profile and many,
// after all three have been left alone for a while.
func (b *bench) memory(ctx context.Context) ([]row, error) {
	one, err := b.startLoaded(ctx, "one", 1)
	if err != nil {
		return nil, err
	}
	many, err := b.startLoaded(ctx, "many", b.profiles)
	if err != nil {
		return nil, err
	}
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(b.idle):
	}
	anonymous, resident, err := memoryOf(b.agent.pid)
	if err != nil {
		return nil, err
	}
	oneAnonymous, _, err := memoryOf(one.pid)
	if err != nil {
		return nil, err
	}
	manyAnonymous, _, err := memoryOf(many.pid)
	if err != nil {
		return nil, err
	}
	each := (manyAnonymous-oneAnonymous)/int64(b.profiles-1) - int64(len(fakeToken))
	const mib = 1 << 20
	return []row{
		{"agent memory, idle, after serving and renewing: anonymous", "≤ 2.5 MiB", fmt.Sprintf("%.2f MiB", float64(anonymous)/mib), anonymous <= 5*mib/2},
		{"the same, resident", "≤ 9 MiB", fmt.Sprintf("%.2f MiB", float64(resident)/mib), resident <= 9*mib},
		{fmt.Sprintf("%d profiles loaded, each beyond its token", b.profiles), "≤ 2 KiB", fmt.Sprintf("%.2f KiB", float64(each)/1024), each <= 2048},
	}, nil
}

// startLoaded starts an agent with n profiles and has it renew b.profiles times, in turn: what the work itself leaves behind
// in a runtime is the same for every n.
func (b *bench) startLoaded(ctx context.Context, name string, n int) (*agentProcess, error) {
	var config strings.Builder
	config.WriteString("default_profile = \"p0\"\n")
	for i := range n {
		writeCommandProfile(&config, "p"+strconv.Itoa(i))
	}
	agent, err := b.startAgent(ctx, name, config.String())
	if err != nil {
		return nil, err
	}
	for i := range b.profiles {
		// For longer than any token lives: each request renews.
		req := protocol.TokenRequest{Profile: "p" + strconv.Itoa(i%n), MinTTL: 48 * time.Hour}
		if _, err := agent.client.Token(ctx, req); err != nil {
			return nil, err
		}
	}
	return agent, nil
}

var allocsPerOp = regexp.MustCompile(`BenchmarkHotPath\S*\s.*\s(\d+) allocs/op`)

// allocations asks the agent's own benchmark what a hot request costs the server.
func (b *bench) allocations(ctx context.Context) ([]row, error) {
	out, err := b.command(ctx, "go", os.Environ(), "", "test", "-run", "^$", "-bench", "^BenchmarkHotPath$", "-benchmem", "-benchtime", "20000x", "./agent")
	if err != nil {
		return nil, err
	}
	match := allocsPerOp.FindStringSubmatch(out)
	if match == nil {
		return nil, fmt.Errorf("BenchmarkHotPath of package agent reports no allocations")
	}
	return []row{{"allocations per hot request in the server", "0", match[1], match[1] == "0"}}, nil
}
