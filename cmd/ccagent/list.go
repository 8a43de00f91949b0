package main

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/ccagent/ccagent/agent"
	"github.com/ccagent/ccagent/cmd/ccagent/config"
	"github.com/ccagent/ccagent/cmd/ccagent/dial"
	"github.com/ccagent/ccagent/cmd/ccagent/terminal"
	"github.com/ccagent/ccagent/protocol"
)

// listJSON is the output of `ccagent list --json` (docs/json.md).
type listJSON struct {
	Config   string            `json:"config"`
	Default  string            `json:"default"`
	Here     string            `json:"here"`
	Profiles []listProfileJSON `json:"profiles"`
}

type listProfileJSON struct {
	Name      string   `json:"name"`
	Provider  string   `json:"provider"`
	Store     string   `json:"store"`
	ConfigDir string   `json:"config_dir,omitempty"`
	Hosts     []string `json:"hosts,omitempty"`

	Account      string `json:"account,omitempty"`
	Organization string `json:"organization,omitempty"`

	Views []config.ViewFile `json:"views,omitempty"`
}

// listTime is how long the list waits for the agent to say who is signed in.
const listTime = 3 * time.Second

func listCommand() *cli.Command {
	return &cli.Command{
		Name:  "list",
		Usage: "list the profiles of config.toml",
		Description: `Reads config.toml, and asks the agent, if one runs, who is signed in: the account and the organization, as whoami
tells them. What it does not say in three seconds is left out. The profile with a * is used in this folder by whatever
names none: ccagent use says why. Views are the files of other programs that show its token.

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
				list := listJSON{Config: path, Default: cfg.Default, Here: here(cfg), Profiles: []listProfileJSON{}}
				for i, who := range accounts(c, cfg) {
					p := cfg.Profiles[i]
					list.Profiles = append(list.Profiles, listProfileJSON{
						p.Name, p.Provider, p.Store, p.ConfigDir, p.Hosts, who.account(), who.organization(), config.ViewFiles(p),
					})
				}
				return printJSON(c.App.Writer, list)
			}
			if c.Bool("names") {
				for _, p := range cfg.Profiles {
					if _, err := fmt.Fprintln(c.App.Writer, p.Name); err != nil {
						return err
					}
				}
				return nil
			}
			t := terminal.Table{{"PROFILE", "PROVIDER", "STORE", "ACCOUNT", "ORGANIZATION"}}
			viewed := config.Viewed(cfg)
			if viewed {
				t[0] = append(t[0], "VIEWS")
			}
			chosen := here(cfg)
			for i, who := range accounts(c, cfg) {
				p := cfg.Profiles[i]
				name := p.Name
				if strings.EqualFold(name, chosen) {
					name += " *"
				}
				row := []string{name, p.Provider, p.Store, terminal.Dash(who.account()), terminal.Dash(who.organization())}
				if viewed {
					row = append(row, terminal.Dash(config.ShowViews(getenv, p)))
				}
				t = append(t, row)
			}
			return t.Write(c.App.Writer, 0)
		},
	}
}

// signedIn is who is signed in to a profile, as far as it is known.
type signedIn protocol.Identity

func (s signedIn) account() string      { return cmp.Or(s.Email, s.Name, s.Account) }
func (s signedIn) organization() string { return cmp.Or(s.Organization, s.OrganizationID) }

// accounts asks a running agent who is signed in to each profile of cfg, all at once. What it does not say in time is empty.
func accounts(c *cli.Context, cfg agent.Config) []signedIn {
	all := make([]signedIn, len(cfg.Profiles))
	conn, err := dial.Open(c.Context, listTime, false)
	if err != nil {
		return all
	}
	defer conn.Close()
	if _, err := conn.Status(conn.Ctx, protocol.StatusRequest{Profile: config.BuiltIn}); errors.Is(err, protocol.ErrNoAgent) {
		return all
	}
	var asked sync.WaitGroup
	slots := make(chan struct{}, 16) // the agent has places for others too
	for i, p := range cfg.Profiles {
		if !config.Provider(p).SignsIn {
			continue
		}
		slots <- struct{}{}
		asked.Go(func() {
			defer func() { <-slots }()
			if id, err := conn.Identify(conn.Ctx, protocol.IdentifyRequest{Profile: p.Name}); err == nil {
				all[i] = signedIn(id)
			}
		})
	}
	asked.Wait()
	return all
}
