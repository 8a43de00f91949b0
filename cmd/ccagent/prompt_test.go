package main

import "testing"

func TestPromptArguments(t *testing.T) {
	for _, test := range []struct {
		args    []string
		profile string
		ok      bool
	}{
		{[]string{"ccagent", "status", "--prompt"}, "", true},
		{[]string{"ccagent", "status", "--prompt", "-p", "work"}, "work", true},
		{[]string{"ccagent", "status", "--prompt", "-p", "../x"}, "../x", false},
		{[]string{"ccagent", "status", "--prompt", "--json"}, "", false},
		{[]string{"ccagent", "status"}, "", false},
	} {
		t.Setenv("CCAGENT_PROFILE", "")
		if profile, ok := prompt(test.args); profile != test.profile || ok != test.ok {
			t.Errorf("%q: %q, %v", test.args, profile, ok)
		}
	}
}
