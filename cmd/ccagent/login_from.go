package main

import (
	"context"
	"fmt"
	"reflect"
	"strings"

	"github.com/ccagent/ccagent/agent"
	"github.com/ccagent/ccagent/cmd/ccagent/config"
	"github.com/ccagent/ccagent/cmd/ccagent/terminal"
	"github.com/ccagent/ccagent/protocol"
)

// mayAdd refuses a fragment's profile that is there already, whatever its case, or that would stand in the place of one that is:
// others may say what is new here, and never what is ours. Then it shows the profile, and asks.
func (s *signIn) mayAdd(ctx context.Context, from, name string, before, planned agent.Config) error {
	for _, old := range before.Profiles {
		now, stays := config.Find(planned, old.Name)
		if strings.EqualFold(old.Name, name) || !stays || !reflect.DeepEqual(now, old) {
			return &protocol.Error{Code: protocol.CodeConfig,
				Message: fmt.Sprintf("%s would take the place of profile %s, which no fragment from elsewhere may do",
					terminal.Sanitize(from), old.Name),
				Hint: "sign in to yours without --profile-from: " + protocol.ShellLine("ccagent", "login", old.Name) +
					"\nfor the other one, have the fragment give it a name and a store of its own (store = \"file\")"}
		}
	}
	if s.c.Bool("yes") {
		return nil
	}
	var b strings.Builder
	for line := range strings.Lines(string(config.AppendTable(nil, name, *s.table))) {
		b.WriteString("  " + terminal.Sanitize(strings.TrimSuffix(line, "\n")) + "\n")
	}
	s.screen.say(terminal.Sanitize(from) + " says:\n\n" + b.String())
	return terminal.Confirm(ctx, "add this profile, and sign in to it?", "--yes")
}
