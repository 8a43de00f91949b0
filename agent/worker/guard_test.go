package worker

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ccagent/ccagent/agent/job"
	"github.com/ccagent/ccagent/agent/renewal"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store"
)

// guarding are the views of a guarded profile.
var guarding = []store.ViewPlace{{Kind: store.ViewClaude}}

// newGuarded is a world whose Claude Code is signed in and guarded.
func newGuarded(t *testing.T) (w *world, base job.Version) {
	t.Helper()
	w = newWorld(t)
	s, base := w.known(time.Hour)
	w.settings.Views = guarding
	_, _, done := w.run(job.Job{Op: job.Guard, Target: "file", Base: base})
	if done.Err != nil || done.Result.Store != "file" || done.Result.Token.Reveal() != s.AccessToken {
		t.Fatalf("got %+v, %v", done.Result, done.Err)
	}
	w.wantView(s.AccessToken)
	return w, done.Result.Version
}

// wantView checks that Claude Code's file shows this token, and that no refresh token is in it.
func (w *world) wantView(token string) {
	w.t.Helper()
	data, err := os.ReadFile(w.credentials())
	if err != nil || !bytes.Contains(data, []byte(token)) || bytes.Contains(data, []byte("refresh-")) {
		w.t.Fatalf("the view is %s, %v; want %s alone in it", data, err, token)
	}
}

// own is what our own store holds.
func (w *world) own() (store.Record, error) {
	r, _, err := store.NewFile(w.settings.DataDir, w.settings.Name).Load(w.t.Context())
	return r, err
}

// missing is a store whose record went missing, until another is saved.
type missing struct {
	store.Store
	saved bool
}

func (s *missing) Load(ctx context.Context) (store.Record, store.Version, error) {
	if !s.saved {
		return store.Record{}, store.Version{}, store.ErrMissing
	}
	return s.Store.Load(ctx)
}

func (s *missing) Save(ctx context.Context, r store.Record, base store.Version) (store.Version, error) {
	v, err := s.Store.Save(ctx, r, base)
	s.saved = err == nil
	return v, err
}

// TestAdoptWhereTheRecordIsMissing: a sign-in is taken over also where the keyring that answers is not the one with the record,
// and what could not be saved there still waits for that one.
func TestAdoptWhereTheRecordIsMissing(t *testing.T) {
	t.Parallel()
	w, base := newGuarded(t)
	file := store.NewFile(w.settings.DataDir, w.settings.Name)
	unsaved, _, err := file.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	unsaved.RefreshToken = protocol.NewSecret("fake-unsaved")
	if err := errors.Join(store.Spill(w.settings.StateDir, file, store.Version(base), unsaved),
		file.Delete(t.Context(), store.Version(base))); err != nil {
		t.Fatal(err)
	}
	s := w.signIn(time.Hour)
	home, claude := &missing{Store: file}, store.NewClaudeCode(w.settings.ConfigDir)
	e := newTask(w.settings, job.Job{Op: job.Renew})
	if err := e.adopt(t.Context(), home, claude, claude.View(w.settings.StateDir)); err != nil {
		t.Fatal(err)
	}
	if r, err := w.own(); err != nil || r.RefreshToken.Reveal() != s.RefreshToken {
		t.Errorf("our store has %q, %v", r.RefreshToken.Reveal(), err)
	}
	w.wantView(s.AccessToken)
}

func TestGuard(t *testing.T) {
	t.Parallel()
	renew := func(w *world, base job.Version, force bool) job.Report {
		w.t.Helper()
		_, _, done := w.run(job.Job{Op: job.Renew, Base: base, Force: force})
		return done
	}

	t.Run("renewals reach the view", func(t *testing.T) {
		t.Parallel()
		w, base := newGuarded(t)
		done := renew(w, base, true)
		if done.Err != nil || !done.Result.Renewed || done.Result.Note != "" {
			t.Fatalf("got %+v, %v", done.Result, done.Err)
		}
		w.wantView(done.Result.Token.Reveal())
		if !strings.Contains(strings.Join(done.Result.Watch, " "), w.credentials()) {
			t.Errorf("the agent is not told to watch the view: %v", done.Result.Watch)
		}
		_, _, again := w.run(job.Job{Op: job.Guard, Base: done.Result.Version})
		if again.Err != nil || again.Result.Token.Reveal() != done.Result.Token.Reveal() {
			t.Errorf("guarded twice: %+v, %v", again.Result, again.Err)
		}
	})

	t.Run("a stub is written over, every time", func(t *testing.T) {
		t.Parallel()
		w, base := newGuarded(t)
		r, _ := w.own()
		for range 2 * renewal.MaxRepairs {
			w.write(stubFile)
			done := renew(w, base, false)
			if done.Err != nil || !strings.Contains(done.Result.Note, "was mended at") {
				t.Fatalf("got %+v, %v", done.Result, done.Err)
			}
			w.wantView(r.AccessToken.Reveal())
		}
		if n := w.server.Counts().Requests; n != 0 {
			t.Errorf("%d requests to the provider", n)
		}
	})

	t.Run("a sign-in is adopted", func(t *testing.T) {
		t.Parallel()
		w, base := newGuarded(t)
		for _, left := range []time.Duration{time.Hour, -time.Hour} {
			s := w.signIn(left)
			done := renew(w, base, false)
			if done.Err != nil || done.Result.Note != "" || done.Result.Renewed != (left < 0) {
				t.Fatalf("got %+v, %v", done.Result, done.Err)
			}
			token := done.Result.Token.Reveal()
			if left > 0 && token != s.AccessToken {
				t.Errorf("another sign-in is served")
			}
			w.wantView(token)
			if r, err := w.own(); err != nil || r.AccessToken.Reveal() != token || !w.server.Renewable(r.RefreshToken.Reveal()) {
				t.Errorf("our store holds something else: %v", err)
			}
			base = done.Result.Version
		}
		_, _, done := w.run(job.Job{Op: job.History})
		if len(done.Result.Past) != 3 {
			t.Errorf("%d sign-ins are kept, want 3", len(done.Result.Past))
		}
	})

	t.Run("a sign-in is adopted before the view is restored over it", func(t *testing.T) {
		t.Parallel()
		w, base := newGuarded(t)
		s := w.signIn(time.Hour)
		_, _, done := w.run(job.Job{Op: job.Show, Base: base})
		if done.Err != nil || done.Result.Token.Reveal() != s.AccessToken {
			t.Fatalf("got %+v, %v", done.Result, done.Err)
		}
		w.wantView(s.AccessToken)
		if r, err := w.own(); err != nil || r.RefreshToken.Reveal() != s.RefreshToken {
			t.Errorf("its refresh token is lost: %v", err)
		}
		os.Remove(w.credentials())
		if _, _, done = w.run(job.Job{Op: job.Show, Base: done.Result.Version}); done.Err != nil {
			t.Fatal(done.Err)
		}
		w.wantView(s.AccessToken)
	})

	t.Run("a view is not restored over its own record", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		s, base := w.known(time.Hour)
		w.settings.Views = guarding
		_, _, done := w.run(job.Job{Op: job.Show, Base: base})
		if !is(done.Err, protocol.ErrConfig) || !strings.Contains(done.Err.Message, "ccagent guard claude-code -p ") {
			t.Errorf("got %+v, %v", done.Result, done.Err)
		}
		if r, _ := w.stored(); r.RefreshToken.Reveal() != s.RefreshToken {
			t.Error("its refresh token is lost")
		}
	})

	t.Run("a sign-in with a refresh token alone is adopted", func(t *testing.T) {
		t.Parallel()
		w, base := newGuarded(t)
		s := w.server.Issue()
		w.write([]byte(`{"claudeAiOauth":{"accessToken":"","refreshToken":"` + s.RefreshToken + `","expiresAt":0,"scopes":[]}}`))
		done := renew(w, base, false)
		if done.Err != nil || done.Result.Note != "" || !done.Result.Renewed {
			t.Fatalf("got %+v, %v", done.Result, done.Err)
		}
		w.wantView(done.Result.Token.Reveal())
	})

	t.Run("a sign-out is obeyed, and the next sign-in adopted", func(t *testing.T) {
		t.Parallel()
		w, base := newGuarded(t)
		os.Remove(w.credentials())
		done := renew(w, base, false)
		if !is(done.Err, protocol.ErrLoginRequired) || !done.Result.Gone || w.server.Counts().Requests != 0 {
			t.Fatalf("got %+v, %v", done.Result, done.Err)
		}
		if _, err := w.own(); !is(protoError(err), protocol.ErrNotFound) {
			t.Errorf("the record is still there: %v", err)
		}
		if _, _, past := w.run(job.Job{Op: job.History}); len(past.Result.Past) != 1 {
			t.Error("it can't be brought back")
		}
		s := w.signIn(time.Hour)
		if done = renew(w, job.Version{}, false); done.Err != nil || done.Result.Token.Reveal() != s.AccessToken {
			t.Fatalf("got %+v, %v", done.Result, done.Err)
		}
		w.wantView(s.AccessToken)
	})

	t.Run("a sign-out takes the other views away", func(t *testing.T) {
		t.Parallel()
		w, base := newGuarded(t)
		sdk := filepath.Join(t.TempDir(), "sdk")
		w.settings.Views = append(guarding, store.ViewPlace{Kind: store.ViewSDK, Dir: sdk})
		path := filepath.Join(sdk, "credentials", w.settings.Name+".json")
		renew(w, base, false)
		if _, err := os.Stat(path); err != nil {
			t.Fatal(err)
		}
		os.Remove(w.credentials())
		renew(w, base, false)
		if _, err := os.Stat(path); err == nil {
			t.Error("the SDKs go on with the token of a sign-in that was left")
		}
		w.signIn(time.Hour)
		renew(w, job.Version{}, false)
		if _, err := os.Stat(path); err != nil {
			t.Errorf("it is not back with the next sign-in: %v", err)
		}
	})

	t.Run("a home that is not mounted is no sign-out", func(t *testing.T) {
		t.Parallel()
		w, base := newGuarded(t)
		os.Rename(w.settings.ConfigDir, w.settings.ConfigDir+".away")
		if done := renew(w, base, false); done.Err != nil || done.Result.Token.Empty() || done.Result.Note == "" {
			t.Fatalf("got %+v, %v", done.Result, done.Err)
		}
		if _, err := w.own(); err != nil {
			t.Error(err)
		}
	})

	t.Run("an earlier view is written over", func(t *testing.T) {
		t.Parallel()
		w, base := newGuarded(t)
		earlier, _ := os.ReadFile(w.credentials())
		done := renew(w, base, true)
		w.write(
			bytes.Replace(earlier, []byte(`"subscriptionType":"max"`), []byte(`"subscriptionType":"pro"`), 1),
		) // by a session, from memory
		if again := renew(w, done.Result.Version, false); again.Err != nil || again.Result.Note != "" {
			t.Fatalf("got %+v, %v", again.Result, again.Err)
		}
		w.wantView(done.Result.Token.Reveal())
	})

	t.Run("a view is behind though only a person can mend the next one", func(t *testing.T) {
		t.Parallel()
		w, base := newGuarded(t)
		dir := t.TempDir()
		for name, content := range map[string]string{"file": "", "configs/fake.json": `{"authentication":{"type":"api_key"}}`} {
			os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o700)
			if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		w.settings.Views = append(slices.Clone(guarding),
			store.ViewPlace{Kind: store.ViewToken, Path: filepath.Join(dir, "file/token")}, store.ViewPlace{Kind: store.ViewSDK, Dir: dir})
		done := renew(w, base, true)
		if !done.Result.Behind || !strings.Contains(done.Result.Note, "file is not a folder") ||
			!strings.Contains(done.Result.Note, "another way to sign in") {
			t.Fatalf("got %+v, %v", done.Result, done.Err)
		}
	})

	t.Run("a view that can't be written is behind", func(t *testing.T) {
		t.Parallel()
		w, base := newGuarded(t)
		marks := filepath.Join(w.settings.StateDir, "views")
		os.Rename(marks, marks+".away")
		os.WriteFile(marks, nil, 0o600)
		done := renew(w, base, true)
		if done.Err != nil || !done.Result.Renewed || !done.Result.Behind ||
			!strings.Contains(done.Result.Note, "could not be written") {
			t.Fatalf("got %+v, %v", done.Result, done.Err)
		}
		os.Remove(marks)
		os.Rename(marks+".away", marks)
		if again := renew(w, done.Result.Version, false); again.Result.Behind || again.Result.Note != "" {
			t.Errorf("got %+v", again.Result)
		}
		w.wantView(done.Result.Token.Reveal())
	})

	t.Run("somebody else's token is left alone", func(t *testing.T) {
		t.Parallel()
		w, base := newGuarded(t)
		w.write([]byte(`{"claudeAiOauth":{"accessToken":"fake-other","refreshToken":"","expiresAt":null,"scopes":[]}}`))
		if done := renew(w, base, false); done.Err != nil || !strings.Contains(done.Result.Note, "was changed by something else") {
			t.Fatalf("got %+v, %v", done.Result, done.Err)
		}
		w.wantView("fake-other")
	})

	t.Run("an old copy is written over", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		s, base := w.known(time.Hour)
		_, _, done := w.run(job.Job{Op: job.Renew, Force: true, Base: base}) // spends what s has
		w.settings.Views = guarding
		_, _, done = w.run(job.Job{Op: job.Guard, Target: "file", Base: done.Result.Version})
		s.Expiry = time.Now().Add(-time.Hour)
		w.write(s.CredentialsFile())
		again := renew(w, done.Result.Version, false)
		if again.Err != nil || again.Result.Token.Reveal() != done.Result.Token.Reveal() {
			t.Fatalf("got %+v, %v", again.Result, again.Err)
		}
		w.wantView(done.Result.Token.Reveal())
		if n := w.server.Counts(); n.Requests != 1 {
			t.Errorf("%+v", n)
		}
	})

	t.Run("a session that is renewing is waited for", func(t *testing.T) {
		t.Parallel()
		w, base := newGuarded(t)
		w.signIn(time.Minute) // no agent has run for long: Claude Code renews by itself
		lock := filepath.Join(w.settings.ConfigDir, ".oauth_refresh.lock")
		os.Mkdir(lock, 0o700)
		renewed := make(chan string)
		time.AfterFunc(300*time.Millisecond, func() {
			s := w.server.Issue()
			s.Expiry = time.Now().Add(time.Hour)
			os.WriteFile(w.credentials(), s.CredentialsFile(), 0o600)
			os.Remove(lock)
			renewed <- s.AccessToken
		})
		done := renew(w, base, false)
		want := <-renewed
		if done.Err != nil || done.Result.Token.Reveal() != want || w.server.Counts().Requests != 0 {
			t.Fatalf("got %+v, %v, want what the session brought", done.Result, done.Err)
		}
		w.wantView(want)
	})

	t.Run("a sign-in that can't be taken over is served", func(t *testing.T) {
		t.Parallel()
		w, base := newGuarded(t)
		if err := os.Remove(filepath.Join(w.settings.DataDir, w.settings.Name+".json")); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(filepath.Join(w.settings.DataDir, w.settings.Name+".json"), 0o700); err != nil {
			t.Fatal(err)
		}
		s := w.signIn(time.Hour)
		if done := renew(w, base, false); done.Err == nil || done.Result.Token.Reveal() != s.AccessToken || done.Result.Saved {
			t.Fatalf("got %+v, %v", done.Result, done.Err)
		}
		if r, _ := w.stored(); r.RefreshToken.Reveal() != s.RefreshToken {
			t.Error("it is lost")
		}
	})

	t.Run("a lost state directory does not make the view the record", func(t *testing.T) {
		t.Parallel()
		w, _ := newGuarded(t)
		os.RemoveAll(w.settings.StateDir)
		if done := renew(w, job.Version{}, true); done.Err != nil || done.Result.Store != "file" || !done.Result.Renewed {
			t.Fatalf("got %+v, %v", done.Result, done.Err)
		}
	})

	t.Run("undone", func(t *testing.T) {
		t.Parallel()
		w, base := newGuarded(t)
		want, _ := w.own()
		_, _, done := w.run(job.Job{Op: job.Move, Target: "claude-code", Force: true, Base: base})
		if done.Err != nil || done.Result.Store != "claude-code" {
			t.Fatalf("got %+v, %v", done.Result, done.Err)
		}
		if r, _ := w.stored(); r.RefreshToken.Reveal() != want.RefreshToken.Reveal() {
			t.Error("the record is not back")
		}
		if marks, _ := filepath.Glob(filepath.Join(w.settings.StateDir, "views", "*.json")); len(marks) != 0 {
			t.Errorf("left behind: %v", marks)
		}
	})

	t.Run("undone after a sign-out", func(t *testing.T) {
		t.Parallel()
		w, base := newGuarded(t)
		os.Remove(w.credentials())
		_, _, done := w.run(job.Job{Op: job.Move, Target: "claude-code", Force: true, Base: base})
		if !is(done.Err, protocol.ErrNotFound) {
			t.Fatalf("got %+v, %v", done.Result, done.Err)
		}
		if _, err := os.Stat(w.credentials()); err == nil {
			t.Error("whoever signed out is signed in again")
		}
		w.settings.Views, w.settings.Store = nil, "claude-code"
		if _, _, past := w.run(job.Job{Op: job.History}); len(past.Result.Past) != 1 {
			t.Errorf("it can't be brought back: %+v", past.Result.Past)
		}
	})

	t.Run("guarded again after a sign-in", func(t *testing.T) {
		t.Parallel()
		w, base := newGuarded(t)
		s := w.signIn(time.Hour)
		_, _, done := w.run(job.Job{Op: job.Guard, Base: base})
		if done.Err != nil || done.Result.Token.Reveal() != s.AccessToken {
			t.Fatalf("got %+v, %v", done.Result, done.Err)
		}
		w.wantView(s.AccessToken)
	})

	t.Run("another sign-in is replaced when that is asked for, and can be brought back", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		ours, theirs := w.server.Issue(), w.signIn(time.Hour)
		w.settings.Store, w.settings.Views = "file", guarding
		w.run(job.Job{Op: job.Put, Record: mustMarshal(t, store.Record{AccessToken: protocol.NewSecret(ours.AccessToken),
			RefreshToken: protocol.NewSecret(ours.RefreshToken), Expiry: time.Now().Add(time.Hour)})})
		if _, _, done := w.run(job.Job{Op: job.Guard}); !is(done.Err, protocol.ErrConfig) {
			t.Fatalf("got %+v, %v", done.Result, done.Err)
		}
		if _, _, done := w.run(job.Job{Op: job.Guard, Force: true}); done.Err != nil ||
			done.Result.Token.Reveal() != ours.AccessToken {
			t.Fatalf("got %+v, %v", done.Result, done.Err)
		}
		w.wantView(ours.AccessToken)
		_, _, past := w.run(job.Job{Op: job.History})
		if len(past.Result.Past) != 2 || past.Result.Past[1].Current {
			t.Fatalf("kept: %+v", past.Result.Past)
		}
		if _, _, done := w.run(job.Job{Op: job.Restore, PastID: past.Result.Past[1].ID}); done.Err != nil ||
			done.Result.Token.Reveal() != theirs.AccessToken {
			t.Errorf("brought back: %+v, %v", done.Result, done.Err)
		}
	})

	t.Run("undone after a sign-in", func(t *testing.T) {
		t.Parallel()
		w, base := newGuarded(t)
		s := w.signIn(time.Hour)
		w.run(job.Job{Op: job.Move, Target: "claude-code", Force: true, Base: base})
		if r, _ := w.stored(); r.RefreshToken.Reveal() != s.RefreshToken {
			t.Error("the new sign-in was replaced by the old one")
		}
	})
}

func protoError(err error) *protocol.Error {
	if err == nil {
		return nil
	}
	return &protocol.Error{Code: protocol.CodeOf(err)}
}
