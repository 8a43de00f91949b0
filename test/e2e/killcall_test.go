//go:build e2e

package e2e

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/ccagent/ccagent/agent/job"
	"github.com/ccagent/ccagent/agent/oauth/oauthtest"
	"github.com/ccagent/ccagent/store"
)

// TestKilledAtEveryCall kills the worker of a renewal right before each of its system calls that change something, in turn. Then
// the agent that has read its reports goes on, or another one that knows nothing: there is a token again, and no refresh token is
// sent twice. A sign-in may be lost where nobody has the provider's answer: the worker is killed before the hand-over, or after
// it and the agent ends with it, before the history has the record.
func TestKilledAtEveryCall(t *testing.T) {
	// Those that change something: whoever is killed between two of them has left what the first of them did.
	calls := []string{"write", "pwrite64", "ftruncate", "fsync", "renameat", "mkdirat", "fchmod", "unlinkat", "utimensat"}
	for _, kind := range []string{"claude-code", "file"} {
		for _, agentLives := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, the agent lives: %v", kind, agentLives), func(t *testing.T) {
				t.Parallel()
				w := newWorkshop(t, kind)
				kills, renewals, lost := 0, 0, 0
				for _, call := range calls {
					for when := 1; when <= 60; when++ {
						where := fmt.Sprintf("killed at %s, the %dth time", call, when)
						w.signInAnew(t)
						before := w.provider.Counts()
						reports, trace := w.run(t, job.Job{Op: job.Renew}, "-e", "trace="+call,
							"-e", fmt.Sprintf("inject=%s:signal=KILL:when=%d", call, when))
						if !strings.Contains(trace, "+++ killed by SIGKILL") {
							break
						}
						kills++
						removeLocks(t, w.settings.ConfigDir)
						handedOver := slices.ContainsFunc(reports, func(r job.Report) bool { return r.Kind == job.HandOver })
						rotated := w.provider.Counts().Refreshes != before.Refreshes
						if rotated {
							renewals++
						}
						kept := w.keepsSignIn(t)
						next := job.Job{Op: job.Renew}
						if agentLives {
							for _, r := range reports {
								if r.Kind == job.HandOver || r.Kind == job.Done {
									next.Record, next.Base = r.Result.Record, r.Result.Version
								}
							}
						}
						reports, _ = w.run(t, next)
						end := last(t, reports)
						alive := end.Err == nil && w.provider.Live(end.Result.Token.Reveal()) &&
							w.provider.Counts().Reuses == before.Reuses
						switch {
						case !alive && rotated && !kept && !(handedOver && agentLives):
							lost++
						case !alive:
							t.Errorf("%s, handed over %v, rotated %v: then %v, %+v", where, handedOver, rotated, end.Err, w.provider.Counts())
						}
						stored, _, err := w.store(t).Load(t.Context())
						if alive && (err != nil || !w.provider.Renewable(stored.RefreshToken.Reveal())) {
							t.Errorf("%s: what is stored in the end can't be renewed: %v", where, err)
						}
					}
				}
				t.Logf("%d kills, %d of them after the provider had answered, %d sign-ins lost", kills, renewals, lost)
				if kills < 20 || renewals < 5 {
					t.Error("too few kills to judge by")
				}
			})
		}
	}
}

// signInAnew begins anew with an expired record.
func (w *workshop) signInAnew(t *testing.T) oauthtest.SignIn {
	t.Helper()
	os.RemoveAll(w.settings.StateDir)
	os.RemoveAll(w.settings.DataDir)
	for _, name := range leftovers(t, w.settings.ConfigDir) {
		if !filepath.IsAbs(name) { // beside it
			name = filepath.Join(w.settings.ConfigDir, name)
		}
		os.RemoveAll(name)
	}
	signIn := expired(w.provider.Issue())
	if w.settings.Store == store.KindClaudeCode {
		w.h.signIn(signIn)
		return signIn
	}
	record, err := store.ReadClaude(bytes.NewReader(signIn.CredentialsFile()))
	if err == nil {
		_, err = w.store(t).Save(t.Context(), record, store.Version{})
	}
	if err != nil {
		t.Fatal(err)
	}
	return signIn
}

// keepsSignIn reports whether some file has a refresh token that the provider would accept. A file that was about to take the
// place of another is nobody's.
func (w *workshop) keepsSignIn(t *testing.T) (kept bool) {
	t.Helper()
	refresh := regexp.MustCompile(`fake-refresh-[0-9]+`)
	for _, dir := range []string{w.settings.StateDir, w.settings.DataDir, w.settings.ConfigDir} {
		filepath.WalkDir(dir, func(path string, _ fs.DirEntry, _ error) error {
			if data, err := os.ReadFile(path); err == nil && !strings.Contains(path, ".tmp") {
				kept = kept || slices.ContainsFunc(refresh.FindAllString(string(data), -1), w.provider.Renewable)
			}
			return nil
		})
	}
	return kept
}

// removeLocks removes the lock folders that a worker has left which was killed. The next one would take them over, once they are
// old enough.
func removeLocks(t *testing.T, dir string) {
	t.Helper()
	for _, pattern := range []string{dir + ".lock", filepath.Join(dir, "*.lock"), filepath.Join(dir, ".*.lock")} {
		names, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if info, err := os.Stat(name); err == nil && info.IsDir() {
				os.RemoveAll(name)
			}
		}
	}
}
