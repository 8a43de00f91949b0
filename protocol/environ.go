//go:build unix

package protocol

import (
	"context"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Variable is the value of an environment variable, fit to be shown: in one line, and that of a proxy without its user and
// password. The value of one that is not set is "".
type Variable struct{ Name, Value string }

// VariableOf returns a variable of this process.
func VariableOf(name string) Variable {
	value := os.Getenv(name)
	if at := strings.LastIndexByte(value, '@'); at >= 0 && strings.HasSuffix(strings.ToLower(name), "_proxy") {
		scheme, _, ok := strings.Cut(value, "://")
		if value = value[at+1:]; ok {
			value = scheme + "://" + value
		}
	}
	return Variable{name, oneLine(value, maxPath)}
}

// What an agent and its workers can't reach without the right environment.
var (
	storeVariables = []string{
		"HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS",
	}
	programVariables = []string{"PATH"}
)

// networkVariables are those that decide by which way a provider is reached, and whether it is trusted.
func networkVariables() []string {
	return append([]string{"HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy"}, rootVariables()...)
}

// rootVariables are those by which crypto/x509 finds the authorities of a system. On macOS it asks the system, and reads none.
func rootVariables() []string {
	if runtime.GOOS == "darwin" {
		return nil
	}
	return []string{"SSL_CERT_FILE", "SSL_CERT_DIR"}
}

// systemAuthorities are the files of a system's own authorities, where crypto/x509 looks for them. Containers name them in
// variables.
func systemAuthorities() []string {
	return []string{"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem",
		"/etc/pki/tls/cacert.pem", "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", "/etc/ssl/cert.pem", "/etc/ssl/certs"}
}

// Authorities returns those variables of this process by which other programs find certificate authorities, and what each names:
// a file, or a folder of files, but for the system's own. With one of them a tool works where ccagent, which reads none of them,
// does not trust the server.
func Authorities() []Variable {
	var set []Variable
	for _, name := range []string{"NODE_EXTRA_CA_CERTS", "CODEX_CA_CERTIFICATE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE",
		"GIT_SSL_CAINFO", "AWS_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"} {
		if slices.Contains(rootVariables(), name) {
			continue // it has been read
		}
		if v := (Variable{name, os.Getenv(name)}); v.Value != "" && !slices.Contains(systemAuthorities(), v.Value) {
			set = append(set, v)
		}
	}
	return set
}

// Distrusted is in the error that a server's certificate is from an authority that is not known. It is what crypto/x509 says.
const Distrusted = "certificate signed by unknown authority"

// AuthorityKey is what to write into config.toml, so that servers are judged by the authorities in a file.
func AuthorityKey(file string) string { return authorityKey + strconv.Quote(file) }

const authorityKey = "ca_file = "

// authorityHere says which file this shell has for an authority that the agent does not know. It is "" if err is about something
// else or names a file already, if the shell has none, and if the agent may be another machine's.
func authorityHere(err error) string {
	_, isDefault, failed := SocketPath()
	if failed != nil || !isDefault || !strings.Contains(err.Error(), Distrusted) || strings.Contains(HintOf(err), authorityKey) {
		return ""
	}
	for _, v := range Authorities() {
		if info, err := os.Stat(v.Value); err == nil && info.Mode().IsRegular() && oneLine(v.Value, maxPath) == v.Value {
			return v.Name + " is set here, and ccagent does not read it: write what it names into the profile's table in config.toml: " +
				AuthorityKey(v.Value)
		}
	}
	return ""
}

// Environment returns what [AgentStatus.Environment] of an agent in this process is.
func Environment() []Variable {
	var all []Variable
	for _, name := range slices.Concat(networkVariables(), storeVariables, programVariables) {
		all = append(all, VariableOf(name))
	}
	return all
}

// Otherwise returns those variables that an agent was started with and that this process has with another value: as they are
// here. An agent of another machine has nothing to do with this environment, so there is none if the agent is not at the default
// address.
func (s AgentStatus) Otherwise() []Variable {
	if _, isDefault, err := SocketPath(); err != nil || !isDefault {
		return nil
	}
	var differ []Variable
	for _, there := range s.Environment {
		here := VariableOf(there.Name)
		// What a shell lacks is no trouble to it, but for what decides by which way a provider is reached.
		if here.Value != there.Value && (here.Value != "" || slices.Contains(networkVariables(), here.Name)) {
			differ = append(differ, here)
		}
	}
	return differ
}

// Value returns the value that the agent was started with.
func (s AgentStatus) Value(name string) string {
	for _, v := range s.Environment {
		if v.Name == name {
			return v.Value
		}
	}
	return ""
}

// differTime is how long [Elsewhere] waits for the agent.
const differTime = time.Second

// Elsewhere adds to an error of an agent's which variables it was started without, or with another value, if these may be the
// reason: an agent that systemd or cron has started does not have all that the shell has. It asks the agent for that, for a
// second at most. Any other error is returned as it is.
func Elsewhere(ctx context.Context, a Agent, err error) error {
	var wanted []string
	found := ""
	switch CodeOf(err) {
	case CodeUnavailable:
		wanted = networkVariables()
	case CodeStorage, CodeNotFound:
		wanted = storeVariables
	case CodeConfig:
		if found = lackedHere(err.Error()); found != "" {
			wanted = programVariables
		}
	}
	if wanted == nil || ctx.Err() != nil {
		return err
	}
	asking, cancel := context.WithTimeout(ctx, differTime)
	defer cancel()
	status, failed := a.Status(asking, StatusRequest{})
	if failed != nil {
		return err
	}
	hint := HintOf(err)
	for _, here := range status.Agent.Otherwise() {
		if found != "" && here.Name == "PATH" {
			hint = "on your PATH it is " + quotePath(found) + ": name it so in config.toml; or, for this PATH, " +
				StartAnew(here.Name)
		} else if slices.Contains(wanted, here.Name) {
			hint = strings.TrimPrefix(hint+"\n"+status.Agent.Differs(here)+"; "+StartAnew(here.Name), "\n")
		}
	}
	if here := authorityHere(err); here != "" {
		hint = strings.TrimPrefix(hint+"\n"+here, "\n")
	}
	if hint == HintOf(err) {
		return err
	}
	return &Error{Code: CodeOf(err), Message: err.Error(), Hint: hint, Detail: DetailOf(err)}
}

// lackedHere returns where a program is on this process's PATH, of which an error says that it is not on the agent's; "" if it is
// on neither, or the error is about something else.
func lackedHere(message string) string {
	_, rest, _ := strings.Cut(message, "the command ")
	name, _, ok := strings.Cut(rest, NotOnPath)
	if !ok || strings.Contains(name, "/") {
		return ""
	}
	return onPath(name)
}

// NotOnPath follows the name of a command in the error that the agent's PATH does not lead to it. The PATH follows.
const NotOnPath = " is not there: the agent's PATH is "

// Differs says how the agent's environment differs from this one.
func (s AgentStatus) Differs(here Variable) string {
	switch there := s.Value(here.Name); {
	case here.Value == "":
		return "the agent was started with " + here.Name + ", which is not set here"
	case there == "":
		return here.Name + " is set here, and the agent was started without it"
	}
	return here.Name + " is set here, and the agent was started with another value of it"
}

// StartAnew says how an agent gets this environment's value of a variable.
func StartAnew(name string) string {
	return "end it with `ccagent stop`, and the next request starts one with it (one that systemd starts: first systemctl --user " +
		"import-environment " + name + ")"
}
