package worker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ccagent/ccagent/agent/job"
	"github.com/ccagent/ccagent/agent/oauth/oauthtest"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store"
)

// world is a provider and the folders of one user.
type world struct {
	t        *testing.T
	server   *oauthtest.Server
	settings Settings
}

// newWorld has a claude profile whose store is `auto`, with nothing stored.
func newWorld(t *testing.T) *world {
	t.Helper()
	dir := t.TempDir()
	w := &world{t: t, server: oauthtest.New(t, oauthtest.Options{})}
	w.settings = Settings{
		Name: "fake", Provider: "claude", Store: "auto",
		ConfigDir: filepath.Join(dir, "claude"), DataDir: filepath.Join(dir, "data"), StateDir: filepath.Join(dir, "state"),
		TokenURL: w.server.TokenURL(), Timeout: 20 * time.Second,
	}
	if err := os.Mkdir(w.settings.ConfigDir, 0o700); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) credentials() string { return filepath.Join(w.settings.ConfigDir, ".credentials.json") }

// signIn has Claude Code sign in: a record in its file, whose access token expires then.
func (w *world) signIn(left time.Duration) oauthtest.SignIn {
	w.t.Helper()
	s := w.server.Issue()
	s.Expiry = time.Now().Add(left).Truncate(time.Millisecond)
	w.write(s.CredentialsFile())
	return s
}

func (w *world) write(data []byte) {
	w.t.Helper()
	if err := os.WriteFile(w.credentials(), data, 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// stored is what Claude Code's file holds.
func (w *world) stored() (store.Record, job.Version) {
	w.t.Helper()
	r, v, err := store.NewClaudeCode(w.settings.ConfigDir).Load(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	return r, job.Version(v)
}

// aside counts the files under the state directory with this text: records kept restorably, and spills.
func (w *world) aside(text string) (n int) {
	w.t.Helper()
	err := filepath.WalkDir(filepath.Join(w.settings.StateDir, "spill"), func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil
		}
		data, err := os.ReadFile(path)
		if bytes.Contains(data, []byte(text)) {
			n++
		}
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return n
}

// run runs a job to its end, with an agent that listens.
func (w *world) run(j job.Job) (kinds []job.Kind, handOver, done job.Report) {
	w.t.Helper()
	var out bytes.Buffer
	w.runTo(j, &out)
	for {
		r, err := job.ReadReport(&out)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			w.t.Fatal(err)
		}
		kinds = append(kinds, r.Kind)
		if r.Kind == job.HandOver {
			handOver = r
		}
		done = r
	}
	if len(kinds) == 0 || kinds[0] != job.Hello || done.Kind != job.Done {
		w.t.Fatalf("reports %v: want the first to be Hello and the last Done", kinds)
	}
	if done.Err != nil {
		w.checkError(done.Err)
	}
	return kinds, handOver, done
}

func (w *world) runTo(j job.Job, out io.Writer) {
	w.t.Helper()
	settings, err := json.Marshal(w.settings)
	if err != nil {
		w.t.Fatal(err)
	}
	j.Build, j.Profile, j.Settings = "test", w.settings.Name, settings
	var in bytes.Buffer
	if err := job.WriteJob(&in, j); err != nil {
		w.t.Fatal(err)
	}
	if err := Run(w.t.Context(), &in, out, "test"); err != nil {
		w.t.Error(err)
	}
}

// checkError checks what holds for every error: it is for a person, and keeps secrets.
func (w *world) checkError(err *protocol.Error) {
	w.t.Helper()
	text := err.Message + err.Hint
	if err.Code == protocol.CodeInternal || err.Message == "" || strings.Contains(err.Message, "\n") {
		w.t.Errorf("error %+v: not a condition with a line for a person", err)
	}
	if strings.Contains(text, "fake-access") || strings.Contains(text, "fake-refresh") {
		w.t.Errorf("error %+v holds a token", err)
	}
}

func is(err *protocol.Error, target error) bool {
	if err == nil || target == nil {
		return err == nil && target == nil
	}
	return errors.Is(err, target)
}

func mustMarshal(t *testing.T, r store.Record) protocol.Secret {
	t.Helper()
	s, err := r.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestRenewDecisions goes through what a stored record can be and what is asked of it.
func TestRenewDecisions(t *testing.T) {
	t.Parallel()
	const (
		none = iota // no token
		old         // the stored one
		fresh
	)
	edit := func(edits ...string) func(*world) {
		return func(w *world) {
			data, err := os.ReadFile(w.credentials())
			if err != nil {
				w.t.Fatal(err)
			}
			w.write([]byte(strings.NewReplacer(edits...).Replace(string(data))))
		}
	}
	tests := []struct {
		name  string
		left  time.Duration
		job   job.Job
		known bool // the agent has seen the record: Base is its version
		setup func(*world)
		fault oauthtest.Fault

		want    int
		wantErr error
		asked   int // requests at the provider
	}{
		{name: "live", left: time.Hour, want: old},
		{name: "live, known", left: time.Hour, known: true, want: old},
		{name: "in the margin", left: 5 * time.Minute, want: fresh, asked: 1},
		{name: "expired", left: -time.Hour, want: fresh, asked: 1},
		{name: "shorter than is asked for", left: time.Hour, job: job.Job{MinTTL: 2 * time.Hour}, want: fresh, asked: 1},
		{name: "forced, never seen", left: time.Hour, job: job.Job{Force: true}, want: fresh, asked: 1},
		{name: "forced, known", left: time.Hour, job: job.Job{Force: true}, known: true, want: fresh, asked: 1},
		{name: "forced, rewritten since", left: time.Hour, job: job.Job{Force: true, Base: job.Version{1}}, want: old},
		{
			name:  "forced, rewritten since but due",
			left:  time.Minute,
			job:   job.Job{Force: true, Base: job.Version{1}},
			want:  fresh,
			asked: 1,
		},
		{name: "rewritten since", left: time.Hour, job: job.Job{Base: job.Version{1}}, want: old},
		{name: "never expires", setup: func(w *world) { neverExpires(w) }, left: time.Hour, want: old},
		{
			name:  "never expires, forced",
			setup: func(w *world) { neverExpires(w) },
			job:   job.Job{Force: true},
			left:  time.Hour,
			want:  fresh,
			asked: 1,
		},

		{name: "nothing", setup: func(w *world) { os.Remove(w.credentials()) }, wantErr: protocol.ErrNotFound},
		{name: "no folder", setup: func(w *world) { os.RemoveAll(w.settings.ConfigDir) }, wantErr: protocol.ErrNotFound},
		{name: "signed out", setup: func(w *world) { w.write([]byte(`{"mcpOAuth":{}}`)) }, wantErr: protocol.ErrNotFound},
		{name: "stub", setup: func(w *world) {
			w.write([]byte(`{"claudeAiOauth":{"accessToken":"","refreshToken":"","expiresAt":0,"scopes":["a"]}}`))
		}, wantErr: protocol.ErrLoginRequired},
		{name: "corrupt", setup: func(w *world) { w.write([]byte(`{"claudeAiOauth":`)) }, wantErr: protocol.ErrInvalid},
		{name: "no access token", setup: edit("fake-access-1", ""), left: time.Hour, want: fresh, asked: 1},

		{name: "no refresh token, live", left: time.Hour, setup: edit("fake-refresh-1", ""), want: old},
		{
			name:    "no refresh token, in the margin",
			left:    time.Minute,
			setup:   edit("fake-refresh-1", ""),
			want:    old,
			wantErr: protocol.ErrLoginRequired,
		},
		{name: "no refresh token, expired", left: -time.Minute, setup: edit("fake-refresh-1", ""), wantErr: protocol.ErrExpired},
		{
			name:    "no refresh token, forced",
			left:    time.Hour,
			job:     job.Job{Force: true},
			setup:   edit("fake-refresh-1", ""),
			want:    old,
			wantErr: protocol.ErrLoginRequired,
		},

		{
			name:    "outage, still alive",
			left:    5 * time.Minute,
			fault:   oauthtest.Fault{Status: 503},
			want:    old,
			wantErr: protocol.ErrUnavailable,
			asked:   1,
		},
		{
			name:    "outage, expired",
			left:    -time.Minute,
			fault:   oauthtest.Fault{Status: 503},
			wantErr: protocol.ErrUnavailable,
			asked:   1,
		},
		{
			name:    "revoked",
			left:    -time.Minute,
			setup:   func(w *world) { w.server.RevokeGrant("fake-refresh-1") },
			wantErr: protocol.ErrLoginRequired,
			asked:   1,
		},
		{
			name:    "revoked, still alive",
			left:    5 * time.Minute,
			setup:   func(w *world) { w.server.RevokeGrant("fake-refresh-1") },
			want:    old,
			wantErr: protocol.ErrLoginRequired,
			asked:   1,
		},
		{
			name:    "our client unknown",
			left:    -time.Minute,
			fault:   oauthtest.Fault{Status: 401, Body: `{"error":"invalid_client"}`},
			wantErr: protocol.ErrConfig,
			asked:   1,
		},
		{
			name:    "no URL",
			left:    -time.Minute,
			setup:   func(w *world) { w.settings.TokenURL = "http://example.com/" },
			wantErr: protocol.ErrConfig,
		},
		{
			name:    "no home",
			setup:   func(w *world) { w.settings.ConfigDir, w.settings.Store = "", "claude-code" },
			wantErr: protocol.ErrConfig,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			signIn := w.signIn(tt.left)
			credentials := w.credentials()
			if tt.setup != nil {
				tt.setup(w)
			}
			if tt.known {
				_, tt.job.Base = w.stored()
			}
			before, _ := os.ReadFile(credentials)
			w.server.SetFault(tt.fault)
			tt.job.Op = job.Renew
			kinds, handOver, done := w.run(tt.job)

			if !is(done.Err, tt.wantErr) {
				t.Fatalf("error %v, want %v", done.Err, tt.wantErr)
			}
			if got := w.server.Counts().Requests; got != tt.asked {
				t.Errorf("the provider was asked %d times, want %d", got, tt.asked)
			}
			if want := tt.wantErr != nil && tt.asked == 0; done.Local != want {
				t.Errorf("nobody but this machine was asked: %v, want %v", done.Local, want)
			}
			if tt.wantErr == protocol.ErrConfig && tt.asked > 0 && !strings.Contains(done.Err.Hint, "ccagent refresh") {
				t.Errorf("%v does not say what to do", done.Err)
			}
			token := done.Result.Token.Reveal()
			switch tt.want {
			case none:
				if token != "" {
					t.Errorf("token %q, want none", token)
				}
			case old:
				if token != signIn.AccessToken || done.Result.Renewed {
					t.Errorf("token %q, renewed %v, want the stored one", token, done.Result.Renewed)
				}
			case fresh:
				if !w.server.Live(token) || token == signIn.AccessToken || !done.Result.Renewed || !done.Result.Saved {
					t.Errorf("token %q, renewed %v, saved %v, want a new one", token, done.Result.Renewed, done.Result.Saved)
				}
				if len(kinds) != 4 || kinds[1] != job.Asking || kinds[2] != job.HandOver {
					t.Errorf("reports %v, want Hello, Asking, HandOver, Done", kinds)
				}
				if handOver.Result.Token.Reveal() != token || handOver.Result.Record.Empty() || handOver.Result.Saved ||
					handOver.Result.Version == done.Result.Version {
					t.Errorf("handed over %+v: want the whole record, unsaved", handOver.Result)
				}
				r, v := w.stored()
				if r.AccessToken.Reveal() != token || !w.server.Renewable(r.RefreshToken.Reveal()) || v != done.Result.Version {
					t.Error("the store holds something else")
				}
				if done.Result.Issued.IsZero() || r.Issued.IsZero() || r.SignIn == "" || r.TokenOrigin != w.server.URL() {
					t.Errorf("issued %v, sign-in %q, origin %q: want them noted", r.Issued, r.SignIn, r.TokenOrigin)
				}
				if r.Subscription != "max" || r.RateLimit != "default" {
					t.Errorf("subscription %q, rate limit %q are lost", r.Subscription, r.RateLimit)
				}
			}
			if tt.want != fresh {
				if after, _ := os.ReadFile(credentials); !bytes.Equal(before, after) {
					t.Error("the file was changed")
				}
			}
			if tt.want != none &&
				(done.Result.Store != "claude-code" || done.Result.Location != credentials || len(done.Result.Watch) == 0 ||
					done.Result.Kind != protocol.KindOAuth) {
				t.Errorf("result %+v does not say where the record is", done.Result)
			}
			for _, pattern := range []string{"/.oauth*", "/.storage*", ".lock"} { // Claude Code's; our own stays
				if left, _ := filepath.Glob(filepath.Dir(credentials) + pattern); len(left) > 0 {
					t.Errorf("left behind: %v", left)
				}
			}
		})
	}
}

func neverExpires(w *world) {
	data, err := os.ReadFile(w.credentials())
	if err != nil {
		w.t.Fatal(err)
	}
	var file map[string]map[string]any
	if err := json.Unmarshal(data, &file); err != nil {
		w.t.Fatal(err)
	}
	file["claudeAiOauth"]["expiresAt"] = nil
	if data, err = json.Marshal(file); err != nil {
		w.t.Fatal(err)
	}
	w.write(data)
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.signIn(-time.Minute)
	w.server.SetFault(oauthtest.Fault{Status: 429, Header: map[string]string{"Retry-After": "17"}})
	if _, _, done := w.run(job.Job{Op: job.Renew}); done.RetryAfter != 17*time.Second {
		t.Errorf("retry after %v, want 17s", done.RetryAfter)
	}
}

// TestOneRenewal has many workers find one expired record.
func TestOneRenewal(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.signIn(-time.Minute)
	w.server.SetFault(oauthtest.Fault{Lag: 50 * time.Millisecond})
	var all sync.WaitGroup
	tokens := make([]string, 8)
	for i := range tokens {
		all.Go(func() {
			_, _, done := w.run(job.Job{Op: job.Renew})
			tokens[i] = done.Result.Token.Reveal()
		})
	}
	all.Wait()
	for _, token := range tokens {
		if token != tokens[0] || !w.server.Live(token) {
			t.Errorf("token %q, others have %q", token, tokens[0])
		}
	}
	if got := w.server.Counts(); got.Refreshes != 1 || got.Reuses != 0 {
		t.Errorf("the server saw %+v, want one refresh", got)
	}
}

// TestShortLife renews a token of 8 seconds only when it comes to its end.
func TestShortLife(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.server.SetLifetime(8 * time.Second)
	w.signIn(8 * time.Second)
	_, _, done := w.run(job.Job{Op: job.Renew}) // its lifetime is unknown, so it is in the margin
	if !done.Result.Renewed {
		t.Fatalf("not renewed: %+v", done)
	}
	first := done.Result.Token.Reveal()
	_, _, done = w.run(job.Job{Op: job.Renew, Base: done.Result.Version})
	if done.Result.Token.Reveal() != first || done.Result.Renewed {
		t.Errorf("renewed at once again: %+v", done.Result)
	}
}

// TestSpoiltReply keeps a rotated refresh token that came without an access token.
func TestSpoiltReply(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.signIn(-time.Minute)
	w.server.SetFault(oauthtest.Fault{Times: 1, Edit: func(reply map[string]any) { delete(reply, "access_token") }})
	_, _, done := w.run(job.Job{Op: job.Renew})
	if !is(done.Err, protocol.ErrUnavailable) || done.Result.Renewed || !done.Result.Saved {
		t.Fatalf("got %+v, %v", done.Result, done.Err)
	}
	_, _, done = w.run(job.Job{Op: job.Renew, Base: done.Result.Version})
	if done.Err != nil || !w.server.Live(done.Result.Token.Reveal()) {
		t.Errorf("the next renewal: %v", done.Err)
	}
	if got := w.server.Counts().Reuses; got != 0 {
		t.Errorf("%d reuses", got)
	}
}

// during has f happen while the provider works on the next renewal: after the record was read, before it is saved.
func (w *world) during(f func()) {
	w.server.SetFault(oauthtest.Fault{Times: 1, Edit: func(map[string]any) { f() }})
}

// TestSaveFails follows a renewed record that the store refuses: to the agent, and home when the store is mended.
func TestSaveFails(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.signIn(-time.Minute)
	before, base := w.stored()
	original, _ := os.ReadFile(w.credentials())
	w.during(func() { w.write([]byte("{ broken")) })
	_, _, done := w.run(job.Job{Op: job.Renew, Base: base})
	if !is(done.Err, protocol.ErrStorage) || done.Result.Saved || !done.Result.Renewed || done.Result.Record.Empty() {
		t.Fatalf("got %+v, %v, want ErrStorage with the record", done.Result, done.Err)
	}
	if !w.server.Live(done.Result.Token.Reveal()) {
		t.Error("the token is not the new one")
	}
	unsaved := done.Result

	// Still broken.
	_, _, done = w.run(job.Job{Op: job.Save, Base: base, Record: unsaved.Record})
	if !is(done.Err, protocol.ErrStorage) || done.Result.Saved || done.Result.Record.Empty() {
		t.Errorf("saving to a broken store: %+v, %v", done.Result, done.Err)
	}
	// Whose it is that is there now nobody knows: nothing is served meanwhile, nor renewed, nor lost.
	_, _, done = w.run(job.Job{Op: job.Renew, Base: base, Record: unsaved.Record, Lineage: unsaved.Lineage, Force: true})
	if !is(done.Err, protocol.ErrStorage) || done.Result.Renewed || !done.Result.Gone || !done.Result.Token.Empty() ||
		done.Result.Record.Empty() {
		t.Fatalf("renewing what is unsaved: %+v, %v", done.Result, done.Err)
	}
	// Mended: ours wins over what we know.
	w.write(original)
	_, _, done = w.run(job.Job{Op: job.Save, Base: base, Record: unsaved.Record})
	if done.Err != nil || !done.Result.Saved || !done.Result.Record.Empty() {
		t.Fatalf("saving to the mended store: %+v, %v", done.Result, done.Err)
	}
	r, v := w.stored()
	if r.AccessToken.Reveal() != unsaved.Token.Reveal() || v != done.Result.Version ||
		r.RefreshToken.Reveal() == before.RefreshToken.Reveal() {
		t.Error("the store does not hold the renewed record")
	}
	if n := w.aside("fake"); n != 0 || w.server.Counts().Reuses != 0 {
		t.Errorf("%d spill files, %+v", n, w.server.Counts())
	}
}

// TestUnsavedThenRenewed renews a record that was unsaved, in one job with its save.
func TestUnsavedThenRenewed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.signIn(-time.Minute)
	original, _ := os.ReadFile(w.credentials())
	_, base := w.stored()
	w.during(func() { w.write([]byte("{ broken")) })
	_, _, done := w.run(job.Job{Op: job.Renew, Base: base})
	w.write(original)
	_, _, done = w.run(job.Job{Op: job.Renew, Base: base, Record: done.Result.Record, Force: true})
	if done.Err != nil || !done.Result.Saved || !done.Result.Renewed {
		t.Fatalf("got %+v, %v", done.Result, done.Err)
	}
	if r, _ := w.stored(); r.AccessToken.Reveal() != done.Result.Token.Reveal() || w.server.Counts().Reuses != 0 {
		t.Error("the store does not hold the last record")
	}
}

// broken is a pipe whose reader goes away after a number of reports.
type broken struct{ left int }

func (b *broken) Write(p []byte) (int, error) {
	if b.left--; b.left < 0 {
		return 0, errors.New("broken pipe")
	}
	return len(p), nil
}

// TestAgentGone kills the agent at each point of a renewal whose save fails, and of one whose save does not.
func TestAgentGone(t *testing.T) {
	t.Parallel()
	for _, storeFails := range []bool{false, true} {
		for reports := range 4 {
			name := "store works"
			if storeFails {
				name = "store fails"
			}
			t.Run(name+"/"+string(rune('0'+reports)), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t)
				w.signIn(-time.Minute)
				original, _ := os.ReadFile(w.credentials())
				if storeFails {
					w.during(func() { w.write([]byte("{ broken")) })
				}
				w.runTo(job.Job{Op: job.Renew}, &broken{left: reports})
				if storeFails {
					if n := w.aside("fake-refresh-2"); n != 1 {
						t.Fatalf("%d spill files, want one", n)
					}
					w.write(original)
				}
				_, _, done := w.run(job.Job{Op: job.Renew})
				if done.Err != nil || done.Result.Token.Reveal() != "fake-access-2" || !done.Result.Saved || done.Result.Renewed {
					t.Errorf("the next agent gets %+v, %v, want what was renewed for the last", done.Result, done.Err)
				}
				if n := w.aside("fake"); n != 0 {
					t.Errorf("%d spill files are left", n)
				}
				if got := w.server.Counts(); got.Reuses != 0 || got.Refreshes != 1 {
					t.Errorf("the server saw %+v", got)
				}
			})
		}
	}
}

// watcher looks at the world at each report.
type watcher struct {
	look func(job.Report)
}

func (w watcher) Write(p []byte) (int, error) {
	r, err := job.ReadReport(bytes.NewReader(p))
	if err == nil {
		w.look(r)
	}
	return len(p), err
}

// TestHandedOverBeforeSaved sees to it that a rotated record is in two processes before the slow part begins.
func TestHandedOverBeforeSaved(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.signIn(-time.Minute)
	var order []string
	w.runTo(job.Job{Op: job.Renew}, watcher{func(r job.Report) {
		stored, _ := w.stored()
		switch {
		case r.Kind == job.Asking && w.server.Counts().Requests == 0:
			order = append(order, "asking")
		case r.Kind == job.HandOver && !w.server.Renewable(stored.RefreshToken.Reveal()):
			order = append(order, "handed over, the store has the old")
			for _, home := range store.NewHomes(w.settings.StateDir).All() {
				if home.Digest != store.Digest(stored.RefreshToken) {
					t.Error("another file was written first, which may hang")
				}
			}
		case r.Kind == job.Done && w.server.Renewable(stored.RefreshToken.Reveal()):
			order = append(order, "saved")
		}
	}})
	if len(order) != 3 {
		t.Errorf("order: %q", order)
	}
}

// TestHeldUntilSpilled sees to it that nobody can take a record whose refresh token is spent before its successor is safe: in a
// spill file, or where that is impossible in the agent.
func TestHeldUntilSpilled(t *testing.T) {
	t.Parallel()
	for i, op := range []job.Op{job.Renew, job.Save, job.Renew, job.Save} {
		w := newWorld(t)
		w.signIn(-time.Minute)
		j := job.Job{Op: op}
		canSpill := i < 2
		spoil := func() {
			w.write([]byte("{ broken"))
			if canSpill {
				return
			}
			if err := os.MkdirAll(w.settings.StateDir, 0o700); err != nil {
				t.Error(err)
			}
			if err := os.WriteFile(filepath.Join(w.settings.StateDir, "spill"), nil, 0o600); err != nil { // a file is no folder
				t.Error(err)
			}
		}
		if op == job.Renew {
			w.during(spoil)
		} else {
			r, v := w.stored()
			r.AccessToken = protocol.NewSecret("fake-access-unsaved")
			j.Record, j.Base = mustMarshal(t, r), v
			spoil()
		}
		take := func() error {
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			lock, err := store.NewClaudeCode(w.settings.ConfigDir).Lock(ctx)
			if err == nil {
				lock.Release()
			}
			return err
		}
		seen := false
		w.runTo(j, watcher{func(r job.Report) {
			if r.Kind == job.Done {
				seen = true
				spilled := canSpill && store.Spilled(w.settings.StateDir, store.NewClaudeCode(w.settings.ConfigDir))
				if err := take(); r.Result.Saved || canSpill != spilled || !spilled && !errors.Is(err, protocol.ErrUnavailable) {
					t.Errorf("op %d, saved %v: the record can be taken before the agent has it: %v", op, r.Result.Saved, err)
				}
			}
		}})
		if err := take(); err != nil || !seen {
			t.Errorf("op %d: the record can't be taken afterwards: %v", op, err)
		}
	}
}

// TestWhoWins has someone else write while we renew, or while we hold something unsaved.
func TestWhoWins(t *testing.T) {
	t.Parallel()
	stub := []byte(`{"claudeAiOauth":{"accessToken":"","refreshToken":"","expiresAt":0},"other":1}`)
	tests := []struct {
		name    string
		happens func(w *world, theirs oauthtest.SignIn)
		ours    bool // ours wins; else theirs, or nobody
		theirs  bool
		wantErr error
		aside   int
	}{
		{"someone signs in", func(w *world, theirs oauthtest.SignIn) { w.write(theirs.CredentialsFile()) }, false, true, nil, 1},
		{
			"someone signs out",
			func(w *world, _ oauthtest.SignIn) { os.Remove(w.credentials()) },
			false,
			false,
			protocol.ErrNotFound,
			1,
		},
		{
			"the key is removed",
			func(w *world, _ oauthtest.SignIn) { w.write([]byte(`{"other":1}`)) },
			false,
			false,
			protocol.ErrNotFound,
			1,
		},
		{"a stub is written", func(w *world, _ oauthtest.SignIn) { w.write(stub) }, true, false, nil, 0},
		{"nothing", func(*world, oauthtest.SignIn) {}, true, false, nil, 0},
	}
	for _, tt := range tests {
		check := func(t *testing.T, w *world, ours string, theirs oauthtest.SignIn, done job.Report) {
			t.Helper()
			if !is(done.Err, tt.wantErr) || !done.Result.Saved || !done.Result.Record.Empty() {
				t.Fatalf("got %+v, %v, want %v and nothing unsaved", done.Result, done.Err, tt.wantErr)
			}
			token := done.Result.Token.Reveal()
			if tt.ours && token != ours || tt.theirs && token != theirs.AccessToken {
				t.Errorf("token %q", token)
			}
			if tt.ours || tt.theirs {
				if r, v := w.stored(); r.AccessToken.Reveal() != token || v != done.Result.Version {
					t.Errorf("the store holds %q", r.AccessToken.Reveal())
				}
			} else if data, _ := os.ReadFile(w.credentials()); bytes.Contains(data, []byte("fake")) {
				t.Error("a deleted record was made again")
			}
			if got := w.aside(ours); got != tt.aside {
				t.Errorf("%d records set aside, want %d", got, tt.aside)
			}
			if w.server.Counts().Reuses != 0 {
				t.Error("a refresh token was used twice")
			}
		}
		t.Run(tt.name+" during a renewal", func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.signIn(-time.Minute)
			theirs := w.server.Issue()
			_, base := w.stored()
			w.during(func() { tt.happens(w, theirs) })
			_, handOver, done := w.run(job.Job{Op: job.Renew, Base: base})
			check(t, w, handOver.Result.Token.Reveal(), theirs, done)
		})
		for _, op := range []job.Op{job.Save, job.Renew} {
			t.Run(tt.name+map[job.Op]string{job.Save: " before a save", job.Renew: " before a renewal"}[op], func(t *testing.T) {
				t.Parallel()
				w := newWorld(t)
				w.signIn(-time.Minute)
				original, _ := os.ReadFile(w.credentials())
				theirs := w.server.Issue()
				_, base := w.stored()
				w.during(func() { w.write([]byte("{ broken")) })
				_, _, done := w.run(job.Job{Op: job.Renew, Base: base})
				unsaved := done.Result
				w.write(original)
				tt.happens(w, theirs)
				_, _, done = w.run(job.Job{Op: op, Base: base, Record: unsaved.Record})
				check(t, w, unsaved.Token.Reveal(), theirs, done)
			})
		}
	}
}

// TestOvertaken has a program without a lock renew first: our refresh token is refused, theirs is the answer.
func TestOvertaken(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.signIn(-time.Minute)
	theirs := w.server.Issue()
	w.server.RevokeGrant("fake-refresh-1")
	w.during(func() { w.write(theirs.CredentialsFile()) })
	_, _, done := w.run(job.Job{Op: job.Renew})
	if done.Err != nil || done.Result.Token.Reveal() != theirs.AccessToken {
		t.Errorf("got %+v, %v, want theirs", done.Result, done.Err)
	}
}

func TestMemory(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.settings.Store = "memory"
	if _, _, done := w.run(job.Job{Op: job.Renew}); !is(done.Err, protocol.ErrNotFound) {
		t.Fatalf("nothing held: %v", done.Err)
	}
	s := w.server.Issue()
	record := mustMarshal(
		t,
		store.Record{
			AccessToken:  protocol.NewSecret(s.AccessToken),
			RefreshToken: protocol.NewSecret(s.RefreshToken),
			Expiry:       s.Expiry,
		},
	)
	_, _, done := w.run(job.Job{Op: job.Put, Record: record})
	if done.Err != nil || !done.Result.Saved || done.Result.Record.Empty() || done.Result.Store != "memory" {
		t.Fatalf("put: %+v, %v", done.Result, done.Err)
	}
	_, _, done = w.run(job.Job{Op: job.Renew, Record: done.Result.Record})
	if done.Err != nil || done.Result.Token.Reveal() != s.AccessToken || done.Result.Record.Empty() {
		t.Errorf("served: %+v, %v", done.Result, done.Err)
	}
	_, handOver, done := w.run(job.Job{Op: job.Renew, Record: done.Result.Record, Force: true})
	if done.Err != nil || !done.Result.Renewed || !done.Result.Saved || !w.server.Live(done.Result.Token.Reveal()) ||
		handOver.Result.Store != "memory" {
		t.Errorf("renewed: %+v, %v", done.Result, done.Err)
	}
	r, err := store.Unmarshal(done.Result.Record)
	if err != nil || !w.server.Renewable(r.RefreshToken.Reveal()) || r.TokenOrigin != w.server.URL() {
		t.Errorf("the record that comes back: %v", err)
	}
	for _, dir := range []string{w.settings.DataDir, w.settings.StateDir} {
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("%s was made", dir)
		}
	}
}

func TestOrigin(t *testing.T) {
	t.Parallel()
	const newer, older = "https://platform.claude.com", "https://console.anthropic.com"
	e := newTask(Settings{Provider: "claude"}, job.Job{})
	tests := []struct {
		bound, url string
		want       string // "": refused
	}{
		{"", newer + "/v1/oauth/token", newer},
		{newer, newer + "/v2/token", newer},
		{newer, older + "/v1/oauth/token", older},
		{older, newer + "/v1/oauth/token", newer},
		{newer, "https://platform.claude.com:8443/token", ""},
		{newer, "http://127.0.0.1:99/token", ""},
		{"http://127.0.0.1:99", newer + "/v1/oauth/token", ""},
		{"http://127.0.0.1:99", "http://127.0.0.1:98/token", ""},
	}
	for _, tt := range tests {
		e.settings.TokenURL = tt.url
		_, origin, err := e.client(t.Context(),
			store.Record{AccessToken: protocol.NewSecret("fake"), RefreshToken: protocol.NewSecret("fake"), TokenOrigin: tt.bound})
		if origin != tt.want || (tt.want == "") != errors.Is(err, protocol.ErrLoginRequired) {
			t.Errorf("bound to %q, asked at %q: %q, %v, want %q", tt.bound, tt.url, origin, err, tt.want)
		}
		if err != nil && (!strings.Contains(err.Error(), tt.bound) || protocol.HintOf(err) == "") {
			t.Errorf("%v does not say where the sign-in belongs", err)
		}
	}
}

// TestMovedEndpoint binds a record at its first renewal, and sends its refresh token nowhere else.
func TestMovedEndpoint(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.signIn(-time.Minute)
	_, _, done := w.run(job.Job{Op: job.Renew})
	other := oauthtest.New(t, oauthtest.Options{})
	w.settings.TokenURL = other.TokenURL()
	_, _, done = w.run(job.Job{Op: job.Renew, Base: done.Result.Version, Force: true})
	if !is(done.Err, protocol.ErrLoginRequired) || other.Counts().Requests != 0 {
		t.Errorf("got %v, the other endpoint saw %+v", done.Err, other.Counts())
	}
	if done.Result.Token.Empty() {
		t.Error("the token that still lives is withheld")
	}
	// An import binds anew.
	var s oauthtest.SignIn
	for range 5 { // the first ones have the refresh tokens of the other server's
		s = other.Issue()
	}
	record := mustMarshal(
		t,
		store.Record{
			AccessToken:  protocol.NewSecret(s.AccessToken),
			RefreshToken: protocol.NewSecret(s.RefreshToken),
			Expiry:       s.Expiry,
		},
	)
	_, _, done = w.run(job.Job{Op: job.Put, Record: record, Force: true})
	_, _, done = w.run(job.Job{Op: job.Renew, Base: done.Result.Version, Force: true})
	if done.Err != nil || !other.Live(done.Result.Token.Reveal()) {
		t.Errorf("after an import: %v", done.Err)
	}
}

func TestOtherBuild(t *testing.T) {
	t.Parallel()
	var in, out bytes.Buffer
	if err := job.WriteJob(&in, job.Job{Build: "1.0", Op: job.Delete, Settings: []byte("{}")}); err != nil {
		t.Fatal(err)
	}
	if err := Run(t.Context(), &in, &out, "1.1"); err != nil {
		t.Fatal(err)
	}
	r, err := job.ReadReport(&out)
	if err != nil || r.Kind != job.Done || !is(r.Err, protocol.ErrUnavailable) || !strings.Contains(r.Err.Message, "1.0") {
		t.Errorf("got %+v, %v, want a refusal that names the versions", r, err)
	}
}

func TestNoJob(t *testing.T) {
	t.Parallel()
	if err := Run(t.Context(), strings.NewReader("\x00\x00"), io.Discard, "test"); err == nil {
		t.Error("half a frame is a job")
	}
	w := newWorld(t)
	if _, _, done := w.run(job.Job{Op: job.Spill}); !is(done.Err, protocol.ErrNotFound) {
		t.Errorf("nothing to spill: %v", done.Err)
	}
}

// TestCancelled gives up waiting for a record that somebody holds.
func TestCancelled(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.signIn(5 * time.Minute)
	lock, err := store.NewClaudeCode(w.settings.ConfigDir).Lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Release()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	e := newTask(w.settings, job.Job{Op: job.Renew, Profile: "fake"})
	o := e.inStore(ctx, e.Renew)
	if !errors.Is(o.Err, protocol.ErrUnavailable) || o.Result.Token.Empty() {
		t.Errorf("got %+v, want ErrUnavailable beside the token that still lives", o)
	}
}
