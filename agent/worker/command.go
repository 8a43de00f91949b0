package worker

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
	"unicode"

	"github.com/ccagent/ccagent/agent/oauth"
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
	if err == nil {
		r.Expiry, err = p.expiry(r)
	}
	if err == nil {
		return r, nil
	}
	return r, misprintError(protocol.CodeUnavailable, argv, err, said, printed)
}

// expiry returns when the printed token of r expires: the earliest of what was printed beside it (r.Expiry, zero: nothing), what
// a JWT says itself, and what the settings allow.
func (p commandProvider) expiry(r store.Record) (time.Time, error) {
	ends := r.Expiry
	if own := oauth.JWTExpiry(r.AccessToken); !own.IsZero() && (ends.IsZero() || own.Before(ends)) {
		ends = own.Truncate(time.Millisecond)
	}
	if !ends.IsZero() && !ends.After(time.Now()) {
		return ends, &misprint{what: "printed a token that has expired already",
			hint: "run it yourself: it may keep a token for too long, or this machine's clock may be wrong"}
	}
	if end := r.Issued.Add(cmp.Or(p.settings.TTL, DefaultTTL)); ends.IsZero() || p.settings.TTL > 0 && end.Before(ends) {
		ends = end
	}
	return ends, nil
}

// misprintError is what is wrong with what a command printed, with its own words: those on stderr, else a complaint on stdout.
func misprintError(code protocol.Code, argv []string, err error, said string, printed []byte) error {
	hint := ""
	if m := (*misprint)(nil); errors.As(err, &m) {
		hint = m.hint
	}
	return commandError(code, argv, err.Error(), cmp.Or(said, complaint(printed)), hint)
}

// commandError is the error of a command. What it said on stderr is its detail, because a password may be in it.
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
	if err != nil && said == "" { // a program that fails may complain on the wrong side
		said = complaint(stdout.kept)
	}
	var exit *exec.ExitError
	fail := func(code protocol.Code, what, hint string) ([]byte, string, error) {
		return nil, "", commandError(code, argv, what, said, hint)
	}
	if errors.Is(err, exec.ErrWaitDelay) && ctx.Err() == nil {
		err = nil // it has ended well; a daemon that it left behind still holds its output
	}
	switch {
	case err == nil && stdout.over:
		return fail(protocol.CodeUnavailable, "printed more than 64 KiB", "")
	case err == nil:
		return stdout.kept, said, nil
	case errors.Is(err, exec.ErrNotFound): // as below a service manager, whose PATH is not the shell's
		return fail(protocol.CodeConfig, strings.TrimPrefix(protocol.NotOnPath, " ")+os.Getenv("PATH"),
			"install it, or name it in config.toml by its whole path")
	case errors.Is(err, fs.ErrNotExist):
		return fail(protocol.CodeConfig, "is not there", "install it, or name another in config.toml")
	case errors.Is(err, fs.ErrPermission):
		return fail(protocol.CodeConfig, "is not executable",
			"name another in config.toml, or: "+protocol.ShellLine("chmod", "+x", argv[0]))
	case errors.Is(ctx.Err(), context.Canceled):
		return fail(protocol.CodeUnavailable, "was ended", "")
	case ctx.Err() != nil:
		return fail(protocol.CodeUnavailable, "did not end within "+timeout.String(), "it gets longer with timeout in config.toml")
	case errors.As(err, &exit):
		return fail(protocol.CodeUnavailable, "failed ("+exit.ProcessState.String()+")", "")
	}
	return fail(protocol.CodeConfig, "can't be run", "run it yourself to see why")
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
