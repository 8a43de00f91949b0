package worker

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ccagent/ccagent/protocol"
)

func TestConnectionFilesAreRefusedByName(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	text := filepath.Join(dir, "text")
	open := filepath.Join(dir, "open.key")
	wide, marked := filepath.Join(dir, "wide"), filepath.Join(dir, "marked")
	for path, mode := range map[string]os.FileMode{text: 0o600, open: 0o644, wide: 0o600, marked: 0o600} {
		begin := map[string]string{wide: "\xff\xfe", marked: "\ufeff"}[path]
		if err := os.WriteFile(path, []byte(begin+"hello"), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil { // whatever the umask
			t.Fatal(err)
		}
	}
	none := filepath.Join(dir, "none")
	for _, test := range []struct {
		name     string
		settings Settings
		want     []string
	}{
		{"no ca_file", Settings{CAFile: none}, []string{"ca_file", "no such file"}},
		{"ca_file not PEM", Settings{CAFile: text}, []string{"ca_file", "no certificate in PEM"}},
		{"no client_cert", Settings{ClientCert: none, ClientKey: text}, []string{"client_cert", "no such file"}},
		{"no client_key", Settings{ClientCert: text, ClientKey: none}, []string{"client_key", "no such file"}},
		{"client_key of everybody", Settings{ClientCert: text, ClientKey: open}, []string{"client_key", "chmod go="}},
		{"ca_file UTF-16", Settings{CAFile: wide}, []string{"ca_file", "byte order mark (BOM): it is UTF-16, and must be UTF-8"}},
		{"ca_file marked, and not PEM", Settings{CAFile: marked}, []string{"ca_file", "no certificate in PEM"}},
		{"client_cert not PEM", Settings{ClientCert: text, ClientKey: text}, []string{"client_cert", "not PEM"}},
	} {
		_, err := ClientOf(test.settings, protocol.Secret{})
		if !errors.Is(err, protocol.ErrConfig) {
			t.Errorf("%s: %v, want ErrConfig", test.name, err)
			continue
		}
		for _, want := range test.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %q lacks %q", test.name, err, want)
			}
		}
	}
}
