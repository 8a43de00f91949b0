package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ccagent/ccagent/agent"
	"github.com/ccagent/ccagent/agent/worker"
	"github.com/ccagent/ccagent/cmd/ccagent/config"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store"
)

// storesTime bounds the questions to all stores: a keyring alone may take 10 seconds to say nothing.
const storesTime = 30 * time.Second

// Stores says of each store what it answers about the profile with these settings, and how long that took.
func Stores(ctx context.Context, settings worker.Settings) []Finding {
	ctx, cancel := context.WithTimeout(ctx, storesTime)
	defer cancel()
	return judgeStores(settings, worker.Probe(ctx, settings, protocol.Secret{}))
}

// checkStores asks of each profile the store that its record rests in, and no other.
func checkStores(ctx context.Context, cfg agent.Config) []Finding {
	var found []Finding
	held := 0
	silent := map[store.Kind]bool{} // kinds that don't answer: once is enough
	for _, profile := range cfg.Profiles {
		settings, err := config.Settings(profile)
		if err != nil || !settings.Provider.Traits().Stored || settings.Store.Traits().Memory { // nothing rests anywhere
			continue
		}
		a := worker.ProbeHome(ctx, settings)
		f := Finding{ID: "store of " + profile.Name, State: "fail"}
		if a.Kept > 0 {
			found = append(
				found,
				Finding{
					"kept of " + profile.Name,
					"warn",
					count(a.Kept, "renewed record") + " of it was set aside because another program's took the place",
					"ccagent restore -p " + profile.Name,
				},
			)
		}
		switch {
		case a.Err == nil && a.Hindrance != nil:
			held++
			f.What, f.Mend = a.Hindrance.Error(), mendOf(a.Hindrance)
		case a.Err == nil:
			held++
			continue
		case errors.Is(a.Err, protocol.ErrNotFound) && a.Earlier > 0:
			f.State, f.What, f.Mend = "warn", "nothing is stored any more, and an earlier sign-in is kept",
				"ccagent restore -p "+profile.Name
		case errors.Is(a.Err, protocol.ErrNotFound):
			continue // not signed in yet: nothing is wrong, and asking for a token says what to do
		case a.Kind.Traits().Sealed && errors.Is(a.Err, protocol.ErrLocked):
			f.State, f.What = "skip", "it is encrypted; ccagent unlock opens it to the agent"
		case silent[a.Kind]:
			continue
		case store.Broken(a.Err) && a.Earlier > 0:
			f.What, f.Mend = a.Err.Error(), "ccagent restore -p "+profile.Name
		default:
			silent[a.Kind] = a.Kind.Traits().Service
			f.What, f.Mend = a.Err.Error(), cmp.Or(mendOf(a.Err), "ccagent doctor store -p "+profile.Name)
		}
		found = append(found, f)
	}
	if held > 0 {
		found = append(found, Finding{"stores", "ok", count(held, "record") + " can be read", ""})
	}
	return found
}

// checkViews looks for views that something else has changed. An agent notices that when it writes them next, and what it has
// noticed is among known.
func checkViews(ctx context.Context, cfg agent.Config, known []Finding) []Finding {
	var found []Finding
	for _, profile := range cfg.Profiles {
		settings, err := config.Settings(profile)
		if err != nil {
			continue
		}
		for _, path := range worker.ChangedViews(ctx, settings) {
			if slices.ContainsFunc(known, func(f Finding) bool { return strings.Contains(f.What, path) }) {
				continue
			}
			found = append(
				found,
				Finding{
					"view of " + profile.Name,
					"warn",
					path + " was changed or removed by something else, and is not kept fresh",
					"ccagent restore --views -p " + profile.Name,
				},
			)
		}
	}
	return found
}

// judgeStores makes findings of what the stores said. A store that does not answer is wrong only where the record rests there,
// and a record where it does not rest is a copy that was left.
func judgeStores(s worker.Settings, answers []worker.Answer) []Finding {
	var found []Finding
	for _, a := range answers {
		f := Finding{ID: "store " + string(a.Kind), State: "ok"}
		took := a.Took.Round(time.Millisecond)
		switch {
		case a.Hindrance != nil:
			f.State, f.What, f.Mend = "fail", fmt.Sprintf("%s (%s)", a.Hindrance, took), mendOf(a.Hindrance)
		case a.Err == nil && a.InForce:
			f.What = fmt.Sprintf("holds the record of profile %s, in %s (%s)", s.Name, a.Location, took)
		case a.Err == nil && a.Kind.Traits().Shared:
			f.State, f.What = "skip", fmt.Sprintf("holds a sign-in of Claude Code's own, in %s (%s)", a.Location, took)
		case a.Err == nil:
			f.State, f.What = "warn", fmt.Sprintf(
				"holds a record of profile %s that is not in force, in %s (%s)",
				s.Name,
				a.Location,
				took,
			)
			f.Mend = "ccagent move " + s.Name + " " + string(storeInForce(answers))
		case errors.Is(a.Err, protocol.ErrNotFound) && a.Earlier > 0:
			f.State, f.What = "warn", fmt.Sprintf("is where profile %s rests, and holds nothing of it (%s)", s.Name, took)
			f.Mend = "ccagent restore -p " + s.Name
		case errors.Is(a.Err, protocol.ErrNotFound):
			f.What = fmt.Sprintf("answers, and holds nothing of profile %s (%s)", s.Name, took)
		case a.InForce:
			f.State, f.What, f.Mend = "fail", fmt.Sprintf("%s (%s)", a.Err, took), mendOf(a.Err)
		default:
			f.State, f.What = "skip", fmt.Sprintf("%s (%s)", a.Err, took)
		}
		found = append(found, f)
	}
	return found
}

// storeInForce is the store in force, file where none is known.
func storeInForce(answers []worker.Answer) store.Kind {
	for _, a := range answers {
		if a.InForce {
			return a.Kind
		}
	}
	return store.KindFile
}
