package main

import (
	"cmp"
	"errors"
	"io"
	"slices"
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
	answer func(t protocol.Token, o options) string
	// instead is the whole answer if answer is nil.
	instead string
	// without is the answer if the profile does not list host; "": that is an error.
	without string
	// rejected is a token that a host has refused. It is renewed if the agent still has that one.
	rejected string
	// account is the user name that the tool asks for; "": any. A profile with another user name gives nothing.
	account string
	// refuse makes what the tool understands of an error; nil: the tool is content with an exit code.
	refuse func(error) error
}

// defaultUsername is the user name if nobody names one. Forges and registries that take a token as a password ignore it.
const defaultUsername = "oauth2"

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
	for _, mark := range []string{"\ufeff", "\xff\xfe", "\xfe\xff"} {
		if strings.HasPrefix(string(text), mark) {
			return "", wrongUsage("standard input begins with a byte order mark (BOM), which no tool writes")
		}
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
	q.answer = func(t protocol.Token, _ options) string {
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
	if len(operands) != 1 {
		return q, wrongUsage("this format takes one of git's operations: get, store, erase")
	}
	act := operands[0]
	if act != "get" && act != "erase" { // an operation that is not known is ignored, as the manual asks
		return q, nil
	}
	text, err := input(stdin)
	if err != nil {
		return q, err
	}
	said, lists, err := attributes(text)
	if err != nil {
		return q, wrongUsage("what git says can't be read safely: " + err.Error())
	}
	scheme := said["protocol"]
	if scheme == "" {
		return q, wrongUsage("git names no protocol")
	}
	if scheme != "https" && scheme != "http" {
		return q, nil // for a certificate or a mail server, say, for which there is no token
	}
	if q.host, err = hostAt(scheme, said["host"]); err != nil {
		return q, err
	}
	if act == "erase" {
		if q.rejected = cmp.Or(said["credential"], said["password"]); q.rejected == "" {
			return question{}, nil
		}
	}
	q.account = said["username"]
	q.answer = func(t protocol.Token, o options) string {
		expiry := ""
		if !t.Expiry.IsZero() {
			expiry = "password_expiry_utc=" + strconv.FormatInt(t.Expiry.Unix(), 10) + "\n"
		}
		if takesBearer(lists) && o.username == "" {
			return "capability[]=authtype\nauthtype=Bearer\ncredential=" + t.Value.Reveal() + "\nephemeral=1\n" + expiry
		}
		username := cmp.Or(q.account, o.username, t.Username, defaultUsername)
		return "username=" + username + "\npassword=" + t.Value.Reveal() + "\n" + expiry
	}
	return q, nil
}

// takesBearer reports whether git (2.46 or later) can send a token as a bearer token, and the server says that it takes one.
func takesBearer(lists map[string][]string) bool {
	return slices.Contains(lists["capability"], "authtype") && slices.ContainsFunc(lists["wwwauth"], func(challenge string) bool {
		// One line may hold several challenges (RFC 9110 §11.6.1). What is in quotes is none.
		for i, part := range strings.Split(challenge, `"`) {
			for one := range strings.SplitSeq(part, ",") {
				scheme, _, _ := strings.Cut(strings.TrimSpace(one), " ")
				if i%2 == 0 && strings.EqualFold(scheme, "Bearer") {
					return true
				}
			}
		}
		return false
	})
}

// attributes reads git's credential protocol: lines of key=value up to an empty line or the end. Attributes whose names end in []
// may be there more than once, and are returned as lists. Names in other letters than git's are refused, because another program
// may take them for git's.
func attributes(text string) (said map[string]string, lists map[string][]string, err error) {
	if strings.ContainsAny(text, "\r\x00") {
		return nil, nil, errors.New("it holds a carriage return or a NUL") // which some programs take for the end of a line
	}
	text, rest, _ := strings.Cut("\n"+text+"\n", "\n\n")
	if strings.Trim(rest, "\n") != "" {
		return nil, nil, errors.New("something follows the empty line")
	}
	said, lists = map[string]string{}, map[string][]string{}
	for line := range strings.Lines(strings.TrimPrefix(text, "\n")) {
		key, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		if !ok {
			return nil, nil, errors.New("a line is not key=value")
		}
		name, list := strings.CutSuffix(key, "[]")
		if name == "" || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789_-") != "" {
			return nil, nil, errors.New("an attribute has a name that git does not give it")
		}
		if list {
			lists[name] = append(lists[name], value)
			continue
		}
		_, twice := said[key]
		switch {
		case twice:
			return nil, nil, errors.New("an attribute is there twice")
		case key == "url":
			return nil, nil, errors.New("it names a URL, which git takes apart itself: give protocol and host")
		case key != "path" && !utf8.ValidString(value):
			return nil, nil, errors.New("it is not UTF-8")
		}
		said[key] = value
	}
	return said, lists, nil
}

// The errors of docker-credential-helpers by which docker, podman and others know that they can go on without a sign-in, and that
// they have asked in a wrong way.
const (
	dockerNotFound = "credentials not found in native keychain"
	dockerNoServer = "no credentials server URL"
)

// dockerRefusal is an error as the protocol of docker-credential-helpers has it: on standard output, with exit code 1. The client
// passes standard error on to the person, and so why is there in our own form.
type dockerRefusal struct{ why error }

func (r *dockerRefusal) Error() string {
	if errors.Is(r.why, protocol.ErrDenied) || errors.Is(r.why, protocol.ErrNotFound) {
		return dockerNotFound
	}
	return r.why.Error()
}

func (r *dockerRefusal) Unwrap() error { return r.why }

// docker is for the protocol of docker-credential-helpers.
func docker(operands []string, stdin io.Reader, _ func(string) string) (q question, err error) {
	q, err = dockerAction(operands, stdin)
	q.refuse = func(err error) error { return &dockerRefusal{err} }
	if err != nil {
		err = q.refuse(err)
	}
	return q, err
}

func dockerAction(operands []string, stdin io.Reader) (q question, err error) {
	act, err := action(operands, "get", "store", "erase", "list", "version")
	if err != nil {
		return q, err
	}
	switch act {
	case "list":
		return question{instead: "{}\n"}, nil
	case "version":
		return question{instead: "docker-credential-ccagent (cchelper) " + version() + "\n"}, nil
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
	if server == "" {
		return q, wrongUsage(dockerNoServer)
	}
	url := server
	if !strings.Contains(url, "://") {
		url = "https://" + url // docker gives only a registry's name
	}
	if q.host, err = hostOf(url); err != nil {
		return q, err
	}
	q.answer = func(t protocol.Token, o options) string {
		return `{"ServerURL":` + quote(server) + `,"Username":` + quote(cmp.Or(o.username, t.Username, defaultUsername)) +
			`,"Secret":` + quote(t.Value.Reveal()) + "}\n"
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
	q.answer = func(t protocol.Token, o options) string {
		expiry := ""
		if !t.Expiry.IsZero() {
			expiry = `"expires":` + quote(t.Expiry.UTC().Format("2006-01-02T15:04:05Z")) + ","
		}
		name, value := headerWith(t, o)
		return "{" + expiry + `"headers":{` + quote(name) + ":[" + quote(value) + "]}}\n"
	}
	return q, nil
}

// goauth is for a command in GOAUTH (`go help goauth`). The go command runs it without a URL first, and with one after a server
// has refused a request.
func goauth(operands []string, _ io.Reader, _ func(string) string) (q question, err error) {
	if len(operands) == 0 {
		return q, nil
	}
	if len(operands) > 1 {
		return q, wrongUsage("the format goauth takes one URL")
	}
	scheme, authority, err := splitURL(operands[0])
	if err != nil {
		return q, err
	}
	if q.host, err = hostAt(scheme, authority); err != nil {
		return q, err
	}
	q.answer = func(t protocol.Token, o options) string {
		return scheme + "://" + authority + "/\n\n" + o.header + t.Value.Reveal() + "\n\n"
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
	q.answer = func(t protocol.Token, _ options) string { return `{"token":` + quote(t.Value.Reveal()) + "}\n" }
	return q, nil
}
