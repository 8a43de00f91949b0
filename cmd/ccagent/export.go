package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/ccagent/ccagent/agent/worker"
	"github.com/ccagent/ccagent/cmd/ccagent/config"
	"github.com/ccagent/ccagent/cmd/ccagent/terminal"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store"
)

func exportCommand() *cli.Command {
	return &cli.Command{
		Name:  "export",
		Usage: "write a copy of a sign-in, for another machine or as a backup",
		Description: `The copy holds everything, including the refresh token. So encrypt it with --to-age, or say --plain.
It goes to standard output unless that is a terminal, or with -o to a new file that only you can
read; "-o -" is standard output too. "ccagent import" reads it.

It is read from the profile's store and not from the agent, because the agent gives no refresh token
away. Most sign-ins get a new refresh token at each renewal, so only one copy can be in use. Once
the copy is used elsewhere, sign out here with "ccagent logout --keep-remote".

EXAMPLE:
   ccagent export -p work --to-age age1... -o work.age
   ccagent export -p work --plain | ssh host ccagent import - -p work`,
		Flags: []cli.Flag{
			profileFlag(),
			&cli.StringSliceFlag{
				Name:  "to-age",
				Usage: "encrypt it for `RECIPIENT`, an age recipient or an SSH public key (may be repeated)",
			},
			&cli.BoolFlag{Name: "plain", Usage: "do not encrypt it"},
			&cli.StringFlag{
				Name:      "output",
				Aliases:   []string{"o"},
				Usage:     "write it to `FILE`, which must not exist; - is standard output",
				TakesFile: true,
			},
			&cli.BoolFlag{Name: "passphrase-stdin", Usage: "read the passphrase of store encrypted from standard input"},
			timeoutFlag(),
		},
		Action: export,
	}
}

func export(c *cli.Context) error {
	recipients, file := c.StringSlice("to-age"), c.String("output")
	if file == "-" {
		file = ""
	}
	switch {
	case c.Args().Present():
		return noArgs(c)
	case c.Bool("plain") == (len(recipients) > 0):
		return usagef(c, "give either --to-age RECIPIENT or --plain")
	case file == "" && terminal.Of(c.App.Writer) != nil:
		return usagef(c, "a sign-in is not printed on a terminal; name a file with -o, or redirect standard output")
	}
	cfg, _, err := config.Load(getenv)
	if err != nil {
		return err
	}
	profile, err := config.Named(cfg, cmp.Or(c.String("profile"), here(cfg)))
	if err != nil {
		return err
	}
	settings, err := config.Settings(profile)
	if err != nil {
		return err
	}
	if err := mayExport(c, profile.Name); err != nil {
		return err
	}
	record, err := worker.Read(c.Context, settings, protocol.Secret{})
	if protocol.CodeOf(err) == protocol.CodeLocked {
		var passphrase, key protocol.Secret
		if c.Bool("passphrase-stdin") {
			passphrase, err = terminal.ReadSecret(c.App.Reader, "passphrase")
		} else {
			passphrase, err = terminal.AskPassphrase(c.Context, err.Error())
		}
		if err != nil {
			return err
		}
		if key, err = worker.Unlock(c.Context, settings, passphrase); err != nil {
			return err
		}
		record, err = worker.Read(c.Context, settings, key)
	}
	if errors.Is(err, protocol.ErrNotFound) && protocol.HintOf(err) == "" {
		err = &protocol.Error{
			Code:    protocol.CodeNotFound,
			Message: err.Error(),
			Hint:    "to see where its record is: ccagent doctor store -p " + profile.Name,
		}
	}
	if err != nil {
		return err
	}
	form, err := store.Portable{Profile: profile.Name, Provider: profile.Provider, Record: record}.Marshal()
	if err != nil {
		return err
	}
	out := []byte(form.Reveal())
	if len(recipients) > 0 {
		if out, err = store.Seal(form, recipients); err != nil {
			return err
		}
	}
	if file == "" {
		_, err = c.App.Writer.Write(out)
		return err
	}
	return writeNew(file, out)
}

// mayExport refuses while the agent is locked, and while it holds a newer record than the store.
func mayExport(c *cli.Context, name string) error {
	conn, err := connect(c, false)
	if err != nil {
		return err
	}
	defer conn.Close()
	status, err := conn.Status(conn.Ctx, protocol.StatusRequest{Profile: name})
	switch {
	case errors.Is(err, protocol.ErrNoAgent):
		return nil
	case err != nil:
		return err
	case status.Agent.Locked:
		return &protocol.Error{Code: protocol.CodeLocked, Message: "the agent is locked", Hint: "unlock it: ccagent unlock"}
	case len(status.Profiles) == 1 && status.Profiles[0].State == protocol.StateUnsaved:
		return &protocol.Error{
			Code:    protocol.CodeStorage,
			Message: "the newest record of profile " + name + " is not saved yet, and the stored one has been used up",
			Hint:    "to see why: ccagent status -p " + name,
		}
	}
	return nil
}

// writeNew writes a new file of mode 0600. If it can't be written completely, it is removed.
func writeNew(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600)
	if errors.Is(err, os.ErrExist) {
		return &protocol.Error{Code: protocol.CodeConfig, Message: path + " exists already",
			Hint: "name a file that does not exist yet"}
	}
	if err == nil {
		_, err = f.Write(data)
		if err == nil {
			err = f.Sync()
		}
		err = errors.Join(err, f.Close())
		if err != nil {
			os.Remove(path)
		}
	}
	if err != nil {
		return &protocol.Error{
			Code:    protocol.CodeStorage,
			Message: fmt.Sprintf("the copy could not be written: %v", err),
			Hint:    "the file has been removed again; name another place with -o",
		}
	}
	return nil
}
