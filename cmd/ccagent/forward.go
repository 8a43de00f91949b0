package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/ccagent/ccagent/cmd/ccagent/config"
	"github.com/ccagent/ccagent/cmd/ccagent/limits"
	"github.com/ccagent/ccagent/cmd/ccagent/share"
	"github.com/ccagent/ccagent/cmd/ccagent/terminal"
	"github.com/ccagent/ccagent/protocol"
)

func forwardCommand() *cli.Command {
	return &cli.Command{
		Name:      "forward",
		Usage:     "log in to another machine by ssh, and have this machine's tokens there",
		ArgsUsage: "HOST [COMMAND [ARGUMENT...]]",
		Description: `Opens an ssh session in which cchelper asks the agent of this machine, by way of a socket that gives the tokens of the
chosen profiles and nothing else. Nothing is stored over there, and with the session the socket is gone. Its path is the
same in the next session, so that what runs on in tmux gets tokens again. The other machine needs cchelper, or a client
of its own (docs/client.py).

EXAMPLE:
   ccagent forward --profiles gateway build.example.com
   ccagent forward --profiles gateway build.example.com claude -p 'run the tests'`,
		Flags: []cli.Flag{
			&cli.StringSliceFlag{
				Name:  "profiles",
				Usage: "whose tokens: `NAMES`, separated by commas; the first is the default there (default: the default profile)",
			},
			derivedFlag(),
			&cli.StringFlag{Name: "ssh-config", Aliases: []string{"F"}, Usage: "ssh's configuration `FILE`", TakesFile: true},
			&cli.StringSliceFlag{Name: "ssh-option", Aliases: []string{"o"}, Usage: "an `OPTION` of ssh's, as in ssh -o"},
		},
		Action: forward,
	}
}

func forward(c *cli.Context) error {
	host := c.Args().First()
	if host == "" || strings.HasPrefix(host, "-") {
		return usagef(c, "which HOST?")
	}
	names := c.StringSlice("profiles")
	if len(names) == 0 {
		cfg, _, err := config.Load(getenv)
		if err != nil {
			return err
		}
		names = []string{here(cfg)}
	}
	profiles, err := exportedProfiles(names)
	if err != nil {
		return err
	}
	if _, err := exec.LookPath("ssh"); err != nil {
		return &exitError{errors.New("there is no ssh on PATH"), 127}
	}

	// Short: a socket's path has about 100 bytes, of which ssh wants some for a name of its own. 0700, and gone at the end.
	parent := os.TempDir()
	if len(parent) > 60 {
		parent = "/tmp"
	}
	dir, err := os.MkdirTemp(parent, "ccf")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	local := filepath.Join(dir, "s")
	l, err := share.Listen(local, nil, -1)
	if err != nil {
		return err
	}
	ctx, cancel := signal.NotifyContext(c.Context, syscall.SIGTERM, syscall.SIGHUP) // a terminal that is closed, too
	defer cancel()
	served := make(chan error, 1)
	go func() {
		served <- share.Serve(ctx, l, profiles, c.Bool("derived"), nil, -1, slog.New(slog.DiscardHandler))
	}()
	defer func() { cancel(); <-served }()

	session := sshSession{c: c, ctx: ctx, host: host, options: sshOptions(c, filepath.Join(dir, "c")), place: placeOf(profiles)}
	remote, err := session.begin()
	if err != nil {
		return err
	}
	defer session.last("-O", "exit", host)
	if remote == "" {
		return &protocol.Error{
			Code:    protocol.CodeUnavailable,
			Message: "the other machine made no folder for the socket",
			Hint:    "see what it says to: " + protocol.ShellLine("ssh", host) + " mktemp -d /tmp/ccagent-XXXXXXXXXX",
		}
	}
	// The session has done so itself, if it came to that and was left to end.
	defer session.last(host, "exec sh -c 'dir="+remote+"\n"+session.leave()+"'")
	return session.run(local, remote)
}

// sshSession is one login on another machine, which carries all: the folder must be there before a socket can be forwarded into
// it.
type sshSession struct {
	c       *cli.Context
	ctx     context.Context
	host    string
	options []string
	place   string // see placeOf
}

// placeOf names the stable socket over there of these profiles of this machine: another machine, and other profiles, have another
// one, because a program must not get another account's token when somebody opens a second session.
func placeOf(profiles []string) string {
	machine, _ := os.Hostname()
	digest := sha256.Sum256([]byte(strings.Join(append(profiles, machine), "\x00")))
	return hex.EncodeToString(digest[:5])
}

// The socket of a session lies in a folder of its own. Programs that outlive the session, as those in tmux do, need one path that
// leads to the session that is there now: a second name of the newest session's socket, in a folder that stays the same. When a
// session ends, the stable name leads to another one that is left, or is gone. Where another user has the folder, or the system
// makes no second names of sockets, the session's own path has to do. No quotation mark may be in these scripts.

// enter makes the stable name lead to the session whose folder is in $dir, and puts it into CCAGENT_SOCK.
func (s sshSession) enter() string {
	return s.names() + `CCAGENT_SOCK=$dir/agent.sock
if (umask 077; mkdir -p "$folder") 2>/dev/null && [ -O "$folder" ] && [ ! -L "$folder" ] && chmod 700 "$folder" &&
	ln "$dir/agent.sock" "$entry" && ln "$dir/agent.sock" "$entry.new" && mv -f "$entry.new" "$stable"; then
	CCAGENT_SOCK=$stable
fi 2>/dev/null
export CCAGENT_SOCK
`
}

// leave removes the session whose folder is in $dir.
func (s sshSession) leave() string {
	return s.names() + `rm -f "$entry.new"
if [ "$stable" -ef "$dir/agent.sock" ]; then
	rm -f "$stable" "$entry"
	left=$(ls -t "$folder" 2>/dev/null | grep "^` + s.place + `-" | head -n 1)
	[ -z "$left" ] || ln "$folder/$left" "$stable"
fi
rm -f "$entry"
rm -rf "$dir"
rmdir "$folder" 2>/dev/null
`
}

func (s sshSession) names() string {
	return `folder=/tmp/ccagent-forward-$(id -u)
stable=$folder/` + s.place + `.sock
entry=$folder/` + s.place + `-${dir##*/}
`
}

func sshOptions(c *cli.Context, control string) []string {
	options := []string{"-o", "ControlPath=" + control, "-o", "RemoteCommand=none"}
	if file := c.String("ssh-config"); file != "" {
		options = append(options, "-F", file)
	}
	for _, o := range c.StringSlice("ssh-option") {
		options = append(options, "-o", o)
	}
	return options
}

func (s sshSession) ssh(args ...string) *exec.Cmd {
	cmd := exec.CommandContext(s.ctx, "ssh", slices.Concat(s.options, args)...)
	cmd.Stdin, cmd.Stderr = os.Stdin, s.c.App.ErrWriter
	return cmd
}

// last runs ssh whatever has become of the session.
func (s sshSession) last(args ...string) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	limits.RunAsGiven(exec.CommandContext(ctx, "ssh", slices.Concat(s.options, []string{"-T"}, args)...))
}

// begin logs in, and makes the folder of the socket, which it returns; "" if the other machine made none.
func (s sshSession) begin() (remote string, err error) {
	// What runs over there goes as a file, which needs no quoting that every login shell agrees on: fish and csh do not.
	command := `"${SHELL:-/bin/sh}" -l`
	if s.c.Args().Len() > 1 {
		var words []string
		for _, word := range s.c.Args().Tail() {
			words = append(words, protocol.ShellWord(word))
		}
		command = strings.Join(words, " ")
	}
	script := "dir=${0%/*}\nrm -f \"$0\"\ntrap '" + s.leave() + "' EXIT HUP TERM\n" + s.enter() + command + "\n"
	// Should we be killed, it ends by itself once no session is left.
	master := s.ssh("-T", "-o", "ControlMaster=yes", "-o", "ControlPersist=10", s.host,
		"exec sh -c 'umask 077; dir=$(mktemp -d /tmp/ccagent-XXXXXXXXXX) && cat >$dir/run && echo $dir'")
	master.Stdin = strings.NewReader(script)
	var out bytes.Buffer
	master.Stdout = &out
	if err := limits.RunAsGiven(master); err != nil {
		return "", &protocol.Error{
			Code:    protocol.CodeUnavailable,
			Message: fmt.Sprintf("logging in to %s: ssh failed (%v)", terminal.Sanitize(s.host), err),
			Hint:    "what ssh says is above",
		}
	}
	// The shell over there may have something to say as well.
	return string(regexp.MustCompile(`(?m)^/tmp/ccagent-[A-Za-z0-9]{10}$`).Find(out.Bytes())), nil
}

// run forwards the socket, and runs what is to be run until it ends.
func (s sshSession) run(local, remote string) error {
	if err := limits.RunAsGiven(s.ssh("-O", "forward", "-R", remote+"/agent.sock:"+local, s.host)); err != nil {
		return &protocol.Error{Code: protocol.CodeUnavailable, Message: fmt.Sprintf("forwarding the socket: ssh failed (%v)", err),
			Hint: "what ssh says is above; the other machine's sshd may forbid it (AllowStreamLocalForwarding)"}
	}
	args := []string{s.host, "exec sh " + remote + "/run"}
	if s.c.Args().Len() == 1 {
		args = append([]string{"-t"}, args...)
	}
	session := s.ssh(args...)
	session.Stdout = s.c.App.Writer.(*terminal.Output).Writer
	err := limits.RunAsGiven(session)
	var exit *exec.ExitError
	if s.ctx.Err() != nil && s.c.Context.Err() == nil {
		return &exitError{errors.New("a signal ended the session"), 128 + int(syscall.SIGTERM)}
	}
	if errors.As(err, &exit) && exit.ExitCode() > 0 {
		return &exitError{fmt.Errorf("the session ended with exit code %d", exit.ExitCode()), exit.ExitCode()}
	}
	return err
}
