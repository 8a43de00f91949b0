package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/ccagent/ccagent/protocol"
)

// memory measures the memory of idle agents: of one that has served and renewed as much as for a person, of the one that all the
// parts before have used, and of two that have loaded one profile and many.
func (b *bench) memory(ctx context.Context) ([]row, error) {
	light, err := b.startLight(ctx)
	if err != nil {
		return nil, err
	}
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
	lightAnonymous, lightResident, err := memoryOf(light.pid)
	if err != nil {
		return nil, err
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
	return []row{
		memoryRow(
			fmt.Sprintf("agent memory, idle, after serving %d requests and renewing %d times: anonymous", lightRequests, lightRenewals),
			9*mib/2,
			lightAnonymous,
		),
		memoryRow("the same, resident", 9*mib, lightResident),
		memoryRow("agent memory, idle, after all of the above: anonymous", 9*mib/2, anonymous),
		memoryRow("the same, resident", 9*mib, resident),
		{
			what:     fmt.Sprintf("%d profiles loaded, each beyond its token", b.profiles),
			must:     "≤ 3 KiB",
			measured: fmt.Sprintf("%.2f KiB", float64(each)/1024),
			ok:       each <= 3072,
		},
	}, nil
}

const mib = 1 << 20

func memoryRow(what string, must, measured int64) row {
	return row{
		what:     what,
		must:     fmt.Sprintf("≤ %g MiB", float64(must)/mib),
		measured: fmt.Sprintf("%.2f MiB", float64(measured)/mib),
		ok:       measured <= must,
	}
}

const lightRequests, lightRenewals = 1008, 24

// startLight starts an agent with a token in memory and three sign-ins, and has it serve and renew as much as for a person with
// several terminals: the helper asks for the token, and the sign-ins are renewed in turn.
func (b *bench) startLight(ctx context.Context) (*agentProcess, error) {
	var config strings.Builder
	config.WriteString("default_profile = \"hot\"\n")
	writeCommandProfile(&config, "hot")
	signIns := []string{"light-0", "light-1", "light-2"}
	for _, name := range signIns {
		if err := b.writeSignInProfile(&config, name); err != nil {
			return nil, err
		}
	}
	agent, err := b.startAgent(ctx, "light", config.String())
	if err != nil {
		return nil, err
	}
	helper := program{name: "cchelper", path: filepath.Join(b.bin, "cchelper"), env: agent.env}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	before := b.provider.Counts().Refreshes
	for i := range lightRenewals {
		for range lightRequests / lightRenewals {
			if _, err := helper.once(null); err != nil {
				return nil, err
			}
		}
		name := signIns[i%len(signIns)]
		if err := writeSignIn(filepath.Join(b.dir, name), b.provider.Issue()); err != nil { // as another program would
			return nil, err
		}
		if _, err := agent.client.Token(ctx, protocol.TokenRequest{Profile: name}); err != nil {
			return nil, err
		}
	}
	if renewed := b.provider.Counts().Refreshes - before; renewed != lightRenewals {
		return nil, fmt.Errorf("%d renewals happened, not %d", renewed, lightRenewals)
	}
	return agent, nil
}

// startLoaded starts an agent with n profiles and has it renew b.profiles times, the profiles in turn. So the work is the same
// for every n, and so is what the work leaves in Go's runtime.
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
		if i >= n { // a locked agent forgets its tokens, and so renews them again
			for _, command := range []protocol.Command{protocol.CommandLock, protocol.CommandUnlock} {
				if _, err := agent.client.Control(ctx, protocol.ControlRequest{Command: command}); err != nil {
					return nil, err
				}
			}
		}
		if _, err := agent.client.Token(ctx, protocol.TokenRequest{Profile: "p" + strconv.Itoa(i%n)}); err != nil {
			return nil, err
		}
	}
	return agent, nil
}

var allocsPerOp = regexp.MustCompile(`BenchmarkHotPath\S*\s.*\s(\d+) allocs/op`)

// allocations runs the agent's own benchmark, which counts what the server allocates for a request whose token is in memory.
func (b *bench) allocations(ctx context.Context) ([]row, error) {
	out, err := b.command(ctx, "go", os.Environ(), "", "test", "-run", "^$", "-bench", "^BenchmarkHotPath$", "-benchmem",
		"-benchtime", "20000x", "./agent")
	if err != nil {
		return nil, err
	}
	match := allocsPerOp.FindStringSubmatch(out)
	if match == nil {
		return nil, fmt.Errorf("BenchmarkHotPath of package agent reports no allocations")
	}
	return []row{{what: "allocations per hot request in the server", must: "0", measured: match[1], ok: match[1] == "0"}}, nil
}
