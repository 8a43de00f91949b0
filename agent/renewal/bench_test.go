package renewal_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/ccagent/ccagent/agent/embed"
	"github.com/ccagent/ccagent/agent/job"
	"github.com/ccagent/ccagent/agent/oauth"
	"github.com/ccagent/ccagent/agent/oauth/oauthtest"
	"github.com/ccagent/ccagent/agent/provider"
	"github.com/ccagent/ccagent/agent/worker"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store"
)

// askArg makes the test program the command of a profile: it asks the token endpoint that follows, and prints the token.
const askArg = "ask-for-a-token"

func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == askArg {
		os.Exit(ask(os.Args[2]))
	}
	os.Exit(m.Run())
}

func ask(tokenURL string) int {
	client := machineClient(tokenURL)
	reply, err := client.ClientCredentials(context.Background())
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	json.NewEncoder(os.Stdout).Encode(map[string]any{
		"token": reply.AccessToken.Reveal(), "expires_in": int(time.Until(reply.Expiry).Seconds()),
	})
	return 0
}

func machineClient(tokenURL string) *oauth.Client {
	return &oauth.Client{
		TokenURL: tokenURL, ClientID: "fake-client", Auth: oauth.ClientSecretBasic, Secret: protocol.NewSecret("fake-secret"),
	}
}

// bench is one profile with its agent's memory, for one kind of provider in one setting.
type bench struct {
	t       *testing.T
	server  *oauthtest.Server
	dir     string          // where the record rests
	state   string          // what is remembered
	st      store.Store     // another Store on the record's place; nil: it rests nowhere but in the agent
	ctx     context.Context // of the jobs
	timeout time.Duration   // of one request
	before  func()          // is called once, right before a provider is asked
	runJob  func(j job.Job) // runs a job, and has handOver and done called
	agent   struct {
		record protocol.Secret // what the agent holds
		base   job.Version
		token  protocol.Secret
	}
	asking  int
	handed  []job.Result
	report  job.Report
	profile string
}

// setting is where the engine runs.
type setting struct {
	name string
	// start prepares to run the jobs of a profile of a kind.
	start func(b *bench, k kind)
}

// kind is a kind of provider, as one of the settings has it.
type kind struct {
	name string
	in   setting
	// refreshes says that renewals spend a refresh token; asks, that there is somebody to ask.
	refreshes, asks bool
	command         bool // a program prints the tokens
	memory          bool // nothing but the agent's memory holds the record
	provider        func(b *bench) embed.Provider
	settings        func(b *bench, s *worker.Settings)
	record          func(b *bench, r *store.Record) // completes a record of a fresh sign-in
}

var (
	inWorker = setting{"worker", startWorker}
	inEmbed  = setting{"embed", startEmbed}
)

// kinds are all that the engine runs with.
func kinds() []kind {
	confidential := func(grant string) func(*bench, *worker.Settings) {
		return func(b *bench, s *worker.Settings) {
			s.Provider, s.Grant, s.ClientID, s.ClientAuth = provider.OAuth2, grant, "fake-client", "client_secret_basic"
			s.TokenURL = b.server.TokenURL()
		}
	}
	return []kind{
		{name: "claude", in: inWorker, refreshes: true, asks: true, settings: func(b *bench, s *worker.Settings) {
			s.Provider, s.Store, s.TokenURL = provider.Claude, store.KindClaudeCode, b.server.TokenURL()
		}},
		{name: "oauth2", in: inWorker, refreshes: true, asks: true, settings: func(b *bench, s *worker.Settings) {
			s.Provider, s.TokenURL = provider.OAuth2, b.server.TokenURL()
		}},
		{name: "oauth2 in memory", in: inWorker, refreshes: true, asks: true, memory: true,
			settings: func(b *bench, s *worker.Settings) {
				s.Provider, s.TokenURL, s.Store = provider.OAuth2, b.server.TokenURL(), store.KindMemory
			}},
		{name: "oidc", in: inWorker, refreshes: true, asks: true, settings: func(b *bench, s *worker.Settings) {
			s.Provider, s.Issuer = provider.OIDC, b.server.Issuer()
		}},
		{name: "client credentials", in: inWorker, asks: true, settings: confidential("client_credentials"),
			record: func(_ *bench, r *store.Record) { r.ClientSecret = protocol.NewSecret("fake-secret") }},
		{name: "assertion", in: inWorker, asks: true, settings: confidential("jwt-bearer"),
			record: func(b *bench, r *store.Record) {
				r.ClientSecret, r.Assertion = protocol.NewSecret("fake-secret"), b.assertion()
			}},
		{name: "command", in: inWorker, asks: true, command: true, settings: func(b *bench, s *worker.Settings) {
			program, err := os.Executable()
			if err != nil {
				b.t.Fatal(err)
			}
			s.Provider, s.Command = provider.Command, []string{program, askArg, b.server.TokenURL()}
		}},
		{name: "static", in: inWorker, settings: func(_ *bench, s *worker.Settings) { s.Provider = provider.Static }},

		{name: "a program's sign-in", in: inEmbed, refreshes: true, asks: true, provider: refreshing},
		{name: "a program's sign-in in memory", in: inEmbed, refreshes: true, asks: true, memory: true, provider: refreshing},
		{name: "a program's machine", in: inEmbed, asks: true, provider: func(b *bench) embed.Provider {
			return embed.ProviderFunc(func(ctx context.Context, r store.Record) (store.Record, error) {
				client := machineClient(b.server.TokenURL())
				client.Timeout = b.timeout
				reply, err := client.ClientCredentials(ctx)
				r.AccessToken, r.Expiry, r.Issued = reply.AccessToken, reply.Expiry, reply.Issued
				return r, err
			})
		}},
		{name: "a program's key", in: inEmbed, provider: func(*bench) embed.Provider {
			return embed.ProviderFunc(func(_ context.Context, r store.Record) (store.Record, error) {
				return r, &protocol.Error{Code: protocol.CodeConfig, Message: "a key can't be renewed"}
			})
		}},
	}
}

// refreshing is a program's provider that is made with package oauth, as README of the library shows it.
func refreshing(b *bench) embed.Provider {
	return embed.ProviderFunc(func(ctx context.Context, r store.Record) (store.Record, error) {
		client := &oauth.Client{TokenURL: b.server.TokenURL(), Timeout: b.timeout}
		reply, err := client.Refresh(ctx, r.RefreshToken)
		r.AccessToken, r.Expiry, r.Issued = reply.AccessToken, reply.Expiry, reply.Issued
		if !reply.RefreshToken.Empty() {
			r.RefreshToken = reply.RefreshToken
		}
		return r, err
	})
}

var signingKey = func() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return key
}()

// assertion is one that grant jwt-bearer shows.
func (b *bench) assertion() protocol.Secret {
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: signingKey}, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	claims, err := json.Marshal(map[string]any{
		"iss": "fake-workload", "sub": "fake-workload", "aud": b.server.TokenURL(), "exp": time.Now().Add(time.Hour).Unix(),
	})
	if err != nil {
		b.t.Fatal(err)
	}
	signed, err := signer.Sign(claims)
	if err != nil {
		b.t.Fatal(err)
	}
	jwt, err := signed.CompactSerialize()
	if err != nil {
		b.t.Fatal(err)
	}
	return protocol.NewSecret(jwt)
}

// newBench has a profile of the kind with a sign-in whose access token has expired.
func newBench(t *testing.T, k kind) *bench {
	t.Helper()
	o := oauthtest.Options{}
	if !k.refreshes {
		o = oauthtest.Options{ClientID: "fake-client", ClientSecret: "fake-secret", AssertionKey: signingKey.Public()}
	}
	b := &bench{t: t, server: oauthtest.New(t, o), ctx: t.Context(), timeout: 20 * time.Second, profile: "main"}
	b.dir, b.state = filepath.Join(t.TempDir(), "home"), filepath.Join(t.TempDir(), "state")
	if err := os.MkdirAll(b.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	k.in.start(b, k)
	if k.command {
		return b
	}
	r := store.Record{
		AccessToken: protocol.NewSecret("fake-access-0"), Expiry: time.Now().Add(-time.Minute).Truncate(time.Millisecond),
	}
	if k.refreshes {
		r.RefreshToken = protocol.NewSecret(b.server.Issue().RefreshToken)
	}
	if k.record != nil {
		k.record(b, &r)
	}
	if b.st == nil {
		b.agent.record = marshal(t, r)
	} else if _, err := b.st.Save(t.Context(), r, store.Version{}); err != nil {
		t.Fatal(err)
	}
	return b
}

func marshal(t *testing.T, r store.Record) protocol.Secret {
	t.Helper()
	form, err := r.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return form
}

// run runs a job as an agent does that remembers what it was told.
func (b *bench) run(j job.Job) job.Report {
	b.t.Helper()
	j.Profile, j.Record, j.Base = b.profile, b.agent.record, b.agent.base
	b.handed, b.asking, b.report = nil, 0, job.Report{}
	b.runJob(j)
	if b.report.Kind != job.Done {
		b.t.Fatalf("the last report is %+v", b.report)
	}
	result := b.report.Result
	for _, r := range b.handed {
		b.agent.record, b.agent.base, b.agent.token = r.Record, r.Version, r.Token
	}
	switch {
	case !result.Record.Empty():
		b.agent.record, b.agent.base = result.Record, result.Version
	case result.Saved && b.st != nil:
		b.agent.record, b.agent.base = protocol.Secret{}, result.Version
	}
	if !result.Token.Empty() {
		b.agent.token = result.Token
	}
	return b.report
}

// forget makes the agent another one, that knows nothing. What rested in memory alone is gone with it.
func (b *bench) forget() { b.agent.record, b.agent.base = protocol.Secret{}, job.Version{} }

// renew runs a renewal that has to ask the provider, unless somebody else has renewed.
func (b *bench) renew() job.Report { return b.run(job.Job{Op: job.Renew, Force: true}) }

// rightBefore is called when a provider is about to be asked.
func (b *bench) rightBefore() {
	b.asking++
	if before := b.before; before != nil {
		b.before = nil
		before()
	}
}

// block puts a folder where the record's file is, so that nobody, be it root, can read or save a record until that is undone.
func (b *bench) block() (undo func()) {
	path := b.st.Place().Location
	gone := path + ".gone"
	if err := errors.Join(os.Rename(path, gone), os.MkdirAll(filepath.Join(path, "full"), 0o700)); err != nil {
		b.t.Error(err)
	}
	return func() {
		if err := errors.Join(os.RemoveAll(path), os.Rename(gone, path)); err != nil {
			b.t.Error(err)
		}
	}
}

func startWorker(b *bench, k kind) {
	s := worker.Settings{Name: b.profile, Store: store.KindFile, ConfigDir: b.dir, DataDir: b.dir, StateDir: b.state}
	k.settings(b, &s)
	switch {
	case k.command, k.memory:
	case s.Store == store.KindClaudeCode:
		b.st = store.NewClaudeCode(b.dir)
	default:
		b.st = store.NewFile(b.dir, b.profile)
	}
	b.runJob = func(j job.Job) {
		s.Timeout = b.timeout
		settings, err := json.Marshal(s)
		if err != nil {
			b.t.Fatal(err)
		}
		j.Build, j.Settings = "test", settings
		var in bytes.Buffer
		if err := job.WriteJob(&in, j); err != nil {
			b.t.Fatal(err)
		}
		if err := worker.Run(b.ctx, &in, listener{b}, "test"); err != nil {
			b.t.Error(err)
		}
	}
}

// listener is the agent's end of the pipe from a worker. Each report is one Write.
type listener struct{ b *bench }

func (l listener) Write(p []byte) (int, error) {
	report, err := job.ReadReport(bytes.NewReader(p))
	switch {
	case err != nil:
		l.b.t.Error(err)
		return 0, io.ErrClosedPipe
	case report.Kind == job.Asking:
		l.b.rightBefore()
	case report.Kind == job.HandOver:
		l.b.handed = append(l.b.handed, report.Result)
	case report.Kind == job.Done:
		l.b.report = report
	}
	return len(p), nil
}

func startEmbed(b *bench, k kind) {
	if !k.memory {
		b.st = store.NewFile(b.dir, b.profile)
	}
	asked := k.provider(b)
	runner := &embed.Runner{StateDir: b.state, Profiles: map[string]embed.Profile{b.profile: {
		Store: b.st,
		Provider: embed.ProviderFunc(func(ctx context.Context, r store.Record) (store.Record, error) {
			b.rightBefore()
			return asked.Renew(ctx, r)
		}),
	}}}
	b.runJob = func(j job.Job) {
		report, err := runner.Run(b.ctx, j, func(r job.Result) { b.handed = append(b.handed, r) })
		if err != nil {
			b.t.Error(err)
		}
		b.report = report
	}
}
