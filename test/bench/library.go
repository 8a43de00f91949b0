package main

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
)

// libraryRounds is how often each benchmark of package httpauth is run. The fastest round counts, which nothing has disturbed.
const libraryRounds = 100

var benchmarkLine = regexp.MustCompile(`(?m)^Benchmark(\S+?)(?:-\d+)?\s+\d+\s+([0-9.]+) ns/op\s+\d+ B/op\s+(\d+) allocs/op`)

// benchmark is the fastest round of a benchmark.
type benchmark struct {
	nanoseconds float64
	allocs      int
}

// library measures what package httpauth adds to a request in a client and in a server.
func (b *bench) library(ctx context.Context) ([]row, error) {
	// Garbage in a heap of a few megabytes, as a benchmark has, is collected hundreds of times a second; in a service's it is not.
	env := append(os.Environ(), "GOGC=400")
	out, err := b.command(ctx, "go", env, "", "test", "-run", "^$", "-bench", "^(BenchmarkRequire|BenchmarkTransport)$", "-benchmem",
		"-benchtime", "5000x", "-count", strconv.Itoa(libraryRounds), "./agent/httpauth")
	if err != nil {
		return nil, err
	}
	fastest := parseBenchmarks(out)
	of := func(name string) (benchmark, error) {
		m, ok := fastest[name]
		if !ok {
			return m, fmt.Errorf("package httpauth reports nothing of Benchmark%s", name)
		}
		return m, nil
	}
	var rows []row
	for _, part := range []struct {
		name, what string
		allocs     int // at most
	}{
		{"Require/bearer", "httpauth.Require, an accepted token, nothing put into the context", 0},
		{"Require/stored", "httpauth.Require, the stored sign-in, nothing put into the context", 0},
		{"Require/bearer_with_context", "httpauth.Require, an accepted token, who it is put into the context", 2},
	} {
		m, err := of(part.name)
		if err != nil {
			return nil, err
		}
		rows = append(rows, row{
			what:     part.what,
			must:     fmt.Sprintf("≤ 1 µs, %d allocations", part.allocs),
			measured: fmt.Sprintf("%.0f ns, %d allocations", m.nanoseconds, m.allocs),
			ok:       m.nanoseconds <= 1000 && m.allocs <= part.allocs,
		})
	}
	plain, err := of("Transport/plain")
	if err != nil {
		return nil, err
	}
	token, err := of("Transport/with_a_token")
	if err != nil {
		return nil, err
	}
	added := token.nanoseconds - plain.nanoseconds
	return append(rows, row{
		what:     "httpauth.Transport, beyond a RoundTripper without a token",
		must:     "≤ 300 ns",
		measured: fmt.Sprintf("%.0f ns", added),
		ok:       added <= 300,
	}), nil
}

// parseBenchmarks returns the fastest round of each benchmark by its name without "Benchmark".
func parseBenchmarks(out string) map[string]benchmark {
	fastest := map[string]benchmark{}
	for _, m := range benchmarkLine.FindAllStringSubmatch(out, -1) {
		nanoseconds, err := strconv.ParseFloat(m[2], 64)
		if err != nil {
			continue
		}
		allocs, err := strconv.Atoi(m[3])
		if err != nil {
			continue
		}
		name := strings.TrimSpace(m[1])
		if old, ok := fastest[name]; !ok || nanoseconds < old.nanoseconds {
			fastest[name] = benchmark{nanoseconds, allocs}
		}
	}
	return fastest
}
