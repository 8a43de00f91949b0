package gateway

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ccagent/ccagent/agent/gateway/route"
)

// heard is a request as a server has read it.
type heard struct{ method, target, body string }

// ear is a server that takes nothing for granted: it keeps each byte, and says what is ambiguous about it.
type ear struct {
	*pipes
	t testing.TB

	mu  sync.Mutex
	all []heard
}

func listen(t testing.TB) *ear {
	e := &ear{pipes: newPipes(), t: t}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := e.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { defer conn.Close(); e.serve(conn) })
		}
	})
	t.Cleanup(func() { e.Close(); serving.Wait() })
	return e
}

func (e *ear) serve(conn net.Conn) {
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		select {
		case <-e.done:
			conn.Close()
		case <-stop:
		}
	}()
	var raw bytes.Buffer
	r := bufio.NewReaderSize(io.TeeReader(conn, &raw), 1<<16)
	for {
		before := raw.Len() - r.Buffered()
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		head := strings.ToLower(string(raw.Bytes()[before : raw.Len()-r.Buffered()]))
		if end := strings.Index(head, "\r\n\r\n"); end >= 0 {
			head = head[:end]
		}
		if strings.Count(head, "\ncontent-length:")+strings.Count(head, "\ntransfer-encoding:") > 1 ||
			strings.Count(head, "\n") != strings.Count(head, "\r\n") || strings.Count(head, "\nhost:") != 1 {
			e.t.Errorf("the upstream gets an ambiguous header: %q", head)
		}
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return
		}
		e.mu.Lock()
		e.all = append(e.all, heard{req.Method, req.RequestURI, string(body)})
		e.mu.Unlock()
		if _, err := io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"); err != nil {
			return
		}
	}
}

func (e *ear) take() []heard {
	e.mu.Lock()
	defer e.mu.Unlock()
	all := e.all
	e.all = nil
	return all
}

// reads returns the requests that net/http finds in a stream.
func reads(stream string) (all []heard) {
	r := bufio.NewReader(strings.NewReader(stream))
	for {
		req, err := http.ReadRequest(r)
		if err != nil {
			return all
		}
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return all
		}
		all = append(all, heard{req.Method, req.RequestURI, string(body)})
	}
}

// checked sends a stream to the gateway, and returns what the upstream heard, and what is wrong with it: every request must be
// one that net/http finds in the stream, in that order, and none may be one of those that have no stand-in.
func checked(e *ear, front *pipes, stream string) ([]heard, error) {
	conn, err := front.dial(context.Background(), "", "")
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	go io.WriteString(conn, stream+"GET /end HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	r := bufio.NewReader(conn)
	for {
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			break
		}
		io.Copy(io.Discard, resp.Body)
		if resp.Close {
			break
		}
	}
	conn.Close()
	said := reads(stream + "GET /end HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	all := e.take()
	for _, h := range all {
		for {
			if len(said) == 0 {
				return all, fmt.Errorf("net/http does not find %q in it", h)
			}
			next := said[0]
			said = said[1:]
			below := strings.TrimPrefix(next.target, "/llm")
			if !strings.HasPrefix(below, "/") {
				below = "/" + below
			}
			if (heard{next.method, below, next.body}) == h {
				break
			}
		}
		if strings.Contains(h.target, "smuggled") {
			return all, fmt.Errorf("%q was smuggled", h)
		}
	}
	return all, nil
}

// smuggling is a gateway between a front and an upstream that listens well.
func smuggling(t testing.TB) (e *ear, front *pipes, standIn string) {
	e, front = listen(t), newPipes()
	u, err := route.ParseUpstream("http://127.0.0.1:1")
	if err != nil {
		t.Fatal(err)
	}
	g, err := New(t.Context(), Options{Agent: &mint{}, Dial: e.dial,
		Routes: route.Table{{Name: "llm", Profile: "main", Upstream: u, Errors: route.Plain, RenewOn: []int{401}}}})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- g.Serve(front) }()
	t.Cleanup(func() { g.Close(); <-served })
	return e, front, g.Grants()[0].StandIn.Reveal()
}

// TestSmuggling: a stream of requests that two servers could take apart in two ways is taken apart by the gateway as by net/http,
// and what it sends on can be taken apart in one way only.
func TestSmuggling(t *testing.T) {
	t.Parallel()
	e, front, standIn := smuggling(t)
	key := "Host: x\r\nX-Api-Key: " + standIn + "\r\n"
	const inner = "GET /llm/smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
	chunk := func(text string) string { return fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(text), text) }
	length := func(text string) string { return fmt.Sprintf("Content-Length: %d\r\n", len(text)) }
	post := "POST /llm/a HTTP/1.1\r\n" + key
	sound := map[string]heard{
		"plain": {"GET", "/a?b", ""}, "a body": {"POST", "/a", "body"}, "chunks": {"POST", "/a", "body"},
		"a request as a body": {"POST", "/a", inner}, "a request in a chunk": {"POST", "/a", inner},
		"a body that is none": {"GET", "/a", inner}, "two in a row": {"GET", "/a", ""},
		"a length that is hop by hop": {"POST", "/a", inner},
	}
	for name, stream := range map[string]string{
		"plain":                      "GET /llm/a?b HTTP/1.1\r\n" + key + "\r\n",
		"a body":                     post + "Content-Length: 4\r\n\r\nbody",
		"chunks":                     post + "Transfer-Encoding: chunked\r\n\r\n" + chunk("body"),
		"a request as a body":        post + length(inner) + "\r\n" + inner,
		"a request in a chunk":       post + "Transfer-Encoding: chunked\r\n\r\n" + chunk(inner),
		"a body that is none":        "GET /llm/a HTTP/1.1\r\n" + key + length(inner) + "\r\n" + inner,
		"two in a row":               "GET /llm/a HTTP/1.1\r\n" + key + "\r\n" + inner,
		"length and chunks":          post + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + inner,
		"chunks and length":          post + "Transfer-Encoding: chunked\r\n" + length("0\r\n\r\n"+inner) + "\r\n0\r\n\r\n" + inner,
		"two lengths":                post + "Content-Length: 0\r\n" + length(inner) + "\r\n" + inner,
		"two lengths in one":         post + fmt.Sprintf("Content-Length: 0, %d\r\n\r\n", len(inner)) + inner,
		"the same length twice":      post + "Content-Length: 4\r\nContent-Length: 4\r\n\r\nbody" + inner,
		"a signed length":            post + fmt.Sprintf("Content-Length: +%d\r\n\r\n", len(inner)) + inner,
		"a negative length":          post + "Content-Length: -1\r\n\r\n" + inner,
		"a hexadecimal length":       post + fmt.Sprintf("Content-Length: 0x%x\r\n\r\n", len(inner)) + inner,
		"a length with a space":      post + fmt.Sprintf("Content-Length : %d\r\n\r\n", len(inner)) + inner,
		"a length after a tab":       post + fmt.Sprintf("Content-Length:\t%d\r\n\r\n", len(inner)) + inner,
		"a length that overflows":    post + "Content-Length: 18446744073709551616\r\n\r\n" + inner,
		"chunked with a space":       post + "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + inner,
		"chunked after a tab":        post + "Transfer-Encoding:\tchunked\r\n\r\n0\r\n\r\n" + inner,
		"chunked and another":        post + "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + inner,
		"another and chunked":        post + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n" + inner,
		"chunked twice":              post + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + inner,
		"chunked that is none":       post + "Transfer-Encoding: xchunked\r\nContent-Length: 0\r\n\r\n" + inner,
		"chunked in capitals":        post + "Transfer-Encoding: CHUNKED\r\n\r\n0\r\n\r\n" + inner,
		"chunked with a control":     post + "Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n" + inner,
		"chunked in a folded line":   post + "X: y\r\n Transfer-Encoding: chunked\r\n" + length(inner) + "\r\n" + inner,
		"chunked behind a folding":   post + "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n" + inner,
		"chunked in quotes":          post + "Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n" + inner,
		"chunked in HTTP/1.0":        "POST /llm/a HTTP/1.0\r\n" + key + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + inner,
		"identity":                   post + "Transfer-Encoding: identity\r\n" + length(inner) + "\r\n" + inner,
		"a chunk's extension":        post + "Transfer-Encoding: chunked\r\n\r\n4;a=\"\r\n\"\r\nbody\r\n0\r\n\r\n" + inner,
		"a chunk's extension, bare":  post + "Transfer-Encoding: chunked\r\n\r\n4;a\nbody\r\n0\r\n\r\n" + inner,
		"a chunk's size with 0x":     post + "Transfer-Encoding: chunked\r\n\r\n0x4\r\nbody\r\n0\r\n\r\n" + inner,
		"a chunk's size with a sign": post + "Transfer-Encoding: chunked\r\n\r\n+4\r\nbody\r\n0\r\n\r\n" + inner,
		"a chunk's size overflows":   post + "Transfer-Encoding: chunked\r\n\r\n10000000000000004\r\nbody\r\n0\r\n\r\n" + inner,
		"a chunk without its end":    post + "Transfer-Encoding: chunked\r\n\r\n4\r\nbody0\r\n\r\n" + inner,
		"a chunk that is longer":     post + "Transfer-Encoding: chunked\r\n\r\n2\r\nbody\r\n0\r\n\r\n" + inner,
		"a length in a trailer": post + "Trailer: Content-Length\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + length(inner) + "\r\n" +
			inner,
		"bare line feeds":            strings.ReplaceAll(post+"Content-Length: 4\r\n\r\n", "\r\n", "\n") + "body" + inner,
		"a bare carriage return":     post + "X: a\rContent-Length: 0\r\n" + length(inner) + "\r\n" + inner,
		"a zero byte":                post + "X: a\x00b\r\n" + length(inner) + "\r\n" + inner,
		"a zero byte in a name":      post + "X\x00: b\r\n\r\n" + inner,
		"a name with a space":        post + "X Y: b\r\n\r\n" + inner,
		"no name":                    post + ": b\r\n\r\n" + inner,
		"no colon":                   post + "Content-Length 0\r\n\r\n" + inner,
		"a line before":              "\r\n" + post + "\r\n" + inner,
		"a space before":             " " + post + "\r\n" + inner,
		"a header that begins late":  "POST /llm/a HTTP/1.1\r\n " + key + "\r\n" + inner,
		"two hosts":                  post + "Host: y\r\n\r\n" + inner,
		"no host":                    "GET /llm/a HTTP/1.1\r\nX-Api-Key: " + standIn + "\r\n\r\n" + inner,
		"another version":            "GET /llm/a HTTP/2.0\r\n" + key + "\r\n" + inner,
		"an old version":             "GET /llm/a HTTP/0.9\r\n" + key + "\r\n" + inner,
		"no version":                 "GET /llm/a\r\n" + key + "\r\n" + inner,
		"the preface of HTTP/2":      "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + inner,
		"a target with a space":      "GET /llm/a b HTTP/1.1\r\n" + key + "\r\n" + inner,
		"a target with a line":       "GET /llm/a%0d%0aHost:%20y HTTP/1.1\r\n" + key + "\r\n" + inner,
		"an absolute target":         "GET http://evil.example/llm/a HTTP/1.1\r\n" + key + "\r\n" + inner,
		"an absolute target of ours": "GET http://x/llm/a HTTP/1.1\r\n" + key + "\r\n" + inner,
		"an authority":               "CONNECT llm.example.com:443 HTTP/1.1\r\n" + key + "\r\n" + inner,
		"an asterisk":                "OPTIONS * HTTP/1.1\r\n" + key + "\r\n" + inner,
		"no slash":                   "GET llm/a HTTP/1.1\r\n" + key + "\r\n" + inner,
		"a body that is expected":    post + "Expect: 100-continue\r\n" + length(inner) + "\r\n" + inner,
		"an upgrade that is none": post + "Connection: Upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n" + length(inner) + "\r\n" +
			inner,
		"a length that is hop by hop": post + "Connection: Content-Length, X-Api-Key, Transfer-Encoding\r\n" + length(inner) + "\r\n" +
			inner,
	} {
		all, err := checked(e, front, stream)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if want, ok := sound[name]; ok && (len(all) != 1 || all[0] != want) {
			t.Errorf("%s: the upstream heard %q, want %q", name, all, want)
		}
	}
}

// TestSmugglingIsNoticed: what a request of the corpus is to be compared with.
func TestSmugglingIsNoticed(t *testing.T) {
	t.Parallel()
	e, front, standIn := smuggling(t)
	stream := "GET /llm/smuggled HTTP/1.1\r\nHost: x\r\nX-Api-Key: " + standIn + "\r\n\r\n"
	if _, err := checked(e, front, stream); err == nil || !strings.Contains(err.Error(), "was smuggled") {
		t.Errorf("%v", err)
	}
}

// FuzzRequestLine: what net/http can't read is not sent on, and what is sent on is the request line as net/http has read it.
func FuzzRequestLine(f *testing.F) {
	for _, line := range []string{
		"GET /llm/a HTTP/1.1", "GET http://x/llm/a HTTP/1.1", "GET //llm/a HTTP/1.1", "get /llm/a?b=%zz HTTP/1.1",
		"GET /llm/a\tb HTTP/1.1", "GET /llm/a HTTP/1.1\r\nContent-Length: 1", "M!# /llm/%2f HTTP/1.0", "GET /llm;/a HTTP/1.1",
	} {
		f.Add(line)
	}
	e, front, standIn := smuggling(f)
	f.Fuzz(func(t *testing.T, line string) {
		if _, err := checked(e, front, line+"\r\nHost: x\r\nX-Api-Key: "+standIn+"\r\n\r\n"); err != nil &&
			!strings.Contains(line, "smuggled") {
			t.Errorf("%q: %v", line, err)
		}
	})
}
