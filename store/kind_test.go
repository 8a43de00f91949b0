package store

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ccagent/ccagent/protocol"
)

// TestKinds opens a store of each kind in the table, and checks what it does against its row.
func TestKinds(t *testing.T) {
	for _, kind := range Kinds(nil) {
		t.Run(string(kind), func(t *testing.T) {
			dir, asked := t.TempDir(), false
			st, err := kind.Open(Where{
				Profile: "work", DataDir: filepath.Join(dir, "data"), StateDir: filepath.Join(dir, "state"),
				ClaudeDir: filepath.Join(dir, "claude"),
				Identity:  func() (Identity, error) { asked = true; return Identity{}, nil },
			})
			if err != nil {
				t.Fatal(err)
			}
			traits := kind.Traits()
			if traits.Memory != (st == nil) {
				t.Fatalf("Memory is %t, and the store is %v", traits.Memory, st)
			}
			if asked != traits.Sealed {
				t.Errorf("Sealed is %t; asked for the identity: %t", traits.Sealed, asked)
			}
			if st == nil {
				return
			}
			if got := st.Place().Kind; got != kind {
				t.Errorf("the store says that it is of kind %s", got)
			}
			if NewHistory(filepath.Join(dir, "state"), st).bare {
				t.Error("its history has no records: the store has no method past")
			}
			if traits.Sealed || traits.Service {
				if traits.Unlock == "" {
					t.Error("nobody is told how it is unlocked")
				}
				return // a test does not ask the keyring of whoever runs it
			}
			r := Record{Kind: protocol.KindOAuth, AccessToken: protocol.NewSecret("fake-access"),
				Identity: protocol.Identity{Account: "fake-account", Fetched: time.UnixMilli(1890000000000)}}
			if traits.Shared {
				if err := os.Mkdir(filepath.Join(dir, "claude"), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := st.Save(t.Context(), r, Version{}); err != nil {
				t.Fatal(err)
			}
			got, _, err := st.Load(t.Context())
			if err != nil || traits.Shared != (got.Identity.Account == "") {
				t.Errorf("Shared is %t, and the account comes back as %q, %v", traits.Shared, got.Identity.Account, err)
			}
			file, err := os.ReadFile(st.Place().Watch[0])
			if err != nil || traits.Plain != strings.Contains(string(file), "fake-access") {
				t.Errorf("Plain is %t, and the file holds %q, %v", traits.Plain, file, err)
			}
		})
	}
}

func TestKindNotInTable(t *testing.T) {
	for _, kind := range []Kind{"", "postgres", KindAuto} {
		if _, err := kind.Open(Where{}); !errors.Is(err, protocol.ErrConfig) {
			t.Errorf("opening a store of kind %q: %v", kind, err)
		}
		if !kind.Traits().Ours() {
			t.Errorf("%q is said to be used by others", kind)
		}
	}
	if _, err := KindClaudeCode.Open(Where{}); !errors.Is(err, protocol.ErrConfig) || protocol.HintOf(err) == "" {
		t.Errorf("opening a store in no folder: %v", err)
	}
	fault := errors.New("not an identity")
	st, err := KindEncrypted.Open(Where{Identity: func() (Identity, error) { return Identity{}, fault }})
	if err != fault || st != nil {
		t.Errorf("opened with an identity that can't be had: %v, %v", st, err)
	}
	if err := KindFile.Probe(context.Background()); err != nil {
		t.Error(err)
	}
}

func TestKindsAsked(t *testing.T) {
	tests := []struct {
		have func(Traits) bool
		want string
	}{
		{nil, "claude-code, file, keyring, encrypted and memory"},
		{Traits.Ours, "file, keyring and encrypted"},
		{Traits.Rests, "claude-code, file, keyring and encrypted"},
		{Traits.Private, "file, keyring, encrypted and memory"},
		{func(t Traits) bool { return t.Plain }, "claude-code and file"},
		{func(t Traits) bool { return t.Sealed }, "encrypted"},
		{func(Traits) bool { return false }, ""},
	}
	for _, test := range tests {
		if got := ListKinds(Kinds(test.have)); got != test.want {
			t.Errorf("got %q, want %q", got, test.want)
		}
	}
	for _, setting := range []Kind{KindAuto, "", KindFile} {
		if !setting.MayBe(KindFile) {
			t.Errorf("with store = %q the record can't be in a file", setting)
		}
		if setting.MayBe(KindKeyring) != (setting != KindFile) {
			t.Errorf("with store = %q the record may be in the keyring: %t", setting, setting.MayBe(KindKeyring))
		}
	}
	if slices.Contains(Kinds(nil), KindAuto) {
		t.Error("auto is no store")
	}
}

// TestKindsAreDocumented looks for each kind where the documents list them.
func TestKindsAreDocumented(t *testing.T) {
	for document, form := range map[string]string{
		"../docs/stores.md": "\n| `%s` |", "../docs/config.md": "`%s`", "../docs/protocol.md": `"%s"`,
	} {
		text, err := os.ReadFile(document)
		if err != nil {
			t.Fatal(err)
		}
		for _, kind := range Kinds(nil) {
			if !strings.Contains(string(text), strings.ReplaceAll(form, "%s", string(kind))) {
				t.Errorf("%s does not list %s", document, kind)
			}
		}
	}
}
