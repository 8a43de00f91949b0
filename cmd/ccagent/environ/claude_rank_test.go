package environ

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestClaudeRank lays settings out as Claude Code finds them, and asks what outranks the user's.
func TestClaudeRank(t *testing.T) {
	t.Parallel()
	const (
		user, project, local = "home/.claude/settings.json", "repo/sub/.claude/settings.json", "repo/.claude/settings.local.json"
		managed, part        = "etc/managed-settings.json", "etc/managed-settings.d/10.json"
		ours, other          = `{"apiKeyHelper":"/bin/cchelper -p gw"}`, `{"apiKeyHelper":"fake-helper"}`
	)
	type files map[string]string
	for name, test := range map[string]struct {
		files files
		env   string
		want  []string // for each finding: a part of it | a part of how to mend it
		runs  string   // the file whose helper is run
	}{
		"nothing":   {files{user: ours}, "", nil, user},
		"a sign-in": {files{user: `{}`}, "", nil, ""},
		"the project": {files{user: ours, project: other}, "",
			[]string{project + ", and prefers it to that in|remove apiKeyHelper"}, project},
		"the local":    {files{user: ours, project: other, local: other}, "", []string{local + "|remove"}, local},
		"the machine":  {files{user: ours, local: other, managed: other}, "", []string{managed + "|ask whoever manages"}, managed},
		"a part of it": {files{user: ours, managed: other, part: other}, "", []string{part + "|ask whoever manages"}, part},
		"ours as well": {files{user: ours, project: ours}, "", nil, project},
		"a sign-in, and a helper of the project": {files{project: other}, "",
			[]string{"prefers it to its own sign-in|remove"}, project},
		"not where it is started": {files{user: ours, "repo/.claude/settings.json": other}, "", nil, user},
		"a token here": {files{user: ours}, "ANTHROPIC_API_KEY=fake",
			[]string{"set here|unset ANTHROPIC_API_KEY"}, user},
		"an OAuth token, and a helper": {files{user: ours}, "CLAUDE_CODE_OAUTH_TOKEN=fake", nil, user},
		"an OAuth token, and none": {files{}, "CLAUDE_CODE_OAUTH_TOKEN=fake",
			[]string{"its own sign-in|unset"}, ""},
		"a token of the project": {files{user: ours, project: `{"env":{"ANTHROPIC_AUTH_TOKEN":"fake"}}`}, "",
			[]string{"ANTHROPIC_AUTH_TOKEN is set in|remove ANTHROPIC_AUTH_TOKEN from"}, user},
		"a token of the machine": {files{managed: `{"env":{"CLAUDE_CODE_OAUTH_TOKEN":"fake"}}`}, "",
			[]string{"CLAUDE_CODE_OAUTH_TOKEN is set in|ask whoever manages"}, ""},
		"a file that empties what is here": {files{user: `{"env":{"ANTHROPIC_API_KEY":""}}`}, "ANTHROPIC_API_KEY=fake", nil, ""},
		"Bedrock": {files{user: ours}, "CLAUDE_CODE_USE_BEDROCK=1",
			[]string{"asks Amazon Bedrock, and|unset"}, user},
		"Bedrock not": {files{user: ours}, "CLAUDE_CODE_USE_BEDROCK=0", nil, user},
		"Vertex of the project": {files{user: ours, local: `{"env":{"CLAUDE_CODE_USE_VERTEX":"true"}}`}, "",
			[]string{"asks Google's Vertex AI|remove CLAUDE_CODE_USE_VERTEX from"}, user},
		"Foundry": {files{managed: `{"env":{"CLAUDE_CODE_USE_FOUNDRY":1}}`}, "",
			[]string{"asks Microsoft Foundry|ask whoever manages"}, ""},
		"Mantle": {files{}, "CLAUDE_CODE_USE_MANTLE=yes",
			[]string{"CLAUDE_CODE_USE_MANTLE is set here|unset"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			test.files["repo/.git/HEAD"] = "ref: fake"
			for path, text := range test.files {
				path = filepath.Join(dir, path)
				if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			env := Vars(func(name string) string {
				if name == "HOME" {
					return filepath.Join(dir, "home")
				}
				set, value, _ := strings.Cut(test.env, "=")
				if set == name {
					return value
				}
				return ""
			})
			settings, _ := env.ClaudeSettings()
			c := env.ClaudeCode(filepath.Join(dir, "etc"), filepath.Join(dir, "repo/sub"), settings)
			if len(c.Errs) > 0 {
				t.Fatal(c.Errs)
			}
			if got := strings.TrimPrefix(c.Helper().Path, dir+"/"); got != test.runs {
				t.Errorf("runs the helper of %q, want %q", got, test.runs)
			}
			found := c.Outranking()
			if !slices.EqualFunc(found, test.want, func(o Outranking, want string) bool {
				what, mend, _ := strings.Cut(want, "|")
				return strings.Contains(o.What, what) && strings.Contains(o.Mend, mend) && !strings.Contains(o.What+o.Mend, "fake")
			}) {
				t.Errorf("got %q, want %q", found, test.want)
			}
		})
	}
}

func TestClaudeRankUnreadable(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "managed-settings.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	env := Vars(func(string) string { return "" })
	c := env.ClaudeCode(dir, "", ClaudeSettings{})
	if len(c.Errs) != 1 || !strings.Contains(c.Errs[0].Error(), "managed-settings.json can't be read, or is not valid JSON") {
		t.Errorf("got %v", c.Errs)
	}
}
