package main

import (
	"time"

	"github.com/ccagent/ccagent/protocol"
)

// statusJSON is the output of `ccagent status --json` (docs/json.md).
type statusJSON struct {
	Agent    agentJSON     `json:"agent"`
	Profiles []profileJSON `json:"profiles"`
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
	ConfigError    string     `json:"config_error,omitempty"`
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
	LastExit     int        `json:"last_exit,omitempty"`
	Subscription string     `json:"subscription,omitempty"`
	Scopes       []string   `json:"scopes,omitempty"`
	Note         string     `json:"note,omitempty"`
}

func newStatusJSON(s protocol.Status) statusJSON {
	a := s.Agent
	out := statusJSON{
		Agent: agentJSON{
			PID: a.PID, Version: a.Version, Socket: a.Socket, Started: jsonTime(a.Started), Requests: a.Requests, Renewals: a.Renewals,
			Connections: a.Connections, MemoryBytes: a.Memory, DefaultProfile: a.DefaultProfile, ConfigError: a.ConfigError,
			Locked: a.Locked,
		},
		Profiles: []profileJSON{},
	}
	for _, p := range s.Profiles {
		exit := 0
		if p.LastError != "" {
			exit = protocol.ExitCode(&protocol.Error{Code: p.LastCode})
		}
		out.Profiles = append(out.Profiles, profileJSON{
			Name: p.Name, Provider: p.Provider, State: string(p.State), Store: p.Store, Location: p.Location, Kind: string(p.Kind),
			HasToken: p.HasToken, Expires: jsonTime(p.Expiry), Issued: jsonTime(p.Issued), LastRenewal: jsonTime(p.LastRenewal),
			Retry: jsonTime(p.Retry), LastUsed: jsonTime(p.LastUsed), LastError: p.LastError, LastExit: exit,
			Subscription: p.Subscription, Scopes: p.Scopes, Note: p.Note,
		})
	}
	return out
}
