package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ccagent/ccagent/agent/oauth/oauthtest"
	"github.com/ccagent/ccagent/protocol"
)

// serveEcho is the server that the agent's throughput is compared with, in a process of its own: it does the least that a Go
// server can do with frames of these sizes. Its arguments are a socket, the size of a request, and the size of a reply.
func serveEcho(ctx context.Context, args []string) error {
	if len(args) != 3 {
		return errors.New("want SOCKET REQUEST REPLY")
	}
	requestSize, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	replySize, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	listener, err := net.Listen("unix", args[0])
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { listener.Close() })()
	fmt.Println("ready")
	for {
		conn, err := listener.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		go func() {
			defer conn.Close()
			request, reply := make([]byte, requestSize), make([]byte, replySize)
			for {
				if _, err := io.ReadFull(conn, request); err != nil {
					return
				}
				if _, err := conn.Write(reply); err != nil {
					return
				}
			}
		}()
	}
}

// exchange is a request in bytes, and the size of its reply.
type exchange struct {
	socket  string
	request []byte
	reply   int
}

// hot returns the exchange for the token in the agent's memory. It fails if the reply is no token.
func (b *bench) hot() (exchange, error) {
	request, err := protocol.AppendTokenRequest(nil, protocol.TokenRequest{})
	if err != nil {
		return exchange{}, err
	}
	conn, err := net.Dial("unix", b.agent.socket)
	if err != nil {
		return exchange{}, err
	}
	defer conn.Close()
	if _, err := conn.Write(request); err != nil {
		return exchange{}, err
	}
	reply, err := protocol.ReadFrame(conn, nil, protocol.MaxFrame)
	if err != nil {
		return exchange{}, err
	}
	if op, _, err := protocol.OpenFrame(reply); err != nil || op != protocol.OpToken.Reply() {
		return exchange{}, fmt.Errorf("no token in the reply: op %d, %w", op, err)
	}
	const header = 4
	return exchange{b.agent.socket, request, header + len(reply)}, nil
}

// startEcho starts an echo server, and returns an exchange with it that has the same sizes.
func (b *bench) startEcho(like exchange) (exchange, error) {
	self, err := os.Executable()
	if err != nil {
		return exchange{}, err
	}
	echo := exchange{filepath.Join(b.dir, "echo.sock"), like.request, like.reply}
	server := exec.Command(self, "echo", echo.socket, strconv.Itoa(len(echo.request)), strconv.Itoa(echo.reply))
	server.Stderr = os.Stderr
	ready, err := server.StdoutPipe()
	if err != nil {
		return exchange{}, err
	}
	if err := b.spawn(server); err != nil {
		return exchange{}, err
	}
	if _, err := ready.Read(make([]byte, 16)); err != nil {
		return exchange{}, fmt.Errorf("echo server: %w", err)
	}
	return echo, nil
}

// loop repeats the exchange on one connection as long as more returns true, which it calls before each. It stops at an exchange
// that fails.
func (x exchange) loop(more func() bool) error {
	conn, err := net.Dial("unix", x.socket)
	if err != nil {
		return err
	}
	defer conn.Close()
	reply := make([]byte, x.reply)
	for more() {
		if _, err := conn.Write(x.request); err != nil {
			return err
		}
		if _, err := io.ReadFull(conn, reply); err != nil {
			return err
		}
	}
	return nil
}

// rate returns how many exchanges in a second a server answers over that many connections.
func (x exchange) rate(connections int, window time.Duration) (float64, error) {
	var (
		stop  atomic.Bool
		done  atomic.Int64
		group sync.WaitGroup
		errs  = make(chan error, connections)
	)
	start := time.Now()
	for range connections {
		group.Go(func() {
			count := int64(-1)
			errs <- x.loop(func() bool { count++; return !stop.Load() })
			done.Add(count)
		})
	}
	time.Sleep(window)
	stop.Store(true)
	group.Wait()
	took := time.Since(start)
	close(errs)
	for err := range errs {
		if err != nil {
			return 0, err
		}
	}
	return float64(done.Load()) / took.Seconds(), nil
}

// throughput compares the agent with the echo server, in turn.
func (b *bench) throughput(ctx context.Context) ([]row, error) {
	hot, err := b.hot()
	if err != nil {
		return nil, err
	}
	echo, err := b.startEcho(hot)
	if err != nil {
		return nil, err
	}
	var rows []row
	for _, connections := range []int{1, 64} {
		var ratios, agents, echoes []float64
		for range b.rounds {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			e, err := echo.rate(connections, b.window)
			if err != nil {
				return nil, err
			}
			a, err := hot.rate(connections, b.window)
			if err != nil {
				return nil, err
			}
			ratios, agents, echoes = append(ratios, a/e), append(agents, a), append(echoes, e)
		}
		ratio := median(ratios)
		rows = append(rows, row{
			what:     fmt.Sprintf("token requests per second on %d connection(s), against a bare Go echo server", connections),
			must:     "≥ 0.67",
			measured: fmt.Sprintf("%.0f / %.0f = %.2f", median(agents), median(echoes), ratio),
			ok:       ratio >= 0.67,
		})
	}
	return rows, nil
}

// tail returns the 99.9th percentile of the time that the exchange takes on one connection.
func (x exchange) tail(window time.Duration) (time.Duration, error) {
	samples := make([]time.Duration, 0, 1<<20)
	// A garbage collection in this process would count as time of the server.
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	begin := time.Now()
	last := begin
	err := x.loop(func() bool {
		now := time.Now()
		if now != begin {
			samples = append(samples, now.Sub(last))
		}
		last = now
		return now.Sub(begin) < window
	})
	if err != nil {
		return 0, err
	}
	return quantile(samples[1:], 0.999), nil // the first one includes the making of the connection
}

// latency compares the tail of an idle agent with that of one whose other profiles are renewed all the time at a slow provider.
func (b *bench) latency(ctx context.Context) ([]row, error) {
	hot, err := b.hot()
	if err != nil {
		return nil, err
	}
	window := max(b.window, 2*b.effort.provider)
	var ratios, idles, busies []float64
	for range b.rounds {
		idle, err := hot.tail(window)
		if err != nil {
			return nil, err
		}
		busy, err := b.whileRenewing(ctx, func() (time.Duration, error) { return hot.tail(window) })
		if err != nil {
			return nil, err
		}
		ratios = append(ratios, float64(busy)/float64(idle))
		idles = append(idles, idle.Seconds()*1e6)
		busies = append(busies, busy.Seconds()*1e6)
	}
	ratio := median(ratios)
	return []row{{
		what: fmt.Sprintf("99.9th percentile of a hot request while %d profiles renew at a %s provider, against an idle agent",
			b.renewing, b.effort.provider),
		must:     "≤ 3",
		measured: fmt.Sprintf("%.0f µs / %.0f µs = %.2f", median(busies), median(idles), ratio),
		ok:       ratio <= 3,
	}}, nil
}

// whileRenewing calls f while profiles are renewed over and over. Their renewals begin at different times, and there are so many
// profiles that b.renewing renewals are under way at any time.
func (b *bench) whileRenewing(ctx context.Context, f func() (time.Duration, error)) (time.Duration, error) {
	b.provider.SetFault(oauthtest.Fault{Delay: b.effort.provider})
	defer b.provider.SetFault(oauthtest.Fault{})
	var (
		profiles = b.profilesRenewing()
		turn     = b.effort.provider + b.rest()
		stop     = make(chan struct{})
		group    sync.WaitGroup
		started  sync.WaitGroup
		errs     = make(chan error, profiles)
	)
	for i := range profiles {
		started.Add(1)
		group.Go(func() {
			time.Sleep(turn * time.Duration(i) / time.Duration(profiles))
			started.Done()
			for {
				if _, err := b.agent.client.Token(ctx, protocol.TokenRequest{Profile: renewing(i), Force: true}); err != nil {
					errs <- fmt.Errorf("renewal of %s: %w", renewing(i), err)
					return
				}
				select {
				case <-time.After(b.rest()):
				case <-stop:
					return
				}
			}
		})
	}
	started.Wait()
	before := b.provider.Counts().Refreshes
	result, err := f()
	renewed := b.provider.Counts().Refreshes - before
	close(stop)
	group.Wait()
	close(errs)
	for renewalErr := range errs {
		err = errors.Join(err, renewalErr)
	}
	if err == nil && renewed < b.renewing { // not even one for each that should be under way
		err = fmt.Errorf("only %d renewals happened meanwhile", renewed)
	}
	return result, err
}
