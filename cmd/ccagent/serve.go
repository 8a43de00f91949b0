package main

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/urfave/cli/v2"

	"github.com/ccagent/ccagent/agent"
	"github.com/ccagent/ccagent/agent/socket"
	"github.com/ccagent/ccagent/agent/spawn"
	"github.com/ccagent/ccagent/cmd/ccagent/build"
	"github.com/ccagent/ccagent/cmd/ccagent/config"
	"github.com/ccagent/ccagent/cmd/ccagent/limits"
	"github.com/ccagent/ccagent/cmd/ccagent/logind"
	"github.com/ccagent/ccagent/cmd/ccagent/memory"
	"github.com/ccagent/ccagent/cmd/ccagent/service"
	"github.com/ccagent/ccagent/cmd/ccagent/share"
	"github.com/ccagent/ccagent/protocol"
)

const (
	// patience is how long a starting agent waits for another one that is about to end.
	patience = drainTime + 5*time.Second
	// drainTime is how long an ending agent waits for its workers. After that they finish without it.
	drainTime = 40 * time.Second
)

func serveCommand() *cli.Command {
	return &cli.Command{
		Name:  "serve",
		Usage: "run the agent in the foreground",
		Description: `Answers on the socket that systemd or launchd hands over, else on $CCAGENT_SOCK, else on the default
socket. cchelper and "ccagent env" start the agent by themselves. Run it yourself to watch its log,
or to have a service manager run it.

With --export it is not an agent. It offers the tokens of some profiles on a second socket and asks
your agent for them, for a container or another user (ccagent help remote). Nothing else can be
asked there.

SIGTERM and SIGINT end it once its workers are done. SIGHUP makes it read config.toml again.

EXAMPLE:
   ccagent serve --log-level debug
   ccagent serve --idle-timeout 30m --log-format json
   ccagent serve --export ~/box/agent.sock --profiles gateway`,
		Flags: append(
			logFlags(),
			&cli.DurationFlag{
				Name:        "idle-timeout",
				DefaultText: "never",
				Usage:       "end after `DURATION` without a request, unless the agent holds something that no store has",
				EnvVars:     []string{"CCAGENT_IDLE_TIMEOUT"},
			},
			&cli.StringFlag{Name: "export", Usage: "give only the tokens of --profiles, on a socket at `PATH`", TakesFile: true},
			&cli.StringSliceFlag{
				Name:  "profiles",
				Usage: "with --export: the profiles, as `NAMES` separated by commas; the first is the default there",
			},
			derivedFlag(),
			&cli.IntSliceFlag{Name: "allow-uid", Usage: "with --export: also let the user with id `UID` in (may be repeated)"},
			&cli.IntFlag{
				Name:        "allow-gid",
				Value:       -1,
				DefaultText: "nobody",
				Usage:       "with --export: also let the members of the group with id `GID` in",
			},
		),
		Action: func(c *cli.Context) error {
			if err := noArgs(c); err != nil {
				return err
			}
			if c.IsSet("export") {
				return serveExport(c)
			}
			for _, name := range []string{"profiles", "derived", "allow-uid", "allow-gid"} {
				if c.IsSet(name) {
					return usagef(c, "--%s can only be used with --export", name)
				}
			}
			if c.Duration("idle-timeout") < 0 {
				return usagef(c, "--idle-timeout must not be negative; 0 means never")
			}
			return serve(c)
		},
	}
}

func serve(c *cli.Context) error {
	// An agent keeps the environment that it was started in, although later requests come from other environments. So if it can't
	// find its settings in this one, it does not start.
	for _, find := range []func() (string, error){getenv.ClaudeFolder, getenv.ConfigFile, getenv.DataDir, getenv.StateDir} {
		if _, err := find(); err != nil {
			return err
		}
	}
	if err := limits.ForbidDumps(); err != nil {
		return err
	}
	log, closeLog, err := openLog(c)
	if err != nil {
		return err
	}
	defer closeLog()
	err = serveLogged(c, log)
	if err != nil && c.String("log-file") != "" {
		// main writes the error to standard error as well, but nobody reads that of a detached agent.
		log.Error("the agent failed", "error", err)
	}
	return err
}

func serveLogged(c *cli.Context, log *slog.Logger) error {
	ctx, cancel := context.WithTimeout(c.Context, patience)
	listener, activated, err := listen(ctx)
	cancel()
	if errors.Is(err, socket.ErrRunning) {
		log.Info("not started: another agent answers on this socket")
		return nil
	}
	if err != nil {
		return err
	}
	defer listener.Release()

	runtime.MemProfileRate = 0 // a third of a megabyte for a profile that nobody reads
	env := getenv
	file, _ := env.ConfigFile()
	sessions := logind.New(log)
	a := agent.New(agent.Options{
		Load: func() (agent.Config, error) {
			cfg, _, err := config.Load(env)
			if err == nil {
				sessions.Want(cfg.LockOn)
			}
			return cfg, err
		},
		ConfigFile:  file,
		Runner:      spawn.Process{Args: []string{"worker"}, Env: spawn.Environment()},
		Log:         log,
		Build:       build.Version(),
		Socket:      listener.Path,
		IdleTimeout: c.Duration("idle-timeout"),
		Rest:        memory.Return,
	})
	watching, unwatch := context.WithCancel(context.WithoutCancel(c.Context))
	defer unwatch()
	go sessions.Watch(watching, func() { a.Lock(protocol.Secret{}) })
	var unreachable string
	go listener.Keep(watching, log, func(why error) {
		again := why.Error() == unreachable
		unreachable = why.Error()
		if !again {
			log.Error("nobody can reach this agent any more", "error", why)
		}
		if _, err := a.Control(watching, protocol.ControlRequest{Command: protocol.CommandStop}); err != nil && !again {
			log.Warn("it does not end, and tries again every half minute", "reason", err)
		}
	})
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	done := make(chan struct{})
	defer close(done)
	defer signal.Stop(signals)
	go func() {
		for {
			select {
			case s := <-signals:
				if s == syscall.SIGHUP {
					a.Control(context.Background(), protocol.ControlRequest{Command: protocol.CommandReload})
					continue
				}
				log.Info("stopping", "signal", s.String())
				notify(daemon.SdNotifyStopping)
				a.Stop()
			case <-done:
				return
			}
		}
	}()

	why := protocol.SocketReason()
	if activated {
		why = "a service manager has made it"
	}
	log.Info("serving", "socket", listener.Path(), "why", why, "pid", os.Getpid(), "version", build.Version())
	notify(daemon.SdNotifyReady + "\nSTATUS=serving on " + listener.Path())
	serveErr := a.Serve(listener, socket.OnlyUser(uint32(os.Geteuid())))
	notify(daemon.SdNotifyStopping + "\nSTATUS=finishing what is under way")
	ctx, cancel = context.WithTimeout(context.WithoutCancel(c.Context), drainTime)
	defer cancel()
	if err := errors.Join(serveErr, a.Close(ctx)); err != nil {
		return err
	}
	log.Info("stopped")
	return nil
}

// listen returns the socket that a service manager has made, else one of our own.
func listen(ctx context.Context) (_ *socket.Listener, activated bool, _ error) {
	ln, err := service.Listener()
	if err != nil {
		return nil, false, &protocol.Error{
			Code:    protocol.CodeConfig,
			Message: "socket activation: " + err.Error(),
			Hint:    "the units that come with ccagent hand over one Unix socket",
		}
	}
	if ln != nil {
		l, err := socket.Adopt(ctx, ln)
		return l, true, err
	}
	path, _, err := protocol.SocketPath()
	if err != nil {
		return nil, false, err
	}
	l, err := socket.Listen(ctx, path)
	return l, false, err
}

// notify tells systemd the state of the agent, if systemd wants to know. A failure changes nothing for us.
func notify(state string) { daemon.SdNotify(false, state) }

// exportedProfiles returns the profiles with these names, as config.toml writes them. All of them must exist.
func exportedProfiles(names []string) ([]string, error) {
	cfg, _, err := config.Load(getenv)
	if err != nil {
		return nil, err
	}
	var chosen []string
	for _, list := range names {
		for name := range strings.SplitSeq(list, ",") {
			profile, err := config.Named(cfg, strings.TrimSpace(name))
			if err != nil {
				return nil, err
			}
			if !slices.Contains(chosen, profile.Name) {
				chosen = append(chosen, profile.Name)
			}
		}
	}
	return chosen, nil
}

// derivedFlag is the flag of those commands that make a restricted socket.
func derivedFlag() cli.Flag {
	return &cli.BoolFlag{
		Name: "derived", Usage: "on the restricted socket, give ID tokens and tokens for other scopes and audiences too",
	}
}

// userIDs returns the users that --allow-uid names.
func userIDs(c *cli.Context) (uids []uint32, err error) {
	for _, uid := range c.IntSlice("allow-uid") {
		if uid < 0 || uid >= math.MaxUint32 {
			return nil, usagef(c, "--allow-uid %d is no user id", uid)
		}
		uids = append(uids, uint32(uid))
	}
	return uids, nil
}

// serveExport is `serve --export`. It runs until a signal ends it.
func serveExport(c *cli.Context) error {
	if len(c.StringSlice("profiles")) == 0 {
		return usagef(c, "--export needs --profiles, the profiles whose tokens it may give")
	}
	profiles, err := exportedProfiles(c.StringSlice("profiles"))
	if err != nil {
		return err
	}
	uids, err := userIDs(c)
	if err != nil {
		return err
	}
	switch gid := c.Int("allow-gid"); {
	case c.IsSet("allow-gid") && (gid < 0 || gid >= math.MaxUint32):
		return usagef(c, "--allow-gid %d is no group id", gid)
	case c.IsSet("allow-gid") && len(uids) > 0:
		return usagef(c, "--allow-uid and --allow-gid can't be used together")
	case c.IsSet("idle-timeout") && getenv("CCAGENT_IDLE_TIMEOUT") == "":
		return usagef(c, "--idle-timeout can't be used with --export, which runs until a signal ends it")
	}
	if err := limits.ForbidDumps(); err != nil {
		return err
	}
	log, closeLog, err := openLog(c)
	if err != nil {
		return err
	}
	defer closeLog()
	l, err := share.Listen(c.String("export"), uids, c.Int("allow-gid"))
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(c.Context, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	log.Info("serving tokens alone", "socket", c.String("export"), "profiles", strings.Join(profiles, ","), "pid", os.Getpid())
	return share.Serve(ctx, l, profiles, c.Bool("derived"), uids, c.Int("allow-gid"), log)
}
