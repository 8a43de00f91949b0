package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/ccagent/ccagent/agent/gateway"
	"github.com/ccagent/ccagent/agent/gateway/route"
	"github.com/ccagent/ccagent/protocol/protocoltest"
)

// thinking is how long the service takes for an answer where requests in a row are measured. A real one takes longer.
const thinking = 5 * time.Millisecond

// serveUpstream is the service behind the gateway, in a process of its own. It listens with and without TLS, writes its
// certificate into the file that is its argument, and prints both addresses.
func serveUpstream(ctx context.Context, args []string) error {
	if len(args) != 1 {
		return errors.New("want FILE")
	}
	answer := bytes.Repeat([]byte(`{"type":"text","text":"Hello, world."}`), 50)
	random := make([]byte, 1<<20)
	for i := range random {
		random[i] = byte(rand.Uint32())
	}
	mux := http.NewServeMux()
	reply := func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		w.Write(answer)
	}
	mux.HandleFunc("/ask", reply)
	mux.HandleFunc("/think", func(w http.ResponseWriter, r *http.Request) { time.Sleep(thinking); reply(w, r) })
	mux.HandleFunc("/large", func(w http.ResponseWriter, r *http.Request) {
		for n, _ := strconv.Atoi(r.URL.RawQuery); n > 0; n-- {
			if _, err := w.Write(random); err != nil {
				return
			}
		}
	})
	mux.HandleFunc("/events", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for n := 0; ; n++ {
			fmt.Fprintf(w, "data: %d\n\n", n)
			w.(http.Flusher).Flush()
			select {
			case <-r.Context().Done():
				return
			case <-time.After(time.Second):
			}
		}
	})
	plain, encrypted := httptest.NewServer(mux), httptest.NewUnstartedServer(mux)
	encrypted.EnableHTTP2 = true
	encrypted.StartTLS()
	block := &pem.Block{Type: "CERTIFICATE", Bytes: encrypted.Certificate().Raw}
	if err := os.WriteFile(args[0], pem.EncodeToMemory(block), 0o600); err != nil {
		return err
	}
	fmt.Println(plain.URL, encrypted.URL)
	<-ctx.Done()
	return nil
}

// authorities reads the certificate of the service.
func authorities(path string) (*x509.CertPool, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(text)
	return pool, nil
}

// routed are the figures that a tool takes of its own gateway.
type routed struct {
	Direct, Gateway       time.Duration // median of one request on a kept connection
	DirectRow, GatewayRow time.Duration // 200 requests in a row
	DirectSSE, GatewaySSE time.Duration // median until the first byte of a server-sent event
	DirectMB, GatewayMB   float64       // throughput in MB/s
}

// measureTool is the tool that a gateway serves: it asks the service straight and through the gateway, in turn. Its arguments are
// the service's two addresses, its certificate and how often to ask.
func measureTool(ctx context.Context, args []string) error {
	if len(args) != 4 {
		return errors.New("want PLAIN ENCRYPTED CERTIFICATE NUMBER")
	}
	n, err := strconv.Atoi(args[3])
	if err != nil {
		return err
	}
	authorities, err := authorities(args[2])
	if err != nil {
		return err
	}
	client := &http.Client{Transport: &http.Transport{ForceAttemptHTTP2: true, DisableCompression: true,
		TLSClientConfig: &tls.Config{RootCAs: authorities}}}
	var failed error
	// once returns how long a request takes until so many bytes of its answer have come, all for 0.
	once := func(method, url string, first int64) time.Duration {
		req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(make([]byte, 1000)))
		if err != nil {
			failed = err
			return 0
		}
		req.Header.Set("X-Api-Key", os.Getenv("BENCH_KEY"))
		if strings.Contains(url, "/tls/") {
			req.Header.Set("X-Api-Key", os.Getenv("BENCH_TLS_KEY"))
		}
		began := time.Now()
		resp, err := client.Do(req)
		if err != nil {
			failed = err
			return 0
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			failed = errors.New(resp.Status)
		}
		if first > 0 {
			_, err = io.CopyN(io.Discard, resp.Body, first)
		} else {
			_, err = io.Copy(io.Discard, resp.Body)
		}
		failed = errors.Join(failed, err)
		return time.Since(began)
	}
	plain, encrypted := os.Getenv("BENCH_URL"), os.Getenv("BENCH_TLS_URL")
	both := func(n int, path string, first int64) (direct, routed time.Duration) {
		var samples [2][]time.Duration
		for i := range n + n/10 {
			a, b := once("POST", args[0]+path, first), once("POST", plain+path, first)
			if i >= n/10 {
				samples[0], samples[1] = append(samples[0], a), append(samples[1], b)
			}
		}
		return quantile(samples[0], 0.5), quantile(samples[1], 0.5)
	}
	var r routed
	r.Direct, r.Gateway = both(n, "/ask", 0)
	r.DirectSSE, r.GatewaySSE = both(n/10, "/events", 1)
	for range 200 {
		r.DirectRow += once("POST", args[1]+"/think", 0)
		r.GatewayRow += once("POST", encrypted+"/think", 0)
	}
	var rates [2][]float64
	for range 5 {
		for i, base := range []string{args[1], encrypted} {
			rates[i] = append(rates[i], float64(n/10)*1.048576/once("GET", base+"/large?"+strconv.Itoa(n/10), 0).Seconds())
		}
	}
	r.DirectMB, r.GatewayMB = median(rates[0]), median(rates[1])
	if failed != nil {
		return failed
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}

// serveStreams is a gateway that many streams can be open through at once, in a process of its own. Its arguments are the
// service's address and certificate, and how many. It prints the base URL of its route and the stand-in.
func serveStreams(ctx context.Context, args []string) error {
	if len(args) != 3 {
		return errors.New("want ADDRESS CERTIFICATE NUMBER")
	}
	authorities, err := authorities(args[1])
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	u, err := route.ParseUpstream(args[0])
	if err != nil {
		return err
	}
	g, err := gateway.New(ctx, gateway.Options{
		Agent:   protocoltest.NewFake(protocoltest.Profile{Name: "hot", Token: fakeToken}),
		Routes:  route.Table{{Name: "plain", Profile: "hot", Upstream: u, RenewOn: []int{401}, TLS: &tls.Config{RootCAs: authorities}}},
		Streams: n,
	})
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { g.Close() })()
	fmt.Printf("http://%s/plain %s\n", l.Addr(), g.Grants()[0].StandIn.Reveal())
	return g.Serve(l)
}

// child starts this program in another way, and returns the words that it prints at first.
func (b *bench) child(args ...string) (pid int, words []string, err error) {
	self, err := os.Executable()
	if err != nil {
		return 0, nil, err
	}
	cmd := exec.Command(self, args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, nil, err
	}
	if err := b.spawn(cmd); err != nil {
		return 0, nil, err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return 0, nil, fmt.Errorf("bench %s: %w", args[0], err)
	}
	return cmd.Process.Pid, strings.Fields(line), nil
}

// gateway measures what a tool gets through its gateway, against the same requests to the same service without one.
func (b *bench) gateway(ctx context.Context) ([]row, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	certificate := filepath.Join(b.dir, "upstream.pem")
	_, at, err := b.child("upstream", certificate)
	if err != nil {
		return nil, err
	}
	config, err := os.OpenFile(filepath.Join(b.dir, "main", ".config", "ccagent", "config.toml"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(config, "[gateway.routes.plain]\nprofile = \"hot\"\nupstream = %q\n"+
		"env = { BENCH_URL = \"url\", BENCH_KEY = \"token\" }\n"+
		"[gateway.routes.tls]\nprofile = \"hot\"\nupstream = %q\nca_file = %q\n"+
		"env = { BENCH_TLS_URL = \"url\", BENCH_TLS_KEY = \"token\" }\n", at[0], at[1], certificate)
	if err := config.Close(); err != nil {
		return nil, err
	}
	ccagent := filepath.Join(b.bin, "ccagent")
	out, err := b.command(ctx, ccagent, b.agent.env, "", "run", "--", self, "tool", at[0], at[1], certificate,
		strconv.Itoa(b.effort.requests))
	if err != nil {
		return nil, err
	}
	var r routed
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		return nil, err
	}
	true := program{name: "true", path: "/bin/true", env: b.agent.env}
	run := program{name: "ccagent run", path: ccagent, args: []string{"run", "--", true.path}, env: b.agent.env}
	fewer := *b
	fewer.effort.processes = b.effort.processes / 10
	ms, err := fewer.interleaved(ctx, []program{run, true})
	if err != nil {
		return nil, err
	}
	streams, err := b.streams(ctx, at[1], certificate)
	if err != nil {
		return nil, err
	}
	micro := func(d time.Duration) int64 { return d.Microseconds() }
	inRow, rate := float64(r.GatewayRow)/float64(r.DirectRow), r.GatewayMB/r.DirectMB
	return append([]row{
		{
			what:     "a request through the gateway on a kept connection, beyond the service itself, median",
			must:     "≤ 150 µs",
			measured: fmt.Sprintf("%d µs - %d µs = %d µs", micro(r.Gateway), micro(r.Direct), micro(r.Gateway-r.Direct)),
			ok:       r.Gateway-r.Direct <= 150*time.Microsecond,
		},
		{
			what:     fmt.Sprintf("200 requests in a row through the gateway, to a service with TLS that takes %v", thinking),
			must:     "≤ 1.15",
			measured: fmt.Sprintf("%d ms / %d ms = %.2f", r.GatewayRow.Milliseconds(), r.DirectRow.Milliseconds(), inRow),
			ok:       inRow <= 1.15,
		},
		{
			what:     "first byte of a server-sent event through the gateway, beyond the service itself, median",
			must:     "≤ 1 ms",
			measured: fmt.Sprintf("%d µs - %d µs = %d µs", micro(r.GatewaySSE), micro(r.DirectSSE), micro(r.GatewaySSE-r.DirectSSE)),
			ok:       r.GatewaySSE-r.DirectSSE <= time.Millisecond,
		},
		{
			what:     "throughput of a large body through the gateway, service with TLS",
			must:     "≥ 0.6",
			measured: fmt.Sprintf("%.0f MB/s / %.0f MB/s = %.2f", r.GatewayMB, r.DirectMB, rate),
			ok:       rate >= 0.6,
		},
		{
			what:     fmt.Sprintf("`ccagent run` until the tool starts, beyond the tool, median of %d", fewer.effort.processes),
			must:     "≤ 40 ms",
			measured: fmt.Sprintf("%.1f ms - %.1f ms = %.1f ms", ms[0], ms[1], ms[0]-ms[1]),
			ok:       ms[0]-ms[1] <= 40,
		},
	}, streams...), nil
}

// streams opens many streams through one gateway, reads a few events of each, and measures the gateway's memory meanwhile.
func (b *bench) streams(ctx context.Context, at, certificate string) ([]row, error) {
	n := b.effort.profiles
	pid, base, err := b.child("streams", at, certificate, strconv.Itoa(n))
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var lost, come atomic.Int64
	client := &http.Client{Transport: &http.Transport{DisableCompression: true}}
	const events = 5
	for range n {
		req, err := http.NewRequestWithContext(ctx, "POST", base[0]+"/events", nil)
		if err != nil {
			return nil, err
		}
		req.Header.Set("X-Api-Key", base[1])
		resp, err := client.Do(req)
		if err != nil {
			return nil, err
		}
		defer resp.Body.Close()
		go func() {
			r := bufio.NewReader(resp.Body)
			for i := range events {
				line, err := r.ReadString('\n')
				if err != nil || line != fmt.Sprintf("data: %d\n", i) {
					lost.Add(1)
				}
				r.ReadString('\n')
			}
			come.Add(1)
			io.Copy(io.Discard, r) // until the measurement is over
		}()
	}
	for come.Load() < int64(n) {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
	_, resident, err := memoryOf(pid)
	if err != nil {
		return nil, err
	}
	return []row{
		memoryRow(fmt.Sprintf("gateway memory with %d streams of events open, service with HTTP/2: resident", n), 64*mib, resident),
		{
			what: fmt.Sprintf("events lost of the first %d of each", events), must: "0", measured: fmt.Sprint(lost.Load()),
			ok: lost.Load() == 0,
		},
	}, nil
}
