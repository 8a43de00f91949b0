// Package session is the process of a gateway: of one tool's own, or a lasting one.
//
// The gateway of one tool is a process without a terminal that is not a child of the tool, and that ends soon after it. What the
// two say to each other goes over a pair of sockets, which closes when the tool begins. So neither the arguments nor the
// environment of the gateway hold a stand-in.
package session

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ccagent/ccagent/agent/gateway"
	"github.com/ccagent/ccagent/agent/gateway/audit"
	"github.com/ccagent/ccagent/agent/gateway/route"
	"github.com/ccagent/ccagent/agent/spawn"
	"github.com/ccagent/ccagent/process"
	"github.com/ccagent/ccagent/protocol"
)

// Request says which gateway a tool wants.
type Request struct {
	Tool    process.ID    // the process that will be the tool; it asks for the gateway itself
	Program string        // the name of the tool
	Profile string        // for the routes that name none
	Chosen  bool          // a person has chosen the profile for this session
	Routes  []string      // by name; none: all that apply
	Wait    time.Duration // how long the first tokens may take
	Bring   bool          // the listener comes from the tool's side: see Prepare
}

// Ready says where the tool finds its gateway.
type Ready struct {
	Base   string // the URL before the name of a route
	Grants []Grant
	Notice string          // what a person should know
	Error  *protocol.Error // why there is no gateway
}

// Grant is what the tool is given for a route.
type Grant struct {
	Route   string
	StandIn string
	Env     map[string]route.Value
	Tools   []route.Tool
	For     string // the URL that the base URL is in place of
}

// maxMessage bounds what one side reads of the other, in bytes.
const maxMessage = 1 << 20

// Starter and Detached are the arguments with which this binary becomes a gateway: the first starts the second and ends, so that
// the gateway is nobody's child.
var Starter, Detached = []string{"gateway", "--tool"}, []string{"gateway", "--tool", "--detached"}

// Start starts a gateway, and returns when it serves. Errors are the gateway's own, which are those of the configuration and of
// the agent, and ErrUnavailable where it could not be started.
func Start(ctx context.Context, req Request) (Ready, error) {
	socket, ready, err := begin(ctx, req)
	if err != nil {
		return Ready{}, err
	}
	return ready, socket.Close()
}

// Prepare starts a gateway that has no listener yet. Whoever has the socket gives it one, by [Bring]. The gateway ends if nobody
// has the socket any more. Errors are those of [Start].
func Prepare(ctx context.Context, req Request) (socket *os.File, err error) {
	req.Bring = true
	socket, _, err = begin(ctx, req)
	return socket, err
}

// begin starts a gateway, and returns its first answer, with the socket on which it came.
func begin(ctx context.Context, req Request) (socket *os.File, ready Ready, err error) {
	ours, theirs, err := spawn.SocketPair()
	if err != nil {
		return nil, ready, failed(err)
	}
	defer func() {
		if err != nil {
			ours.Close()
		}
	}()
	cmd, err := command(ctx, Starter, theirs)
	if err == nil {
		err = cmd.Run()
	}
	theirs.Close()
	if err != nil {
		return nil, ready, failed(err)
	}
	defer context.AfterFunc(ctx, func() { ours.SetDeadline(time.Now()) })()
	if err := json.NewEncoder(ours).Encode(req); err != nil {
		return nil, ready, failed(errSilent)
	}
	ready, err = answer(ours)
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	return ours, ready, err
}

var errSilent = errors.New("it ended without a word")

// answer reads an answer of the gateway.
func answer(from io.Reader) (ready Ready, err error) {
	if err := json.NewDecoder(io.LimitReader(from, maxMessage)).Decode(&ready); err != nil {
		return ready, failed(errSilent)
	}
	if ready.Error != nil {
		return ready, ready.Error
	}
	return ready, nil
}

// Bring gives a gateway the listener to serve, which may be of another network than the gateway's own, and closes both that and
// the socket. Errors are those of [Start].
func Bring(socket *os.File, l *net.TCPListener) (Ready, error) {
	defer socket.Close()
	defer l.Close()
	file, err := l.File()
	if err != nil {
		return Ready{}, failed(err)
	}
	defer file.Close()
	conn, err := net.FileConn(socket)
	if err != nil {
		return Ready{}, failed(err)
	}
	defer conn.Close()
	unixConn, ok := conn.(*net.UnixConn)
	if !ok {
		return Ready{}, failed(errors.New("this is no socket of it"))
	}
	if _, _, err := unixConn.WriteMsgUnix([]byte{0}, unix.UnixRights(int(file.Fd())), nil); err != nil {
		return Ready{}, failed(errSilent)
	}
	return answer(conn)
}

// receive waits for the listener that [Bring] sends.
func receive(conn net.Conn) (net.Listener, error) {
	unixConn, ok := conn.(*net.UnixConn)
	if !ok {
		return nil, errors.New("this is no socket of a tool")
	}
	one, rights := make([]byte, 1), make([]byte, unix.CmsgSpace(4))
	n, size, _, _, err := unixConn.ReadMsgUnix(one, rights)
	if err != nil || n == 0 {
		return nil, errors.Join(errors.New("the tool did not begin"), err)
	}
	messages, err := unix.ParseSocketControlMessage(rights[:size])
	if err != nil || len(messages) != 1 {
		return nil, errors.Join(errors.New("the tool has sent no listener"), err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return nil, errors.Join(errors.New("the tool has sent no listener"), err)
	}
	file := os.NewFile(uintptr(fds[0]), "listener")
	defer file.Close()
	return net.FileListener(file)
}

// command is this binary with other arguments, in a session of its own, with a socket for its standard input.
func command(ctx context.Context, args []string, socket *os.File) (*exec.Cmd, error) {
	self, err := spawn.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self)
	cmd.Args = append([]string{"ccagent"}, args...) // the name that ps shows
	cmd.Env, cmd.Dir, cmd.Stdin = spawn.Environment(), "/", socket
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return cmd, nil
}

func failed(err error) error {
	return &protocol.Error{Code: protocol.CodeUnavailable, Message: "the gateway process failed: " + err.Error(), Hint: "try again"}
}

// Detach starts the gateway that serves on the socket, and returns at once.
func Detach(socket *os.File) error {
	cmd, err := command(context.Background(), Detached, socket)
	if err != nil {
		return err
	}
	return cmd.Start()
}

// listen makes the listener for a tool, or says that the gateway is ready for the tool's own and waits for it.
func listen(ctx context.Context, conn net.Conn, req Request) (net.Listener, error) {
	if !req.Bring {
		return net.Listen("tcp", "127.0.0.1:0")
	}
	if err := json.NewEncoder(conn).Encode(Ready{}); err != nil {
		return nil, err
	}
	conn.SetReadDeadline(time.Time{})
	defer context.AfterFunc(ctx, func() { conn.SetReadDeadline(time.Now()) })()
	return receive(conn)
}

// Serve is the gateway's process: it reads the request from the socket, answers, and serves until the tool ends. routes says
// which routes the tool has, and records names the folder for the record of its requests. Its errors were told on the socket.
func Serve(ctx context.Context, socket *os.File, records func() (string, error),
	routes func(Request) (route.Table, error)) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM)
	defer stop()
	// These are for the tool. They are caught and not ignored, because an agent that is started from here would inherit that.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP, syscall.SIGINT)
	conn, err := net.FileConn(socket)
	if err != nil {
		return err
	}
	socket.Close()
	defer conn.Close()
	var req Request
	conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	if err := json.NewDecoder(io.LimitReader(conn, maxMessage)).Decode(&req); err != nil {
		return fmt.Errorf("there is no request: %w", err)
	}
	ended := process.Ended(req.Tool)
	tell := func(err error) error {
		said := &protocol.Error{Code: protocol.CodeOf(err), Message: err.Error(), Hint: protocol.HintOf(err),
			Detail: protocol.DetailOf(err)}
		return errors.Join(err, json.NewEncoder(conn).Encode(Ready{Error: said}))
	}
	table, err := routes(req)
	if err != nil {
		return tell(err)
	}
	agent, err := protocol.PoolFromEnv(true)
	if err != nil {
		return tell(err)
	}
	defer agent.Close()
	first, cancel := context.WithTimeout(ctx, req.Wait)
	defer cancel()
	record := &record{}
	g, err := gateway.New(first, options(agent, table, record))
	if err != nil {
		return tell(err)
	}
	l, err := listen(ctx, conn, req)
	if err != nil {
		return tell(errors.Join(err, g.Close()))
	}
	began := audit.Began{Tool: req.Tool.PID, Program: req.Program, Listen: l.Addr().String()}
	unrecorded := record.begin(records, began, table, nil)
	defer record.close()
	served := make(chan error, 1)
	go func() { served <- g.Serve(l) }()
	defer g.Close()
	said := ready("http://"+l.Addr().String(), g)
	said.Notice = unrecorded
	if err := json.NewEncoder(conn).Encode(said); err != nil {
		return err // the tool has gone
	}
	conn.Close()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return nil
	case err := <-served:
		return err
	}
}
