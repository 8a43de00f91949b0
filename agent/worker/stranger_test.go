package worker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ccagent/ccagent/agent"
	"github.com/ccagent/ccagent/agent/job"
	"github.com/ccagent/ccagent/agent/oauth/oauthtest"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store"
)

// inProcess runs an agent's jobs without a process for each.
type inProcess struct{}

func (inProcess) Run(ctx context.Context, j job.Job, handOver func(job.Result)) (job.Report, error) {
	var in, out bytes.Buffer
	if err := errors.Join(job.WriteJob(&in, j), Run(ctx, &in, &out, j.Build)); err != nil {
		return job.Report{}, err
	}
	for {
		r, err := job.ReadReport(&out)
		switch {
		case err != nil:
			return r, err
		case r.Kind == job.HandOver:
			handOver(r.Result)
		case r.Kind == job.Done:
			return r, nil
		}
	}
}

// agent starts one for the world's profile.
func (w *world) agent() *agent.Agent {
	w.t.Helper()
	settings, err := json.Marshal(w.settings)
	if err != nil {
		w.t.Fatal(err)
	}
	a := agent.New(agent.Options{Runner: inProcess{}, Build: "test", Load: func() (agent.Config, error) {
		return agent.Config{Default: w.settings.Name, Profiles: []agent.Profile{{
			Name: w.settings.Name, Provider: string(w.settings.Provider), Store: string(w.settings.Store), Settings: settings,
			Shown: len(w.settings.Views) > 0,
		}}}, nil
	}})
	w.t.Cleanup(func() { a.Close(context.Background()) })
	return a
}

// records are the stores whose record is a plain file: where it is, and what a sign-in looks like in it.
var records = map[string]func(w *world) (path string, format func(oauthtest.SignIn) []byte){
	"claude-code": func(w *world) (string, func(oauthtest.SignIn) []byte) {
		return w.credentials(), oauthtest.SignIn.CredentialsFile
	},
	"file": func(w *world) (string, func(oauthtest.SignIn) []byte) {
		w.settings.Store = "file"
		return store.NewFile(w.settings.DataDir, w.settings.Name).Place().Location, func(s oauthtest.SignIn) []byte {
			elsewhere := store.NewFile(w.t.TempDir(), w.settings.Name)
			w.saveIn(elsewhere, s)
			data, err := os.ReadFile(elsewhere.Place().Location)
			if err != nil {
				w.t.Fatal(err)
			}
			return data
		}
	},
}

// replace puts a file in the place of another, or of a folder, as programs do: whole, by a rename.
func (w *world) replace(path string, data []byte) {
	w.t.Helper()
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		os.Remove(path)
	}
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path+".new", data, 0o600),
		os.Rename(path+".new", path)); err != nil {
		w.t.Fatal(err)
	}
}

// anywhere reports whether a file below dir has this text in it.
func anywhere(dir, text string) bool {
	found := false
	filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if data, err := os.ReadFile(path); err == nil && bytes.Contains(data, []byte(text)) {
			found = true
		}
		return nil
	})
	return found
}

// TestNobodyElseIsServed has the sign-in of account A put in the place of B's, whose token the agent has in hand. From then on
// every answer is about A, whatever has become of it, and nothing of B is written there.
func TestNobodyElseIsServed(t *testing.T) {
	t.Parallel()
	states := map[string]struct {
		left time.Duration
		ask  func(w *world, path string)
	}{
		"alive": {time.Hour, func(*world, string) {}},
		"unsaved": {-time.Minute, func(w *world, path string) {
			w.during(func() { os.Remove(path); os.Mkdir(path, 0o700) })
		}},
		"in back-off": {3 * time.Minute, func(w *world, path string) { w.server.SetFault(oauthtest.Fault{Status: 503, Times: 1}) }},
	}
	const alive, dead, expired, down, corrupt, emptied = "alive", "expired and revoked", "expired, without a refresh token",
		"expired, and the provider is down", "corrupt", "emptied"
	files := map[string]error{
		alive: nil, "expired": nil, dead: protocol.ErrLoginRequired, expired: protocol.ErrExpired,
		down: protocol.ErrUnavailable, corrupt: protocol.ErrInvalid, emptied: protocol.ErrInvalid,
	}
	for kind, open := range records {
		for state, had := range states {
			for file, want := range files {
				if state == "unsaved" && want == protocol.ErrInvalid {
					want = protocol.ErrStorage // which is said of the record that can't be saved there
				}
				t.Run(fmt.Sprintf("%s, B is %s, A is %s", kind, state, file), func(t *testing.T) {
					t.Parallel()
					w := newWorld(t)
					path, format := open(w)
					b := w.server.Issue()
					b.Expiry = time.Now().Add(had.left).Truncate(time.Millisecond)
					w.replace(path, format(b))
					a := w.agent()
					had.ask(w, path)
					got, err := a.Token(t.Context(), protocol.TokenRequest{})
					if err != nil || state == "unsaved" && got.Value.Reveal() == b.AccessToken {
						t.Fatalf("B: %v", err)
					}
					tokens := []string{b.AccessToken, got.Value.Reveal()}

					other := w.server.Issue()
					if file != alive {
						other.Expiry = time.Now().Add(-time.Minute).Truncate(time.Millisecond)
					}
					if file == expired {
						other.RefreshToken = ""
					}
					data := format(other)
					switch file {
					case dead:
						w.server.RevokeGrant(other.RefreshToken)
					case down:
						w.server.SetFault(oauthtest.Fault{Status: 503})
					case corrupt:
						data = data[:len(data)/2]
					case emptied:
						data = nil
					}
					w.replace(path, data)
					var before string
					for i, req := range []protocol.TokenRequest{{}, {}, {MinTTL: 10 * time.Minute}, {HalfLife: true}, {Force: true}, {}} {
						got, err := a.Token(t.Context(), req)
						value := got.Value.Reveal()
						for _, token := range tokens {
							if value == token {
								t.Fatalf("request %d: B's token is served", i)
							}
						}
						if !errors.Is(err, want) && !req.Force || want == nil && file == alive && before == "" && value != other.AccessToken {
							t.Errorf("request %d: %q, %v, want %v", i, value, err, want)
						}
						before = value
					}
					now, _ := os.ReadFile(path)
					for _, token := range tokens {
						if strings.Contains(string(now), token) {
							t.Error("B was written over A's file")
						}
					}
					if !anywhere(w.settings.StateDir, tokens[1]) {
						t.Error("nothing is left of B that could be restored")
					}

					// Back again: a token in hand is not needed for it.
					w.server.SetFault(oauthtest.Fault{})
					if state != "alive" {
						return
					}
					w.replace(path, format(b))
					if got, err := a.Token(t.Context(), protocol.TokenRequest{}); err != nil || got.Value.Reveal() != b.AccessToken {
						t.Errorf("B is back: %q, %v", got.Value.Reveal(), err)
					}
				})
			}
		}
	}
}

// TestReplacedDuringRenewal has A's sign-in put there while the provider is renewing B's.
func TestReplacedDuringRenewal(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		down  bool // the provider is, once B's renewal has come to it
		alive bool // A's token is
		want  error
	}{
		{"A is alive", false, true, nil},
		{"A is revoked", false, false, protocol.ErrLoginRequired},
		{"the provider is down, A is alive", true, true, nil},
		{"the provider is down, A is revoked", true, false, protocol.ErrLoginRequired},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			b := w.signIn(3 * time.Minute) // due, and alive
			other := w.server.Issue()
			if !tt.alive {
				other.Expiry = time.Now().Add(-time.Minute).Truncate(time.Millisecond)
			}
			to, err := url.Parse(w.server.TokenURL())
			if err != nil {
				t.Fatal(err)
			}
			to.Path = ""
			proxy, asked := httputil.NewSingleHostReverseProxy(to), 0
			front := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				if asked++; asked == 1 {
					w.replace(w.credentials(), other.CredentialsFile())
					if !tt.alive {
						w.server.RevokeGrant(other.RefreshToken)
					}
					if tt.down {
						rw.WriteHeader(503)
						return
					}
				}
				proxy.ServeHTTP(rw, r)
			}))
			defer front.Close()
			w.settings.TokenURL = front.URL + strings.TrimPrefix(w.server.TokenURL(), to.String())
			a := w.agent()
			got, err := a.Token(t.Context(), protocol.TokenRequest{})
			if !errors.Is(err, tt.want) || tt.alive && got.Value.Reveal() != other.AccessToken {
				t.Errorf("got %q, %v, want %v; A's is %q", got.Value.Reveal(), err, tt.want, other.AccessToken)
			}
			if r, _ := w.stored(); r.RefreshToken.Reveal() != other.RefreshToken || r.AccessToken.Reveal() == b.AccessToken {
				t.Error("A's record is not there any more")
			}
		})
	}
}

// TestOldCopyOfAnother: the file has A's sign-in in the meantime when a backup brings an old copy of B's back. It is B's newest
// record that took its place, and never A's; and since nobody knows whether A's was B's renewal by another program, a person
// decides.
func TestOldCopyOfAnother(t *testing.T) {
	t.Parallel()
	for kind, open := range records {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			path, format := open(w)
			b, other := w.server.Issue(), w.server.Issue()
			b.Expiry = time.Now().Add(-time.Minute).Truncate(time.Millisecond)
			old := format(b)
			w.replace(path, old)
			a := w.agent()
			ask := func() (string, error) {
				got, err := a.Token(t.Context(), protocol.TokenRequest{})
				return got.Value.Reveal(), err
			}
			newest, err := ask()
			if err != nil {
				t.Fatal(err)
			}
			w.replace(path, format(other))
			if got, err := ask(); err != nil || got != other.AccessToken {
				t.Fatalf("A: %q, %v", got, err)
			}
			asked := w.server.Counts().Requests
			w.replace(path, old)
			if got, err := ask(); !errors.Is(err, protocol.ErrLoginRequired) ||
				!strings.Contains(protocol.HintOf(err), "ccagent restore") {
				t.Errorf("an old copy of B: %q, %v, %s", got, err, protocol.HintOf(err))
			}
			if n := w.server.Counts(); n.Requests != asked || n.Reuses != 0 {
				t.Errorf("what is spent was sent: %+v", n)
			}
			if now, _ := os.ReadFile(path); !bytes.Equal(now, old) {
				t.Error("something was written over it")
			}
			past, err := a.Keep(t.Context(), protocol.KeepRequest{Action: protocol.KeepHistory})
			if err != nil || len(past.Past) != 2 {
				t.Fatalf("kept are %+v, %v", past.Past, err)
			}
			if _, err := a.Keep(t.Context(), protocol.KeepRequest{Action: protocol.KeepRestore, SignIn: past.Past[1].ID}); err != nil {
				t.Fatal(err)
			}
			if got, err := ask(); err != nil || got != newest {
				t.Errorf("restored: %q, %v", got, err)
			}
		})
	}
}

// TestGuardedHomeIsReplaced: another's sign-in in our own store takes the view in Claude Code's file with it.
func TestGuardedHomeIsReplaced(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.settings.Views = guarding
	b := w.signIn(time.Hour)
	if _, _, done := w.run(job.Job{Op: job.Guard, Target: "file"}); done.Err != nil {
		t.Fatal(done.Err)
	}
	a := w.agent()
	if got, err := a.Token(t.Context(), protocol.TokenRequest{}); err != nil || got.Value.Reveal() != b.AccessToken {
		t.Fatalf("B: %q, %v", got.Value.Reveal(), err)
	}
	path, format := records["file"](w)
	other := w.server.Issue()
	other.Expiry = time.Now().Add(-time.Minute).Truncate(time.Millisecond)
	w.server.RevokeGrant(other.RefreshToken)
	w.replace(path, format(other))
	if got, err := a.Token(t.Context(), protocol.TokenRequest{}); !errors.Is(err, protocol.ErrLoginRequired) {
		t.Errorf("A: %q, %v", got.Value.Reveal(), err)
	}
	if now, _ := os.ReadFile(w.credentials()); bytes.Contains(now, []byte(b.AccessToken)) {
		t.Error("the view still shows B's token")
	}
}
