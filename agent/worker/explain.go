package worker

import (
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/ccagent/ccagent/agent/renewal"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store"
)

// explain returns an error in the form in which it is sent to the agent, with a hint where a person must do something.
func (t *task) explain(err error) *protocol.Error {
	out := renewal.Condition(err)
	if out == nil {
		return nil
	}
	if name := "profile " + t.Job.Profile; !strings.Contains(out.Message, name) {
		out.Message = name + ": " + out.Message
	}
	var problem *renewal.Problem
	if errors.As(err, &problem) {
		out.Hint = t.advice(problem, out)
	}
	if out.Hint == "" {
		out.Hint = t.generalAdvice(err, out.Code)
	}
	return out
}

// generalAdvice is the hint for an error that has none of its own.
func (t *task) generalAdvice(err error, code protocol.Code) (hint string) {
	_, local := renewal.Asked(err)
	switch code {
	case protocol.CodeConfig:
		if local {
			return ""
		}
		// The agent asks no more on its own.
		hint = "mend it in config.toml or at the provider, then: ccagent refresh -p " + t.Job.Profile
		if t.traits().OwnClient { // a new client secret is given in this way too
			hint += "\nif nothing is wrong there, sign in again: ccagent login " + t.Job.Profile
		}
	case protocol.CodeNotFound, protocol.CodeLoginRequired, protocol.CodeExpired:
		hint = t.obtain(!local)
		if !local && (!renewal.Dead(err) || t.asksAgain()) && code == protocol.CodeLoginRequired {
			hint += "\nor, once what stood in the way is settled: ccagent refresh -p " + t.Job.Profile
		}
	}
	return hint
}

// obtain is the hint for a profile that has no credential, or one that is refused by its provider.
func (t *task) obtain(refused bool) string {
	hint := t.traits().Hint(t.Job.Profile)
	if !t.traits().ClaudeCode {
		return hint
	}
	if _, view := t.guardedView(); view != nil || t.settings.Store.MayBe(store.KindClaudeCode) {
		hint = t.withClaudeCode() // whoever uses the tool signs in there
	}
	over := " FILE"
	if refused { // what is stored looks as if it would serve
		over = " --force FILE"
	}
	return hint + "\nor hand a sign-in over: ccagent import -p " + t.Job.Profile + over
}

// withClaudeCode is the hint to sign in with Claude Code, in the directory that it keeps the profile's sign-in in.
func (t *task) withClaudeCode() string {
	command := "claude"
	home, err := os.UserHomeDir()
	if dir := t.settings.ConfigDir; dir != "" && (err != nil || filepath.Clean(dir) != filepath.Join(home, ".claude")) {
		name := "CLAUDE_CONFIG_DIR"
		if t.settings.AccountFile != "" { // its settings are in another directory
			name = "CLAUDE_SECURESTORAGE_CONFIG_DIR"
		}
		command = name + "=" + protocol.ShellLine(dir) + " claude"
	}
	return "sign in with Claude Code: run " + command + ", then type /login"
}

// advice is the hint for what went wrong within a renewal.
func (t *task) advice(p *renewal.Problem, out *protocol.Error) string {
	restore := "ccagent restore -p " + t.Job.Profile
	switch p.Reason {
	case renewal.SpentCopy:
		hint := t.generalAdvice(p, out.Code)
		if t.canRestore {
			hint = strings.TrimPrefix(hint+"\nor bring a sign-in back: "+restore, "\n")
		}
		return hint
	case renewal.OldCopy:
		return "go on with what is stored, or see what can be brought back: " + restore
	case renewal.ExpiresFirst:
		return "store it nevertheless with --force"
	case renewal.BrokenThere:
		return strings.TrimPrefix(out.Hint+"\nwrite over it with --force; a copy of what is there is kept", "\n")
	case renewal.AnotherHome:
		return anotherHome(p.Home).Hint
	case renewal.CopyOfAnother:
		return copyOf(p.Home, p.Me).Hint
	}
	return out.Hint
}
