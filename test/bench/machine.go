package main

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// machine says what matters to the figures: processor, cores, system and Go version.
func machine() string {
	processor := field("/proc/cpuinfo", "model name")
	if processor == "" {
		processor = runtime.GOARCH
	}
	kernel, err := os.ReadFile("/proc/sys/kernel/osrelease")
	system := runtime.GOOS
	if err == nil {
		system = "Linux " + strings.TrimSpace(string(kernel))
	}
	return fmt.Sprintf("%s, %d cores, %s, %s", processor, runtime.NumCPU(), system, runtime.Version())
}

// field returns the first value of a key in a file of "key: value" lines, "" if there is none.
func field(path, key string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == key {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// memoryOf returns how many bytes of anonymous memory a process has, and its resident set.
func memoryOf(pid int) (anonymous, resident int64, err error) {
	status := fmt.Sprintf("/proc/%d/status", pid)
	for _, v := range []struct {
		key   string
		bytes *int64
	}{{"RssAnon", &anonymous}, {"VmRSS", &resident}} {
		kib, err := strconv.ParseInt(strings.TrimSuffix(field(status, v.key), " kB"), 10, 64)
		if err != nil {
			return 0, 0, fmt.Errorf("%s has no %s", status, v.key)
		}
		*v.bytes = kib << 10
	}
	return anonymous, resident, nil
}

// quantile sorts samples and returns their q-quantile.
func quantile(samples []time.Duration, q float64) time.Duration {
	slices.Sort(samples)
	return samples[min(int(q*float64(len(samples))), len(samples)-1)]
}

func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}
