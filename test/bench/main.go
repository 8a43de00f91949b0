// Command bench measures ccagent and compares it with other programs of its kind. It prints one table in Markdown. Every figure
// is a ratio within one run, or a size, so that the speed of the machine cancels out and docs/performance.md can be checked
// anywhere.
//
//	make bench                         # all of it, about six minutes
//	make bench BENCHFLAGS=-quick       # does it run? its figures mean nothing
//
// It works in a temporary home, with fake tokens, a provider of its own, and servers in processes of their own. It needs git,
// ssh-agent and Go, and Linux for the figures of memory. With a C compiler it compares cchelper with a C program too. Its exit
// code is 1 if something failed, and 2 if a bound was missed.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// effort is how much is measured.
type effort struct {
	processes int           // runs of each program
	rounds    int           // of throughput and latency
	window    time.Duration // of one round
	provider  time.Duration // how long the slow provider takes
	renewing  int           // renewals that are under way while latency is measured
	idle      time.Duration // how long agents are idle before their memory is measured
	profiles  int           // how many are loaded into one agent, and how many streams are open through a gateway
	requests  int           // through a gateway
}

var (
	full = effort{
		processes: 500,
		rounds:    5,
		window:    3 * time.Second,
		provider:  5 * time.Second,
		renewing:  10,
		idle:      time.Minute,
		profiles:  1000,
		requests:  5000,
	}
	quick = effort{
		processes: 20,
		rounds:    1,
		window:    200 * time.Millisecond,
		provider:  300 * time.Millisecond,
		renewing:  2,
		idle:      time.Second,
		profiles:  50,
		requests:  100,
	}
)

// rest is how long a profile is not renewed after a renewal. A request to renew it within 2 s is answered by the renewal before.
// And an agent renews a profile only so often on request, so in long rounds the renewals are spread over more profiles.
func (e effort) rest() time.Duration { return max(2100*time.Millisecond, 2*e.provider) }

// profilesRenewing is how many profiles are needed to have e.renewing renewals under way, if each rests after its own.
func (e effort) profilesRenewing() int {
	return int((time.Duration(e.renewing)*(e.provider+e.rest()) + e.provider - 1) / e.provider)
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// children are the processes that a measurement needs beside this one, by their first argument.
var children = map[string]func(context.Context, []string) error{
	"echo": serveEcho, "upstream": serveUpstream, "streams": serveStreams, "tool": measureTool,
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) > 0 && children[args[0]] != nil {
		if err := children[args[0]](ctx, args[1:]); err != nil {
			fmt.Fprintf(stderr, "bench %s: %s\n", args[0], err)
			return 1
		}
		return 0
	}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	bin := flags.String("bin", "bin", "`folder` of the programs to measure")
	smoke := flags.Bool("quick", false, "only see that it runs; judge nothing")
	only := flags.String("only", "", "measure only the parts with this `text` in their name")
	if err := flags.Parse(args); err != nil {
		return 1
	}
	e := full
	if *smoke {
		e = quick
	}
	rows, err := measure(ctx, *bin, *only, e, stderr)
	if err != nil {
		fmt.Fprintln(stderr, "bench:", err)
		return 1
	}
	fmt.Fprintf(stdout, "Measured on %s.\n\n", machine())
	missed := printTable(stdout, rows)
	if *smoke {
		fmt.Fprintln(stdout, "\nA quick run: the figures mean nothing.")
		return 0
	}
	if missed > 0 {
		fmt.Fprintf(stderr, "bench: bounds missed: %d\n", missed)
		return 2
	}
	return 0
}

// measure runs all parts, one after the other, and writes to progress which one it is at.
func measure(ctx context.Context, bin, only string, e effort, progress io.Writer) ([]row, error) {
	// The name is short because a socket's path has room for only about a hundred bytes.
	dir, err := os.MkdirTemp("/tmp", "ccb")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)

	for _, name := range []string{"ccagent", "cchelper"} {
		if err := install(filepath.Join(bin, name), filepath.Join(dir, name)); err != nil {
			return nil, err
		}
	}
	b := &bench{effort: e, bin: dir, dir: dir}
	defer b.close()
	if err := b.start(ctx); err != nil {
		return nil, err
	}
	var rows []row
	for _, part := range []struct {
		name string
		run  func(context.Context) ([]row, error)
	}{
		{"whole processes", b.processes},
		{"size", b.size},
		{"throughput", b.throughput},
		{"latency while others renew", b.latency},
		{"memory", b.memory},
		{"gateway", b.gateway},
		{"allocations", b.allocations},
		{"library", b.library},
	} {
		if !strings.Contains(part.name, only) {
			continue
		}
		start := time.Now()
		fmt.Fprintf(progress, "bench: %s ...", part.name)
		got, err := part.run(ctx)
		if err != nil {
			fmt.Fprintln(progress)
			return nil, fmt.Errorf("%s: %w", part.name, err)
		}
		fmt.Fprintf(progress, " %.0f s\n", time.Since(start).Seconds())
		rows = append(rows, got...)
	}
	return rows, nil
}

// row is a row of the table.
type row struct {
	what, must, measured string
	ok                   bool
	skipped              bool // measured says why
}

// printTable prints the rows and returns how many missed their bound.
func printTable(w io.Writer, rows []row) (missed int) {
	var b strings.Builder
	b.WriteString("| what | must | measured | |\n|---|---|---|---|\n")
	for _, r := range rows {
		verdict := "ok"
		switch {
		case r.skipped:
			verdict = "skipped"
		case !r.ok:
			verdict = "**missed**"
			missed++
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", r.what, r.must, r.measured, verdict)
	}
	io.WriteString(w, b.String())
	return missed
}
