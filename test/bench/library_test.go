package main

import (
	"maps"
	"testing"
)

func TestParseBenchmarks(t *testing.T) {
	t.Parallel()
	const out = `goos: linux
BenchmarkRequire/bearer-2         	   20000	       223.2 ns/op	       0 B/op	       0 allocs/op
BenchmarkRequire/bearer-2         	   20000	       190 ns/op	       0 B/op	       0 allocs/op
BenchmarkRequire/bearer_with_context 	   20000	       700 ns/op	     352 B/op	       2 allocs/op
PASS
`
	want := map[string]benchmark{"Require/bearer": {190, 0}, "Require/bearer_with_context": {700, 2}}
	if got := parseBenchmarks(out); !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
