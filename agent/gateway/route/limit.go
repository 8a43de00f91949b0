package route

import (
	"errors"
	"strconv"
	"strings"
	"time"
)

// Limit is how many requests are let through in a time. The zero value is any number.
type Limit struct {
	Requests int
	Per      time.Duration
}

// maxRequests bounds the number in a limit.
const maxRequests = 1_000_000

// ParseLimit reads a limit as config.toml has it: a number, a slash, and s, m or h. The error says what is wrong, in words that
// can follow the limit.
func ParseLimit(written string) (Limit, error) {
	number, unit, _ := strings.Cut(written, "/")
	per := map[string]time.Duration{"s": time.Second, "m": time.Minute, "h": time.Hour}[unit]
	n, err := strconv.Atoi(number)
	if per == 0 || err != nil || n < 1 || n > maxRequests || strconv.Itoa(n) != number {
		return Limit{}, errors.New(`is not of the form "600/m": a number of requests in a second (s), a minute (m) or an hour (h)`)
	}
	return Limit{n, per}, nil
}

// String returns the limit as [ParseLimit] reads it.
func (l Limit) String() string {
	return strconv.Itoa(l.Requests) + "/" + map[time.Duration]string{time.Second: "s", time.Minute: "m", time.Hour: "h"}[l.Per]
}
