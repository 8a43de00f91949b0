package store

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ccagent/ccagent/protocol"
)

func wantState(t *testing.T, v *View, want ViewState) {
	t.Helper()
	got, err := v.Look(t.Context())
	if err != nil || got != want {
		t.Fatalf("the view is in state %d, %v; want %d", got, err, want)
	}
}

func mustWrite(t *testing.T, v *View, r Record) {
	t.Helper()
	if err := v.Write(t.Context(), r); err != nil {
		t.Fatal(err)
	}
}

func TestClaudeCodeView(t *testing.T) {
	t.Parallel()
	state, dir := t.TempDir(), filepath.Join(t.TempDir(), ".claude")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, ".credentials.json")
	const full = `{"mcpOAuth":{"x":1.50}, "claudeAiOauth":{"accessToken":"fake-access-1","refreshToken":"fake-refresh-1","expiresAt":1900000000001,"scopes":["a"],"subscriptionType":"max","own":[1,2]}}`
	os.WriteFile(path, []byte(full), 0o600)
	v := NewClaudeCode(dir).View(state)

	// A sign-in that is there is not written over.
	wantState(t, v, ViewForeign)
	wantIs(t, v.Write(t.Context(), fakeRecord(2)), ErrConflict)
	if err := v.Restore(t.Context(), fakeRecord(2)); err != nil {
		t.Fatal(err)
	}
	wantState(t, v, ViewOurs)
	got, _ := os.ReadFile(path)
	want := `{"mcpOAuth":{"x":1.50}, "claudeAiOauth":{"accessToken":"fake-access-2","refreshToken":"","expiresAt":1900000000002,"scopes":["a"],"subscriptionType":"max","own":[1,2]}}`
	if string(got) != want {
		t.Errorf("the view is %s", got)
	}

	// Claude Code changes other keys than the sign-in, as it may.
	os.WriteFile(path, bytes.Replace(got, []byte("1.50"), []byte("2.50"), 1), 0o600)
	wantState(t, v, ViewOurs)
	mustWrite(t, NewClaudeCode(dir).View(state), fakeRecord(3))
	if got, _ = os.ReadFile(path); !bytes.Contains(got, []byte("2.50")) || !bytes.Contains(got, []byte("fake-access-3")) ||
		bytes.Contains(got, []byte("fake-refresh")) {
		t.Errorf("the view is %s", got)
	}

	// A stub, a new sign-in and a sign-out are noticed, and left alone.
	for _, tt := range []struct {
		name    string
		content string
		state   ViewState
		load    error
	}{
		{"stub", `{"claudeAiOauth":{"accessToken":"","refreshToken":"","expiresAt":0}}`, ViewForeign, protocol.ErrLoginRequired},
		{"sign-in", full, ViewForeign, nil},
		{"sign-out", `{"mcpOAuth":{"x":1.50}}`, ViewGone, protocol.ErrNotFound},
	} {
		os.WriteFile(path, []byte(tt.content), 0o600)
		wantState(t, v, tt.state)
		if err := v.Write(t.Context(), fakeRecord(4)); !errors.Is(err, ErrConflict) {
			t.Errorf("%s: %v", tt.name, err)
		}
		if _, _, err := NewClaudeCode(dir).Load(t.Context()); !errors.Is(err, tt.load) {
			t.Errorf("%s: load says %v", tt.name, err)
		}
		if got, _ := os.ReadFile(path); string(got) != tt.content {
			t.Errorf("%s: changed to %s", tt.name, got)
		}
		if err := v.Remove(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got, _ := os.ReadFile(path); string(got) != tt.content {
			t.Errorf("%s: removed, and it was not ours", tt.name)
		}
		if err := v.Restore(t.Context(), fakeRecord(4)); err != nil {
			t.Fatal(err)
		}
		wantState(t, v, ViewOurs)
	}
	if err := v.Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(path); string(got) != `{"mcpOAuth":{"x":1.50}}` {
		t.Errorf("after the removal it holds %s", got)
	}
	wantState(t, v, ViewNone)
}

func TestSDKView(t *testing.T) {
	t.Parallel()
	state, dir := t.TempDir(), filepath.Join(t.TempDir(), "anthropic")
	v := NewSDKView(state, dir, "gateway")
	wantState(t, v, ViewNone)
	r := fakeRecord(1)
	r.Expiry = time.UnixMilli(1900000000999)
	mustWrite(t, v, r)
	wantState(t, v, ViewOurs)
	for path, want := range map[string]string{
		"configs/gateway.json": `{"version":"1.0","authentication":{"type":"user_oauth"}}` + "\n",
		"credentials/gateway.json": `{"version":"1.0","type":"oauth_token","access_token":"fake-access-1","expires_at":1900000000}` +
			"\n",
	} {
		path = filepath.Join(dir, path)
		if got, _ := os.ReadFile(path); string(got) != want {
			t.Errorf("%s holds %s", path, got)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		if info, err := os.Stat(filepath.Dir(path)); err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("%s's folder has mode %v", path, info.Mode())
		}
	}
	forever := fakeRecord(2)
	forever.Expiry = time.Time{}
	mustWrite(t, v, forever)
	credentials := filepath.Join(dir, "credentials/gateway.json")
	got, _ := os.ReadFile(credentials)
	if string(got) != `{"version":"1.0","type":"oauth_token","access_token":"fake-access-2"}`+"\n" {
		t.Errorf("the view is %s", got)
	}
	if back, err := readSDK("view", got); err != nil || back.AccessToken.Reveal() != "fake-access-2" || !back.Expiry.IsZero() {
		t.Errorf("it reads as %+v, %v", back, err)
	}

	// A view that was changed, replaced by a link or removed is left alone.
	elsewhere := filepath.Join(t.TempDir(), "elsewhere")
	for name, harm := range map[string]func(){
		"changed": func() { os.WriteFile(credentials, []byte(`{"access_token":"fake-theirs"}`), 0o600) },
		"a link": func() {
			os.WriteFile(elsewhere, nil, 0o600)
			os.Remove(credentials)
			os.Symlink(elsewhere, credentials)
		},
		"removed": func() { os.Remove(credentials) },
	} {
		harm()
		if err := v.Write(t.Context(), fakeRecord(3)); !errors.Is(err, ErrConflict) {
			t.Errorf("%s: %v", name, err)
		}
		if err := v.Restore(t.Context(), fakeRecord(3)); err != nil {
			t.Fatal(err)
		}
		wantState(t, v, ViewOurs)
	}
	if b, _ := os.ReadFile(elsewhere); len(b) != 0 {
		t.Errorf("a token went through a link: %s", b)
	}
	if err := v.Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"configs", "credentials"} {
		if left, _ := os.ReadDir(filepath.Join(dir, name)); len(left) != 0 {
			t.Errorf("%s holds %v", name, left)
		}
	}
}

// TestSDKViewOfAnotherProfile: a profile that signs in by itself is left alone.
func TestSDKViewOfAnotherProfile(t *testing.T) {
	t.Parallel()
	for _, config := range []string{
		`{"authentication":{"type":"user_oauth","client_id":"theirs"}}`,
		`{"authentication":{"type":"user_oauth","credentials_path":"/elsewhere"}}`,
		`{"authentication":{"type":"oidc_federation"}}`,
		`{"authentication":7}`, `{}`, `not JSON`,
	} {
		dir := t.TempDir()
		os.Mkdir(filepath.Join(dir, "configs"), 0o700)
		os.WriteFile(filepath.Join(dir, "configs/gateway.json"), []byte(config), 0o600)
		err := NewSDKView(t.TempDir(), dir, "gateway").Restore(t.Context(), fakeRecord(1))
		if !errors.Is(err, protocol.ErrConfig) {
			t.Errorf("%s: %v", config, err)
		}
		if _, err := os.Stat(filepath.Join(dir, "credentials/gateway.json")); err == nil {
			t.Errorf("%s: credentials were written", config)
		}
	}
}

// TestViewKilledBetween: a process is killed between writing the view and remembering that. The next one knows the view for ours.
func TestViewKilledBetween(t *testing.T) {
	t.Parallel()
	v := NewSDKView(t.TempDir(), t.TempDir(), "gateway")
	mustWrite(t, v, fakeRecord(1))
	before, _ := os.ReadFile(v.written)
	first, _ := readWritten(v.written)
	mustWrite(t, v, fakeRecord(2))
	second, _ := readWritten(v.written)
	between := written{Version: 1, Digest: first.Digest, Next: second.Digest}
	for _, m := range []written{between, second} {
		if err := m.write(v.written); err != nil {
			t.Fatal(err)
		}
		wantState(t, v, ViewOurs)
	}
	os.WriteFile(v.written, before, 0o600)
	wantState(t, v, ViewForeign) // what we remember of an older view proves nothing
	for _, corrupt := range []string{"{", "", `{"version":2}`} {
		os.WriteFile(v.written, []byte(corrupt), 0o600)
		wantState(t, v, ViewForeign)
		wantIs(t, v.Write(t.Context(), fakeRecord(9)), ErrConflict)
		if err := v.Restore(t.Context(), fakeRecord(3)); err != nil {
			t.Fatal(err)
		}
		wantState(t, v, ViewOurs)
	}
	for n := 10; n < 10+2*maxShown; n++ {
		mustWrite(t, v, fakeRecord(n))
	}
	if m, _ := readWritten(v.written); len(m.Tokens) != maxShown || v.Showed(fakeRecord(10).AccessToken) ||
		!v.Showed(fakeRecord(9+2*maxShown).AccessToken) {
		t.Errorf("remembered: %+v", m)
	}
}

func TestPredecessorKeyring(t *testing.T) {
	t.Parallel()
	var sys fakeKeyring
	_, err := readPredecessor(t.Context(), &sys)
	wantIs(t, err, protocol.ErrNotFound)
	sys.Set(t.Context(), "claude-code-proxy", "default",
		`{"claudeAiOauth":{"accessToken":"fake-access-1","refreshToken":"fake-refresh-1","expiresAt":1900000000001,"scopes":["a"]}}`)
	r, err := readPredecessor(t.Context(), &sys)
	if err != nil || !sameTokens(r, fakeRecord(1)) {
		t.Fatalf("read %+v, %v", r, err)
	}
	wantIs(t, deletePredecessor(t.Context(), &sys, fakeRecord(2)), ErrConflict)
	if err := deletePredecessor(t.Context(), &sys, r); err != nil || len(sys.items) != 0 {
		t.Errorf("%v, and the keyring holds %v", err, sys.accounts())
	}
	sys.Set(t.Context(), "claude-code-proxy", "default", "fake-password")
	_, err = readPredecessor(t.Context(), &sys)
	wantIs(t, err, protocol.ErrInvalid)
	if strings.Contains(err.Error(), "fake-") {
		t.Errorf("a secret is in %q", err)
	}
}

func TestReadSDK(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		in   string
		want error
		then Record
	}{
		{`{"version":"1.0","type":"oauth_token","access_token":"fake-1","expires_at":1900000000,"refresh_token":"fake-2","scope":"a b"}`, nil,
			Record{AccessToken: protocol.NewSecret("fake-1"), RefreshToken: protocol.NewSecret("fake-2"), Expiry: time.Unix(1900000000, 0),
				Scopes: []string{"a", "b"}}},
		{`{"version":"1.0","access_token":"fake-1"}`, nil, Record{AccessToken: protocol.NewSecret("fake-1")}},
		{`{"version":"1.0","refresh_token":"fake-2","expires_at":null}`, nil,
			Record{RefreshToken: protocol.NewSecret("fake-2"), Expiry: due}},
		{`{"type":"api_key","access_token":"fake-1"}`, protocol.ErrInvalid, Record{}},
		{`{"version":"1.0","access_token":"fake-1","expires_at":"soon"}`, protocol.ErrInvalid, Record{}},
		{`{"version":"1.0","access_token":"fake-1","expires_at":1900000000000}`, protocol.ErrInvalid, Record{}},
		{`{"version":"1.0","access_token":7}`, protocol.ErrInvalid, Record{}},
		{`{"version":"1.0","access_token":"fake 1"}`, protocol.ErrInvalid, Record{}},
		{`{"type":"oauth_token"}`, protocol.ErrLoginRequired, Record{}},
		{`{"access_token":"fake-1","refresh_token":"fake-2"}`, protocol.ErrInvalid, Record{}},
		{`{"version":1,"access_token":"fake-1"}`, protocol.ErrInvalid, Record{}},
		{`{}`, protocol.ErrInvalid, Record{}},
		{``, protocol.ErrInvalid, Record{}},
		{`[]`, protocol.ErrInvalid, Record{}},
	} {
		got, err := ReadSDK(strings.NewReader(tt.in))
		if tt.want != nil {
			if !errors.Is(err, tt.want) || strings.Contains(err.Error(), "fake") {
				t.Errorf("%s: %v", tt.in, err)
			}
			continue
		}
		if err != nil || !sameTokens(got, tt.then) || !got.Expiry.Equal(tt.then.Expiry) ||
			strings.Join(got.Scopes, " ") != strings.Join(tt.then.Scopes, " ") {
			t.Errorf("%s: read %+v, %v", tt.in, got, err)
		}
	}
}

func FuzzSDK(f *testing.F) {
	f.Add(
		[]byte(
			`{"version":"1.0","type":"oauth_token","access_token":"fake-1","expires_at":1900000000,"refresh_token":"fake-2","scope":"a b"}`,
		),
	)
	f.Fuzz(func(t *testing.T, src []byte) {
		r, err := readSDK("file", src)
		if err != nil {
			if protocol.CodeOf(err) == protocol.CodeInternal {
				t.Errorf("error %v", err)
			}
			return
		}
		if r.AccessToken.Empty() {
			return
		}
		again, err := readSDK("file", formatSDK(r))
		if err != nil || again.AccessToken.Reveal() != r.AccessToken.Reveal() || !again.Expiry.Equal(r.Expiry) {
			t.Errorf("%s comes back as %+v, %v", src, again, err)
		}
	})
}
