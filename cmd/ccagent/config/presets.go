package config

import (
	_ "embed"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/pelletier/go-toml/v2"

	"github.com/ccagent/ccagent/agent"
)

// preset is one table of presets.toml.
type preset struct {
	RouteTable
	Provider string `toml:"provider"`
	Kinds    map[string]struct {
		Place *string           `toml:"place"`
		Env   map[string]string `toml:"env"`
	} `toml:"kinds"`
}

//go:embed presets.toml
var presetsText string

// presets returns the presets by name. They are parsed when they are first needed, because most processes need none of them.
var presets = sync.OnceValue(func() map[string]preset {
	var all map[string]preset
	if err := toml.NewDecoder(strings.NewReader(presetsText)).DisallowUnknownFields().Decode(&all); err != nil {
		panic(err) // a test reads them
	}
	return all
})

// Presets returns the names of the routes that need no table in config.toml, in order.
func Presets() []string { return slices.Sorted(maps.Keys(presets())) }

// own reports whether a preset is that of the profile's provider.
func own(name string, profile agent.Profile) bool {
	p := presets()[name].Provider
	return p != "" && p == profile.Provider
}
