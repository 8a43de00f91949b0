package agent

import (
	"errors"
	"strings"
	"testing"

	"github.com/ccagent/ccagent/protocol"
)

func TestChoose(t *testing.T) {
	c := Config{
		Default: "main",
		Profiles: []Profile{
			{Name: "main"},
			{Name: "second", ClaudeDirs: []string{"/home/alice/.claude-2", "/srv/claude-2"}},
			{Name: "one", ClaudeDirs: []string{"/home/alice/.both"}},
			{Name: "two", ClaudeDirs: []string{"/home/alice/.both"}},
		},
		Uses: []Use{
			{Dir: "/home/alice/work", Below: true, Profile: "work"},
			{Dir: "/home/alice/work", Profile: "exact"},
			{Dir: "/home/alice/work/api", Below: true, Profile: "api"},
			{Dir: "/home/alice/work/api/old", Profile: "old"},
			{Dir: "/srv", Profile: "srv"},
		},
	}
	r := c.Chooser()
	for _, tt := range []struct {
		claude, dir, want string
		why               Reason
	}{
		{"", "", "main", ByDefault},
		{"", "/home/alice", "main", ByDefault},
		{"", "/home/alice/work", "exact", ByDir},
		{"", "/home/alice/work/x/y", "work", ByDir},
		{"", "/home/alice/work/api", "api", ByDir},
		{"", "/home/alice/work/api/a/b", "api", ByDir},
		{"", "/home/alice/work/api/old", "old", ByDir},
		{"", "/home/alice/work/api/old/x", "api", ByDir}, // the folder itself is meant, and nothing below it
		{"", "/home/alice/worker", "main", ByDefault},
		{"", "/home/alice/WORK", "main", ByDefault},
		{"", "/srv", "srv", ByDir},
		{"", "/srv/x", "main", ByDefault},
		{"", "/", "main", ByDefault},
		{"", "home/alice/work", "main", ByDefault},
		{"", "(unreachable)/home/alice/work", "main", ByDefault},
		{"", "/home/alice/work/" + strings.Repeat("x", protocol.MaxDir), "main", ByDefault},
		{"/home/alice/.claude-2", "/home/alice/work", "second", ByClaudeDir},
		{"/home/alice/.claude-2/", "", "second", ByClaudeDir},
		{"/srv/claude-2", "/srv", "second", ByClaudeDir},
		{"/home/alice/.claude", "/srv", "srv", ByDir},
		{"/home/alice/.both", "/srv", "srv", ByDir},
		{"~/.claude-2", "", "main", ByDefault},
	} {
		got, why, use := r.Choose(protocol.Home{ClaudeConfigDir: tt.claude, Dir: tt.dir})
		if got != tt.want || why != tt.why || (use != nil) != (why == ByDir) {
			t.Errorf("%q in %q: %s, %d, %v; want %s, %d", tt.claude, tt.dir, got, why, use, tt.want, tt.why)
		}
	}
	all := Config{Default: "main", Uses: []Use{{Dir: "/", Below: true, Profile: "root"}}}
	for _, dir := range []string{"/", "/a", "/a/b"} {
		if got, _, _ := all.Chooser().Choose(protocol.Home{Dir: dir}); got != "root" {
			t.Errorf("%s: %s", dir, got)
		}
	}
	if got, _, _ := new(Chooser).Choose(protocol.Home{Dir: "/a", ClaudeConfigDir: "/b"}); got != "" {
		t.Errorf("without a configuration: %q", got)
	}
}

// Every request that names no profile goes by its place: also one whose answer is not in memory.
func TestRequestsGoByPlace(t *testing.T) {
	a := start(t, &provider{}, func(o *Options) {
		o.Load = func() (Config, error) {
			c := config("main", "work", "second")
			c.Uses = []Use{{Dir: "/home/alice/work", Below: true, Profile: "Work"}}
			c.Profiles[2].ConfigDir, c.Profiles[2].ClaudeDirs = "/home/alice/.claude-2", []string{"/home/alice/.claude-2"}
			return c, nil
		}
	})
	for _, tt := range []struct{ name, claude, dir, want string }{
		{"", "", "", "main"},
		{"", "", "/home/alice/work/x", "work"},
		{"", "/home/alice/.claude-2", "/home/alice/work/x", "second"},
		{"main", "", "/home/alice/work/x", "main"},
	} {
		from := ours
		from.ClaudeConfigDir, from.Dir = tt.claude, tt.dir
		got, err := a.Token(t.Context(), protocol.TokenRequest{Profile: tt.name, Home: from})
		if err != nil || got.Profile != tt.want {
			t.Errorf("%+v: %q, %v", tt, got.Profile, err)
		}
		id, err := a.Identify(t.Context(), protocol.IdentifyRequest{Profile: tt.name, Home: from})
		if err != nil || id.Profile != tt.want {
			t.Errorf("%+v: who is %q, %v", tt, id.Profile, err)
		}
		status, err := a.Status(t.Context(), protocol.StatusRequest{Home: from})
		if err != nil || status.Agent.DefaultProfile != "main" || tt.name == "" && protocol.FoldProfile(status.Agent.Here) != tt.want {
			t.Errorf("%+v: status has %q, %v", tt, status.Agent.Here, err)
		}
	}
}

// Where a record rests with store auto is found out before a request from another Claude Code directory is refused.
func TestRefusedOnlyWhereTheAccountDiffers(t *testing.T) {
	other := ours
	other.ClaudeConfigDir = "/home/alice/.claude-2"
	elsewhere := start(t, &provider{store: "keyring"})
	if _, err := elsewhere.Token(t.Context(), protocol.TokenRequest{Home: other}); err != nil {
		t.Error(err)
	}
	shared := start(t, &provider{store: "claude-code"})
	_, err := shared.Token(t.Context(), protocol.TokenRequest{Home: other})
	if !errors.Is(err, protocol.ErrConfig) || !strings.Contains(err.Error(), `"/home/alice/.claude-2"`) ||
		!strings.Contains(err.Error(), "profile claude") || !strings.Contains(err.Error(), `"/home/alice/.claude"`) {
		t.Error(err)
	}
	if hint := protocol.HintOf(err); !strings.Contains(hint, "--config-dir /home/alice/.claude-2") {
		t.Errorf("the hint is %q", hint)
	}
}

// A request for a host that names no profile means the one that lists the host, with its port and its one label.
func TestByHost(t *testing.T) {
	a := start(t, &provider{}, func(o *Options) {
		o.Load = func() (Config, error) {
			c := config("main", "forge", "other", "work")
			c.Profiles[1].Hosts, c.Profiles[1].Username = []string{"git.example.com", "*.forge.example.com", "shared.example.com"}, "alice"
			c.Profiles[2].Hosts, c.Profiles[2].Username = []string{"git.example.com:8443", "shared.example.com"}, "bob"
			c.Profiles[3].Hosts = []string{"work.example.com", "shared.example.com"}
			c.Uses = []Use{{Dir: "/work", Below: true, Profile: "work"}}
			return c, nil
		}
	})
	for _, tt := range []struct{ host, dir, user, want string }{
		{"git.example.com", "", "", "forge"},
		{"git.example.com:8443", "", "", "other"},
		{"git.example.com:8444", "", "", ""},
		{"a.forge.example.com", "/work", "", "forge"},
		{"a.b.forge.example.com", "", "", ""},
		{"forge.example.com", "", "", ""},
		{"work.example.com", "", "", "work"},
		{"shared.example.com", "/work/x", "bob", "work"},
		{"shared.example.com", "", "bob", "other"},
		{"nobody.example.com", "", "", ""},
	} {
		from := ours
		from.Dir = tt.dir
		got, err := a.Token(t.Context(), protocol.TokenRequest{Host: tt.host, Listed: true, Home: from, Username: tt.user})
		if got.Profile != tt.want || tt.want == "" && !errors.Is(err, protocol.ErrDenied) {
			t.Errorf("%+v: %q, %v", tt, got.Profile, err)
		}
	}
	for _, user := range []string{"", "carol"} {
		_, err := a.Token(t.Context(), protocol.TokenRequest{Host: "shared.example.com", Listed: true, Home: ours, Username: user})
		if !errors.Is(err, protocol.ErrConfig) || !strings.Contains(err.Error(), "shared.example.com: forge, other, work") {
			t.Errorf("%q: %v", user, err)
		}
	}
}
