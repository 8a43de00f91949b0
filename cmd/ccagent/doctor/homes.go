package doctor

import (
	"context"

	"github.com/ccagent/ccagent/agent"
	"github.com/ccagent/ccagent/agent/worker"
	"github.com/ccagent/ccagent/cmd/ccagent/config"
	"github.com/ccagent/ccagent/protocol"
)

// checkHomes looks for sign-ins that are in two profiles.
func checkHomes(ctx context.Context, cfg agent.Config) []Finding {
	var all []worker.Settings
	for _, profile := range cfg.Profiles {
		if settings, err := config.Settings(profile); err == nil && config.Provider(profile).Stored {
			all = append(all, settings)
		}
	}
	var found []Finding
	for _, shared := range worker.SharedSignIns(ctx, all) {
		found = append(found, Finding{"sign-in of " + shared.Profile, "fail", shared.Err.Error(), protocol.HintOf(shared.Err)})
	}
	return found
}
