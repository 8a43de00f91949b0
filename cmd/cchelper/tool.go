package main

import (
	"errors"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/ccagent/ccagent/protocol"
)

// tool reads what a tool asks its credential helper: from the operands after the flags, standard input and the environment.
type tool func(operands []string, stdin io.Reader, getenv func(string) string) (question, error)

// question is what a tool wants to know.
type question struct {
	// host is where the token will be sent, or protocol.UnnamedHost; "" if answer is nil.
	host string
	// answer writes the answer; nil: no token is needed.
	answer func(t protocol.Token, username string) string
	// instead is the whole answer if answer is nil.
	instead string
	// without is the answer if the profile does not list host; "": that is an error.
	without string
	// rejected is a token that a host has refused. It is renewed if the agent still has that one.
	rejected string
}

// toolOf returns the tool of a format, nil if the format is no tool's.
func toolOf(format string) tool {
	switch format {
	case "exec-credential":
		return kubectl
	case "git":
		return git
	case "docker":
		return docker
	case "bazel":
		return bazel
	case "goauth":
		return goauth
	case "terraform":
		return terraform
	}
	return nil
}

// ofLink returns the format, and the profile if there is one, that the name of a link stands for: docker-credential-ccagent, or
// docker-credential-ccagent-work. For any other name it returns "".
func ofLink(name string) (format, profile string) {
	what, rest, found := strings.Cut(name[strings.LastIndexByte(name, '/')+1:], "-ccagent")
	if !found || rest != "" && rest[0] != '-' {
		return "", ""
	}
	switch what {
	case "git-credential":
		format = "git"
	case "docker-credential":
		format = "docker"
	case "bazel-credential":
		format = "bazel"
	case "terraform-credentials":
		format = "terraform"
	case "kubectl":
		format = "exec-credential"
	default:
		return "", ""
	}
	return format, strings.TrimPrefix(rest, "-")
}

// maxInput is how many bytes a tool may write to standard input.
const maxInput = 64 << 10

// input reads standard input.
func input(stdin io.Reader) (string, error) {
	text, err := io.ReadAll(io.LimitReader(stdin, maxInput+1))
	switch {
	case err != nil:
		return "", wrongUsage("standard input can't be read")
	case len(text) > maxInput:
		return "", wrongUsage("standard input holds more than 64 KiB")
	}
	return string(text), nil
}

// action returns the one operand, which must be a known action.
func action(operands []string, known ...string) (string, error) {
	if len(operands) == 1 {
		for _, k := range known {
			if operands[0] == k {
				return k, nil
			}
		}
	}
	return "", wrongUsage("this format takes one of these actions: " + strings.Join(known, ", "))
}

// kubectl is for client-go's exec plugins (client.authentication.k8s.io/v1). The cluster is known if the kubeconfig sets
// provideClusterInfo.
func kubectl(operands []string, _ io.Reader, getenv func(string) string) (q question, err error) {
	if len(operands) > 0 {
		return q, wrongUsage("the format exec-credential takes only flags")
	}
	if q.host, err = clusterOf(getenv("KUBERNETES_EXEC_INFO")); err != nil {
		return q, err
	}
	q.answer = func(t protocol.Token, _ string) string {
		expiry := ""
		if !t.Expiry.IsZero() {
			expiry = `,"expirationTimestamp":` + quote(t.Expiry.UTC().Format("2006-01-02T15:04:05Z"))
		}
		return `{"kind":"ExecCredential","apiVersion":"client.authentication.k8s.io/v1","status":{"token":` + quote(
			t.Value.Reveal(),
		) + expiry + "}}\n"
	}
	return q, nil
}

// clusterOf returns the host of the cluster that KUBERNETES_EXEC_INFO names.
func clusterOf(info string) (string, error) {
	if info == "" {
		return protocol.UnnamedHost, nil
	}
	unreadable := func(err error) (string, error) {
		return "", wrongUsage("KUBERNETES_EXEC_INFO can't be read safely: " + err.Error())
	}
	root, err := documentOf([]byte(info))
	if err != nil {
		return unreadable(err)
	}
	kind, err := root.text("kind")
	if err != nil {
		return unreadable(err)
	}
	version, err := root.text("apiVersion")
	switch {
	case err != nil:
		return unreadable(err)
	case kind != "ExecCredential":
		return unreadable(errors.New("its kind is not ExecCredential"))
	case version != "client.authentication.k8s.io/v1":
		return "", wrongUsage("kubectl asks for another version than client.authentication.k8s.io/v1: set that in its kubeconfig")
	}
	spec, err := root.object("spec")
	if err != nil {
		return unreadable(err)
	}
	cluster, err := spec.object("cluster")
	if err != nil {
		return unreadable(err)
	}
	if cluster == nil {
		return protocol.UnnamedHost, nil
	}
	server, err := cluster.text("server")
	if err != nil {
		return unreadable(err)
	}
	return hostOf(server)
}

// git is for gitcredentials(7). What git wants to have stored is the token that it got from here, so there is nothing to do. What
// git wants to have erased is a token that the host has refused.
func git(operands []string, stdin io.Reader, _ func(string) string) (q question, err error) {
	act, err := action(operands, "get", "store", "erase")
	if err != nil || act == "store" {
		return q, err
	}
	text, err := input(stdin)
	if err != nil {
		return q, err
	}
	said, err := attributes(text)
	if err != nil {
		return q, wrongUsage("what git says can't be read safely: " + err.Error())
	}
	switch said["protocol"] {
	case "https", "http":
	case "":
		return q, wrongUsage("git names no protocol")
	default:
		return q, nil // for a certificate or a mail server, say, for which there is no token
	}
	if q.host, err = hostAt(said["protocol"], said["host"]); err != nil {
		return q, err
	}
	if act == "erase" {
		if q.rejected = said["password"]; q.rejected == "" {
			return question{}, nil
		}
	}
	q.answer = func(t protocol.Token, username string) string {
		if name := said["username"]; name != "" {
			username = name
		}
		expiry := ""
		if !t.Expiry.IsZero() {
			expiry = "password_expiry_utc=" + strconv.FormatInt(t.Expiry.Unix(), 10) + "\n"
		}
		return "username=" + username + "\npassword=" + t.Value.Reveal() + "\n" + expiry
	}
	return q, nil
}

// attributes reads git's credential protocol: lines of key=value up to an empty line or the end. Attributes whose names end in []
// may be there more than once; they are not used. Names in other letters than git's are refused, because another program may take
// them for git's.
func attributes(text string) (map[string]string, error) {
	if strings.ContainsAny(text, "\r\x00") {
		return nil, errors.New("it holds a carriage return or a NUL") // which some programs take for the end of a line
	}
	text, rest, _ := strings.Cut("\n"+text+"\n", "\n\n")
	if strings.Trim(rest, "\n") != "" {
		return nil, errors.New("something follows the empty line")
	}
	said := map[string]string{}
	for line := range strings.Lines(strings.TrimPrefix(text, "\n")) {
		key, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		if !ok {
			return nil, errors.New("a line is not key=value")
		}
		name, list := strings.CutSuffix(key, "[]")
		if name == "" || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789_-") != "" {
			return nil, errors.New("an attribute has a name that git does not give it")
		}
		if list {
			continue
		}
		_, twice := said[key]
		switch {
		case twice:
			return nil, errors.New("an attribute is there twice")
		case key == "url":
			return nil, errors.New("it names a URL, which git takes apart itself: give protocol and host")
		case key != "path" && !utf8.ValidString(value):
			return nil, errors.New("it is not UTF-8")
		}
		said[key] = value
	}
	return said, nil
}

// docker is for the protocol of docker-credential-helpers. If there is no answer, docker goes on without a sign-in.
func docker(operands []string, stdin io.Reader, _ func(string) string) (q question, err error) {
	act, err := action(operands, "get", "store", "erase", "list")
	if err != nil {
		return q, err
	}
	switch act {
	case "list":
		return question{instead: "{}\n"}, nil
	case "erase": // docker logout, for which there is nothing to do: docker has stored nothing
		return q, nil
	case "store":
		return q, &protocol.Error{
			Code:    protocol.CodeConfig,
			Message: "ccagent's tokens come from their provider: there is nothing to store",
			Hint:    "docker asks for one by itself; docker login is not needed",
		}
	}
	text, err := input(stdin)
	if err != nil {
		return q, err
	}
	server := strings.TrimRight(text, "\r\n")
	url := server
	if !strings.Contains(url, "://") {
		url = "https://" + url // docker gives only a registry's name
	}
	if q.host, err = hostOf(url); err != nil {
		return q, err
	}
	q.answer = func(t protocol.Token, username string) string {
		return `{"ServerURL":` + quote(server) + `,"Username":` + quote(username) + `,"Secret":` + quote(t.Value.Reveal()) + "}\n"
	}
	return q, nil
}

// bazel is for Bazel's credential helper specification: {"uri": "..."} on standard input.
func bazel(operands []string, stdin io.Reader, _ func(string) string) (q question, err error) {
	if _, err := action(operands, "get"); err != nil {
		return q, err
	}
	text, err := input(stdin)
	if err != nil {
		return q, err
	}
	request, err := documentOf([]byte(text))
	var uri string
	if err == nil {
		uri, err = request.text("uri")
	}
	if err != nil {
		return q, wrongUsage(`standard input is not {"uri": "..."}: ` + err.Error())
	}
	if q.host, err = hostOf(uri); err != nil {
		return q, err
	}
	q.without = "{}\n"
	q.answer = func(t protocol.Token, _ string) string {
		expiry := ""
		if !t.Expiry.IsZero() {
			expiry = `"expires":` + quote(t.Expiry.UTC().Format("2006-01-02T15:04:05Z")) + ","
		}
		return "{" + expiry + `"headers":{"Authorization":[` + quote(bearer(t, "")) + "]}}\n"
	}
	return q, nil
}

// goauth is for a command in GOAUTH (`go help goauth`). The go command runs it without a URL first, and with one after a server
// has refused a request.
func goauth(operands []string, _ io.Reader, _ func(string) string) (q question, err error) {
	switch len(operands) {
	case 0:
		return q, nil
	case 1:
	default:
		return q, wrongUsage("the format goauth takes one URL")
	}
	scheme, authority, err := splitURL(operands[0])
	if err != nil {
		return q, err
	}
	if q.host, err = hostAt(scheme, authority); err != nil {
		return q, err
	}
	q.answer = func(t protocol.Token, _ string) string {
		return scheme + "://" + authority + "/\n\n" + bearer(t, "Authorization: ") + "\n\n"
	}
	return q, nil
}

// terraform is for Terraform's credentials helper protocol, in which an empty object means that there is no token.
func terraform(operands []string, _ io.Reader, _ func(string) string) (q question, err error) {
	if len(operands) != 2 {
		return q, wrongUsage("the format terraform takes an action and a host: get, store, forget")
	}
	if operands[0] != "get" {
		return q, &protocol.Error{
			Code:    protocol.CodeConfig,
			Message: "ccagent's tokens come from their provider: they can't be stored or forgotten here",
			Hint:    "terraform asks for one by itself; terraform login is not needed",
		}
	}
	if q.host, err = hostAt("https", operands[1]); err != nil {
		return q, err
	}
	q.without = "{}\n"
	q.answer = func(t protocol.Token, _ string) string { return `{"token":` + quote(t.Value.Reveal()) + "}\n" }
	return q, nil
}
