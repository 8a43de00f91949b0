//go:build amd64 || arm64

package early

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"runtime"
	"unsafe"

	"github.com/ccagent/ccagent/protocol"
)

// What is in this file runs after the runtime has started, and is ordinary Go.

// Token asks with client. If this request was sent before the runtime started, it waits for that reply instead, and asks with
// client only if there is none: because the connection broke, or because the deadline of ctx has passed, which the client then
// reports. Of ctx it obeys the deadline while it waits, but not a cancellation. Errors are those of the client.
func Token(ctx context.Context, client *protocol.Client, req protocol.TokenRequest) (protocol.Token, error) {
	payload, err := reply(ctx, client, req)
	switch err {
	case nil:
		token, err := protocol.DecodeToken(payload)
		return token, protocol.ClientError(err)
	case protocol.ErrFrame, protocol.ErrMalformed: // an answer, although it can't be read: it is not asked for again
		return protocol.Token{}, protocol.ClientError(err)
	}
	return client.Token(ctx, req)
}

var errNotSent = errors.New("this request was not sent early")

// reply waits for the reply to the request that was sent early, and returns its payload. It fails with errNotSent if another
// request was sent, or none, and with ErrFrame or ErrMalformed if the reply can't be read. There is one reply to wait for: the
// second call fails.
func reply(ctx context.Context, client *protocol.Client, req protocol.TokenRequest) ([]byte, error) {
	if asked.fd == 0 {
		return nil, errNotSent
	}
	conn := os.NewFile(uintptr(asked.fd), "the agent's socket")
	asked.fd = 0
	defer conn.Close()
	if req.Home == (protocol.Home{}) {
		req.Home = client.Home
	}
	if req.Profile != "" {
		req.Home.Dir = ""
	}
	request, err := protocol.AppendTokenRequest(nil, req)
	if err != nil || !bytes.Equal(request, asked.request[:asked.sent]) {
		return nil, errNotSent
	}
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetReadDeadline(deadline); err != nil {
			return nil, err
		}
	}
	received := bytes.NewReader(asked.reply[:asked.received])
	payload, err := protocol.ReadFrame(io.MultiReader(received, conn), nil, protocol.MaxFrame)
	if err == nil && received.Len() > 0 { // more than one reply to one request
		return nil, protocol.ErrMalformed
	}
	return payload, err
}

// Stdout returns standard output. A writer of the whole answer writes there what was not written early: the first asked.printed
// bytes of the answer are there already.
func Stdout() io.Writer { return stdout{} }

type stdout struct{}

func (stdout) Write(answer []byte) (int, error) {
	if asked.mute {
		return 0, errors.New("standard output is closed")
	}
	n, err := os.Stdout.Write(answer[asked.printed:])
	return int(asked.printed) + n, err
}

// Request returns what a process with this command line and environment asks before its runtime starts, and at which socket. It
// is false where such a process steps aside before it asks. Tests compare it with what the helper asks otherwise; it must not be
// called concurrently.
func Request(args, env []string) (socketPath string, frame []byte, ok bool) {
	block, texts := layOut(args, env)
	ok = compose(&block[0])
	runtime.KeepAlive(texts)
	if !ok {
		return "", nil, false
	}
	return string(socket.path[:socket.size]), bytes.Clone(asked.request[:asked.sent]), true
}

// layOut lays out command line and environment as the kernel does for a new process. block points into texts.
func layOut(args, env []string) (block []uintptr, texts [][]byte) {
	block = append(block, uintptr(len(args)))
	for _, list := range [][]string{args, env} {
		for _, s := range list {
			b := append([]byte(s), 0)
			texts = append(texts, b)
			block = append(block, uintptr(unsafe.Pointer(&b[0])))
		}
		block = append(block, 0)
	}
	return block, texts
}
