//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// binDir holds the two programs, built once for all tests where every user can run them.
var binDir string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if how := os.Getenv(attackVar); how != "" {
		return attack(how)
	}
	dir, err := os.MkdirTemp("", "ccebin")
	if err == nil {
		defer os.RemoveAll(dir)
		err = build(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	binDir = dir
	return m.Run()
}

// build builds both programs as they are shipped.
func build(dir string) error {
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	if out, err := exec.Command("make", "-C", "../..", "build", "BIN="+dir).CombinedOutput(); err != nil {
		return fmt.Errorf("make build: %w\n%s", err, out)
	}
	return nil
}

func program(name string) string { return filepath.Join(binDir, name) }

// partsDir is where setup.sh keeps what is too large to install again for each run.
func partsDir() string {
	if dir := os.Getenv("CCAGENT_E2E_DIR"); dir != "" {
		return dir
	}
	return "/var/cache/ccagent-e2e"
}

// need returns the path of a real part, a program's name or an absolute path. One that is missing fails the test, since a proof
// that is left out looks like one that was given.
func need(t *testing.T, part string) string {
	t.Helper()
	path, err := part, error(nil)
	if filepath.IsAbs(part) {
		_, err = os.Stat(part)
	} else {
		path, err = exec.LookPath(part)
	}
	if err == nil {
		return path
	}
	if os.Getenv("CCAGENT_E2E_PARTIAL") == "1" && os.Getenv("CI") == "" {
		t.Skipf("%s is missing: test/e2e/setup.sh installs it", part)
	}
	t.Fatalf("%s is missing: test/e2e/setup.sh installs it (CCAGENT_E2E_PARTIAL=1 skips)", part)
	return ""
}

// needRoot is for what only root can set up: mounts, second users, containers.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Getuid() == 0 {
		return
	}
	if os.Getenv("CCAGENT_E2E_PARTIAL") == "1" && os.Getenv("CI") == "" {
		t.Skip("needs root")
	}
	t.Fatal("needs root (CCAGENT_E2E_PARTIAL=1 skips)")
}
