package main

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/urfave/cli/v2"

	"github.com/ccagent/ccagent/cmd/ccagent/config"
	"github.com/ccagent/ccagent/cmd/ccagent/files"
	"github.com/ccagent/ccagent/cmd/ccagent/limits"
	"github.com/ccagent/ccagent/cmd/ccagent/session"
	"github.com/ccagent/ccagent/cmd/ccagent/terminal"
	"github.com/ccagent/ccagent/cmd/ccagent/tool"
	"github.com/ccagent/ccagent/disk"
)

// serveLasting serves whoever may connect, until a signal or --for ends it.
func serveLasting(c *cli.Context) error {
	lasts := c.Duration("for")
	uids, err := userIDs(c)
	switch {
	case err != nil:
		return err
	case c.IsSet("for") && lasts <= 0:
		return usagef(c, "--for must be longer than nothing")
	case !c.IsSet("env-file") && terminal.Of(c.App.Writer) == nil:
		return usagef(c, "name the file for the variables with --env-file: they are shown on a terminal only")
	}
	if err := checkConnect(c); err != nil {
		return err
	}
	if err := limits.ForbidDumps(); err != nil {
		return err
	}
	g, err := config.LoadGateway(getenv)
	if err != nil {
		return err
	}
	table, err := routesOf(c, g)
	if err != nil {
		return err
	}
	l, err := session.Listen(c.String("listen"), uids)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(c.Context, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if lasts > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, lasts)
		defer cancel()
	}
	var file envFile
	err = session.Last(ctx, session.Lasting{
		Listener: l, Routes: table, Wait: c.Duration("timeout"), Records: getenv.GatewayRecords,
		Notice: func(text string) { terminal.Warn(c.App.ErrWriter, "%s", text) },
		Ready: func(ready session.Ready) (err error) {
			text := strings.Join(tool.Environment(nil, ready), "\n") + "\n"
			if !c.IsSet("env-file") {
				_, err = io.WriteString(c.App.Writer, text)
			} else if file, err = writeEnv(c.String("env-file"), text); err != nil {
				return err
			}
			notify(daemon.SdNotifyReady + "\nSTATUS=serving at " + c.String("listen"))
			return err
		},
	})
	notify(daemon.SdNotifyStopping)
	return errors.Join(err, file.remove())
}

// envFile is a file with variables for tools.
type envFile struct {
	path string // "": there is none
	text string
}

// writeEnv writes variables to a file that nobody else can read.
func writeEnv(path, text string) (envFile, error) {
	wrong := func(err error) (envFile, error) {
		return envFile{}, disk.Error("writing the variables to", path, err)
	}
	switch info, err := os.Lstat(path); {
	case err == nil && !info.Mode().IsRegular():
		return wrong(errors.New("it is there, and is not a file"))
	case err == nil: // one that was left keeps its mode when it is replaced
		if err := os.Chmod(path, 0o600); err != nil {
			return wrong(err)
		}
	case !errors.Is(err, fs.ErrNotExist):
		return wrong(err)
	}
	if err := files.Replace(path, []byte(text), 0o600); err != nil {
		return wrong(err)
	}
	return envFile{path, text}, nil
}

// remove removes the file, unless somebody else has written it since.
func (f envFile) remove() error {
	if f.path == "" {
		return nil
	}
	if text, err := disk.Read(f.path, int64(len(f.text))+1); err != nil || string(text) != f.text {
		return nil
	}
	return os.Remove(f.path)
}
