package doctor

import (
	"cmp"
	"context"
	"crypto/x509"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/ccagent/ccagent/agent"
	"github.com/ccagent/ccagent/agent/worker"
	"github.com/ccagent/ccagent/cmd/ccagent/config"
	"github.com/ccagent/ccagent/cmd/ccagent/environ"
	"github.com/ccagent/ccagent/cmd/ccagent/terminal"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/secureurl"
)

// signingIn returns the settings of the profiles that have a sign-in at a provider.
func signingIn(cfg agent.Config) []worker.Settings {
	var all []worker.Settings
	for _, profile := range cfg.Profiles {
		if settings, err := config.Settings(profile); err == nil && config.Provider(profile).SignsIn {
			all = append(all, settings)
		}
	}
	return all
}

// ways returns the settings of the profiles that have a sign-in at a provider. Of several that reach the same provider in the
// same way, it returns only one.
func ways(cfg agent.Config) []worker.Settings {
	seen := map[string]bool{}
	return slices.DeleteFunc(signingIn(cfg), func(s worker.Settings) bool {
		way := strings.Join([]string{s.TokenURL, s.Issuer, s.Proxy, s.CAFile, s.ClientCert, s.ClientKey}, "\n")
		defer func() { seen[way] = true }()
		return seen[way]
	})
}

// checkConnections checks what a connection to each provider needs: certificate authorities, client certificates, a proxy. It
// opens no connection.
func checkConnections(env environ.Vars, cfg agent.Config) []Finding {
	var found []Finding
	byVariable := env("SSL_CERT_FILE") != "" && runtime.GOOS != "darwin" // macOS does not look at it
	if path := env("SSL_CERT_FILE"); byVariable {
		// If the file is missing, Go reports no error, and trusts no server.
		if data, err := os.ReadFile(path); err != nil {
			found = append(found, Finding{"authorities", "fail", "SSL_CERT_FILE can't be read: " + err.Error(), "unset SSL_CERT_FILE"})
		} else if !x509.NewCertPool().AppendCertsFromPEM(data) {
			found = append(found, Finding{"authorities", "fail", "SSL_CERT_FILE names a file that has no certificate in PEM: " + path,
				"unset SSL_CERT_FILE"})
		}
	}
	unset := func(s worker.Settings) bool { return s.CAFile == "" }
	if slices.ContainsFunc(signingIn(cfg), unset) {
		for _, v := range protocol.Authorities() {
			found = append(found, Finding{"authorities", "ok", v.Name + " is set here, and ccagent does not read it; if a provider's " +
				"certificate is not trusted, write into the profile's table of config.toml: " + protocol.AuthorityKey(v.Value), ""})
		}
	}
	for _, name := range []string{"HTTPS_PROXY", "https_proxy"} {
		if value := env(name); value != "" && !isProxy(value) { // the value is not shown, because there may be a password in it
			found = append(found, Finding{"proxy", "fail", name + " is not the address of a proxy, so it is ignored", "unset " + name})
		} else if u, err := url.Parse(value); err == nil && u.Host != "" && !secureurl.KnownProxy(u) {
			found = append(found, Finding{"proxy", "fail", name + " names a proxy of a kind that can't be used",
				"set it to an address like http://proxy.example.com:3128 or socks5h://proxy.example.com:1080"})
		}
	}
	for _, s := range ways(cfg) {
		id := "connection of " + s.Name
		client, err := worker.ClientOf(s, protocol.Secret{})
		if err != nil {
			found = append(found, Finding{id, "fail", err.Error(), protocol.HintOf(err)})
			continue
		}
		how, by := "directly", "the system's authorities"
		to, err := url.Parse(cmp.Or(s.TokenURL, s.Issuer))
		if err != nil {
			continue // checkConfig reports it
		}
		proxy, err := http.ProxyFromEnvironment(&http.Request{URL: to})
		switch {
		case client.Proxy != nil:
			how = "through the profile's proxy " + client.Proxy.Host
		case err == nil && proxy != nil:
			how = "through the proxy " + proxy.Host + " of this environment"
		}
		switch {
		case client.CA != nil:
			by = "ca_file"
		case byVariable:
			by = "SSL_CERT_FILE of this environment"
		}
		if to.Scheme == "http" { // allowed on this machine only
			how, by = "on this machine", ""
		}
		what := "it reaches " + to.Host + " " + how
		if by != "" {
			what += ", and checks its certificate with " + by
		}
		found = append(found, Finding{id, "ok", what, ""})
	}
	return found
}

// isProxy reports whether net/http accepts the value of HTTPS_PROXY. It ignores any other value, and reports no error.
func isProxy(value string) bool {
	if u, err := url.Parse(value); err == nil && u.Scheme != "" && u.Host != "" {
		return true
	}
	u, err := url.Parse("http://" + value)
	return err == nil && u.Host != ""
}

// maxSkew is how far this machine's clock may differ from a provider's. With a larger difference, tokens would be taken to expire
// too early or too late.
const maxSkew = time.Minute

// checkOnline connects to each provider's token endpoint, and compares the clocks. It sends no secret.
func checkOnline(ctx context.Context, cfg agent.Config) []Finding {
	var found []Finding
	for _, s := range ways(cfg) {
		id := "provider of " + s.Name
		client, err := worker.ClientOf(s, protocol.Secret{})
		if err != nil {
			continue // checkConnections reports it
		}
		before := time.Now()
		there, err := client.Reach(ctx)
		took := time.Since(before)
		skew := there.Sub(before.Add(took / 2))
		switch {
		case err != nil:
			found = append(
				found,
				Finding{id, "fail", err.Error(),
					cmp.Or(protocol.HintOf(err), "find out more with: curl -sSI "+protocol.ShellLine(cmp.Or(s.TokenURL, s.Issuer)))},
			)
		case there.IsZero():
			found = append(found,
				Finding{id, "ok", fmt.Sprintf("it answers in %d ms, and does not tell the time", took.Milliseconds()), ""})
		case skew > maxSkew || skew < -maxSkew:
			mend := "sudo timedatectl set-ntp true"
			if runtime.GOOS == "darwin" {
				mend = "sudo sntp -sS time.apple.com"
			}
			what := "its clock and the clock of this machine differ by " + terminal.Span(skew)
			found = append(found, Finding{id, "warn", what, mend})
		default:
			found = append(found, Finding{id, "ok", fmt.Sprintf("it answers in %d ms, and the clocks agree", took.Milliseconds()), ""})
		}
	}
	if found == nil {
		return []Finding{{"providers", "skip", "no profile has a sign-in at a provider", ""}}
	}
	return found
}
