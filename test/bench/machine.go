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

// machine names the machine by what matters to the figures.
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

// field returns the first value of a "key: value" file, "" when there is none.
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

// memoryOf returns what a process keeps in memory, in bytes: anonymous, and the whole resident set.
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

// quantile returns the q-quantile of samples, which it sorts.
func quantile(samples []time.Duration, q float64) time.Duration {
	slices.Sort(samples)
	return samples[min(int(q*float64(len(samples))), len(samples)-1)]
}

func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}
