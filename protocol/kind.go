package protocol

import "strings"

// Kind says what a token is, which decides how it is sent.
type Kind string

const (
	KindOAuth  Kind = "oauth"   // an OAuth access token of Claude, a setup token included: CLAUDE_CODE_OAUTH_TOKEN
	KindAPIKey Kind = "api-key" // a static key: ANTHROPIC_API_KEY
	KindBearer Kind = "bearer"  // any other bearer token: ANTHROPIC_AUTH_TOKEN
	KindAWS    Kind = "aws"     // keys of AWS as a JSON object: they sign requests, and no header carries them
)

// KindOf returns the kind that a token's first characters tell, and otherwise if they tell nothing. Claude's API wants OAuth
// tokens in other headers than keys, and refuses each in place of the other. People store both alike: `claude setup-token` makes
// an OAuth token that is stored as a key is.
func KindOf(token Secret, otherwise Kind) Kind {
	switch text := token.Reveal(); {
	case strings.HasPrefix(text, "sk-ant-oat"):
		return KindOAuth
	case strings.HasPrefix(text, "sk-ant-api"):
		return KindAPIKey
	case strings.HasPrefix(text, awsKeys):
		return KindAWS
	}
	return otherwise
}

// awsKeys is how a token of KindAWS begins.
const awsKeys = `{"AccessKeyId":"`

// CheckBearer refuses a token that is not to be sent in a header (ErrConfig).
func (t Token) CheckBearer() error {
	if t.Kind != KindAWS {
		return nil
	}
	what := "profile " + t.Profile + " has keys of AWS, which are no token that a program could send"
	return &Error{Code: CodeConfig, Message: what,
		Hint: "have AWS's own programs ask for them: credential_process = " + ShellLine("cchelper", "-p", t.Profile, "-f", "aws")}
}

// vendors are the first characters of other vendors' keys, and the variables that their programs read.
var vendors = [...]struct{ begin, vendor, variable string }{
	{"ghp_", "GitHub", "GH_TOKEN"}, {"gho_", "GitHub", "GH_TOKEN"}, {"ghu_", "GitHub", "GH_TOKEN"}, {"ghs_", "GitHub", "GH_TOKEN"},
	{"github_pat_", "GitHub", "GH_TOKEN"},
	{"glpat-", "GitLab", "GITLAB_TOKEN"},
	{"sk-proj-", "OpenAI", "OPENAI_API_KEY"}, {"sk-svcacct-", "OpenAI", "OPENAI_API_KEY"},
	{"sk-or-", "OpenRouter", "OPENROUTER_API_KEY"},
	{"AIza", "Google", "GEMINI_API_KEY"}, {"ya29.", "Google", "GOOGLE_OAUTH_ACCESS_TOKEN"},
	{"xai-", "xAI", "XAI_API_KEY"},
	{"hf_", "Hugging Face", "HF_TOKEN"},
	{"npm_", "npm", "NPM_TOKEN"},
	{"xox", "Slack", "SLACK_TOKEN"},
}

// Variable returns the name of the environment variable from which a program takes a token of this kind. It fails with ErrConfig
// for a static key that is another vendor's, because a program would send it to Anthropic, and for keys of AWS.
func (t Token) Variable() (string, error) {
	switch t.Kind {
	case KindAWS:
		return "", t.CheckBearer()
	case KindOAuth:
		return "CLAUDE_CODE_OAUTH_TOKEN", nil
	case KindAPIKey:
		for _, v := range vendors {
			if strings.HasPrefix(t.Value.Reveal(), v.begin) {
				line := ShellLine("ccagent", "exec", "-p", t.Profile, "--env", v.variable, "--", "PROGRAM")
				what := "the key of profile " + t.Profile + " is one of " + v.vendor
				return "", &Error{Code: CodeConfig, Message: what + ", and is not put into ANTHROPIC_API_KEY",
					Hint: "name the variable that its program reads: " + line}
			}
		}
		return "ANTHROPIC_API_KEY", nil
	}
	return "ANTHROPIC_AUTH_TOKEN", nil
}
