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

// storesTime limits the checks of all stores. One keyring that does not answer takes 10 seconds.
const storesTime = 30 * time.Second

// Stores asks every store about the profile with these settings. The findings say what each answered, and how long it took.
func Stores(ctx context.Context, settings worker.Settings) []Finding {
	ctx, cancel := context.WithTimeout(ctx, storesTime)
	defer cancel()
	return judgeStores(settings, worker.Probe(ctx, settings, protocol.Secret{}))
}

// checkStores asks for each profile the store in which its record is, and no other.
func checkStores(ctx context.Context, cfg agent.Config) []Finding {
	var found []Finding
	held := 0
	silent := map[store.Kind]bool{} // kinds that don't answer, which are reported once
	for _, profile := range cfg.Profiles {
		settings, err := config.Settings(profile)
		if err != nil || !settings.Provider.Traits().Stored || settings.Store.Traits().Memory { // it has no record in a store
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
					count(a.Kept, "renewed record") + " of it could not be saved because another program had saved its own",
					"ccagent restore -p " + profile.Name,
				},
			)
		}
		switch {
		case a.Err == nil && a.Hindrance != nil:
			held++
			f.What, f.Mend = a.Hindrance.Error(), protocol.HintOf(a.Hindrance)
		case a.Err == nil:
			held++
			continue
		case errors.Is(a.Err, protocol.ErrNotFound) && a.Earlier > 0:
			f.State, f.What, f.Mend = "warn", "nothing is stored any more, but there is an earlier sign-in",
				"ccagent restore -p "+profile.Name
		case errors.Is(a.Err, protocol.ErrNotFound):
			continue // not signed in yet, which is no fault; a request for a token says what to do
		case a.Kind.Traits().Sealed && errors.Is(a.Err, protocol.ErrLocked):
			f.State, f.What = "skip", "it is encrypted, and locked; ccagent unlock unlocks it for the agent"
		case silent[a.Kind]:
			continue
		case store.Broken(a.Err) && a.Earlier > 0:
			f.What, f.Mend = a.Err.Error(), mends("ccagent restore -p "+profile.Name, protocol.HintOf(a.Err))
		default:
			silent[a.Kind] = a.Kind.Traits().Service
			f.What, f.Mend = a.Err.Error(), cmp.Or(protocol.HintOf(a.Err), "ccagent doctor store -p "+profile.Name)
		}
		found = append(found, f)
	}
	if held > 0 {
		found = append(found, Finding{"stores", "ok", count(held, "record") + " can be read", ""})
	}
	return found
}

// checkViews looks at the views of all profiles. What an agent has noticed when it last wrote them is in known, and is not
// reported again.
func checkViews(ctx context.Context, cfg agent.Config, known []Finding) []Finding {
	var found []Finding
	kept := 0
	for _, profile := range cfg.Profiles {
		settings, err := config.Settings(profile)
		if err != nil {
			continue
		}
		for _, v := range worker.LookAtViews(ctx, settings) {
			if slices.ContainsFunc(known, func(f Finding) bool { return strings.Contains(f.What, v.Location) }) {
				continue
			}
			f := Finding{"view of " + profile.Name, "warn", "", "ccagent restore --views -p " + profile.Name}
			switch {
			case v.Guards && (v.Err != nil || v.State != store.ViewOurs):
				continue
			case v.Err != nil:
				f.What, f.Mend = v.Err.Error(), cmp.Or(protocol.HintOf(v.Err), f.Mend)
			case v.State == store.ViewForeign:
				f.What = v.Location + " was changed by another program, so the agent does not update it any more"
			case v.State == store.ViewOurs:
				kept++
				continue
			default:
				f.State, f.What, f.Mend = "skip", v.Location+" is not there; the agent writes it with the next token", ""
			}
			found = append(found, f)
		}
	}
	if kept > 0 {
		found = append(found, Finding{"views", "ok", count(kept, "view") + " as the agent wrote them", ""})
	}
	return found
}

// judgeStores makes a finding of each store's answer. It is a fault if a store does not answer in which the record should be. A
// record in any other store is a copy that a move has left.
func judgeStores(s worker.Settings, answers []worker.Answer) []Finding {
	var found []Finding
	for _, a := range answers {
		f := Finding{ID: "store " + string(a.Kind), State: "ok"}
		took := a.Took.Round(time.Millisecond)
		switch {
		case a.Hindrance != nil:
			f.State, f.What, f.Mend = "fail", fmt.Sprintf("%s (%s)", a.Hindrance, took), protocol.HintOf(a.Hindrance)
		case a.Err == nil && a.InForce:
			f.What = fmt.Sprintf("has the record of profile %s, in %s (%s)", s.Name, a.Location, took)
		case a.Err == nil && a.Kind.Traits().Shared:
			f.State, f.What = "skip", fmt.Sprintf("has a sign-in that is Claude Code's own, in %s (%s)", a.Location, took)
		case a.Err == nil:
			f.State, f.What = "warn", fmt.Sprintf("has an old record of profile %s that is not used, in %s (%s)", s.Name, a.Location, took)
			f.Mend = "ccagent move " + s.Name + " " + string(storeInForce(answers))
		case errors.Is(a.Err, protocol.ErrNotFound) && a.Earlier > 0:
			f.State, f.What = "warn", fmt.Sprintf("is the store of profile %s, but has no record of it (%s)", s.Name, took)
			f.Mend = "ccagent restore -p " + s.Name
		case errors.Is(a.Err, protocol.ErrNotFound):
			f.What = fmt.Sprintf("answers, and has no record of profile %s (%s)", s.Name, took)
		case a.InForce:
			f.State, f.What, f.Mend = "fail", fmt.Sprintf("%s (%s)", a.Err, took), protocol.HintOf(a.Err)
		default:
			f.State, f.What, f.Mend = "skip", fmt.Sprintf("%s (%s)", a.Err, took), protocol.HintOf(a.Err)
		}
		found = append(found, f)
	}
	return found
}

// storeInForce returns the kind of the store that is in use, or file if none is known.
func storeInForce(answers []worker.Answer) store.Kind {
	for _, a := range answers {
		if a.InForce {
			return a.Kind
		}
	}
	return store.KindFile
}
