package main

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/ccagent/ccagent/cmd/ccagent/config"
	"github.com/ccagent/ccagent/cmd/ccagent/terminal"
)

// listJSON is the output of `ccagent list --json` (docs/json.md).
type listJSON struct {
	Config   string            `json:"config"`
	Default  string            `json:"default"`
	Profiles []listProfileJSON `json:"profiles"`
}

type listProfileJSON struct {
	Name      string   `json:"name"`
	Provider  string   `json:"provider"`
	Store     string   `json:"store"`
	ConfigDir string   `json:"config_dir,omitempty"`
	Hosts     []string `json:"hosts,omitempty"`
}

func listCommand() *cli.Command {
	return &cli.Command{
		Name:  "list",
		Usage: "list the profiles of config.toml",
		Description: `Reads config.toml and does not ask the agent. "ccagent status" shows what the agent does with the
profiles.

EXAMPLE:
   ccagent list
   ccagent list --names
   ccagent list --json`,
		Flags: []cli.Flag{jsonFlag(), &cli.BoolFlag{Name: "names", Usage: "print only the names, one per line"}},
		Action: func(c *cli.Context) error {
			if err := noArgs(c); err != nil {
				return err
			}
			cfg, path, err := config.Load(getenv)
			if err != nil {
				return err
			}
			if c.Bool("json") {
				list := listJSON{Config: path, Default: cfg.Default, Profiles: []listProfileJSON{}}
				for _, p := range cfg.Profiles {
					list.Profiles = append(list.Profiles, listProfileJSON{p.Name, p.Provider, p.Store, p.ConfigDir, p.Hosts})
				}
				return printJSON(c.App.Writer, list)
			}
			t := terminal.Table{{"PROFILE", "PROVIDER", "STORE", "DEFAULT"}}
			for _, p := range cfg.Profiles {
				if c.Bool("names") {
					if _, err := fmt.Fprintln(c.App.Writer, p.Name); err != nil {
						return err
					}
					continue
				}
				mark := ""
				if p.Name == cfg.Default {
					mark = "*"
				}
				t = append(t, []string{p.Name, p.Provider, p.Store, mark})
			}
			if c.Bool("names") {
				return nil
			}
			return t.Write(c.App.Writer, 0)
		},
	}
}
