package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/ccagent/ccagent/agent"
	"github.com/ccagent/ccagent/protocol"
)

// The restricted socket of `serve --export` and `forward`: the tokens of chosen profiles, put to the person's own agent.

// exportedProfiles are those named, which must exist.
func exportedProfiles(names []string) ([]string, error) {
	config, _, err := loadConfig(getenv)
	if err != nil {
		return nil, err
	}
	var chosen []string
	for _, list := range names {
		for name := range strings.SplitSeq(list, ",") {
			profile, err := namedProfile(config, strings.TrimSpace(name))
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

// serveExport is `serve --export`: it ends with a signal.
func serveExport(c *cli.Context) error {
	if len(c.StringSlice("profiles")) == 0 {
		return usagef(c, "--export needs --profiles: whose tokens may be had there?")
	}
	profiles, err := exportedProfiles(c.StringSlice("profiles"))
	if err != nil {
		return err
	}
	var uids []uint32
	for _, uid := range c.IntSlice("allow-uid") {
		if uid < 0 || uid >= math.MaxUint32 {
			return usagef(c, "--allow-uid %d is no user id", uid)
		}
		uids = append(uids, uint32(uid))
	}
	switch gid := c.Int("allow-gid"); {
	case c.IsSet("allow-gid") && (gid < 0 || gid >= math.MaxUint32):
		return usagef(c, "--allow-gid %d is no group id", gid)
	case c.IsSet("allow-gid") && len(uids) > 0:
		return usagef(c, "--allow-uid and --allow-gid exclude each other: the socket is either the group's or everybody's to try")
	case c.IsSet("idle-timeout") && getenv("CCAGENT_IDLE_TIMEOUT") == "":
		return usagef(c, "--idle-timeout means nothing with --export, which ends with a signal")
	}
	if err := harden(); err != nil {
		return err
	}
	log, closeLog, err := openLog(c)
	if err != nil {
		return err
	}
	defer closeLog()
	l, err := listenExport(c.String("export"), uids, c.Int("allow-gid"))
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(c.Context, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	log.Info("serving tokens alone", "socket", c.String("export"), "profiles", strings.Join(profiles, ","), "pid", os.Getpid())
	return share(ctx, l, profiles, uids, c.Int("allow-gid"), log)
}

// share answers on l until ctx ends. The agent is started where none runs, as for any command.
func share(ctx context.Context, l *net.UnixListener, profiles []string, uids []uint32, gid int, log *slog.Logger) error {
	pool, err := protocol.PoolFromEnv(true)
	if err != nil {
		l.Close()
		return err
	}
	defer pool.Close()
	x := &agent.Export{Agent: pool, Profiles: profiles, Log: log, Admit: func(p protocol.Peer) error {
		if gid >= 0 { // whom the socket's mode lets in is of the group: the kernel has looked
			return nil
		}
		if p.UID != uint32(os.Geteuid()) && !slices.Contains(uids, p.UID) {
			return errors.New("another user")
		}
		return nil
	}}
	return x.Serve(ctx, l)
}

// listenExport makes the socket: 0600, with a group 0660, with other users 0666, whom the policy then tells apart. Its folder is
// the caller's to choose, and nobody else's to write in.
func listenExport(path string, uids []uint32, gid int) (*net.UnixListener, error) {
	fail := func(format string, args ...any) (*net.UnixListener, error) {
		return nil, &protocol.Error{Code: protocol.CodeConfig, Message: "the restricted socket: " + fmt.Sprintf(format, args...)}
	}
	if !filepath.IsAbs(path) || len(path) > 100 {
		return fail("%q must be an absolute path of 100 bytes at most", path)
	}
	if own, _, err := protocol.SocketPath(); err == nil && filepath.Clean(path) == filepath.Clean(own) {
		return fail("%s is the place of the agent itself, which could not be asked then", path)
	}
	dir := filepath.Dir(path)
	info, err := os.Lstat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fail("there is no folder %s: mkdir -m 700 %s", dir, shellQuote(dir))
	case err != nil:
		return fail("%v", err)
	case !info.IsDir():
		return fail("%s is not a folder", dir)
	case info.Mode().Perm()&0o002 != 0, gid < 0 && info.Mode().Perm()&0o020 != 0:
		return fail("%s may be written by others (mode %04o), who could put a socket of their own there", dir, info.Mode().Perm())
	}
	if owner, ok := ownerOf(info); ok && owner != uint32(os.Geteuid()) {
		return fail("%s belongs to user id %d", dir, owner)
	}
	switch info, err := os.Lstat(path); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return fail("%v", err)
	case info.Mode()&fs.ModeSocket == 0:
		return fail("%s is there already, and is no socket", path)
	default:
		c, err := net.Dial("unix", path)
		if err == nil {
			c.Close()
		}
		if !errors.Is(err, syscall.ECONNREFUSED) { // a queue that is full is somebody's, too
			return fail("somebody answers at %s already", path)
		}
		if err := os.Remove(path); err != nil {
			return fail("%v", err)
		}
	}
	before := unix.Umask(0o177) // 0600 from birth
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	unix.Umask(before)
	if err != nil {
		return fail("%v", err)
	}
	switch {
	case gid >= 0:
		if err = os.Chown(path, -1, gid); err == nil {
			err = os.Chmod(path, 0o660)
		}
	case len(uids) > 0:
		err = os.Chmod(path, 0o666)
	}
	if err != nil {
		l.Close()
		return fail("group %s: %v", strconv.Itoa(gid), err)
	}
	return l, nil
}
