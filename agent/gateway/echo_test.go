package gateway

import (
	"bufio"
	"compress/gzip"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"github.com/ccagent/ccagent/agent/gateway/route"
	"github.com/ccagent/ccagent/place"
	"github.com/ccagent/ccagent/protocol"
)

// echoed is a way in which a service may repeat a token. Of what it writes, the first head bytes and the last tail bytes may
// stay.
type echoed struct {
	name       string
	write      func(token string) string
	head, tail int
}

func escaped(format string) func(string) string {
	return func(token string) string {
		var b strings.Builder
		for i := range len(token) {
			fmt.Fprintf(&b, format, token[i])
		}
		return b.String()
	}
}

func encoded(e *base64.Encoding, before string) func(string) string {
	return func(token string) string { return e.EncodeToString([]byte(before + token)) }
}

var echoes = []echoed{
	{"as it is", func(token string) string { return token }, 0, 0},
	{"in a query", url.QueryEscape, 0, 0},
	{"in a path", url.PathEscape, 0, 0},
	{"in JSON", func(token string) string { return strings.ReplaceAll(token, "/", `\/`) }, 0, 0},
	{"escaped for a URL", escaped("%%%02x"), 0, 0},
	{"escaped for JSON", escaped(`\u00%02X`), 0, 0},
	{"base64", encoded(base64.StdEncoding, ""), 0, 4},
	{"base64, one byte on", encoded(base64.StdEncoding, "u"), 2, 4},
	{"base64, two bytes on", encoded(base64.RawStdEncoding, "uu"), 3, 4},
	{"base64url", encoded(base64.RawURLEncoding, ""), 0, 4},
	{"base64url, one byte on", encoded(base64.URLEncoding, "u"), 2, 4},
	{"a password", encoded(base64.StdEncoding, "x-access-token:"), 20, 4},
}

// judge says what is wrong with what came in place of a token's echo, which was sent between before and after. Up to three bytes
// of it may have come before it was known for one.
func (e echoed) judge(before, sent, after, came string) error {
	rest, ok := strings.CutPrefix(came, before)
	rest, also := strings.CutSuffix(rest, after)
	if !ok || !also || len(rest) != len(sent) {
		return fmt.Errorf("%s: what surrounds %q came as %q", e.name, sent, came)
	}
	if strings.Trim(rest[e.head+3:len(rest)-e.tail], "x") != "" {
		return fmt.Errorf("%s: %q came as %q", e.name, sent, rest)
	}
	return nil
}

const echoToken = "fake-live/token+%d~of_40-bytes?AbCdEf09=="

// TestEcho: a service that repeats what it got, in every form and cut at every byte, tells the tool nothing, and every other byte
// comes as it was sent.
func TestEcho(t *testing.T) {
	t.Parallel()
	m := &mint{form: echoToken}
	back := newPipes() // through which each write is a read of its own
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		number := func(name string) int { n, _ := strconv.Atoi(r.URL.Query().Get(name)); return n }
		token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		text := "before " + echoes[number("form")].write(token) + " after"
		cut := number("cut")
		var to io.Writer = w
		flush := w.(http.Flusher).Flush
		switch r.URL.Path {
		case "/gzip":
			if r.Header.Get("Accept-Encoding") != "gzip" {
				t.Errorf("asked for %q", r.Header["Accept-Encoding"])
			}
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			defer z.Close()
			to, flush = z, func() { z.Flush(); w.(http.Flusher).Flush() }
		case "/length":
			w.Header().Set("Content-Length", strconv.Itoa(len(text)))
		}
		io.WriteString(to, text[:cut])
		flush()
		io.WriteString(to, text[cut:])
	})}
	go server.Serve(back)
	defer server.Close()
	u, err := route.ParseUpstream("http://127.0.0.1:1")
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, Options{Agent: m, Dial: back.dial,
		Routes: route.Table{{Name: "llm", Profile: "main", Upstream: u, RenewOn: []int{401}}}})
	client := tool(t)
	for form, e := range echoes {
		sent := e.write(m.token())
		for cut := range len("before " + sent + " after") {
			for _, how := range []string{"chunks", "length", "gzip"} {
				resp, text := do(t, client, request(t, "GET", fmt.Sprintf("%s/llm/%s?form=%d&cut=%d", s.base, how, form, cut), nil,
					"X-Api-Key", s.standIn["llm"], "Accept-Encoding", "br, gzip;q=0.5"))
				if err := e.judge("before ", sent, " after", text); err != nil {
					t.Fatalf("%s cut at %d: %v", how, cut, err)
				}
				if resp.Header.Get("Content-Encoding") != "" || how == "length" && resp.ContentLength != int64(len(text)) {
					t.Errorf("%s: header %q", how, resp.Header)
				}
			}
		}
	}
}

// TestEchoAfterUpgrade is TestEcho for a connection that speaks another protocol.
func TestEchoAfterUpgrade(t *testing.T) {
	t.Parallel()
	m := &mint{form: echoToken}
	back := newPipes()
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Sec-WebSocket-Extensions") != "" {
			t.Error("what is compressed was asked for")
		}
		token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		conn, buffered, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		fmt.Fprintf(conn, "HTTP/1.1 101 %s\r\nConnection: Upgrade\r\nUpgrade: fake\r\nX-Token: %s\r\nAlt-Svc: x\r\n\r\n", token, token)
		for {
			var form, cut int
			if _, err := fmt.Fscanln(buffered, &form, &cut); err != nil {
				return
			}
			text := "\x81" + echoes[form].write(token) + "\x00"
			io.WriteString(conn, text[:cut])
			io.WriteString(conn, text[cut:])
		}
	})}
	go server.Serve(back)
	defer server.Close()
	u, err := route.ParseUpstream("http://127.0.0.1:1")
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, Options{Agent: m, Dial: back.dial,
		Routes: route.Table{{Name: "llm", Profile: "main", Upstream: u, RenewOn: []int{401}}}})
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET /llm/ HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: fake\r\nX-Api-Key: %s\r\n"+
		"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n", s.standIn["llm"])
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	xs := strings.Repeat("x", len(m.token()))
	if resp.Status != "101 "+xs || resp.Header.Get("X-Token") != xs || resp.Header.Get("Alt-Svc") != "" {
		t.Errorf("%s, %q", resp.Status, resp.Header)
	}
	for form, e := range echoes {
		sent := e.write(m.token())
		for cut := 1; cut < len(sent)+2; cut++ {
			fmt.Fprintln(conn, form, cut)
			came := make([]byte, len(sent)+2)
			if _, err := io.ReadFull(r, came); err != nil {
				t.Fatal(err)
			}
			if err := e.judge("\x81", sent, "\x00", string(came)); err != nil {
				t.Fatalf("cut at %d: %v", cut, err)
			}
		}
	}
}

// TestEchoInHeaders: the token before a renewal and the one after it are both taken out, wherever in the header or the trailer of
// an answer a service repeats them, or of one that comes before it.
func TestEchoInHeaders(t *testing.T) {
	t.Parallel()
	for _, proto := range []string{"HTTP/1.1", "HTTP/2.0"} {
		t.Run(proto, func(t *testing.T) {
			t.Parallel()
			m := &mint{form: echoToken}
			got := "" // the tokens that have come
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
				if got += token; token != m.live() {
					w.WriteHeader(http.StatusUnauthorized)
					return
				}
				if r.Proto != proto {
					t.Errorf("came by %s", r.Proto)
				}
				w.Header().Set("Link", got)
				w.Header().Set("Alt-Svc", "early")
				w.WriteHeader(http.StatusEarlyHints)
				w.Header().Set("Link", "")
				w.Header().Set("X-Token", got)
				w.Header().Add("X-Token", "basic "+base64.StdEncoding.EncodeToString([]byte("u:"+token)))
				w.Header().Set("Location", "/back?"+url.QueryEscape(got))
				w.Header().Set("Trailer", "X-Trailer")
				io.WriteString(w, got)
				w.Header().Set("X-Trailer", got)
				w.Header().Set(http.TrailerPrefix+"X-Later", got)
				w.Header().Set(http.TrailerPrefix+"Alt-Svc", "late")
			}))
			server.EnableHTTP2 = proto == "HTTP/2.0"
			server.StartTLS()
			defer server.Close()
			s := start(t, Options{Agent: m, Routes: route.Table{to(t, server, "llm")}})
			trust(s, server)
			m.revoke()
			xs := strings.Repeat("x", 2*len(m.token()))
			early := http.Header{}
			trace := &httptrace.ClientTrace{Got1xxResponse: func(_ int, header textproto.MIMEHeader) error {
				early = http.Header(header).Clone()
				return nil
			}}
			req := request(t, "GET", s.base+"/llm/", nil, "X-Api-Key", s.standIn["llm"])
			resp, text := do(t, tool(t), req.WithContext(httptrace.WithClientTrace(req.Context(), trace)))
			if early.Get("Link") != xs || early.Get("Alt-Svc") != "" {
				t.Errorf("the early header is %q", early)
			}
			if text != xs || resp.Header.Get("X-Token") != xs || resp.Header.Get("Alt-Svc") != "" ||
				resp.Trailer.Get("X-Trailer") != xs || resp.Trailer.Get("X-Later") != xs || resp.Trailer.Get("Alt-Svc") != "" {
				t.Errorf("%q, header %q, trailer %q", text, resp.Header, resp.Trailer)
			}
			if at := resp.Header.Get("Location"); strings.Trim(strings.TrimPrefix(at, s.base+"/llm/back?"), "x") != "" {
				t.Errorf("leads to %q", at)
			}
			if basic := resp.Header["X-Token"][1]; strings.Trim(basic[9:len(basic)-4], "x") != "" {
				t.Errorf("came as %q", basic)
			}
		})
	}
}

// TestEchoInFields: the name of a field, and an answer that is none.
func TestEchoInFields(t *testing.T) {
	t.Parallel()
	m := &mint{}
	broken := false
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token := r.URL.Query().Get("key")
		if conn, _, err := w.(http.Hijacker).Hijack(); err == nil {
			defer conn.Close()
			if broken {
				fmt.Fprintf(conn, "HTTP/1.1 %s\r\n\r\n", token)
				return
			}
			fmt.Fprintf(conn, "HTTP/1.1 200 %s\r\nX-%s: a\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", token,
				strings.ToUpper(token))
		}
	}))
	defer server.Close()
	r := to(t, server, "llm")
	r.Place = place.Query("key")
	s := start(t, Options{Agent: m, Routes: route.Table{r}})
	for _, broken = range []bool{false, true} {
		resp, text := do(t, tool(t), request(t, "GET", s.base+"/llm/", nil, "X-Api-Key", s.standIn["llm"]))
		all := strings.ToLower(fmt.Sprint(resp.Status, resp.Header, text))
		if strings.Contains(all, "fake-live") || (resp.StatusCode == 502) != broken {
			t.Error(all)
		}
		if broken && !strings.Contains(text, "xxxxxxxxxxxxxxxxx") {
			t.Errorf("the error is %q: has net/http ceased to quote the answer?", text)
		}
	}
}

// TestEncodings: what the gateway asks for in the tool's place, and what it refuses.
func TestEncodings(t *testing.T) {
	t.Parallel()
	var asked []string
	encoding, status, body := "", 200, ""
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = r.Header["Accept-Encoding"]
		if encoding != "" {
			w.Header().Set("Content-Encoding", encoding)
		}
		w.WriteHeader(status)
		io.WriteString(w, body)
	}))
	defer server.Close()
	s := start(t, Options{Agent: &mint{}, Routes: route.Table{to(t, server, "llm")}})
	ask := func(method string, headers ...string) (*http.Response, string) {
		return do(t, tool(t), request(t, method, s.base+"/llm/", nil, append(headers, "X-Api-Key", s.standIn["llm"])...))
	}
	for accepts, want := range map[string]string{
		"gzip": "gzip", "br;q=1.0, gzip;q=0.8, *;q=0.1": "gzip", "gzip;q=0": "identity", "br": "identity", "": "identity",
		"identity": "identity", "GZIP": "gzip", "deflate, gzip": "gzip", "*": "identity", "gzip;q=x": "identity",
	} {
		if ask("GET", "Accept-Encoding", accepts); strings.Join(asked, "|") != want {
			t.Errorf("%q became %q", accepts, asked)
		}
	}
	if ask("GET", "Accept-Encoding", "gzip", "Range", "bytes=1-2"); strings.Join(asked, "|") != "identity" {
		t.Errorf("of a part %q is asked for", asked)
	}
	if ask("GET"); asked != nil {
		t.Errorf("asked for %q", asked)
	}
	var zipped strings.Builder
	z := gzip.NewWriter(&zipped)
	io.WriteString(z, "text")
	z.Close()
	for _, tt := range []struct {
		method, encoding string
		status           int
		body             string
		wantStatus       int
		want, header     string
	}{
		{"GET", "identity", 200, "text", 200, "text", "identity"},
		{"GET", "x-gzip", 200, zipped.String(), 200, "text", ""},
		{"GET", "gzip", 200, "", 200, "", ""},
		{"GET", "gzip", 404, zipped.String(), 404, "text", ""},
		{"HEAD", "gzip", 200, "", 200, "", ""},
		{"HEAD", "br", 200, "", 200, "", "br"},
		{"GET", "gzip", 304, "", 304, "", "gzip"},
		{"GET", "br", 204, "", 204, "", "br"},
		{"GET", "br", 200, "x", 502, `("br") in which the gateway can't look`, ""},
		{"GET", "gzip, gzip", 200, zipped.String(), 502, "can't look", ""},
		{"GET", "gzip", 206, zipped.String(), 502, "can't look", ""},
	} {
		encoding, status, body = tt.encoding, tt.status, tt.body
		resp, text := ask(tt.method)
		if resp.StatusCode != tt.wantStatus || !strings.Contains(text, tt.want) || tt.wantStatus != 502 && text != tt.want ||
			resp.Header.Get("Content-Encoding") != tt.header {
			t.Errorf("%s of %d in %s: %d %q %q", tt.method, tt.status, tt.encoding, resp.StatusCode, text, resp.Header)
		}
	}
}

// TestTokens: of the tokens of a profile the last ones are looked for.
func TestTokens(t *testing.T) {
	t.Parallel()
	var known tokens
	for i := range 2 * keptTokens {
		known.add(fmt.Sprintf("fake-token-%d", i))
		known.add("fake-token-used-often")
	}
	clean := known.scrubber()
	if clean != known.scrubber() {
		t.Error("it is made anew each time")
	}
	for token, want := range map[string]bool{"fake-token-7": true, "fake-token-5": true, "fake-token-used-often": true,
		"fake-token-4": false} {
		if gone := clean.String(token) != token; gone != want {
			t.Errorf("%s is taken out: %v", token, gone)
		}
	}
	var agent protocol.Agent = &mint{}
	if _, watches := noting(agent, nil).(protocol.Watcher); watches {
		t.Error("what can't watch watches")
	}
	if _, watches := noting(&protocol.Pool{}, nil).(protocol.Watcher); !watches {
		t.Error("a pool does not watch any more")
	}
}
