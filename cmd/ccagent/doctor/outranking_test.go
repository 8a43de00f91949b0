package doctor

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/ccagent/ccagent/agent"
	"github.com/ccagent/ccagent/cmd/ccagent/environ"
)

// TestOutranked: a variable that a tool prefers to the helper is named, and its value is not shown.
func TestOutranked(t *testing.T) {
	t.Parallel()
	for journal, name := range map[string]string{
		`{"version":1,"tool":"go","profile":"gw"}`:                                    "GOAUTH",
		`{"version":1,"tool":"terraform","profile":"gw","hosts":["a-b.example.com"]}`: "TF_TOKEN_a__b_example_com",
	} {
		state := t.TempDir()
		dir := filepath.Join(state, "ccagent/setup")
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "x.json"), []byte(journal), 0o600); err != nil {
			t.Fatal(err)
		}
		set := map[string]string{"XDG_STATE_HOME": state, name: "fake-token"}
		found := checkTools(environ.Vars(func(name string) string { return set[name] }), agent.Config{})
		if !slices.ContainsFunc(found, func(f Finding) bool { return f.State == "warn" && f.Mend == "unset "+name }) {
			t.Errorf("%s: got %+v", name, found)
		}
		delete(set, name)
		if found := checkTools(environ.Vars(func(name string) string { return set[name] }), agent.Config{}); len(found) > 0 {
			t.Errorf("%s is not set: got %+v", name, found)
		}
	}
}
