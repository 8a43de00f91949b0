package worker

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode"

	"github.com/ccagent/ccagent/agent/renewal"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store"
)

const (
	defaultCommandTimeout = 30 * time.Second
	maxCommandOutput      = 64 << 10
	maxCommandError       = 4 << 10 // of stderr that are kept: its end
	maxShownError         = 500     // characters of it that are shown
)

// commandProvider is the program that a profile names. Nothing is stored of its tokens: it is its own store.
type commandProvider struct{ settings Settings }

// sourceOf says where the tokens of a profile come from whose provider is a program.
func sourceOf(s Settings) string {
	if len(s.Command) == 0 {
		return "a command"
	}
	return "the command " + s.Command[0]
}

// Prepare fails (ErrConfig) where no command is named.
func (p commandProvider) Prepare(context.Context, store.Record) (renewal.Request, error) {
	if len(p.settings.Command) == 0 {
		return renewal.Request{},
			&protocol.Error{Code: protocol.CodeConfig, Message: "profile " + p.settings.Name + " has no command"}
	}
	return renewal.Request{Send: p.run}, nil
}

// run runs the command and takes the token that it prints.
func (p commandProvider) run(ctx context.Context) (store.Record, error) {
	argv := p.settings.Command
	r := store.Record{Issued: time.Now().Round(0).Truncate(time.Millisecond)}
	printed, said, err := runCommand(ctx, argv, p.settings.Timeout)
	if err != nil {
		return r, err
	}
	r.AccessToken, r.Expiry, err = parsePrinted(printed, r.Issued)
	switch {
	case err == nil && r.Expiry.IsZero():
		r.Expiry = r.Issued.Add(cmp.Or(p.settings.TTL, DefaultTTL))
	case err == nil && !r.Expiry.After(time.Now()):
		err = errors.New("printed a token that has expired already")
	}
	if err != nil {
		return r, commandError(protocol.CodeUnavailable, argv, err.Error(), said, "")
	}
	return r, nil
}

// commandError is what a command did wrong. What it said on stderr may hold a password of its.
func commandError(code protocol.Code, argv []string, what, said, hint string) error {
	return &protocol.Error{Code: code, Message: "the command " + argv[0] + " " + what, Hint: hint, Detail: said}
}

// runCommand runs argv without a shell, in a session of its own and within the time-out (0: 30 s). It returns what the program
// prints, and what it says last on stderr, fit to be shown. Once its time is over it is killed with all that it has started; what
// has left its session by then is not waited for.
func runCommand(ctx context.Context, argv []string, timeout time.Duration) (printed []byte, said string, err error) {
	if timeout <= 0 {
		timeout = defaultCommandTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	stdout := &head{limit: maxCommandOutput}
	stderr := &tail{limit: maxCommandError}
	cmd.Stdout, cmd.Stderr = stdout, stderr // stdin is /dev/null
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second // a child of its own that left the group and holds the pipe open

	err = cmd.Run()
	said = stderr.shown(stdout.kept)
	var exit *exec.ExitError
	fail := func(code protocol.Code, what, hint string) ([]byte, string, error) {
		return nil, "", commandError(code, argv, what, said, hint)
	}
	switch {
	case err == nil:
	case errors.Is(err, exec.ErrWaitDelay) && ctx.Err() == nil:
		// It has ended well; a daemon that it left behind still holds its output.
	case errors.Is(err, exec.ErrNotFound): // as below a service manager, whose PATH is not the shell's
		return fail(
			protocol.CodeConfig,
			"is not there: the agent's PATH is "+os.Getenv("PATH"),
			"install it, or name it in config.toml by its whole path",
		)
	case errors.Is(err, fs.ErrNotExist):
		return fail(protocol.CodeConfig, "is not there", "install it, or name another in config.toml")
	case errors.Is(err, fs.ErrPermission):
		return fail(protocol.CodeConfig, "is not executable", "chmod +x it, or name another in config.toml")
	case errors.Is(ctx.Err(), context.Canceled):
		return fail(protocol.CodeUnavailable, "was ended", "")
	case ctx.Err() != nil:
		return fail(protocol.CodeUnavailable, "did not end within "+timeout.String(), "it gets longer with timeout in config.toml")
	case errors.As(err, &exit):
		return fail(protocol.CodeUnavailable, "failed ("+exit.ProcessState.String()+")", "")
	default:
		return fail(protocol.CodeConfig, "can't be run", "run it yourself to see why")
	}
	if stdout.over {
		return fail(protocol.CodeUnavailable, "printed more than 64 KiB", "")
	}
	return stdout.kept, said, nil
}

// head keeps the beginning of what is written to it.
type head struct {
	kept  []byte
	limit int
	over  bool
}

func (h *head) Write(p []byte) (int, error) {
	room := h.limit - len(h.kept)
	if len(p) > room {
		h.over = true
		h.kept = append(h.kept, p[:room]...)
	} else {
		h.kept = append(h.kept, p...)
	}
	return len(p), nil
}

// tail keeps the end of what is written to it.
type tail struct {
	kept  []byte
	limit int
}

func (t *tail) Write(p []byte) (int, error) {
	t.kept = append(t.kept, p...)
	if len(t.kept) > t.limit {
		t.kept = append(t.kept[:0], t.kept[len(t.kept)-t.limit:]...)
	}
	return len(p), nil
}

// shown is the last line, fit for an error: without control characters, without what the command printed as its token, and
// the end of it when it is long.
func (t *tail) shown(printed []byte) string {
	s := strings.TrimSpace(string(t.kept))
	s = s[strings.LastIndexAny(s, "\r\n")+1:]
	for word := range strings.FieldsFuncSeq(string(printed), func(r rune) bool { return unicode.IsSpace(r) || r == '"' }) {
		if len(word) >= 8 { // shorter ones are JSON's own punctuation and keys
			s = strings.ReplaceAll(s, word, protocol.Secret{}.String())
		}
	}
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, " "))
	s = strings.Join(strings.Fields(s), " ")
	if runes := []rune(s); len(runes) > maxShownError {
		s = "…" + string(runes[len(runes)-maxShownError:])
	}
	return s
}

// parsePrinted reads what a command printed: a bare token, or a JSON object with the token as token, access_token or key and
// its expiry as expires_in (seconds), expires_at, expiration or expirationTimestamp (RFC 3339, or unix time); kubectl's
// ExecCredential has them under status. The zero time is "not said". Errors complete "the command x ...".
func parsePrinted(printed []byte, now time.Time) (protocol.Secret, time.Time, error) {
	trimmed := bytes.TrimSuffix(bytes.TrimSuffix(printed, []byte("\n")), []byte("\r"))
	if !bytes.HasPrefix(bytes.TrimSpace(printed), []byte("{")) {
		token, err := printedToken(string(trimmed))
		return token, time.Time{}, err
	}
	var fields map[string]json.RawMessage
	if json.Unmarshal(printed, &fields) != nil {
		return protocol.Secret{}, time.Time{}, errors.New("printed JSON that can't be read")
	}
	var status map[string]json.RawMessage
	if json.Unmarshal(fields["status"], &status) == nil && status["token"] != nil {
		fields = status
	}
	for _, key := range []string{"token", "access_token", "key"} {
		if fields[key] == nil || string(fields[key]) == "null" {
			continue
		}
		var s string
		if json.Unmarshal(fields[key], &s) != nil {
			return protocol.Secret{}, time.Time{}, fmt.Errorf("printed a %s that is no string", key)
		}
		token, err := printedToken(s)
		if err != nil {
			return protocol.Secret{}, time.Time{}, err
		}
		expiry, err := printedExpiry(fields, now)
		return token, expiry, err
	}
	return protocol.Secret{}, time.Time{}, errors.New("printed a JSON object without token, access_token or key")
}

func printedToken(s string) (protocol.Secret, error) {
	switch {
	case s == "":
		return protocol.Secret{}, errors.New("printed no token")
	case !protocol.IsToken(s):
		return protocol.Secret{}, errors.New("printed something else than a token, which is " + protocol.TokenForm)
	}
	return protocol.NewSecret(s), nil
}

func printedExpiry(fields map[string]json.RawMessage, now time.Time) (time.Time, error) {
	for _, key := range []string{"expires_in", "expires_at", "expiration", "expirationTimestamp"} {
		raw := fields[key]
		if raw == nil || string(raw) == "null" {
			continue
		}
		value := string(raw)
		var s string
		if json.Unmarshal(raw, &s) == nil {
			if value = s; key != "expires_in" {
				if t, err := time.Parse(time.RFC3339, s); err == nil {
					return notBefore(epoch, t.Truncate(time.Millisecond)), nil
				}
			}
		}
		n, err := strconv.ParseFloat(value, 64)
		if err != nil || math.IsNaN(n) || math.Abs(n) > lastUnix*1000 {
			return time.Time{}, fmt.Errorf("printed an %s that is neither a number nor a time", key)
		}
		if key == "expires_in" {
			return now.Add(time.Duration(min(n, maxSeconds) * float64(time.Second))).Truncate(time.Millisecond), nil
		}
		return unixTime(n), nil
	}
	return time.Time{}, nil
}

const (
	lastUnix   = 253402300799            // the last second of the year 9999
	maxSeconds = 10 * 365 * 24 * 60 * 60 // a longer expires_in is cut to ten years
)

// epoch is the expiry of what has expired long ago. The zero time would say never.
var epoch = time.Unix(1, 0)

// unixTime reads seconds, or milliseconds where that many seconds would be beyond the year 9999.
func unixTime(n float64) time.Time {
	if n <= lastUnix {
		n *= 1000
	}
	return notBefore(epoch, time.UnixMilli(int64(math.Round(n))))
}

func notBefore(first, t time.Time) time.Time {
	if t.Before(first) {
		return first
	}
	return t
}
