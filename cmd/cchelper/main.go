// Command cchelper prints a live token: it asks the agent for one over its socket, and starts the agent if none answers.
//
// It is run for every token that a tool needs, so it does little: it reads no config file, links no package that costs much to
// initialise, and makes a handful of system calls. On Linux it asks before Go's runtime has started, where it can: see package
// early.
package main

import (
	"errors"
	"io"
	"os"
	"runtime/debug"
	"time"

	"github.com/ccagent/ccagent/cmd/cchelper/early"
	"github.com/ccagent/ccagent/cmd/harden"
	"github.com/ccagent/ccagent/protocol"
)

const usage = `usage: cchelper [flags]

Prints a live token for a tool that gets its token from a command. Starts the agent if none answers.

  -p, --profile NAME   whose token; else the one for this folder: ccagent use  $CCAGENT_PROFILE
  -f, --format FORMAT  what to print (token)                                   $CCAGENT_FORMAT
        token          the token and a newline
        json           {"profile", "token", "kind", "expires_at": RFC 3339 or null}
        header         Authorization: Bearer TOKEN
        headers        {"Authorization":"Bearer TOKEN"}
        env            NAME='TOKEN'; export NAME; for eval in a shell
        aws            keys of AWS, for credential_process and Claude Code's awsCredentialExport
        exec-credential  kubectl's exec plugin
        prompt         a few words for a shell's prompt, or nothing; starts no agent and never fails
        git, docker, bazel, goauth, terraform
                       the credential helper of that tool; its action follows the flags. It gives a token only
                       for hosts that the profile lists in config.toml: hosts = ["git.example.com"].
                       If no profile is named, it is the one that lists the host
      --header NAME    another header than Authorization, for header, headers, bazel and goauth; the token
                       stands in it alone, or after a word: 'X-Auth: Bearer'   $CCAGENT_HEADER
      --username NAME  the user name for git and docker (the profile's username, else oauth2)
                                                                               $CCAGENT_USERNAME
      --id-token       the ID token of the sign-in (OpenID Connect), not its access token
      --scope S        a token for these scopes, and no others; may be repeated
      --audience A, --resource URI
                       a token for this audience (RFC 8693), or this service (RFC 8707; may be repeated)
      --min-ttl D      how long the token must live at least, like 30s or 10m; no more than
                       half of its lifetime counts    $CCAGENT_MIN_TTL
      --on-reask renew renew the token if the tool asks again so soon that it was probably refused: within
                       --reask-window D (4m)          $CCAGENT_ON_REASK $CCAGENT_REASK_WINDOW
      --timeout D      how long to wait (90s)                                  $CCAGENT_TIMEOUT
      --no-start       fail if no agent answers
  -h, --help           this text
      --version        the version

If it is run through a link that is named git-credential-ccagent, docker-credential-ccagent, bazel-credential-ccagent,
terraform-credentials-ccagent or kubectl-ccagent, it has that tool's format. With a link git-credential-ccagent-NAME it
asks for profile NAME.

example: claude settings.json   "apiKeyHelper": "cchelper -p gateway"
         git config --global credential.https://git.example.com.helper "!cchelper -p work -f git"

exit codes: 0 done, 2 usage or configuration, 3 not found, 4 sign in again, 5 no agent, 6 refused, 7 try again,
8 storage, 1 anything else
`

func main() {
	if err := harden.Memory(); err != nil {
		err = &protocol.Error{
			Code:    protocol.CodeInternal,
			Message: "this process's memory can't be hidden from debuggers: " + err.Error(),
		}
		io.WriteString(os.Stderr, protocol.Explain(err))
		os.Exit(protocol.ExitCode(err))
	}
	os.Exit(run(os.Args, os.Getenv, os.Stdin, early.Stdout(), os.Stderr))
}

// run is the program, and returns the exit code. It writes the whole answer to stdout in one write, or nothing.
func run(args []string, getenv func(string) string, stdin io.Reader, stdout, stderr io.Writer) int {
	answer, notice, err := answer(args, getenv, stdin)
	if refused := (*dockerRefusal)(nil); errors.As(err, &refused) {
		io.WriteString(stderr, protocol.Explain(refused.why))
		io.WriteString(stdout, refused.Error()+"\n")
		return 1
	}
	if err == nil {
		if notice != "" {
			io.WriteString(stderr, "ccagent: "+notice+"\n")
		}
		if _, err = io.WriteString(stdout, answer); err != nil {
			err = &protocol.Error{Code: protocol.CodeInternal, Message: "can't write the answer: " + err.Error()}
		}
	}
	if err != nil {
		io.WriteString(stderr, protocol.Explain(err))
	}
	return protocol.ExitCode(err)
}

// answer returns the text for standard output, and a line for the person, mostly "".
func answer(args []string, getenv func(string) string, stdin io.Reader) (text, notice string, err error) {
	o, err := parse(args[1:], getenv, args[0])
	switch {
	case err != nil:
		return "", "", err
	case o.help:
		return usage, "", nil
	case o.version:
		return "cchelper " + version() + "\n", "", nil
	}
	if o.prompt {
		if text = protocol.Prompt(deadline{time.Now().Add(protocol.PromptTime)}, o.profile); text != "" {
			text += "\n"
		}
		return text, "", nil
	}
	req := protocol.TokenRequest{Profile: o.profile, Host: o.host, MinTTL: o.minTTL, ReaskWindow: o.reask, Derived: o.derived}
	var q question
	if o.tool != nil {
		if q, err = o.tool(o.operands, stdin, getenv); err != nil || q.answer == nil {
			return q.instead, "", err
		}
		req.Host, req.Listed, req.Username = q.host, q.host != protocol.UnnamedHost, q.account
	}
	text, notice, err = ask(o, q, req)
	if o.host == protocol.UnnamedHost && errors.Is(err, protocol.ErrConfig) {
		err = &protocol.Error{Code: protocol.CodeConfig,
			Message: "the profile lists hosts, and the MCP server's URL is not https or wss to a host, nor http to this machine",
			Hint:    "check the server's url in the settings of Claude Code"}
	}
	if err != nil && q.refuse != nil {
		err = q.refuse(err)
	}
	return text, notice, err
}

// ask puts a request to the agent, and returns the text for standard output and a line for the person.
func ask(o options, q question, req protocol.TokenRequest) (text, notice string, err error) {
	client, err := protocol.ClientFromEnv(!o.noStart)
	if err != nil {
		return "", "", err
	}
	until := deadline{time.Now().Add(o.timeout)}
	token, err := early.Token(until, client, req)
	if err == nil && q.account != "" && token.Username != "" && q.account != token.Username {
		return "", "", nil // another account: there may be another helper for it
	}
	if err == nil && q.rejected != "" {
		if q.rejected != token.Value.Reveal() {
			return "", "", nil // the agent has another token already
		}
		req.Force, req.Quiet = true, true
		_, err = client.Token(until, req)
		return "", "", err
	}
	if err != nil {
		if q.without != "" && errors.Is(err, protocol.ErrDenied) {
			return q.without, err.Error(), nil
		}
		return "", "", protocol.Elsewhere(until, client, protocol.Late(until, client, o.profile, err))
	}
	if err := token.CheckBearer(); err != nil && !o.keys {
		return "", "", err
	}
	if o.tool != nil {
		return q.answer(token, o), token.Notice, nil
	}
	text, err = o.format(token, o)
	return text, token.Notice, err
}

func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "unknown"
}
