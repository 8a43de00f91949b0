package protocol

import (
	"bytes"
	"context"
	"encoding/hex"
	"flag"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write the golden vectors of testdata anew")

// vectors are the frames of docs/protocol.md §10, one file each. They are the protocol: a change here breaks every client.
func vectors(t testing.TB) map[string][]byte {
	home := Home{Home: "/home/alice", XDGConfigHome: "", ClaudeConfigDir: "/home/alice/.claude-work"}
	at := time.UnixMilli(1767225600123) // 2026-01-01T00:00:00.123Z
	must := func(frame []byte, err error) []byte {
		if err != nil {
			t.Fatal(err)
		}
		return frame
	}
	there := home
	there.Dir = "/home/alice/work/api"
	return map[string][]byte{
		"token-request-dir": must(AppendTokenRequest(nil, TokenRequest{Home: there})),
		"token-request-username": must(AppendTokenRequest(nil, TokenRequest{
			Host: "git.example.com:8443", Listed: true, Username: "alice",
		})),
		"token-request-quiet": must(AppendTokenRequest(nil, TokenRequest{Profile: "claude", Quiet: true})),
		"token-request-id-token": must(AppendTokenRequest(nil, TokenRequest{
			Profile: "cluster", Derived: Derived{IDToken: true},
		})),
		"token-request-derived": must(AppendTokenRequest(nil, TokenRequest{
			Profile: "gateway", Derived: Derived{Scope: "jobs:read jobs:run", Audience: "jobs", Resource: "https://jobs.example.com/"},
		})),
		"token-reply-derived": AppendToken(nil, Token{
			Profile: "cluster", Value: NewSecret("fake-id-1"), Expiry: at, Kind: KindBearer, Derived: true,
		}),
		"status-request-dir":   must(AppendStatusRequest(nil, StatusRequest{Home: there})),
		"identify-request-dir": must(AppendIdentifyRequest(nil, IdentifyRequest{Home: there})),
		"watch-request-dir":    must(AppendWatchRequest(nil, WatchRequest{Home: there})),
		"keep-request-dir":     must(AppendKeepRequest(nil, KeepRequest{Action: KeepHistory, Home: there})),
		"status-reply-here": AppendStatus(nil, Status{Agent: AgentStatus{
			PID: 4711, Version: "v1.2.3", Started: at, DefaultProfile: "claude", Here: "work",
		}}),
		"token-request": must(AppendTokenRequest(nil, TokenRequest{
			Profile: "claude", MinTTL: 90 * time.Second, HalfLife: true, Host: "api.example.com", Home: home,
		})),
		"token-request-force":   must(AppendTokenRequest(nil, TokenRequest{Profile: "claude", Force: true, Since: at})),
		"token-request-listed":  must(AppendTokenRequest(nil, TokenRequest{Host: "git.example.com", Listed: true})),
		"token-request-reask":   must(AppendTokenRequest(nil, TokenRequest{Profile: "gateway", ReaskWindow: 4 * time.Minute})),
		"token-request-default": must(AppendTokenRequest(nil, TokenRequest{})),
		"token-reply": AppendToken(nil, Token{
			Profile: "claude", Value: NewSecret("fake-access-1"), Expiry: at, Kind: KindOAuth, Notice: "not saved yet",
		}),
		"token-reply-never": AppendToken(nil, Token{Profile: "robot", Value: NewSecret("fake-key-1"), Kind: KindAPIKey}),
		"token-reply-username": AppendToken(nil, Token{
			Profile: "forge", Value: NewSecret("fake-access-1"), Expiry: at, Kind: KindBearer, Username: "alice",
		}),
		"status-request": must(AppendStatusRequest(nil, StatusRequest{After: "claude", Home: home})),
		"status-reply-environment": AppendStatus(nil, Status{Agent: AgentStatus{
			PID: 4711, Version: "v1.2.3", Started: at, DefaultProfile: "claude",
			Environment: []Variable{{"HTTPS_PROXY", "http://proxy.example.com:3128"}, {"NO_PROXY", ""}},
		}}),
		"status-reply": AppendStatus(nil, Status{
			Agent: AgentStatus{
				PID: 4711, Version: "v1.2.3", Socket: "/run/user/1000/ccagent/agent.sock", Started: at, Requests: 12, Renewals: 3,
				Connections: 2, Memory: 7 << 20, DefaultProfile: "claude", ConfigError: "line 3: unknown key", Locked: true,
			},
			Profiles: []ProfileStatus{{
				Name: "claude", Provider: "claude", State: StateLive, Store: "claude-code",
				Location: "/home/alice/.claude/.credentials.json", Kind: KindOAuth, HasToken: true, Expiry: at.Add(8 * time.Hour),
				Issued: at, LastRenewal: at, LastUsed: at, LastError: "the provider answered 503", LastCode: CodeUnavailable,
				Subscription: "max", Scopes: []string{"user:inference", "user:profile"}, Note: "fake note",
			}},
			Next: "claude",
		}),
		"status-reply-sign-in-ends": AppendStatus(nil, Status{
			Agent: AgentStatus{PID: 4711, Version: "v1.2.3"},
			Profiles: []ProfileStatus{{
				Name: "gateway", Provider: "oidc", State: StateLive, Store: "file", HasToken: true, Expiry: at.Add(time.Hour),
				SignInEnds: at.Add(48 * time.Hour), RemindFrom: at.Add(-24 * time.Hour),
			}},
		}),
		"status-reply-hints": AppendStatus(nil, Status{
			Agent: AgentStatus{
				PID: 4711, Version: "v1.2.3", DefaultProfile: "claude", Here: "claude",
				ConfigError: "config.toml:3: unknown key", ConfigHint: "fix that line",
			},
			Profiles: []ProfileStatus{{
				Name: "gateway", Provider: "oidc", State: StateSignIn, Store: "file",
				LastError: "the provider no longer accepts this sign-in", LastCode: CodeLoginRequired,
				LastHint: "sign in: ccagent login gateway\nor bring a sign-in back: ccagent restore -p gateway",
			}},
		}),
		"put-request": must(AppendPutRequest(nil, PutRequest{
			Profile: "robot", Record: NewSecret(`{"fake":"record"}`), Force: true, Home: home,
		})),
		"put-request-sign-in": must(AppendPutRequest(nil, PutRequest{
			Profile: "robot", Record: NewSecret(`{"fake":"record"}`), SignIn: true, Home: home,
		})),
		"put-reply":       appendPutReply(nil, PutReply{Location: "/home/alice/.local/share/ccagent/robot.json", Notice: ""}),
		"control-request": must(AppendControlRequest(nil, ControlRequest{Command: CommandRemove, Profile: "robot", Home: home})),
		"control-request-logout": must(AppendControlRequest(nil, ControlRequest{
			Command: CommandLogout, Profile: "robot", Home: home, KeepRemote: true,
		})),
		"control-request-unlock": must(AppendControlRequest(nil, ControlRequest{
			Command: CommandUnlock, Home: home, Passphrase: NewSecret("fake old"), NewPassphrase: NewSecret("fake new"),
			For: 8 * time.Hour,
		})),
		"control-reply":        appendControlReply(nil, ControlReply{}),
		"control-reply-notice": appendControlReply(nil, ControlReply{Notice: "the refresh token was not revoked"}),
		"identify-request":     must(AppendIdentifyRequest(nil, IdentifyRequest{Profile: "gateway", Refresh: true, Home: home})),
		"identify-reply": appendIdentity(nil, Identity{
			Profile: "gateway", Account: "user-1", Email: "alice@example.com", Name: "Alice", Organization: "Example",
			OrganizationID: "org-1",
			Subscription:   "team", Scopes: []string{"openid", "email"}, Fetched: at,
		}),
		"keep-request": must(
			AppendKeepRequest(nil,
				KeepRequest{Action: KeepRestore, Profile: "work", Store: "keyring", SignIn: "0a1b2c3d", Force: true, Home: home}),
		),
		"keep-request-secret": must(AppendKeepRequest(nil,
			KeepRequest{Action: KeepSecret, Profile: "work", Home: home, Secret: NewSecret("fake-secret-2")})),
		"keep-reply": appendKeepReply(nil, KeepReply{Location: "the keyring", Notice: "fake", Past: []PastSignIn{
			{ID: "0a1b2c3d", Saved: at, Expiry: at.Add(time.Hour), Account: "alice@example.com", Renewable: true, Current: true},
			{ID: "4e5f6a7b", Saved: at, Problem: "spent"},
		}}),
		"watch-request": must(AppendWatchRequest(nil, WatchRequest{Profile: "gateway", Known: 1767225600123456789, Home: home})),
		"watch-reply":   appendWatchReply(nil, WatchReply{Version: 1767225600123456790}),
		"error-reply": AppendError(nil, &Error{
			Code: CodeLoginRequired, Message: "the sign-in of profile claude was revoked", Hint: "run `ccagent login`",
		}),
		"error-reply-detail": AppendError(nil,
			&Error{Code: CodeUnavailable, Message: "the command x failed", Detail: "fake words of its"}),
	}
}

func TestVectors(t *testing.T) {
	all := vectors(t)
	for name, frame := range all {
		path := filepath.Join("testdata", name+".hex")
		if *update {
			if err := os.WriteFile(path, []byte(hexLines(frame)), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if want := readVector(t, path); !bytes.Equal(frame, want) {
			t.Errorf("%s: the encoding changed: got\n%swant\n%s", name, hexLines(frame), hexLines(want))
		}
	}
	doc, err := os.ReadFile("../docs/protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	_, ops, _ := strings.Cut(string(doc), "### 3.1")
	ops, _, _ = strings.Cut(ops, "### 3.2")
	for name, frame := range all {
		if op := strconv.Itoa(int(frame[headerSize+1])); !strings.Contains(ops, "| "+op+" |") {
			t.Errorf("docs/protocol.md §3.1 has no op %s, which %s is of", op, name)
		}
	}
	files, _ := filepath.Glob("testdata/*.hex")
	if len(files) != len(all) {
		t.Errorf("testdata holds %d vectors, want %d", len(files), len(all))
	}
	for _, file := range files {
		if name := filepath.Base(file); !strings.Contains(string(doc), "`"+name+"`") {
			t.Errorf("docs/protocol.md does not cite %s", name)
		}
	}
}

// Each vector, decoded by the side that receives it and encoded again, has the same bytes.
func TestVectorsRoundTrip(t *testing.T) {
	for name, frame := range vectors(t) {
		if got := again(t, frame[headerSize:]); !bytes.Equal(got, frame) {
			t.Errorf("%s: decoded and encoded again it is\n%swant\n%s", name, hexLines(got), hexLines(frame))
		}
	}
}

// again decodes a payload and encodes the result. It returns nil if the payload can't be decoded. It is long because it has a
// case for each message.
func again(t testing.TB, payload []byte) []byte {
	op, d, err := OpenFrame(payload)
	if err != nil {
		return nil
	}
	var frame []byte
	switch op {
	case OpToken:
		var r TokenRequest
		if r, err = DecodeTokenRequest(payload); err == nil {
			frame, err = AppendTokenRequest(nil, r)
		}
	case OpStatus:
		r := decodeStatusRequest(&d)
		if err = d.Err(); err == nil {
			frame, err = AppendStatusRequest(nil, r)
		}
	case OpPut:
		r := decodePutRequest(&d)
		if err = d.Err(); err == nil {
			frame, err = AppendPutRequest(nil, r)
		}
	case OpControl:
		r := decodeControlRequest(&d)
		if err = d.Err(); err == nil {
			frame, err = AppendControlRequest(nil, r)
		}
	case OpToken.Reply():
		var r Token
		if r, err = decodeToken(&d); err == nil {
			frame = AppendToken(nil, r)
		}
	case OpStatus.Reply():
		var r Status
		if r, err = decodeStatus(&d); err == nil {
			frame = AppendStatus(nil, r)
		}
	case OpPut.Reply():
		var r PutReply
		if r, err = decodePutReply(&d); err == nil {
			frame = appendPutReply(nil, r)
		}
	case OpControl.Reply():
		var r ControlReply
		if r, err = decodeControlReply(&d); err == nil {
			frame = appendControlReply(nil, r)
		}
	case OpIdentify:
		r := decodeIdentifyRequest(&d)
		if err = d.Err(); err == nil {
			frame, err = AppendIdentifyRequest(nil, r)
		}
	case OpIdentify.Reply():
		var r Identity
		if r, err = decodeIdentity(&d); err == nil {
			frame = appendIdentity(nil, r)
		}
	case OpWatch:
		r := decodeWatchRequest(&d)
		if err = d.Err(); err == nil {
			frame, err = AppendWatchRequest(nil, r)
		}
	case OpWatch.Reply():
		var r WatchReply
		if r, err = decodeWatchReply(&d); err == nil {
			frame = appendWatchReply(nil, r)
		}
	case OpKeep:
		r := decodeKeepRequest(&d)
		if err = d.Err(); err == nil {
			frame, err = AppendKeepRequest(nil, r)
		}
	case OpKeep.Reply():
		var r KeepReply
		if r, err = decodeKeepReply(&d); err == nil {
			frame = appendKeepReply(nil, r)
		}
	case OpError:
		if e, ok := decodeError(&d).(*Error); ok {
			frame = AppendError(nil, e)
		}
	}
	if err != nil {
		return nil
	}
	return frame
}

// FuzzDecode: no payload makes a decoder panic. What is decoded, encoded and decoded again, is encoded to the same bytes.
func FuzzDecode(f *testing.F) {
	seeds, _ := filepath.Glob("testdata/*.hex")
	if len(seeds) == 0 {
		f.Fatal("no seeds")
	}
	for _, path := range seeds {
		f.Add(readVector(f, path)[headerSize:])
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		first := again(t, payload)
		if first == nil {
			return
		}
		second := again(t, first[headerSize:])
		if !bytes.Equal(first, second) {
			t.Errorf("%x became %x", first, second)
		}
	})
}

// FuzzHandle: no payload makes a server panic, and the reply is one frame.
func FuzzHandle(f *testing.F) {
	for _, frame := range vectors(f) {
		f.Add(frame[headerSize:])
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		reply, _ := Handle(context.Background(), nobody{}, payload, nil)
		got, err := ReadFrame(bytes.NewReader(reply), nil, MaxFrame)
		if err != nil || len(got)+headerSize != len(reply) {
			t.Errorf("reply to %x is no frame: %x, %v", payload, reply, err)
		}
	})
}

// nobody is an agent that knows no profile.
type nobody struct{}

var errNobody = &Error{Code: CodeNotFound, Message: "nobody"}

func (nobody) Token(context.Context, TokenRequest) (Token, error)    { return Token{}, errNobody }
func (nobody) Status(context.Context, StatusRequest) (Status, error) { return Status{}, nil }
func (nobody) Put(context.Context, PutRequest) (PutReply, error)     { return PutReply{}, errNobody }
func (nobody) Control(context.Context, ControlRequest) (ControlReply, error) {
	return ControlReply{}, nil
}
func (nobody) Identify(context.Context, IdentifyRequest) (Identity, error) {
	return Identity{}, errNobody
}

func (nobody) Watch(context.Context, WatchRequest) (WatchReply, error) {
	return WatchReply{}, errNobody
}

func readVector(t testing.TB, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	frame, err := hex.DecodeString(strings.Join(strings.Fields(string(text)), ""))
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return frame
}

// hexLines writes 16 bytes on each line.
func hexLines(b []byte) string {
	var text strings.Builder
	for len(b) > 0 {
		n := min(16, len(b))
		for i, c := range b[:n] {
			if i > 0 {
				text.WriteByte(' ')
			}
			text.WriteString(hex.EncodeToString([]byte{c}))
		}
		text.WriteByte('\n')
		b = b[n:]
	}
	return text.String()
}
