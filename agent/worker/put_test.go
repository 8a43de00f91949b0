package worker

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ccagent/ccagent/agent/job"
	"github.com/ccagent/ccagent/agent/oauth/oauthtest"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store"
)

// record is a sign-in as an import hands it in.
func record(s oauthtest.SignIn, expiry time.Time) store.Record {
	return store.Record{AccessToken: protocol.NewSecret(s.AccessToken), RefreshToken: protocol.NewSecret(s.RefreshToken),
		Expiry: expiry, Scopes: s.Scopes, Subscription: s.Subscription}
}

func TestPut(t *testing.T) {
	t.Parallel()
	hour := time.Now().Add(time.Hour).Truncate(time.Millisecond)
	tests := []struct {
		name    string
		stored  time.Time // expiry of what Claude Code's file holds; epoch: no file
		never   bool      // what is stored never expires
		put     time.Time // zero: never
		force   bool
		wantErr error
		where   string
	}{
		{"nothing stored", time.Unix(0, 0), false, hour, false, nil, "file"},
		{"over an earlier one", hour.Add(-time.Minute), false, hour, false, nil, "claude-code"},
		{"over a later one", hour.Add(time.Minute), false, hour, false, protocol.ErrConfig, "claude-code"},
		{"over a later one, forced", hour.Add(time.Minute), false, hour, true, nil, "claude-code"},
		{"over the same expiry", hour, false, hour, false, nil, "claude-code"},
		{"over one that never expires", hour, true, hour, false, protocol.ErrConfig, "claude-code"},
		{"one that never expires", hour, false, time.Time{}, false, nil, "claude-code"},
		{"both never expire", hour, true, time.Time{}, false, nil, "claude-code"},
		{"one long expired, nothing stored", time.Unix(0, 0), false, time.UnixMilli(1), false, nil, "file"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			if tt.stored.Unix() != 0 {
				w.signIn(time.Until(tt.stored))
				s := oauthtest.SignIn{AccessToken: "fake-access-stored", RefreshToken: "fake-refresh-stored", Expiry: tt.stored}
				w.write(s.CredentialsFile())
			}
			if tt.never {
				neverExpires(w)
			}
			before, _ := os.ReadFile(w.credentials())
			s := w.server.Issue()
			_, _, done := w.run(job.Job{Op: job.Put, Force: tt.force, Record: mustMarshal(t, record(s, tt.put))})
			if !is(done.Err, tt.wantErr) || done.Result.Store != tt.where {
				t.Fatalf("got %+v, %v, want %v in %s", done.Result, done.Err, tt.wantErr, tt.where)
			}
			if tt.wantErr != nil {
				if after, _ := os.ReadFile(w.credentials()); !bytes.Equal(before, after) {
					t.Error("a refused record changed what is stored")
				}
				return
			}
			if (done.Result.Notice != "") != (tt.where == "file") {
				t.Errorf("notice %q", done.Result.Notice)
			}
			if !done.Result.Saved || done.Result.Location == "" || done.Result.Token.Reveal() != s.AccessToken ||
				!done.Result.Record.Empty() {
				t.Errorf("result %+v", done.Result)
			}
			if tt.where == "claude-code" {
				data, _ := os.ReadFile(w.credentials())
				if !bytes.Contains(data, []byte("fake-mcp")) {
					t.Error("other programs' keys are lost")
				}
			}
			if tt.put.UnixMilli() == 1 {
				return // the next renewal is one indeed
			}
			version := done.Result.Version
			_, _, done = w.run(job.Job{Op: job.Renew})
			if done.Result.Version != version || done.Result.Store != tt.where {
				t.Error("a renewal finds something else")
			}
			// Again: it is there already, whatever was said about it.
			_, _, done = w.run(job.Job{Op: job.Put, Record: mustMarshal(t, record(s, tt.put))})
			if done.Result.Version != version || !strings.Contains(done.Result.Notice, "already") {
				t.Errorf("the second time: %+v, %v", done.Result, done.Err)
			}
		})
	}
}

// TestPutKeepsWhatIsBroken stores nothing over a file that can't be read, and mends a stub.
func TestPutKeepsWhatIsBroken(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.write([]byte("{ broken"))
	put := job.Job{Op: job.Put, Record: mustMarshal(t, record(w.server.Issue(), time.Now().Add(time.Hour)))}
	if _, _, done := w.run(put); !is(done.Err, protocol.ErrInvalid) {
		t.Errorf("got %v", done.Err)
	}
	if data, _ := os.ReadFile(w.credentials()); string(data) != "{ broken" {
		t.Errorf("the file holds %q", data)
	}
	w.write([]byte(`{"claudeAiOauth":{"accessToken":"","refreshToken":"","expiresAt":0}}`))
	if _, _, done := w.run(put); done.Err != nil || done.Result.Store != "claude-code" {
		t.Errorf("over a stub: %+v, %v", done.Result, done.Err)
	}
	// A directory that Claude Code has yet to make.
	put.Record = mustMarshal(t, record(w.server.Issue(), time.Now().Add(time.Hour)))
	w.settings.Store, w.settings.ConfigDir = "claude-code", filepath.Join(w.settings.ConfigDir, "new")
	if _, _, done := w.run(put); done.Err != nil || !done.Result.Saved {
		t.Errorf("into a new directory: %+v, %v", done.Result, done.Err)
	}
}

// TestAuto follows store `auto` through a profile's life: decided once, by what is there, and kept to.
func TestAuto(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if _, _, done := w.run(job.Job{Op: job.Renew}); !is(done.Err, protocol.ErrNotFound) || done.Err.Hint == "" {
		t.Fatalf("nothing anywhere: %+v", done.Err)
	}
	if _, err := os.Stat(w.settings.StateDir); err == nil {
		t.Error("nothing was found, and that is remembered")
	}
	s := w.server.Issue()
	_, _, done := w.run(job.Job{Op: job.Put, Record: mustMarshal(t, record(s, s.Expiry))})
	if done.Err != nil || done.Result.Store != "file" {
		t.Fatalf("put: %+v, %v", done.Result, done.Err)
	}
	w.signIn(time.Hour) // Claude Code comes later, and changes nothing
	_, _, done = w.run(job.Job{Op: job.Renew})
	if done.Result.Store != "file" || done.Result.Token.Reveal() != s.AccessToken {
		t.Errorf("got %+v, want the file", done.Result)
	}
	if err := os.Remove(done.Result.Location); err != nil {
		t.Fatal(err)
	}
	if _, _, done = w.run(job.Job{Op: job.Renew}); !is(done.Err, protocol.ErrNotFound) || done.Result.Store != "file" {
		t.Errorf("its record gone, the profile went elsewhere: %+v, %v", done.Result, done.Err)
	}
	choice := filepath.Join(w.settings.StateDir, "auto", "fake.json")
	if err := os.WriteFile(choice, []byte(`{"version":2}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, done = w.run(job.Job{Op: job.Renew}); !is(done.Err, protocol.ErrStorage) ||
		!strings.Contains(done.Err.Message, choice) {
		t.Errorf("an unreadable choice: %v", done.Err)
	}
	if err := os.Remove(choice); err != nil {
		t.Fatal(err)
	}
	if _, _, done = w.run(job.Job{Op: job.Renew}); done.Result.Store != "claude-code" {
		t.Errorf("decided anew: %+v, %v", done.Result, done.Err)
	}
	info, err := os.Stat(choice)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the choice is not kept in a file of mode 0600: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(choice), ".new-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestDelete(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if _, _, done := w.run(job.Job{Op: job.Delete}); done.Err != nil {
		t.Errorf("nothing to delete: %v", done.Err)
	}
	w.signIn(time.Hour)
	_, _, done := w.run(job.Job{Op: job.Renew})
	r, _ := w.stored()
	if _, _, spilt := w.run(job.Job{Op: job.Spill, Base: job.Version{9}, Record: mustMarshal(t, r)}); spilt.Err != nil ||
		w.aside("fake-refresh") != 1 {
		t.Fatalf("spill: %v", spilt.Err)
	}
	if _, _, done = w.run(job.Job{Op: job.Delete, Base: done.Result.Version}); done.Err != nil {
		t.Fatal(done.Err)
	}
	data, err := os.ReadFile(w.credentials())
	if err != nil || bytes.Contains(data, []byte("claudeAiOauth")) || !bytes.Contains(data, []byte("fake-mcp")) {
		t.Errorf("what is left: %v, %s", err, data)
	}
	if n := w.aside("fake"); n != 0 {
		t.Errorf("%d spill files are left", n)
	}
	if left, _ := filepath.Glob(filepath.Join(w.settings.StateDir, "auto", "*")); len(left) > 0 {
		t.Errorf("remembered: %v", left)
	}
	if _, _, done = w.run(job.Job{Op: job.Renew}); !is(done.Err, protocol.ErrNotFound) {
		t.Errorf("after it: %v", done.Err)
	}
	// A stub is deleted like any record.
	w.write([]byte(`{"claudeAiOauth":{"accessToken":"","refreshToken":"","expiresAt":0}}`))
	if _, _, done = w.run(job.Job{Op: job.Delete}); done.Err != nil {
		t.Error(done.Err)
	}
	if _, err := os.Stat(w.credentials()); err == nil {
		t.Error("an empty file is left")
	}
}

// TestSpill is the end of an agent that holds something unsaved, and the beginning of the next one.
func TestSpill(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.signIn(-time.Minute)
	original, _ := os.ReadFile(w.credentials())
	_, base := w.stored()
	w.during(func() { w.write([]byte("{ broken")) })
	_, _, done := w.run(job.Job{Op: job.Renew, Base: base})
	unsaved := done.Result
	_, _, done = w.run(job.Job{Op: job.Spill, Base: base, Record: unsaved.Record})
	if done.Err != nil || !done.Result.Saved {
		t.Fatalf("got %+v, %v", done.Result, done.Err)
	}
	// The next agent, before the store is mended and after.
	if _, _, done = w.run(job.Job{Op: job.Renew}); done.Err == nil {
		t.Errorf("a broken store: %+v", done.Result)
	}
	w.write(original)
	_, _, done = w.run(job.Job{Op: job.Renew})
	if done.Err != nil || done.Result.Token.Reveal() != unsaved.Token.Reveal() || done.Result.Renewed || w.aside("fake") != 0 {
		t.Errorf("got %+v, %v, want what was spilled", done.Result, done.Err)
	}
}

// TestStatic stores a key, serves it for ever, and renews it never.
func TestStatic(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.settings.Provider, w.settings.TokenURL = "static", ""
	if _, _, done := w.run(job.Job{Op: job.Renew}); !is(done.Err, protocol.ErrNotFound) ||
		!strings.Contains(done.Err.Hint, "ccagent add fake") {
		t.Errorf("nothing stored: %+v", done.Err)
	}
	key := store.Record{AccessToken: protocol.NewSecret("fake-key-1")}
	_, _, done := w.run(job.Job{Op: job.Put, Record: mustMarshal(t, key)})
	if done.Err != nil || done.Result.Store != "file" || !strings.Contains(done.Result.Notice, "keyring") {
		t.Fatalf("put: %+v, %v", done.Result, done.Err)
	}
	_, _, done = w.run(job.Job{Op: job.Renew, MinTTL: 1000 * time.Hour, HalfLife: true})
	if done.Err != nil || done.Result.Token.Reveal() != "fake-key-1" || done.Result.Kind != protocol.KindAPIKey ||
		!done.Result.Expiry.IsZero() {
		t.Errorf("got %+v, %v", done.Result, done.Err)
	}
	_, _, done = w.run(job.Job{Op: job.Renew, Force: true, Base: done.Result.Version})
	if !is(done.Err, protocol.ErrConfig) || done.Result.Token.Reveal() != "fake-key-1" {
		t.Errorf("forced: %+v, %v", done.Result, done.Err)
	}
	// Another key takes its place; a forced renewal takes it for the cure that it is.
	base := done.Result.Version
	w.run(job.Job{Op: job.Put, Record: mustMarshal(t, store.Record{AccessToken: protocol.NewSecret("fake-key-2")})})
	_, _, done = w.run(job.Job{Op: job.Renew, Force: true, Base: base})
	if done.Err != nil || done.Result.Token.Reveal() != "fake-key-2" {
		t.Errorf("replaced: %+v, %v", done.Result, done.Err)
	}
	if _, err := os.Stat(w.credentials()); err == nil {
		t.Error("a key was put into Claude Code's file")
	}
}

// TestSettings keeps the JSON form that crosses the agent.
func TestSettings(t *testing.T) {
	t.Parallel()
	want := Settings{
		Name:      "n",
		Provider:  "command",
		Store:     "auto",
		ConfigDir: "/c",
		DataDir:   "/d",
		StateDir:  "/s",
		TokenURL:  "u",
		ClientID:  "i",
		Scopes: []string{
			"a",
		},
		UserAgent: "ua",
		Headers:   map[string]string{"k": "v"},
		Command:   []string{"c", "d"},
		TTL:       time.Minute,
		Timeout:   time.Second,
	}
	data, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got Settings
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	again, err := json.Marshal(got)
	if err != nil || !bytes.Equal(data, again) || got.TTL != time.Minute || got.Command[1] != "d" || got.Headers["k"] != "v" {
		t.Errorf("got %+v", got)
	}
}
