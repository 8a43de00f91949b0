package main

import (
	"bufio"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"html"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/ccagent/ccagent/agent/oauth/oauthtest"
)

// The commands of scripts that sign in:
//
//	provider [secret=S] [client=ID] [auth=METHOD] [path=PATH] [registers] [scope=S]   an authorization server, at $PROVIDER,
//	                                        and an MCP server, at $PROVIDER/mcp
//	describes PATH NAME=VALUE ...           what its description at the path says from now on, as with fault edit
//	answers PATH STATUS [NAME:VALUE] [BODY] what it answers at the path from now on, with a header; STATUS 0: as usual
//	clients N                               how many clients have registered themselves; forget: none any more
//	occupy                                  somebody listens at the redirect_port of config.toml
//	occupied NAME                           a port that another program has, in the variable NAME
//	rotate SECRET                           the client secret that it wants from now on
//	sent PATH NAME=VALUE ...                what the last request at that path of its has sent; NAME= for what it has not
//	fault STATUS | body TEXT | drop         what its token endpoint answers next, once
//	fault edit NAME=VALUE ...               what else it says from now on; VALUE is JSON, or nothing where NAME is left out
//	paste|device|deny CODE ARGUMENTS        `ccagent login ARGUMENTS`, with a person who pastes, enters the code or
//	                                        denies it, ends with exit code CODE
//	longer FILE                             what is in it is the access token of the provider's next answers
//	walled FILE                             the provider is at $WALLED too, by https; FILE has the authority of its certificate
//	serves FILE                             a web server for one file, at $SERVED; its /elsewhere redirects, its
//	                                        /lacking wants a scope
var loginCommands = map[string]func(*testscript.TestScript, bool, []string){
	"provider": startProvider,
	"fault":    setFault,
	"describes": func(ts *testscript.TestScript, _ bool, args []string) {
		providers.of(ts).SetEdit(func(path string, reply map[string]any) {
			if path == args[0] {
				replace(reply, args[1:])
			}
		})
	},
	"answers": func(ts *testscript.TestScript, _ bool, args []string) {
		var f oauthtest.Fault
		_, err := fmt.Sscan(args[1], &f.Status)
		ts.Check(err)
		for _, arg := range args[2:] {
			if name, value, ok := strings.Cut(arg, ":"); ok && f.Header == nil {
				f.Header = map[string]string{name: value}
			} else {
				f.Body = arg
			}
		}
		providers.of(ts).SetFaultAt(args[0], f)
	},
	"clients": func(ts *testscript.TestScript, _ bool, args []string) {
		if ids := providers.of(ts).Clients(); fmt.Sprint(len(ids)) != args[0] {
			ts.Fatalf("registered are %q, want %s", ids, args[0])
		}
	},
	"occupy": func(ts *testscript.TestScript, _ bool, args []string) {
		port := regexp.MustCompile(`redirect_port = (\d+)`).FindStringSubmatch(ts.ReadFile(ts.Getenv("CONFIG")))
		l, err := net.Listen("tcp4", "127.0.0.1:"+port[1])
		ts.Check(err)
		ts.Defer(func() { l.Close() })
	},
	"forget": func(ts *testscript.TestScript, _ bool, _ []string) {
		s := providers.of(ts)
		for _, id := range s.Clients() {
			s.Forget(id)
		}
	},
	"sent": sent,
	"occupied": func(ts *testscript.TestScript, _ bool, args []string) {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		ts.Check(err)
		ts.Defer(func() { l.Close() })
		_, port, _ := net.SplitHostPort(l.Addr().String())
		ts.Setenv(args[0], port)
	},
	"rotate": func(ts *testscript.TestScript, _ bool, args []string) {
		providers.of(ts).SetClientSecret(args[0])
	},
	"paste":  person(paste),
	"device": person(func(s *oauthtest.Server, line string, _ io.Writer) bool { return enter(line, s.Approve) }),
	"deny":   person(func(s *oauthtest.Server, line string, _ io.Writer) bool { return enter(line, s.Deny) }),
	"serves": serveFile,
	"longer": func(ts *testscript.TestScript, _ bool, args []string) {
		setFault(ts, false, []string{"edit", `access_token="` + ts.ReadFile(args[0]) + `"`})
	},
	"walled": func(ts *testscript.TestScript, _ bool, args []string) {
		to, err := url.Parse(ts.Getenv("PROVIDER"))
		ts.Check(err)
		s := httptest.NewUnstartedServer(httputil.NewSingleHostReverseProxy(to))
		s.Config.ErrorLog = log.New(io.Discard, "", 0)
		s.StartTLS()
		ts.Defer(s.Close)
		authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
		ts.Check(os.WriteFile(ts.MkAbs(args[0]), authority, 0o600))
		ts.Setenv("WALLED", s.URL)
	},
}

// ofScripts is something that each script has one of, by its work directory: several scripts run at a time.
type ofScripts[T any] struct{ all sync.Map }

func (o *ofScripts[T]) set(ts *testscript.TestScript, v T) { o.all.Store(ts.Getenv("WORK"), v) }

// of returns what a script has, or else the zero value.
func (o *ofScripts[T]) of(ts *testscript.TestScript) T { return o.in(ts.Getenv("WORK")) }

func (o *ofScripts[T]) in(work string) T {
	v, _ := o.all.Load(work)
	t, _ := v.(T)
	return t
}

var providers ofScripts[*oauthtest.Server]

func startProvider(ts *testscript.TestScript, _ bool, args []string) {
	var o oauthtest.Options
	for _, arg := range args {
		switch name, value, _ := strings.Cut(arg, "="); name {
		case "secret":
			o.ClientSecret = value
		case "client":
			o.ClientID = value
		case "path":
			o.RedirectPath = value
		case "registers":
			o.Registers = true
		case "scope":
			o.MCPScope = value
		case "exchange":
			o.Exchange, o.HideExchange = true, value == "hidden"
		case "issuer":
			o.ID.Issuer = value
		case "auth":
			o.AuthMethods = []string{value}
		default:
			ts.Fatalf("provider: %q", arg)
		}
	}
	s, err := oauthtest.Start(o)
	ts.Check(err)
	ts.Defer(s.Close)
	providers.set(ts, s)
	ts.Setenv("PROVIDER", s.URL())
}

func sent(ts *testscript.TestScript, _ bool, args []string) {
	got := providers.of(ts).Sent(args[0])
	for _, arg := range args[1:] {
		if name, want, _ := strings.Cut(arg, "="); got[name] != want {
			ts.Fatalf("%s was sent %s=%q, want %q", args[0], name, got[name], want)
		}
	}
}

func setFault(ts *testscript.TestScript, _ bool, args []string) {
	f := oauthtest.Fault{Times: 1}
	switch args[0] {
	case "drop":
		f.Drop = true
	case "body":
		f.Status, f.Body = 400, args[1]
	case "truncate":
		f.Truncate = true
	case "none":
	case "edit":
		f.Times, f.Edit = 0, func(reply map[string]any) { replace(reply, args[1:]) }
	case "answers": // until the next fault: fault answers STATUS [BODY]
		f.Times = 0
		_, err := fmt.Sscan(args[1], &f.Status)
		ts.Check(err)
		f.Body = strings.Join(args[2:], " ")
	default:
		_, err := fmt.Sscan(args[0], &f.Status)
		ts.Check(err)
	}
	providers.of(ts).SetFault(f)
}

// replace sets members of a reply: NAME=VALUE, where VALUE is JSON, or nothing where NAME is left out.
func replace(reply map[string]any, members []string) {
	for _, member := range members {
		name, value, _ := strings.Cut(member, "=")
		delete(reply, name)
		if value != "" {
			reply[name] = json.RawMessage(value)
		}
	}
}

// serveFile serves a file as it is at the time, with the addresses of this server and of the provider in it for SERVED and
// PROVIDER.
func serveFile(ts *testscript.TestScript, _ bool, args []string) {
	path, work := ts.MkAbs(args[0]), ts.Getenv("WORK")
	var s *httptest.Server
	s = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/elsewhere":
			http.Redirect(w, r, "/", http.StatusFound)
			return
		case "/lacking":
			w.Header().Set("WWW-Authenticate", `Bearer error="insufficient_scope", scope="user:profile"`)
			w.WriteHeader(http.StatusForbidden)
			return
		}
		text, err := os.ReadFile(path)
		if err != nil {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		replace := []string{"SERVED", s.URL}
		if provider := providers.in(work); provider != nil {
			replace = append(replace, "PROVIDER", provider.URL())
		}
		strings.NewReplacer(replace...).WriteString(w, string(text))
	}))
	ts.Defer(s.Close)
	ts.Setenv("SERVED", s.URL)
}

// person makes a script's command of someone who looks at each line of what `ccagent login` says until there is something to do.
func person(
	act func(s *oauthtest.Server, line string, stdin io.Writer) (done bool),
) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, _ bool, args []string) {
		program, err := exec.LookPath("ccagent")
		ts.Check(err)
		cmd := exec.Command(program, append([]string{"login"}, args[1:]...)...)
		cmd.Dir = ts.Getenv("WORK")
		cmd.Env = append(scriptEnv(ts), "SSH_CONNECTION=1") // no browser
		stdin, err := cmd.StdinPipe()
		ts.Check(err)
		stderr, err := cmd.StderrPipe()
		ts.Check(err)
		var stdout strings.Builder
		cmd.Stdout = &stdout
		ts.Check(cmd.Start())
		done := false
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			ts.Logf("%s", lines.Text())
			if !done {
				done = act(providers.of(ts), lines.Text(), stdin)
			}
		}
		cmd.Wait()
		ts.Logf("%s", stdout.String())
		if got := fmt.Sprint(cmd.ProcessState.ExitCode()); got != args[0] {
			ts.Fatalf("exit code %s, want %s", got, args[0])
		}
	}
}

// paste opens the address, and pastes what the provider sends the browser to, or shows.
func paste(s *oauthtest.Server, line string, stdin io.Writer) bool {
	if !strings.HasPrefix(line, s.AuthorizeURL()) {
		return false
	}
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	reply, err := client.Get(line)
	if err != nil {
		return true
	}
	reply.Body.Close()
	pasted := reply.Header.Get("Location")
	if strings.HasPrefix(pasted, s.PasteURL()) { // its page shows CODE#STATE
		q := reply.Request.URL
		if at, err := q.Parse(pasted); err == nil {
			pasted = at.Query().Get("code") + "#" + at.Query().Get("state")
		}
	}
	fmt.Fprintln(stdin, pasted)
	return true
}

var userCode = regexp.MustCompile(`^  ([A-Z0-9]{4}-?[A-Z0-9]{4})$`)

func enter(line string, decide func(string) bool) bool {
	m := userCode.FindStringSubmatch(line)
	return m != nil && decide(m[1])
}

// fakeBrowser is what scripts have for $BROWSER: it opens the page that it is given, goes where that leads, and keeps the page
// that it ends at in $HOME/page.
func fakeBrowser() {
	os.WriteFile(os.Getenv("HOME")+"/argv", []byte(strings.Join(os.Args, " ")), 0o600)
	page, err := url.Parse(os.Args[len(os.Args)-1])
	if err != nil {
		return
	}
	text, _ := os.ReadFile(page.Path)
	_, rest, _ := strings.Cut(string(text), `http-equiv="refresh" content="0; url=`)
	address, _, _ := strings.Cut(rest, `"`)
	reply, err := http.Get(html.UnescapeString(address))
	if err != nil {
		return
	}
	defer reply.Body.Close()
	shown, _ := io.ReadAll(reply.Body)
	os.WriteFile(os.Getenv("HOME")+"/page", shown, 0o600)
}
