//go:build e2e

package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/ccagent/ccagent/agent/job"
	"github.com/ccagent/ccagent/agent/oauth/oauthtest"
	"github.com/ccagent/ccagent/agent/worker"
	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/store"
)

// workshop runs single workers of the real program below strace.
type workshop struct {
	h        *home
	provider *oauthtest.Server
	settings worker.Settings
	build    string
}

func newWorkshop(t *testing.T, kind string) *workshop {
	t.Helper()
	h := newHome(t)
	provider := oauthtest.New(t, oauthtest.Options{Lifetime: time.Hour})
	mkdir(t, h.path(".claude"), 0o700)
	version := strings.Fields(h.ccagent("version").must(t).stdout)
	return &workshop{h: h, provider: provider, build: version[1], settings: worker.Settings{
		Name: "claude", Provider: "claude", Store: store.Kind(kind), ConfigDir: h.path(".claude"), DataDir: h.path("data"),
		StateDir: h.path("state"),
		TokenURL: provider.TokenURL(), Timeout: 20 * time.Second,
	}}
}

func (w *workshop) store(t *testing.T) store.Store {
	t.Helper()
	if w.settings.Store == "file" {
		return store.NewFile(w.settings.DataDir, w.settings.Name)
	}
	return store.NewClaudeCode(w.settings.ConfigDir)
}

// run does a job below strace with these arguments, and returns the reports and the trace.
func (w *workshop) run(t *testing.T, j job.Job, trace ...string) ([]job.Report, string) {
	t.Helper()
	settings, err := json.Marshal(w.settings)
	if err != nil {
		t.Fatal(err)
	}
	j.Build, j.Profile, j.Settings = w.build, w.settings.Name, settings
	var in, out bytes.Buffer
	if err := job.WriteJob(&in, j); err != nil {
		t.Fatal(err)
	}
	log := w.h.root + "/trace"
	cmd := w.h.command(
		need(t, "strace"),
		append(append([]string{"-f", "-qq", "-y", "-o", log}, trace...), program("ccagent"), "worker")...)
	cmd.Env = append(cmd.Env, "GOMAXPROCS=1")
	cmd.Stdin, cmd.Stdout = &in, &out
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	var reports []job.Report
	for {
		r, err := job.ReadReport(&out)
		if errors.Is(err, io.EOF) || err != nil {
			break
		}
		reports = append(reports, r)
	}
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	return reports, string(text)
}

// TestSaveOrder has a save survive a power cut by the order of its system calls: a file of its own is written and flushed, takes
// the place of the old one, and then the folder is flushed.
func TestSaveOrder(t *testing.T) {
	for _, kind := range []string{"claude-code", "file"} {
		t.Run(kind, func(t *testing.T) {
			w := newWorkshop(t, kind)
			signIn := w.provider.Issue()
			record, err := store.ReadClaude(bytes.NewReader(signIn.CredentialsFile()))
			if err != nil {
				t.Fatal(err)
			}
			blob, err := record.Marshal()
			if err != nil {
				t.Fatal(err)
			}
			reports, trace := w.run(t, job.Job{Op: job.Put, Record: blob, Force: true}, "-e",
				"trace=openat,write,pwrite64,fsync,fdatasync,rename,renameat,renameat2,fchmod")
			if len(reports) == 0 || reports[len(reports)-1].Err != nil {
				t.Fatalf("%+v\n%s", reports, trace)
			}
			target := w.store(t).Place().Watch[0]
			rename := regexp.MustCompile(`renameat?2?\(.*?"([^"]+)", .*?"` + regexp.QuoteMeta(target) + `"`)
			var temp string
			var steps []string
			lines := strings.Split(trace, "\n")
			for _, line := range lines {
				if m := rename.FindStringSubmatch(line); m != nil {
					temp = m[1]
				}
			}
			if temp == "" {
				t.Fatalf("nothing was renamed to %s:\n%s", target, trace)
			}
			for _, line := range lines {
				switch {
				case strings.Contains(line, "openat(") && strings.Contains(line, `"`+temp+`"`):
					if !strings.Contains(line, "O_CREAT") || !strings.Contains(line, "O_EXCL") || !strings.Contains(line, "0600") {
						t.Errorf("the new file is opened as %s", line)
					}
					steps = append(steps, "create")
				case strings.Contains(line, "write") && strings.Contains(line, "<"+temp+">"):
					steps = append(steps, "write")
				case strings.Contains(line, "sync(") && strings.Contains(line, "<"+temp+">"):
					steps = append(steps, "sync")
				case rename.MatchString(line):
					steps = append(steps, "rename")
				case strings.Contains(line, "fsync(") && strings.Contains(line, "<"+filepath.Dir(target)+">"):
					steps = append(steps, "sync folder")
				case strings.Contains(line, "openat(") && strings.Contains(line, `"`+target+`"`) &&
					regexp.MustCompile(`O_WRONLY|O_RDWR|O_TRUNC`).MatchString(line):
					t.Errorf("the record itself is opened for writing: %s", line)
				}
			}
			steps = slices.Compact(steps)
			if want := []string{"create", "write", "sync", "rename", "sync folder"}; len(steps) < len(want) ||
				!slices.Equal(steps[len(steps)-len(want):], want) {
				t.Errorf("the order is %q, want %q at the end", steps, want)
			}
		})
	}
}

// TestEveryCallFails makes each system call of a renewal fail in turn, with each error that a disk has: the stored record is the
// old one or the new one, whole, and what the provider rotated is in the store, in a spill file, or with the agent. (A reply of
// the provider's that cannot be read is no matter of the disk.)
func TestEveryCallFails(t *testing.T) {
	t.Parallel()
	calls := []string{
		"openat",
		"write",
		"pwrite64",
		"ftruncate",
		"fsync",
		"renameat",
		"mkdirat",
		"fchmod",
		"flock",
		"unlinkat",
		"newfstatat",
		"utimensat",
	}
	for _, kind := range []string{"claude-code", "file"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			w := newWorkshop(t, kind)
			injected, lostSaves := 0, 0
			for _, call := range calls {
				for _, errno := range []string{"ENOSPC", "EROFS", "EIO", "EDQUOT"} {
					for when := 1; when <= 12; when++ {
						signIn := w.signInAnew(t)
						refreshes := w.provider.Counts().Refreshes
						reports, trace := w.run(t, job.Job{Op: job.Renew}, "-e", "trace="+call, "-e",
							fmt.Sprintf("inject=%s:error=%s:when=%d", call, errno, when))
						if !strings.Contains(trace, "(INJECTED)") {
							break
						}
						injected++
						where := fmt.Sprintf("%s %s, the %dth time", call, errno, when)

						stored, _, err := w.store(t).Load(t.Context())
						if err != nil && w.settings.Store == "claude-code" || err != nil && !errors.Is(err, protocol.ErrNotFound) {
							t.Errorf("%s: the record is not whole: %v", where, err)
							continue
						}
						if n := w.provider.Counts(); n.Reuses != 0 {
							t.Fatalf("%s: a refresh token was used twice", where)
						} else if n.Refreshes == refreshes {
							if stored.RefreshToken.Reveal() != signIn.RefreshToken {
								t.Errorf("%s: nothing was renewed, and the record is another", where)
							}
							continue
						}
						kept := []string{stored.RefreshToken.Reveal()}
						for _, r := range reports {
							if !r.Result.Record.Empty() {
								if held, err := store.Unmarshal(r.Result.Record); err == nil {
									kept = append(kept, held.RefreshToken.Reveal())
								}
							}
						}
						spills, _ := filepath.Glob(w.settings.StateDir + "/spill/*")
						for _, spill := range spills {
							text, _ := os.ReadFile(spill)
							kept = append(kept, regexp.MustCompile(`fake-refresh-[0-9]+`).FindAllString(string(text), -1)...)
						}
						if !slices.ContainsFunc(kept, w.provider.Renewable) {
							t.Errorf("%s: the sign-in is lost; %d reports\n%s", where, len(reports), trace)
						}
						if !w.provider.Renewable(stored.RefreshToken.Reveal()) {
							lostSaves++
						}
					}
				}
			}
			t.Logf("%d calls failed; %d of the renewals could not be saved, and were kept elsewhere", injected, lostSaves)
			if injected < 100 || lostSaves == 0 {
				t.Errorf("%d calls failed, %d saves among them: too few to judge by", injected, lostSaves)
			}
		})
	}
}

// newMoveWorkshop has a record in a file, and a key file for store encrypted.
func newMoveWorkshop(t *testing.T) *workshop {
	t.Helper()
	w := newWorkshop(t, "auto")
	key, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	w.settings.Identity = w.h.path("key")
	w.h.write("key", key.String()+"\n")
	return w
}

// putInFile begins anew with a record in the file alone.
func (w *workshop) putInFile(t *testing.T) oauthtest.SignIn {
	t.Helper()
	os.RemoveAll(w.settings.StateDir)
	os.RemoveAll(w.settings.DataDir)
	signIn := w.provider.Issue()
	record, err := store.ReadClaude(bytes.NewReader(signIn.CredentialsFile()))
	if err == nil {
		_, err = store.NewFile(w.settings.DataDir, w.settings.Name).Save(t.Context(), record, store.Version{})
	}
	if err != nil {
		t.Fatal(err)
	}
	return signIn
}

// last is what a job ended with.
func last(t *testing.T, reports []job.Report) job.Report {
	t.Helper()
	if len(reports) == 0 {
		t.Fatal("the worker reported nothing")
	}
	return reports[len(reports)-1]
}

// TestMoveOrder: when the old record is deleted, all that says where the new one is would survive a power cut: files, and names
// of files and folders.
func TestMoveOrder(t *testing.T) {
	w := newMoveWorkshop(t)
	signIn := w.putInFile(t)
	old := store.NewFile(w.settings.DataDir, w.settings.Name).Place().Location
	reports, trace := w.run(t, job.Job{Op: job.Move, Target: "encrypted"}, "-e",
		"trace=openat,write,pwrite64,fsync,renameat,mkdirat,unlinkat")
	if r := last(t, reports); r.Err != nil || r.Result.Store != "encrypted" {
		t.Fatalf("%+v\n%s", r, trace)
	}
	pending := map[string]bool{} // files and folders that a power cut would not leave as they are
	argument := regexp.MustCompile(`"([^"]*)"`)
	descriptor := regexp.MustCompile(`\(\d+<([^>]*)>`)
	deleted := false
	for _, line := range strings.Split(trace, "\n") {
		_, call, _ := strings.Cut(line, " ")
		names := argument.FindAllStringSubmatch(call, -1)
		switch call = strings.TrimSpace(call); {
		case strings.Contains(line, " = -1 "):
		case strings.HasPrefix(call, "unlinkat(") && names[0][1] == old:
			deleted = true
			if len(pending) > 0 {
				t.Errorf("when the old record is deleted, these would not survive: %q", slices.Sorted(maps.Keys(pending)))
			}
		case strings.HasPrefix(call, "mkdirat("):
			pending[filepath.Dir(names[0][1])] = true
		case strings.HasPrefix(call, "openat(") && strings.Contains(call, "O_EXCL"):
			pending[names[0][1]] = true
		case strings.HasPrefix(call, "renameat("):
			if pending[names[0][1]] {
				t.Errorf("%s is renamed before it is flushed", names[0][1])
			}
			pending[filepath.Dir(names[1][1])] = true
		case strings.HasPrefix(call, "fsync("):
			delete(pending, descriptor.FindStringSubmatch(call)[1])
		}
	}
	if !deleted {
		t.Errorf("the old record was not deleted:\n%s", trace)
	}
	if reports, _ := w.run(t, job.Job{Op: job.Renew}, "-e", "trace=none"); last(t,
		reports).Result.Token.Reveal() != signIn.AccessToken {
		t.Errorf("%+v", last(t, reports))
	}
}

// TestEveryCallOfAMoveFails makes each system call of a move fail in turn: the record is in force afterwards, moved or not, and
// can be moved.
func TestEveryCallOfAMoveFails(t *testing.T) {
	t.Parallel()
	w := newMoveWorkshop(t)
	injected, failed := 0, 0
	for _, call := range []string{"openat", "pwrite64", "ftruncate", "fsync", "renameat", "mkdirat", "fchmod", "flock", "unlinkat"} {
		for _, errno := range []string{"ENOSPC", "EROFS", "EIO", "EDQUOT"} {
			for when := 1; when <= 14; when++ {
				signIn := w.putInFile(t)
				reports, trace := w.run(t, job.Job{Op: job.Move, Target: "encrypted"}, "-e", "trace="+call, "-e",
					fmt.Sprintf("inject=%s:error=%s:when=%d", call, errno, when))
				if !strings.Contains(trace, "(INJECTED)") {
					break
				}
				injected++
				if len(reports) == 0 || last(t, reports).Err != nil {
					failed++
				}
				where := fmt.Sprintf("%s %s, the %dth time", call, errno, when)
				if reports, _ := w.run(t, job.Job{Op: job.Renew}, "-e", "trace=none"); last(t,
					reports).Result.Token.Reveal() != signIn.AccessToken {
					t.Fatalf("%s: then %+v\n%s", where, last(t, reports), trace)
				}
				for range 2 { // the second removes what the first has left
					if reports, _ := w.run(t, job.Job{Op: job.Move, Target: "encrypted"}, "-e", "trace=none"); last(t, reports).Err != nil {
						t.Fatalf("%s: moved again: %+v\n%s", where, last(t, reports), trace)
					}
				}
				if reports, _ := w.run(t, job.Job{Op: job.Renew}, "-e", "trace=none"); last(t,
					reports).Result.Token.Reveal() != signIn.AccessToken ||
					last(t, reports).Result.Store != "encrypted" {
					t.Fatalf("%s: at the end %+v", where, last(t, reports))
				}
				filepath.WalkDir(w.h.root, func(path string, d os.DirEntry, err error) error {
					if err == nil && d.Type().IsRegular() && path != w.h.root+"/trace" {
						if text, _ := os.ReadFile(path); bytes.Contains(text, []byte(signIn.RefreshToken)) {
							t.Errorf("%s: %s still holds the refresh token", where, path)
						}
					}
					return nil
				})
			}
		}
	}
	t.Logf("%d calls failed, and %d moves with them", injected, failed)
	if injected < 100 || failed == 0 || failed == injected {
		t.Error("too few to judge by")
	}
}
