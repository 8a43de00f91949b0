package worker

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/ccagent/ccagent/agent/job"
	"github.com/ccagent/ccagent/agent/oauth/oauthtest"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store"
)

// newGateway has an oidc profile that knows its issuer alone, with nothing stored.
func newGateway(t *testing.T, o oauthtest.Options) *world {
	t.Helper()
	dir := t.TempDir()
	w := &world{t: t, server: oauthtest.New(t, o)}
	w.settings = Settings{
		Name: "gateway", Provider: "oidc", Store: "file", DataDir: filepath.Join(dir, "data"), StateDir: filepath.Join(dir, "state"),
		Issuer: w.server.Issuer(), ClientID: o.ClientID, Timeout: 20 * time.Second,
	}
	return w
}

// put hands a sign-in over as `ccagent login` does.
func (w *world) put(s oauthtest.SignIn, change func(*store.Record)) (handOver, done job.Report) {
	w.t.Helper()
	r := store.Record{
		AccessToken:  protocol.NewSecret(s.AccessToken),
		RefreshToken: protocol.NewSecret(s.RefreshToken),
		Expiry:       s.Expiry,
		Issued:       time.Now(),
		Scopes:       s.Scopes,
		TokenOrigin:  w.server.URL(),
	}
	if change != nil {
		change(&r)
	}
	_, handOver, done = w.run(job.Job{Op: job.Put, SignIn: true, Force: true, Record: mustMarshal(w.t, r)})
	return handOver, done
}

// kept is the record in the file store.
func (w *world) kept() store.Record {
	w.t.Helper()
	r, _, err := store.NewFile(w.settings.DataDir, w.settings.Name).Load(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

// TestRenewDiscovered renews at the token endpoint that the issuer names, with the client's secret from the record.
func TestRenewDiscovered(t *testing.T) {
	t.Parallel()
	for _, auth := range []string{"client_secret_basic", "client_secret_post"} {
		w := newGateway(t, oauthtest.Options{ClientID: "fake-client", ClientSecret: "fake-client-secret"})
		w.settings.ClientAuth = auth
		w.put(w.server.Issue(), func(r *store.Record) { r.ClientSecret = protocol.NewSecret("fake-client-secret") })
		first := w.kept()
		_, _, done := w.run(job.Job{Op: job.Renew, Force: true})
		if done.Err != nil || !done.Result.Renewed || !done.Result.Saved || !w.server.Live(done.Result.Token.Reveal()) {
			t.Fatalf("%s: %+v, %v", auth, done.Result, done.Err)
		}
		r := w.kept()
		if r.ClientSecret.Reveal() != "fake-client-secret" || r.SignIn != first.SignIn ||
			!w.server.Renewable(r.RefreshToken.Reveal()) ||
			len(r.Scopes) == 0 {
			t.Errorf("%s: the renewed record is %+v", auth, r)
		}
	}
}

// TestIssuerMoves has an issuer name another token endpoint: what belongs to the first is not sent there.
func TestIssuerMoves(t *testing.T) {
	t.Parallel()
	w := newGateway(t, oauthtest.Options{ClientID: "fake-client"})
	w.put(w.server.Issue(), nil)
	other := oauthtest.New(t, oauthtest.Options{})
	var issuer *httptest.Server
	issuer = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		json.NewEncoder(rw).
			Encode(map[string]any{"issuer": issuer.URL, "token_endpoint": other.TokenURL(),
				"authorization_endpoint": other.AuthorizeURL()})
	}))
	defer issuer.Close()
	w.settings.Issuer = issuer.URL
	_, _, done := w.run(job.Job{Op: job.Renew, Force: true})
	if !is(done.Err, protocol.ErrLoginRequired) || other.Counts().Requests != 0 ||
		!strings.Contains(done.Err.Message, "profile gateway") {
		t.Errorf("got %v; the other endpoint saw %+v", done.Err, other.Counts())
	}
}

// TestMachines renews without a refresh token, by asking again.
func TestMachines(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	keyFile := filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	jwt := func(audience string) string {
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, nil)
		if err != nil {
			t.Fatal(err)
		}
		claims, _ := json.Marshal(map[string]any{"aud": audience, "exp": time.Now().Add(time.Hour).Unix()})
		signed, err := signer.Sign(claims)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := signed.CompactSerialize()
		return text
	}
	tests := []struct {
		name    string
		options oauthtest.Options
		set     func(w *world)
		record  func(w *world, r *store.Record)
	}{
		{"client secret", oauthtest.Options{ClientSecret: "fake-client-secret"}, func(w *world) {
			w.settings.Grant, w.settings.ClientAuth = "client_credentials", "client_secret_basic"
		}, func(_ *world, r *store.Record) { r.ClientSecret = protocol.NewSecret("fake-client-secret") }},
		{"client key", oauthtest.Options{ClientKey: key.Public()}, func(w *world) {
			w.settings.Grant, w.settings.ClientAuth, w.settings.ClientKeyFile = "client_credentials", "private_key_jwt", keyFile
		}, nil},
		{"kept assertion", oauthtest.Options{AssertionKey: key.Public()}, func(w *world) { w.settings.Grant = "jwt-bearer" },
			func(w *world, r *store.Record) { r.Assertion = protocol.NewSecret(jwt(w.server.URL())) }},
		{"assertion from a file", oauthtest.Options{AssertionKey: key.Public()}, func(w *world) {
			w.settings.Grant, w.settings.AssertionFile = "jwt-bearer", filepath.Join(w.settings.DataDir, "..", "assertion")
			if err := os.WriteFile(w.settings.AssertionFile, []byte(jwt(w.server.URL())+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, nil},
		{"assertion from a command", oauthtest.Options{AssertionKey: key.Public()}, func(w *world) {
			w.settings.Grant, w.settings.AssertionCommand = "jwt-bearer", []string{"echo", jwt(w.server.URL())}
		}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.options.ClientID = "fake-client"
			w := newGateway(t, tt.options)
			tt.set(w)
			w.put(oauthtest.SignIn{AccessToken: "fake-access-old", Expiry: time.Now().Add(-time.Minute)}, func(r *store.Record) {
				if tt.record != nil {
					tt.record(w, r)
				}
			})
			for range 2 {
				_, _, done := w.run(job.Job{Op: job.Renew, Force: true})
				if done.Err != nil || !done.Result.Renewed || !done.Result.Saved || !w.server.Live(done.Result.Token.Reveal()) {
					t.Fatalf("got %+v, %v", done.Result, done.Err)
				}
			}
			if got := w.server.Counts().Machines; got != 2 {
				t.Errorf("%d tokens were asked for, want 2", got)
			}
		})
	}
	w := newGateway(t, oauthtest.Options{})
	w.settings.Grant = "jwt-bearer"
	w.put(oauthtest.SignIn{AccessToken: "fake-access-old", Expiry: time.Now().Add(-time.Minute)}, nil)
	if _, _, done := w.run(job.Job{Op: job.Renew}); !is(done.Err, protocol.ErrLoginRequired) {
		t.Errorf("without an assertion: %v", done.Err)
	}
}

// TestSignInUnsaved signs in where nothing can be saved: the agent gets the record, and a later save brings it home.
func TestSignInUnsaved(t *testing.T) {
	t.Parallel()
	w := newGateway(t, oauthtest.Options{})
	w.put(w.server.Issue(), nil)
	path := filepath.Join(w.settings.DataDir, "gateway.json")
	old, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// A folder in the file's place can't be replaced, not even by root.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(path, "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	handOver, done := w.put(w.server.Issue(), nil)
	if handOver.Result.Record.Empty() || !is(done.Err, protocol.ErrStorage) || done.Result.Saved || done.Result.Record.Empty() ||
		done.Result.Notice == "" ||
		done.Result.Token.Reveal() != "fake-access-2" {
		t.Fatalf("handed over %+v; got %+v, %v", handOver.Result, done.Result, done.Err)
	}
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
	_, _, saved := w.run(job.Job{Op: job.Save, Base: done.Result.Version, Record: done.Result.Record})
	if saved.Err != nil || !saved.Result.Saved || w.kept().AccessToken.Reveal() != "fake-access-2" {
		t.Errorf("saved later: %+v, %v", saved.Result, saved.Err)
	}
	if n := w.aside("fake"); n != 0 {
		t.Errorf("%d spill files are left", n)
	}
	if strings.Contains(string(old), "fake-access-2") {
		t.Error("the test is about nothing")
	}
}

// TestSignInUnsavedReplaces signs in where the store can't be read or is held by somebody: a later save replaces the sign-in
// before, which is still stored, as the person wanted it.
func TestSignInUnsavedReplaces(t *testing.T) {
	t.Parallel()
	for _, held := range []bool{false, true} {
		w := newGateway(t, oauthtest.Options{})
		_, known := w.put(w.server.Issue(), nil)
		path := filepath.Join(w.settings.DataDir, "gateway.json")
		j := job.Job{Op: job.Put, SignIn: true, Force: true, Base: known.Result.Version,
			Record: mustMarshal(t, store.Record{AccessToken: protocol.NewSecret("fake-new"), Expiry: time.Now().Add(time.Hour)})}
		var done job.Result
		if held {
			lock, err := store.NewFile(w.settings.DataDir, "gateway").Lock(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			j.Base, j.Profile = job.Version{}, "gateway" // the agent has just started
			ctx, cancel := context.WithCancel(t.Context())
			cancel() // no need to wait for it
			done = newTask(w.settings, j).put(ctx).Report(nil).Result
			lock.Release()
		} else {
			if err := os.Rename(path, path+".away"); err != nil {
				t.Fatal(err)
			}
			if err := os.MkdirAll(filepath.Join(path, "x"), 0o700); err != nil { // see TestSignInUnsaved
				t.Fatal(err)
			}
			_, _, report := w.run(j)
			done = report.Result
			if err := errors.Join(os.RemoveAll(path), os.Rename(path+".away", path)); err != nil {
				t.Fatal(err)
			}
		}
		if done.Saved || done.Record.Empty() {
			t.Fatalf("held %v: %+v", held, done)
		}
		_, _, saved := w.run(job.Job{Op: job.Save, Base: done.Version, Record: done.Record})
		if saved.Err != nil || !saved.Result.Saved || w.kept().AccessToken.Reveal() != "fake-new" {
			t.Errorf("held %v: saved later: %+v, %v; stored is %s", held, saved.Result, saved.Err, w.kept().AccessToken.Reveal())
		}
	}
}

// TestSince repeats a forced renewal whose answer was lost: the first one's token is the answer.
func TestSince(t *testing.T) {
	t.Parallel()
	w := newGateway(t, oauthtest.Options{})
	w.put(
		w.server.Issue(),
		func(r *store.Record) { r.Issued = r.Issued.Add(-time.Second) },
	) // not in the millisecond in which it is asked
	asked := time.Now()
	_, _, first := w.run(job.Job{Op: job.Renew, Force: true, Since: asked})
	_, _, again := w.run(job.Job{Op: job.Renew, Force: true, Since: asked})
	if again.Err != nil || again.Result.Renewed || again.Result.Token.Reveal() != first.Result.Token.Reveal() ||
		w.server.Counts().Refreshes != 1 {
		t.Errorf("repeated: %+v, %v, %+v", again.Result, again.Err, w.server.Counts())
	}
	_, _, next := w.run(job.Job{Op: job.Renew, Force: true, Since: time.Now().Add(time.Millisecond)})
	if next.Err != nil || !next.Result.Renewed {
		t.Errorf("asked anew: %+v, %v", next.Result, next.Err)
	}
}

func TestLogout(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		change  func(w *world)
		keep    bool
		revoked int
		notice  string // in the notice; "": there is none
	}{
		{"revoked", func(*world) {}, false, 2, ""},
		{"kept at the provider", func(*world) {}, true, 0, ""},
		{"endpoint set", func(w *world) {
			w.settings.Issuer, w.settings.TokenURL, w.settings.RevokeURL = "", w.server.TokenURL(), w.server.URL()+"/revoke"
		}, false, 2, ""},
		{
			"no endpoint",
			func(w *world) { w.settings.Issuer, w.settings.TokenURL = "", w.server.TokenURL() },
			false,
			0,
			"no revocation endpoint",
		},
		{
			"endpoint refuses",
			func(w *world) { w.settings.RevokeURL = w.server.URL() + "/nowhere" },
			false,
			0,
			"the refresh token and the access token",
		},
		{"out of reach", func(w *world) { w.server.Close() }, false, 0, "nothing was revoked"},
		{"another endpoint", func(w *world) { w.settings.TokenURL = "http://127.0.0.1:9/token" }, false, 0, "belongs to"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newGateway(t, oauthtest.Options{})
			w.put(w.server.Issue(), nil)
			tt.change(w)
			_, _, done := w.run(job.Job{Op: job.Logout, KeepRemote: tt.keep})
			if done.Err != nil || !done.Result.Saved || w.server.Counts().Revoked != tt.revoked {
				t.Errorf("got %+v, %v, %d revoked", done.Result, done.Err, w.server.Counts().Revoked)
			}
			if tt.notice == "" && done.Result.Notice != "" || !strings.Contains(done.Result.Notice, tt.notice) ||
				strings.Contains(done.Result.Notice, "fake-") {
				t.Errorf("notice %q", done.Result.Notice)
			}
			if _, _, done := w.run(job.Job{Op: job.Renew}); !is(done.Err, protocol.ErrNotFound) {
				t.Errorf("afterwards: %v", done.Err)
			}
		})
	}
}

func TestIdentify(t *testing.T) {
	t.Parallel()
	w := newGateway(t, oauthtest.Options{})
	w.put(w.server.Issue(), nil)
	ask := func(j job.Job) job.Report {
		t.Helper()
		j.Op = job.Identify
		_, _, done := w.run(j)
		return done
	}
	done := ask(job.Job{})
	if i := done.Result.Identity; done.Err != nil || i.Account != "alice-1" || i.Email != "alice@example.com" ||
		i.Organization != "Example" ||
		len(i.Scopes) == 0 {
		t.Fatalf("asked: %+v, %v", i, done.Err)
	}
	before := w.server.Counts().API
	if again := ask(job.Job{}); again.Result.Identity.Account != "alice-1" || w.server.Counts().API != before {
		t.Errorf("kept: %+v, and the provider was asked", again.Result.Identity)
	}
	if ask(job.Job{Force: true}); w.server.Counts().API != before+1 {
		t.Error("the provider was not asked anew")
	}
	// A renewal keeps it.
	_, _, renewed := w.run(job.Job{Op: job.Renew, Force: true})
	if kept := ask(job.Job{}); renewed.Err != nil || kept.Result.Identity.Account != "alice-1" ||
		w.server.Counts().API != before+1 {
		t.Errorf("after a renewal: %+v, %v", kept.Result.Identity, renewed.Err)
	}
	if checked := ask(job.Job{Check: true}); checked.Err != nil {
		t.Errorf("a good token: %v", checked.Err)
	}
	w.server.RevokeToken(renewed.Result.Token.Reveal())
	if checked := ask(job.Job{Check: true}); !is(checked.Err, protocol.ErrExpired) {
		t.Errorf("a revoked token: %v", checked.Err)
	}
	w.settings.IntrospectURL = w.server.URL() + "/introspect"
	if checked := ask(job.Job{Check: true}); !is(checked.Err, protocol.ErrExpired) {
		t.Errorf("a revoked token, introspected: %v", checked.Err)
	}
	w.server.Close()
	if kept := ask(job.Job{}); kept.Err != nil || kept.Result.Identity.Account != "alice-1" {
		t.Errorf("the provider is gone: %+v, %v", kept.Result.Identity, kept.Err)
	}
	if checked := ask(job.Job{Check: true}); !is(checked.Err, protocol.ErrUnavailable) {
		t.Errorf("nobody to ask: %v", checked.Err)
	}
	// Another sign-in is another person's.
	w.put(oauthtest.SignIn{AccessToken: "fake-access-9", Expiry: time.Now().Add(time.Hour)}, nil)
	if other := ask(job.Job{}); other.Err == nil || other.Result.Identity.Account == "alice-1" {
		t.Errorf("after another sign-in: %+v, %v", other.Result.Identity, other.Err)
	}
}

// TestUnusableProfile: a user profile that does not say whose it is, or that can't be asked for, costs nothing that is known
// without it.
func TestUnusableProfile(t *testing.T) {
	t.Parallel()
	broken := false
	w := newGateway(t, oauthtest.Options{Edit: func(_ string, reply map[string]any) {
		if broken && reply["userinfo_endpoint"] != nil {
			reply["userinfo_endpoint"] = []string{"/userinfo"}
		}
	}})
	w.put(w.server.Issue(), func(r *store.Record) {
		r.Identity = protocol.Identity{Account: "alice-1", Email: "alice@example.com", Fetched: time.UnixMilli(1767225600123)}
	})
	for _, body := range []string{`{"email":"bob@example.com"}`, `{"sub":{},"email":"bob@example.com"}`} {
		w.server.SetFaultAt("/userinfo", oauthtest.Fault{Status: 200, Body: body})
		for _, j := range []job.Job{{Op: job.Identify, Force: true}, {Op: job.Identify, Check: true}} {
			_, _, done := w.run(j)
			if i := done.Result.Identity; done.Err != nil || i.Account != "alice-1" || i.Email != "alice@example.com" {
				t.Errorf("%s: %+v, %v", body, i, done.Err)
			}
		}
	}
	broken = true
	if _, _, done := w.run(job.Job{Op: job.Identify, Check: true}); done.Err != nil {
		t.Errorf("the issuer can be asked about the token itself: %v", done.Err)
	}
	w.server.RevokeGrant("fake-access-1")
	if _, _, done := w.run(job.Job{Op: job.Identify, Check: true}); !is(done.Err, protocol.ErrExpired) {
		t.Errorf("a revoked token: %v", done.Err)
	}
}

// TestIdentifyOvertaken has somebody else sign in while the provider is asked about the first: the answer is not kept as theirs.
func TestIdentifyOvertaken(t *testing.T) {
	t.Parallel()
	w := newGateway(t, oauthtest.Options{})
	w.put(w.server.Issue(), nil)
	second := w.server.Issue()
	slow := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		w.put(second, nil)
		rw.Write([]byte(`{"sub":"the-first"}`))
	}))
	defer slow.Close()
	w.settings.ProfileURL = slow.URL
	_, _, done := w.run(job.Job{Op: job.Identify})
	if done.Err != nil || done.Result.Identity.Account != "the-first" {
		t.Errorf("got %+v, %v", done.Result.Identity, done.Err)
	}
	if r := w.kept(); r.AccessToken.Reveal() != second.AccessToken || r.Identity.Account != "" {
		t.Errorf("the second sign-in is taken for %q", r.Identity.Account)
	}
}

// TestIdentifyClaude keeps who is signed in beside Claude Code's file, about the record that it was said of.
func TestIdentifyClaude(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.settings.ProfileURL = w.server.ProfileURL()
	w.signIn(time.Hour)
	_, base := w.stored()
	_, _, done := w.run(job.Job{Op: job.Identify})
	if done.Err != nil || done.Result.Identity.Email == "" || done.Result.Identity.Subscription == "" {
		t.Fatalf("got %+v, %v", done.Result.Identity, done.Err)
	}
	asked := w.server.Counts().API
	_, _, renewed := w.run(job.Job{Op: job.Renew, Base: base, Force: true})
	_, _, again := w.run(job.Job{Op: job.Identify})
	if renewed.Err != nil || again.Result.Identity.Email != done.Result.Identity.Email || w.server.Counts().API != asked {
		t.Errorf("after a renewal: %+v, %v", again.Result.Identity, renewed.Err)
	}
	w.signIn(2 * time.Hour)
	if w.run(job.Job{Op: job.Identify}); w.server.Counts().API != asked+1 {
		t.Error("another sign-in was taken for the same person's")
	}
	w.run(job.Job{Op: job.Logout})
	if _, err := os.Stat(filepath.Join(w.settings.StateDir, "identity", "fake.json")); err == nil {
		t.Error("who was signed in is known after the sign-out")
	}
}
