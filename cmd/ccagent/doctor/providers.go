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
)

// signingIn are the settings of the profiles that talk to a provider.
func signingIn(cfg agent.Config) []worker.Settings {
	var all []worker.Settings
	for _, profile := range cfg.Profiles {
		if settings, err := config.Settings(profile); err == nil && config.Provider(profile).SignsIn {
			all = append(all, settings)
		}
	}
	return all
}

// ways are the settings of the profiles that talk to a provider, one for each that is reached in the same way.
func ways(cfg agent.Config) []worker.Settings {
	seen := map[string]bool{}
	return slices.DeleteFunc(signingIn(cfg), func(s worker.Settings) bool {
		way := strings.Join([]string{s.TokenURL, s.Issuer, s.Proxy, s.CAFile, s.ClientCert, s.ClientKey}, "\n")
		defer func() { seen[way] = true }()
		return seen[way]
	})
}

// checkConnections looks at what stands between this machine and each provider: authorities, certificates, a proxy. It sends
// nothing.
func checkConnections(env environ.Vars, cfg agent.Config) []Finding {
	var found []Finding
	if path := env("SSL_CERT_FILE"); path != "" { // Go says nothing of one that is not there, and trusts nobody then
		if data, err := os.ReadFile(path); err != nil {
			found = append(found, Finding{"authorities", "fail", "SSL_CERT_FILE can't be read: " + err.Error(), "unset SSL_CERT_FILE"})
		} else if !x509.NewCertPool().AppendCertsFromPEM(data) {
			found = append(found, Finding{"authorities", "fail", "SSL_CERT_FILE names a file without a certificate in PEM: " + path,
				"unset SSL_CERT_FILE"})
		}
	}
	for _, name := range []string{"HTTPS_PROXY", "https_proxy"} {
		if value := env(name); value != "" && !isProxy(value) { // it is not shown: a password may be in it
			found = append(found, Finding{"proxy", "fail", name + " holds no address of a proxy, and is ignored", "unset " + name})
		}
	}
	for _, s := range ways(cfg) {
		id := "connection of " + s.Name
		client, err := worker.ClientOf(s, protocol.Secret{})
		if err != nil {
			found = append(found, Finding{id, "fail", err.Error(), mendOf(err)})
			continue
		}
		how, by := "directly", "the system's authorities"
		to, err := url.Parse(cmp.Or(s.TokenURL, s.Issuer))
		if err != nil {
			continue // config.toml's own check has it
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
		case env("SSL_CERT_FILE") != "":
			by = "SSL_CERT_FILE of this environment"
		}
		if to.Scheme == "http" { // on this machine
			how, by = "on this machine", ""
		}
		what := to.Host + " is reached " + how
		if by != "" {
			what += ", and judged by " + by
		}
		found = append(found, Finding{id, "ok", what, ""})
	}
	return found
}

// isProxy reports whether net/http takes the value of HTTPS_PROXY. What it does not take it passes over in silence.
func isProxy(value string) bool {
	if u, err := url.Parse(value); err == nil && u.Scheme != "" && u.Host != "" {
		return true
	}
	u, err := url.Parse("http://" + value)
	return err == nil && u.Host != ""
}

// maxSkew is how far this machine's clock may be from a provider's before tokens seem to live longer or shorter than they do.
const maxSkew = time.Minute

// checkOnline reaches each provider's token endpoint, and compares the clocks. It sends no secret.
func checkOnline(ctx context.Context, cfg agent.Config) []Finding {
	var found []Finding
	for _, s := range ways(cfg) {
		id := "provider of " + s.Name
		client, err := worker.ClientOf(s, protocol.Secret{})
		if err != nil {
			continue // checkConnections said so
		}
		before := time.Now()
		there, err := client.Reach(ctx)
		took := time.Since(before)
		skew := there.Sub(before.Add(took / 2))
		switch {
		case err != nil:
			found = append(
				found,
				Finding{
					id,
					"fail",
					err.Error(),
					cmp.Or(mendOf(err), "find out more with: curl -sSI "+protocol.ShellLine(cmp.Or(s.TokenURL, s.Issuer))),
				},
			)
		case there.IsZero():
			found = append(
				found,
				Finding{id, "ok", fmt.Sprintf("it answers in %d ms, and does not say the time", took.Milliseconds()), ""},
			)
		case skew > maxSkew || skew < -maxSkew:
			mend := "sudo timedatectl set-ntp true"
			if runtime.GOOS == "darwin" {
				mend = "sudo sntp -sS time.apple.com"
			}
			found = append(found, Finding{id, "warn", fmt.Sprintf("its clock and this machine's are %s apart", terminal.Span(skew)), mend})
		default:
			found = append(found, Finding{id, "ok", fmt.Sprintf("it answers in %d ms, and the clocks agree", took.Milliseconds()), ""})
		}
	}
	if found == nil {
		return []Finding{{"providers", "skip", "no profile signs in anywhere", ""}}
	}
	return found
}
