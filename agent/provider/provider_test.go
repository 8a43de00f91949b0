package provider

import (
	"net/url"
	"slices"
	"testing"

	"github.com/ccagent/ccagent/store"
)

// TestTable holds each row to what the others rely on.
func TestTable(t *testing.T) {
	t.Parallel()
	seen := map[Kind]bool{}
	for _, k := range All() {
		row := k.Traits()
		if row.Kind != k || seen[k] || !k.Known() {
			t.Errorf("%s: found as %q, seen before: %v", k, row.Kind, seen[k])
		}
		seen[k] = true
		if row.Token == "" || len(row.Stores) == 0 || row.Stores[0] != store.KindAuto || row.Obtain("main") == "" {
			t.Errorf("%s: a column is empty: %+v", k, row)
		}
		if row.SignsIn && !(row.Stored && row.Renewable) {
			t.Errorf("%s: what is signed in to is stored and renewed", k)
		}
		if row.Stored != (row.Hint("main") != "") {
			t.Errorf("%s: hint %q", k, row.Hint("main"))
		}
		if row.ClaudeCode != slices.Contains(row.Stores, store.KindClaudeCode) {
			t.Errorf("%s: stores %q, though ClaudeCode is %v", k, row.Stores, row.ClaudeCode)
		}
		if d := row.Defaults; d.TokenURL != "" && len(d.Origins) > 0 {
			if u, err := url.Parse(d.TokenURL); err != nil || u.Scheme+"://"+u.Host != d.Origins[0] {
				t.Errorf("%s: the token endpoint %s is not at the first of %q", k, d.TokenURL, d.Origins)
			}
		}
	}
	if unknown := Kind("nosuch"); unknown.Known() || unknown.Traits().Stored || unknown.Traits().Obtain("main") != "" {
		t.Error("a kind that does not exist is known")
	}
	if got := Names(); got != "claude, oidc, oauth2, static or command" {
		t.Errorf("Names: %s", got)
	}
}
