package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/urfave/cli/v2"

	"github.com/ccagent/ccagent/agent"
	"github.com/ccagent/ccagent/agent/gateway/audit"
	"github.com/ccagent/ccagent/cmd/ccagent/build"
	"github.com/ccagent/ccagent/cmd/ccagent/config"
	"github.com/ccagent/ccagent/cmd/ccagent/dial"
	"github.com/ccagent/ccagent/cmd/ccagent/terminal"
	"github.com/ccagent/ccagent/protocol"
)

func statusCommand() *cli.Command {
	return &cli.Command{
		Name:  "status",
		Usage: "show what the agent and its profiles are doing",
		Description: `Shows what the agent knows. It reads no store, uses no network and starts no agent. Without an agent
the exit code is 5. A profile is not loaded until something asks for its token.
The one with a * is used in this folder if a tool names none: "ccagent use" says why.

EXAMPLE:
   ccagent status
   ccagent status -p work
   ccagent status --watch
   ccagent status --prompt -p work    for PS1: "work 5h", "work ✗ sign in"
   ccagent status --json`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "profile", Aliases: []string{"p"}, Usage: "show only this `PROFILE` (default: all)"},
			jsonFlag(),
			&cli.BoolFlag{Name: "watch", Aliases: []string{"w"}, Usage: "show it again every second, until Ctrl-C"},
			&cli.BoolFlag{Name: "prompt", Usage: "print a few words for the prompt of a shell, or nothing; the exit code is always 0"},
			timeoutFlag(),
		},
		Action: func(c *cli.Context) error {
			if err := noArgs(c); err != nil {
				return err
			}
			if c.Bool("prompt") { // in an order of options that prompt does not know
				if c.Bool("watch") || c.Bool("json") {
					return usagef(c, "--prompt can't be used with --watch or --json")
				}
				if profile := c.String("profile"); profile != "" {
					if err := protocol.CheckProfile(profile); err != nil {
						return err
					}
				}
				writePrompt(c.Context, c.App.Writer, cmp.Or(c.String("profile"), getenv("CCAGENT_PROFILE")))
				return nil
			}
			if c.Bool("watch") && c.Bool("json") {
				return usagef(c, "--watch and --json can't be used together")
			}
			if c.Bool("watch") {
				return watch(c)
			}
			status, err := askStatus(c, c.Duration("timeout"))
			if err != nil {
				return err
			}
			if c.Bool("json") {
				return printJSON(c.App.Writer, newStatusJSON(status, runningSessions(), viewFiles()))
			}
			_, err = io.WriteString(c.App.Writer, newScreen(c).beside(status.Agent).render(time.Now(), status))
			return err
		},
	}
}

// askStatus collects the pages of the agent's status. It waits at most for wait, and starts no agent.
func askStatus(c *cli.Context, wait time.Duration) (protocol.Status, error) {
	conn, err := connectAwake(c, false)
	if err != nil {
		return protocol.Status{}, err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(conn.Ctx, wait)
	defer cancel()
	return protocol.StatusAll(ctx, conn, protocol.StatusRequest{Profile: c.String("profile")})
}

// watch shows the status every second. On a terminal each status replaces the one before it. If the agent ends meanwhile, that is
// shown. If there is none at the beginning, that is an error.
func watch(c *cli.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	inPlace := terminal.Of(c.App.Writer) != nil && terminal.Capable(getenv)
	for first := true; ; first = false {
		status, err := askStatus(c, dial.AnswerTime)
		if c.Context.Err() != nil {
			return context.Cause(c.Context)
		}
		s := newScreen(c)
		if !inPlace {
			s.height = 0
		}
		var text string
		switch {
		case err == nil:
			text = s.beside(status.Agent).render(time.Now(), status)
		case first || !errors.Is(err, protocol.ErrNoAgent) && !errors.Is(err, protocol.ErrUnavailable):
			return err
		default:
			text = s.wrap(time.Now().Format("15:04:05 ")+terminal.Sanitize(err.Error())) + s.hints(protocol.HintOf(err))
		}
		if inPlace { // home, each line cleared to its end, then what is below
			text = "\x1b[H" + strings.ReplaceAll(text, "\n", "\x1b[K\n") + "\x1b[J"
			if first {
				text = "\x1b[2J" + text
			}
		} else if !first {
			text = "\n" + text
		}
		if _, err := io.WriteString(c.App.Writer, text); err != nil {
			return err
		}
		select {
		case <-c.Context.Done():
			return c.Context.Err()
		case <-tick.C:
		}
	}
}

// screen says how the status is drawn.
type screen struct {
	width  int // in columns; 0: no limit
	height int // in lines, if the status is drawn in place; 0: no limit
	bars   bool
	colour bool

	program  string            // the version of this program
	views    map[string]string // where a profile's views are, for those that have any
	sessions []audit.Entry     // the gateways that run
	differs  string            // the variables that the agent was started with in another value than they have here; "": none
}

func newScreen(c *cli.Context) screen {
	s := sizedScreen(c)
	s.sessions = runningSessions()
	s.views = map[string]string{}
	for _, p := range agentsProfiles() {
		s.views[p.Name] = config.ShowViews(getenv, p)
	}
	return s
}

// agentsProfiles are the profiles in config.toml; none if it can't be read, or may be another than that of the agent.
func agentsProfiles() []agent.Profile {
	if _, isDefault, err := protocol.SocketPath(); err != nil || !isDefault {
		return nil
	}
	cfg, _, err := config.Load(getenv)
	if err != nil {
		return nil
	}
	return cfg.Profiles
}

func sizedScreen(c *cli.Context) screen {
	tty := terminal.Of(c.App.Writer)
	if tty == nil {
		return screen{program: build.Version()}
	}
	width, height, err := terminal.Size(tty)
	if err != nil {
		width, height = 0, 0
	}
	if !c.Bool("watch") {
		height = 0
	}
	return screen{
		width: width, height: height, bars: (width == 0 || width >= 60) && terminal.UTF8(getenv),
		colour: terminal.Coloured(c.App.Writer, getenv), program: build.Version(),
	}
}

// beside returns the screen for an agent, which may have been started in another environment than this one. That its PATH differs
// means little: it does wherever a service manager starts it.
func (s screen) beside(a protocol.AgentStatus) screen {
	var names []string
	for _, v := range a.Otherwise() {
		if v.Name != "PATH" {
			names = append(names, v.Name)
		}
	}
	s.differs = strings.Join(names, ", ")
	return s
}

// render draws the lines about the agent, the table of profiles, and the remarks about them. If there is not room for all,
// profiles that nobody has asked for are left out first.
func (s screen) render(now time.Time, status protocol.Status) string {
	head, below := s.head(now, status.Agent)+"\n", s.remarks(now, status.Profiles)
	if below != "" {
		below = "\n" + below
	}
	profiles, more := s.chosen(status.Profiles, head, below)
	t := terminal.Table{{"PROFILE", "STATE", "LEFT", "RENEWED", "STORED IN"}}
	for _, p := range profiles {
		name := p.Name
		if strings.EqualFold(name, status.Agent.Here) {
			name += " *"
		}
		renewed := "-"
		if !p.LastRenewal.IsZero() {
			renewed = terminal.Span(now.Sub(p.LastRenewal)) + " ago"
		}
		t = append(t, []string{terminal.Sanitize(name), s.state(now, p), s.left(now, p), renewed,
			terminal.Dash(cmp.Or(p.Location, p.Store))})
	}
	var picture strings.Builder
	picture.WriteString(head)
	t.Write(&picture, s.width)
	picture.WriteString(more + below)
	return s.fit(picture.String())
}

// head returns the lines about the agent.
func (s screen) head(now time.Time, a protocol.AgentStatus) string {
	var head strings.Builder
	fmt.Fprintln(
		&head,
		terminal.Cut(
			terminal.Sanitize(fmt.Sprintf("agent %d, version %s, up %s, at %s", a.PID, a.Version, terminal.Span(now.Sub(a.Started)),
				a.Socket)),
			s.width,
		),
	)
	memory := "unknown"
	if a.Memory > 0 {
		memory = fmt.Sprintf("%.1f MiB", float64(a.Memory)/(1<<20))
	}
	fmt.Fprintln(
		&head,
		terminal.Cut(fmt.Sprintf("%d requests, %d renewals, %d connections, memory %s", a.Requests, a.Renewals, a.Connections, memory),
			s.width),
	)
	if a.Version != s.program {
		head.WriteString(
			s.wrap("the agent's version is not that of this program, " + s.program +
				"; run ccagent stop, and the next request starts a new agent"),
		)
	}
	if s.differs != "" {
		head.WriteString(s.wrap("the agent was started in another environment than this one: it has other values, or none, of " +
			s.differs + "; ccagent doctor says what helps"))
	}
	if a.Locked {
		head.WriteString(s.wrap("the agent is locked and gives no tokens; to unlock it: ccagent unlock"))
	}
	if a.ConfigError != "" {
		head.WriteString(s.wrap(terminal.Sanitize("config.toml can't be used: "+a.ConfigError)) + s.hints(a.ConfigHint))
	}
	return head.String()
}

// remarks returns the lines about profiles and gateways below the table.
func (s screen) remarks(now time.Time, profiles []protocol.ProfileStatus) string {
	var remarks strings.Builder
	for _, p := range profiles {
		views := ""
		if s.views[p.Name] != "" {
			views = "its token is shown in " + s.views[p.Name]
		}
		for _, remark := range []struct{ text, hint string }{
			{views, ""}, {strings.TrimPrefix(p.LastError, "profile "+p.Name+": "), p.LastHint}, {p.Note, ""}, {signInEnds(now, p), ""},
		} {
			if remark.text != "" {
				remarks.WriteString(s.wrap(terminal.Sanitize(p.Name+": "+remark.text)) + s.hints(remark.hint))
			}
		}
	}
	for _, e := range s.sessions {
		remarks.WriteString(s.wrap(terminal.Sanitize(fmt.Sprintf("gateway %s: %s, up %s", e.Session, began(*e.Began),
			terminal.Span(now.Sub(e.Time))))))
	}
	return remarks.String()
}

// runningSessions returns the gateways that run. What can't be read is left out: the agent's status is what was asked for.
func runningSessions() []audit.Entry {
	folder, err := getenv.GatewayRecords()
	if err != nil {
		return nil
	}
	running, _ := audit.Running(folder)
	return running
}

// hints returns the lines of a hint, each below the remark that it belongs to.
func (s screen) hints(hint string) string {
	var text strings.Builder
	for line := range strings.Lines(hint) {
		text.WriteString(s.wrap("  hint: " + terminal.Sanitize(strings.TrimSpace(line))))
	}
	return text.String()
}

// signInEnds says when a profile's sign-in itself ends. It is empty if that is not known.
func signInEnds(now time.Time, p protocol.ProfileStatus) string {
	if p.SignInEnds.IsZero() || p.State == protocol.StateSignIn {
		return ""
	}
	when := p.SignInEnds.Local().Format("2006-01-02 15:04")
	text := "as things stand, the sign-in ends in " + terminal.Span(p.SignInEnds.Sub(now)) + ", on " + when
	if !p.SignInEnds.After(now) {
		text = "the sign-in was to end on " + when
	}
	if p.SignInEndsSoon(now) {
		text += "; sign in again: " + protocol.ShellLine("ccagent", "login", p.Name)
	}
	return text
}

// chosen returns the profiles for which there is room between head and below, and the line that says how many more there are.
func (s screen) chosen(profiles []protocol.ProfileStatus, head, below string) (_ []protocol.ProfileStatus, more string) {
	lines := func(text string) int { return strings.Count(text, "\n") }
	// The head of the table, the line that says how many more there are, and the line of the cursor need room too.
	room := max(1, s.height-lines(head)-lines(below)-3)
	if s.height <= 0 || len(profiles) <= room+1 {
		return profiles, ""
	}
	profiles = slices.Clone(profiles)
	slices.SortStableFunc(profiles, func(p, q protocol.ProfileStatus) int { return cmp.Compare(idle(p), idle(q)) })
	return profiles[:room], terminal.Cut(fmt.Sprintf("... and %d more", len(profiles)-room), s.width) + "\n"
}

// idle is 1 for a profile that nobody has asked for, else 0. It is a key to sort by.
func idle(p protocol.ProfileStatus) int {
	if p.State == protocol.StateIdle {
		return 1
	}
	return 0
}

// fit leaves out the last lines if there are too many, because a terminal that scrolls could not be drawn in place again.
func (s screen) fit(text string) string {
	lines := strings.SplitAfter(text, "\n") // the last is empty
	if s.height <= 1 || len(lines) <= s.height {
		return text
	}
	return strings.Join(lines[:s.height-1], "")
}

// wrap breaks a line between words, so that it fits, and ends it.
func (s screen) wrap(line string) string {
	var b strings.Builder
	column := 0
	for i, word := range strings.Split(line, " ") {
		n := utf8.RuneCountInString(word)
		if i > 0 && s.width > 0 && column+1+n > s.width && column > 0 {
			b.WriteByte('\n')
			column = 0
		} else if i > 0 {
			b.WriteByte(' ')
			column++
		}
		for s.width > 0 && n > s.width { // a path longer than a line
			head := string([]rune(word)[:s.width-column])
			b.WriteString(head + "\n")
			word = word[len(head):]
			n, column = utf8.RuneCountInString(word), 0
		}
		b.WriteString(word)
		column += n
	}
	return b.String() + "\n"
}

// state is a profile's state, with the time that a back-off ends.
func (s screen) state(now time.Time, p protocol.ProfileStatus) string {
	text := terminal.Sanitize(string(p.State))
	if p.State == protocol.StateBackoff && p.Retry.After(now) {
		text += " until " + p.Retry.Local().Format("15:04:05")
	}
	if !s.colour {
		return text
	}
	switch p.State {
	case protocol.StateLive:
		return "\x1b[32m" + text + "\x1b[0m"
	case protocol.StateSignIn, protocol.StateFailed:
		return "\x1b[31m" + text + "\x1b[0m"
	case protocol.StateBackoff, protocol.StateUnsaved, protocol.StateDue:
		return "\x1b[33m" + text + "\x1b[0m"
	}
	return text
}

const barWidth = 10

// left is the life that a profile's token has left, as a bar too where its whole life is known.
func (s screen) left(now time.Time, p protocol.ProfileStatus) string {
	switch {
	case !p.HasToken:
		return "-"
	case p.Expiry.IsZero():
		return "never expires"
	case !p.Expiry.After(now):
		return "expired"
	}
	text := terminal.Span(p.Expiry.Sub(now))
	life := p.Expiry.Sub(p.Issued)
	if !s.bars || p.Issued.IsZero() || life <= 0 {
		return text
	}
	full := min(barWidth,
		max(0, int(int64(barWidth)*int64(p.Expiry.Sub(now)/time.Millisecond)/max(1, int64(life/time.Millisecond)))))
	return strings.Repeat("█", full) + strings.Repeat("░", barWidth-full) + " " + text
}

// statusJSON is the output of `ccagent status --json` (docs/json.md).
type statusJSON struct {
	Agent    agentJSON     `json:"agent"`
	Profiles []profileJSON `json:"profiles"`
	Gateways []sessionJSON `json:"gateways"`
}

// sessionJSON is a gateway that runs.
type sessionJSON struct {
	Session string     `json:"session"`
	PID     int32      `json:"pid"`
	Tool    int32      `json:"tool,omitempty"`
	Program string     `json:"program,omitempty"`
	Routes  []string   `json:"routes"`
	Listen  string     `json:"listen"`
	Started *time.Time `json:"started"`
}

type agentJSON struct {
	PID            int        `json:"pid"`
	Version        string     `json:"version"`
	Socket         string     `json:"socket"`
	Started        *time.Time `json:"started"`
	Requests       uint64     `json:"requests"`
	Renewals       uint64     `json:"renewals"`
	Connections    uint32     `json:"connections"`
	MemoryBytes    uint64     `json:"memory_bytes"`
	DefaultProfile string     `json:"default_profile"`
	Here           string     `json:"here"`
	ConfigError    string     `json:"config_error,omitempty"`
	ConfigHint     string     `json:"config_hint,omitempty"`
	Locked         bool       `json:"locked"`
}

type profileJSON struct {
	Name         string     `json:"name"`
	Provider     string     `json:"provider"`
	State        string     `json:"state"`
	Store        string     `json:"store"`
	Location     string     `json:"location"`
	Kind         string     `json:"kind,omitempty"`
	HasToken     bool       `json:"has_token"`
	Expires      *time.Time `json:"expires"`
	Issued       *time.Time `json:"issued"`
	LastRenewal  *time.Time `json:"last_renewal"`
	Retry        *time.Time `json:"retry"`
	LastUsed     *time.Time `json:"last_used"`
	LastError    string     `json:"last_error,omitempty"`
	LastHint     string     `json:"last_hint,omitempty"`
	LastExit     int        `json:"last_exit,omitempty"`
	Subscription string     `json:"subscription,omitempty"`
	Scopes       []string   `json:"scopes,omitempty"`
	Note         string     `json:"note,omitempty"`
	SignInEnds   *time.Time `json:"sign_in_ends"`

	Views []config.ViewFile `json:"views,omitempty"`
}

// viewFiles returns where the profiles' views are, by the names of the profiles.
func viewFiles() map[string][]config.ViewFile {
	views := map[string][]config.ViewFile{}
	for _, p := range agentsProfiles() {
		views[p.Name] = config.ViewFiles(p)
	}
	return views
}

func newStatusJSON(s protocol.Status, running []audit.Entry, views map[string][]config.ViewFile) statusJSON {
	a := s.Agent
	out := statusJSON{
		Agent: agentJSON{
			PID: a.PID, Version: a.Version, Socket: a.Socket, Started: jsonTime(a.Started), Requests: a.Requests, Renewals: a.Renewals,
			Connections: a.Connections, MemoryBytes: a.Memory, DefaultProfile: a.DefaultProfile, Here: a.Here,
			ConfigError: a.ConfigError, ConfigHint: a.ConfigHint, Locked: a.Locked,
		},
		Profiles: []profileJSON{}, Gateways: []sessionJSON{},
	}
	for _, e := range running {
		out.Gateways = append(out.Gateways, sessionJSON{e.Session, e.Began.PID, e.Began.Tool, e.Began.Program, e.Began.Routes,
			e.Began.Listen, jsonTime(e.Time)})
	}
	for _, p := range s.Profiles {
		exit := 0
		if p.LastError != "" {
			exit = protocol.ExitCode(&protocol.Error{Code: p.LastCode})
		}
		out.Profiles = append(out.Profiles, profileJSON{
			Name: p.Name, Provider: p.Provider, State: string(p.State), Store: p.Store, Location: p.Location, Kind: string(p.Kind),
			HasToken: p.HasToken, Expires: jsonTime(p.Expiry), Issued: jsonTime(p.Issued), LastRenewal: jsonTime(p.LastRenewal),
			Retry: jsonTime(p.Retry), LastUsed: jsonTime(p.LastUsed), LastError: p.LastError, LastHint: p.LastHint, LastExit: exit,
			Subscription: p.Subscription, Scopes: p.Scopes, Note: p.Note, SignInEnds: jsonTime(p.SignInEnds),
			Views: views[p.Name],
		})
	}
	return out
}
