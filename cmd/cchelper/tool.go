package main

import (
	"errors"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/ccagent/ccagent/protocol"
)

// tool understands what one tool asks of its credential helper: the operands after the flags, and standard input.
type tool func(operands []string, stdin io.Reader, getenv func(string) string) (question, error)

// question is what a tool wants to know.
type question struct {
	host     string // where the token will go, or protocol.UnnamedHost; "" where no token is asked for
	answer   func(t protocol.Token, username string) string
	instead  string // the whole answer, where answer is nil: no token is asked for
	without  string // the answer for a host that the profile does not list; "": an error
	rejected string // a token that a host has refused: it is renewed, if it is the one in hand
}

// toolOf returns the tool of a format, nil where it is none.
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

// ofLink is the format, and the profile if it names one, of who is called by the name of a link: docker-credential-ccagent, or
// docker-credential-ccagent-work. Any other name says nothing.
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

// maxInput bounds what a tool says, in bytes.
const maxInput = 64 << 10

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

func action(operands []string, known ...string) (string, error) {
	if len(operands) == 1 {
		for _, k := range known {
			if operands[0] == k {
				return k, nil
			}
		}
	}
	return "", wrongUsage("this format takes one action: " + strings.Join(known, ", "))
}

// kubectl is client-go's exec plugin (client.authentication.k8s.io/v1). The cluster is known where provideClusterInfo is set.
func kubectl(operands []string, _ io.Reader, getenv func(string) string) (q question, err error) {
	if len(operands) > 0 {
		return q, wrongUsage("the format exec-credential takes flags only")
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

// git is gitcredentials(7): lines of key=value up to an empty one. What git wants stored is the token that it was given; what it
// wants erased was refused by the host.
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
		return q, nil // a certificate's passphrase, a mail server: nothing of ours
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

// attributes are the lines of git's credential protocol, key=value up to an empty line or the end. An attribute whose name ends
// in [] may stand there more than once, and says nothing to us. A name in other letters than git uses is refused, because another
// program may take it for one of git's.
func attributes(text string) (map[string]string, error) {
	if strings.ContainsAny(text, "\r\x00") {
		return nil, errors.New("it holds a carriage return or a NUL") // which end a line for some
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
			return nil, errors.New("an attribute stands there twice")
		case key == "url":
			return nil, errors.New("it names a URL, which git takes apart itself: give protocol and host")
		case key != "path" && !utf8.ValidString(value):
			return nil, errors.New("it is not UTF-8")
		}
		said[key] = value
	}
	return said, nil
}

// docker is the protocol of docker-credential-helpers. Without an answer docker goes on without a sign-in.
func docker(operands []string, stdin io.Reader, _ func(string) string) (q question, err error) {
	act, err := action(operands, "get", "store", "erase", "list")
	if err != nil {
		return q, err
	}
	switch act {
	case "list":
		return question{instead: "{}\n"}, nil
	case "erase": // `docker logout`: the token was never docker's
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
		url = "https://" + url // a registry, by its name
	}
	if q.host, err = hostOf(url); err != nil {
		return q, err
	}
	q.answer = func(t protocol.Token, username string) string {
		return `{"ServerURL":` + quote(server) + `,"Username":` + quote(username) + `,"Secret":` + quote(t.Value.Reveal()) + "}\n"
	}
	return q, nil
}

// bazel is its credential helper specification: {"uri": "..."} on standard input.
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

// goauth is the command of GOAUTH (`go help goauth`): asked without a URL first, and with one after a refusal.
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

// terraform is its credentials helper protocol. An empty object is "none".
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
