package setup

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ccagent/ccagent/cmd/ccagent/config"
	"github.com/ccagent/ccagent/cmd/ccagent/environ"
)

// TestOutranked: what a tool prefers to ccagent is named, and no value of it is shown.
func TestOutranked(t *testing.T) {
	for name, tt := range map[string]struct {
		tool   string
		file   string            // what setup has changed, below the folder of the test, ~
		others map[string]string // more files there
		set    map[string]string // variables, in which ~ is that folder
		want   string            // a part of what is found, with ~ for the folder; "" for nothing
		mend   string
	}{
		"go":                {"go", "env", nil, map[string]string{"GOAUTH": "fake-secret"}, "GOAUTH is set", "unset GOAUTH"},
		"go, another file":  {"go", "env", nil, map[string]string{"GOENV": "off"}, "GOENV leads go to other", "unset GOENV"},
		"go, the same file": {"go", "env", nil, map[string]string{"GOENV": "~/env"}, "", ""},
		"terraform": {
			"terraform", ".terraformrc", nil, map[string]string{"TF_TOKEN_a__b_example_com": "fake-secret"}, "TF_TOKEN_a",
			"unset",
		},
		"terraform login": {
			"terraform", ".terraformrc",
			map[string]string{
				".terraform.d/credentials.tfrc.json": `{"credentials":{"a-b.example.com":{"token":"fake-secret"}}}`,
			},
			nil, "~/.terraform.d/credentials.tfrc.json has a token", "terraform logout a-b.example.com",
		},
		"terraform, another": {
			"terraform", ".terraformrc",
			map[string]string{".terraform.d/credentials.tfrc.json": `{"credentials":{"b.example.com":{}}}`}, nil, "", "",
		},
		"terraform, a block": {
			"terraform", ".terraformrc",
			map[string]string{".terraformrc": "credentials \"a-b.example.com\" {\n token = \"fake-secret\"\n}\n"}, nil,
			"~/.terraformrc has credentials", "remove credentials",
		},
		"docker": {
			"docker", ".docker/config.json", nil,
			map[string]string{"DOCKER_AUTH_CONFIG": `{"auths":{"https://a-b.example.com/v1/":{"auth":"fake-secret"}}}`},
			"DOCKER_AUTH_CONFIG is set here", "unset DOCKER_AUTH_CONFIG",
		},
		"docker, malformed": {"docker", ".docker/config.json", nil, map[string]string{"DOCKER_AUTH_CONFIG": `{`}, "", ""},
		"docker, another": {
			"docker", ".docker/config.json", nil, map[string]string{"DOCKER_AUTH_CONFIG": `{"auths":{"example.com":{}}}`},
			"", "",
		},
		"docker, folder": {
			"docker", ".docker/config.json", nil, map[string]string{"DOCKER_CONFIG": "~/other"},
			"DOCKER_CONFIG leads docker to other", "unset DOCKER_CONFIG, or set them up too: ccagent setup docker",
		},
		"docker, its folder": {"docker", ".docker/config.json", nil, map[string]string{"DOCKER_CONFIG": "~/.docker"}, "", ""},
		"podman": {
			"docker", ".docker/config.json",
			map[string]string{"run/containers/auth.json": `{"auths":{"a-b.example.com":{"auth":"fake-secret"}}}`},
			map[string]string{"XDG_RUNTIME_DIR": "~/run"}, "prefer what ~/run/containers/auth.json says",
			"podman logout --authfile",
		},
		"podman's helpers": {
			"docker", ".docker/config.json",
			map[string]string{".config/containers/auth.json": `{"credHelpers":{"a-b.example.com":"other"}}`}, nil,
			"prefer what ~/.config/containers/auth.json says", "podman logout --authfile",
		},
		"gemini, by exec": {"gemini", ".gemini/settings.json", nil, map[string]string{"GEMINI_API_KEY": "fake-secret"}, "", ""},
		"kubectl, a token": {
			"kubectl", ".kube/config",
			map[string]string{".kube/config": "users:\n- name: corp\n  user: {token: fake-secret, exec: {command: x}}\n"},
			nil, "user corp in ~/.kube/config has token too", "remove token",
		},
		"kubectl, before": {
			"kubectl", ".kube/config", map[string]string{"first": "users: [{name: corp, user: {token: fake-secret}}]\n"},
			map[string]string{"KUBECONFIG": "~/first:~/.kube/config"}, "~/first, which KUBECONFIG names first",
			"kubectl config --kubeconfig",
		},
		"kubectl, after": {
			"kubectl", ".kube/config", map[string]string{"first": "users: [{name: corp, user: {token: fake-secret}}]\n"},
			map[string]string{"KUBECONFIG": "~/.kube/config:~/first"}, "", "",
		},
		"kubectl, elsewhere": {
			"kubectl", ".kube/config", nil, map[string]string{"KUBECONFIG": "~/first"}, "KUBECONFIG leads kubectl",
			"unset KUBECONFIG",
		},
		"codex": {
			"codex", "config.toml",
			map[string]string{"config.toml": "[model_providers.corp]\nexperimental_bearer_token = \"fake-secret\"\n"}, nil,
			"has experimental_bearer_token", "remove",
		},
		"codex, not so": {
			"codex", "config.toml",
			map[string]string{"config.toml": "[model_providers.corp]\nrequires_openai_auth = false\n"}, nil, "", "",
		},
		"crush": {
			"crush", "crush.json", map[string]string{"data/crush.json": `{"providers":{"corp":{"api_key":"fake-secret"}}}`},
			map[string]string{"CRUSH_GLOBAL_DATA": "~/data"}, "crush prefers the key in ~/data/crush.json",
			"remove providers.corp",
		},
		"crush, malformed": {
			"crush", "crush.json", map[string]string{"data/crush.json": `{`},
			map[string]string{"CRUSH_GLOBAL_DATA": "~/data"}, "", "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			home := t.TempDir()
			for path, text := range tt.others {
				write(t, filepath.Join(home, path), text)
			}
			env := func(name string) string {
				if name == "HOME" {
					return home
				}
				return strings.ReplaceAll(tt.set[name], "~", home)
			}
			j := Journal{Tool: tt.tool, Profile: "gw", Name: "corp", Hosts: []string{"a-b.example.com"},
				Files: map[string]Entry{filepath.Join(home, tt.file): {}}}
			expect(t, home, j.Outranked(t.Context(), env), tt.want, tt.mend)
		})
	}
}

// TestGeminiOutranked: a variable that is set goes before the file in which Gemini CLI is shown the token.
func TestGeminiOutranked(t *testing.T) {
	t.Parallel()
	set := environ.Vars(func(name string) string { return map[string]string{"GEMINI_API_KEY": "fake-secret"}[name] })
	j := Journal{Tool: "gemini", Views: []config.View{{Kind: config.ViewEnv}}}
	expect(t, "/x", j.Outranked(t.Context(), set), "GEMINI_API_KEY is set here", "unset GEMINI_API_KEY")
}

// TestGitOutranked asks git itself, in a folder whose settings come after the person's.
func TestGitOutranked(t *testing.T) {
	const added = "[credential \"https://git.example.com\"]\n\thelper =\n\thelper = \"!cchelper -p gw -f git\"\n"
	for name, tt := range map[string]struct {
		home, here string // settings of the person, and of the folder
		netrc      string
		want, mend string
	}{
		"ours alone": {"[credential]\n\thelper = store\n" + added, "", "", "", ""},
		"one after": {
			added + "[credential]\n\thelper = \"!echo fake-secret\"\n", "", "",
			"credential.helper in ~/.gitconfig too, which may keep it", "--undo && ccagent setup git",
		},
		"one in the folder": {
			added, "[credential \"https://*.example.com\"]\n\thelper = store\n", "",
			"credential.https://*.example.com.helper in ~/repo/.git/config too", "git config --file",
		},
		"ours once more": {added + "[credential]\n\thelper = \"!cchelper -p gw -f git\"\n", "", "", "", ""},
		"a password, elsewhere": {
			added + "[url \"https://me:fake-secret@other.example.com/\"]\n\tinsteadOf = https://git.example.com/\n", "", "",
			"has git go elsewhere", "remove url.https://...@other.example.com/.insteadof from",
		},
		"of another host": {added, "[credential \"https://example.com\"]\n\thelper = store\n", "", "", ""},
		"of http":         {added, "[credential \"http://git.example.com\"]\n\thelper = store\n", "", "", ""},
		"cleared": {
			added, "[credential]\n\thelper =\n\thelper = store\n", "", "git does not ask ccagent for git.example.com",
			"git config --file",
		},
		"a header": {
			added, "[http \"https://git.example.com/\"]\n\textraHeader = AUTHORIZATION: basic fake-secret\n", "",
			"sends a header Authorization", "'^AUTHORIZATION:'",
		},
		"a header, cleared": {
			added + "[http]\n\textraHeader = Authorization: fake-secret\n", "[http]\n\textraHeader =\n", "", "", "",
		},
		"another header": {added, "[http]\n\textraHeader = X-A: fake-secret\n", "", "", ""},
		"to SSH": {
			added, "[url \"git@git.example.com:\"]\n\tinsteadOf = https://git.example.com/\n", "",
			"url.git@git.example.com:.insteadof in ~/repo/.git/config has git go elsewhere", "git config --file",
		},
		"pushes to SSH": {
			added, "[url \"ssh://git@git.example.com/\"]\n\tpushInsteadOf = https://git.example.com/team/\n", "",
			"has git go elsewhere than to https://git.example.com/team/", "git config --file",
		},
		"a password": {
			added + "[url \"https://me:fake-secret@git.example.com/\"]\n\tinsteadOf = https://git.example.com/\n", "", "",
			"puts a password into addresses", "remove url.https://...@git.example.com/.insteadof from",
		},
		"a user": {
			added + "[url \"https://fake-secret@git.example.com/\"]\n\tinsteadOf = https://git.example.com/\n", "", "", "",
			"",
		},
		"a token, elsewhere": {
			added + "[url \"https://fake-secret@other.example.com/\"]\n\tinsteadOf = https://git.example.com/\n", "", "",
			"has git go elsewhere", "remove url.https://...@other.example.com/.insteadof from",
		},
		"of another address": {added + "[url \"git@example.com:\"]\n\tinsteadOf = https://example.com/\n", "", "", "", ""},
		"netrc": {
			added, "", "machine other login x password y\nmachine git.example.com\n  login me password fake-secret\n",
			"~/.netrc has a machine git.example.com", "remove that machine",
		},
		"another netrc": {added, "", "machine example.com login git.example.com password fake-secret\n", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			home := t.TempDir()
			path := filepath.Join(home, ".gitconfig")
			write(t, path, tt.home)
			write(t, filepath.Join(home, "repo/.git/config"), "[core]\n\trepositoryformatversion = 0\n"+tt.here)
			write(t, filepath.Join(home, "repo/.git/HEAD"), "ref: refs/heads/main\n")
			write(t, filepath.Join(home, "repo/.git/refs/x"), "")
			write(t, filepath.Join(home, "repo/.git/objects/x"), "")
			if tt.netrc != "" {
				write(t, filepath.Join(home, ".netrc"), tt.netrc)
			}
			for name, value := range map[string]string{"HOME": home, "XDG_CONFIG_HOME": "", "GIT_CONFIG_GLOBAL": path,
				"GIT_CONFIG_NOSYSTEM": "1", "GIT_DIR": filepath.Join(home, "repo/.git")} {
				t.Setenv(name, value)
			}
			if !environ.Vars(os.Getenv).OnPath("git") {
				t.Skip("there is no git")
			}
			j := Journal{Tool: "git", Profile: "gw", Hosts: []string{"git.example.com"},
				Files: map[string]Entry{path: {Puts: []put{{How: linesPut, Text: added}}}}}
			expect(t, home, j.Outranked(t.Context(), os.Getenv), tt.want, tt.mend)
		})
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// expect checks that nothing is found if want is "", or else that one thing is: one that says want and mend.
func expect(t *testing.T, home string, found []environ.Outranking, want, mend string) {
	t.Helper()
	for i := range found {
		found[i].What = strings.ReplaceAll(found[i].What, home, "~")
		if strings.Contains(found[i].What+found[i].Mend, "fake-secret") {
			t.Errorf("it shows a secret: %+v", found[i])
		}
	}
	if want == "" && len(found) == 0 {
		return
	}
	if len(found) != 1 || !slices.ContainsFunc(found, func(o environ.Outranking) bool {
		return want != "" && strings.Contains(o.What, want) && strings.Contains(o.Mend, mend)
	}) {
		t.Errorf("got %+v, want %q, %q", found, want, mend)
	}
}
