//go:build e2e

package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ccagent/ccagent/agent/oauth/oauthtest"
)

// otherClaude does what Claude Code was traced to do when it refreshes: its two lock directories, its owner file, the credentials
// read again, the provider, the file, and all that undone. Like the real one it takes away a lock that nobody has touched for a
// minute, and only that.
type otherClaude struct {
	dir      string
	provider *oauthtest.Server
}

func (c otherClaude) locks() []string {
	return []string{c.dir + "/.oauth_refresh.lock", c.dir + ".lock"}
}

func (c otherClaude) ownerFile() string { return c.dir + "/.oauth_refresh.lock.owner" }

func (c otherClaude) lock() error {
	for i, lock := range c.locks() {
		for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(3 * time.Millisecond) {
			err := os.Mkdir(lock, 0o755)
			if err == nil {
				break
			}
			if !errors.Is(err, fs.ErrExist) || time.Now().After(deadline) {
				for _, held := range c.locks()[:i] {
					os.Remove(held)
				}
				return err
			}
		}
	}
	return c.writeOwner(os.Getpid())
}

func (c otherClaude) unlock() {
	os.Remove(c.ownerFile())
	os.Remove(c.locks()[1])
	os.Remove(c.locks()[0])
}

// writeOwner writes the owner file as the process pid would.
func (c otherClaude) writeOwner(pid int) error {
	birth := func(path string) float64 {
		var st unix.Statx_t
		if unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_BTIME, &st) != nil {
			return 0
		}
		return float64(st.Btime.Sec)*1e3 + float64(st.Btime.Nsec)/1e6
	}
	machine, _ := os.ReadFile("/etc/machine-id")
	host, _ := os.Hostname()
	space, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return err
	}
	data, err := json.Marshal(map[string]any{
		"pid": pid, "procStart": procStart(pid),
		"pidDomain": "linux:" + strings.TrimSpace(string(machine)) + ":" + space, "pidSpace": host + "#" + space,
		"lockBirthtimeMs": birth(c.locks()[0]), "legacyLockBirthtimeMs": birth(c.locks()[1]),
	})
	if err != nil {
		return err
	}
	if err := os.WriteFile(c.ownerFile()+".tmp", data, 0o600); err != nil {
		return err
	}
	return os.Rename(c.ownerFile()+".tmp", c.ownerFile())
}

// procStart is a process's start in clock ticks; of one that has ended, something that none has.
func procStart(pid int) string {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "1"
	}
	return strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))[19]
}

// refresh renews the stored sign-in if its access token has expired.
func (c otherClaude) refresh() error {
	if err := c.lock(); err != nil {
		return err
	}
	defer c.unlock()
	path := c.dir + "/.credentials.json"
	var file map[string]map[string]any
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, &file); err != nil {
		return err
	}
	signIn := file["claudeAiOauth"]
	if int64(signIn["expiresAt"].(float64)) > time.Now().UnixMilli() {
		return nil
	}
	request, err := json.Marshal(map[string]any{"grant_type": "refresh_token", "refresh_token": signIn["refreshToken"]})
	if err != nil {
		return err
	}
	resp, err := http.Post(c.provider.TokenURL(), "application/json", bytes.NewReader(request))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var reply struct {
		Access  string  `json:"access_token"`
		Refresh string  `json:"refresh_token"`
		Seconds float64 `json:"expires_in"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&reply); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the provider answered %s", resp.Status)
	}
	signIn["accessToken"], signIn["refreshToken"] = reply.Access, reply.Refresh
	signIn["expiresAt"] = time.Now().Add(time.Duration(reply.Seconds * float64(time.Second))).UnixMilli()
	if data, err = json.Marshal(file); err != nil {
		return err
	}
	write := c.dir + "/.storage-write.lock"
	for os.Mkdir(write, 0o755) != nil {
		time.Sleep(time.Millisecond)
	}
	defer os.Remove(write)
	if err := os.WriteFile(path+".tmp", data, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".tmp", path)
}

// leftovers are what is in a Claude Code directory, and beside it, that a clean path must not leave there.
func leftovers(t *testing.T, dir string) []string {
	t.Helper()
	var found []string
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if name := entry.Name(); name != ".credentials.json" && name != ".ccagent.lock" {
			found = append(found, name)
		}
	}
	beside, err := filepath.Glob(dir + ".*")
	if err != nil {
		t.Fatal(err)
	}
	return append(found, beside...)
}

// Agents and Claude Code share one sign-in whose tokens live for a moment, until it has expired very often.
func TestOneFileManyRefreshers(t *testing.T) {
	for _, tt := range []struct {
		agents, expiries int
		lifetime         time.Duration
	}{{2, 500, 60 * time.Millisecond}, {8, 2000, 50 * time.Millisecond}} {
		t.Run(fmt.Sprintf("%d agents", tt.agents), func(t *testing.T) { manyRefreshers(t, tt.agents, tt.expiries, tt.lifetime) })
	}
}

func manyRefreshers(t *testing.T, agents, expiries int, lifetime time.Duration) {
	h, provider := newSignedIn(t, lifetime)
	other := otherClaude{h.path(".claude"), provider}
	var sockets []string
	for i := range agents {
		socket := fmt.Sprintf("%s/%d/agent.sock", h.runtime, i)
		sockets = append(sockets, socket)
		cmd := h.command(program("ccagent"), h.serveArgs()...)
		cmd.Env = append(cmd.Env, "CCAGENT_SOCK="+socket)
		h.serveOn(socket, cmd)
	}
	var all sync.WaitGroup
	served := make([]int, len(sockets))
	for i, socket := range sockets {
		all.Go(func() {
			for provider.Counts().Refreshes < expiries && !t.Failed() {
				cmd := exec.Command(program("cchelper"))
				cmd.Env = h.env("CCAGENT_SOCK=" + socket)
				out, err := cmd.CombinedOutput()
				switch {
				case err == nil:
					served[i]++
				case !strings.Contains(string(out), "already expired"): // the save took longer than the token lives
					t.Errorf("helper: %v %s", err, out)
				}
			}
		})
	}
	others := 0
	all.Go(func() {
		for provider.Counts().Refreshes < expiries && !t.Failed() {
			if err := other.refresh(); err != nil {
				t.Errorf("Claude Code's stand-in: %v", err)
			}
			others++
			time.Sleep(30 * time.Millisecond) // it asks only now and then; the agents get their turn
		}
	})
	all.Wait()
	t.Logf("%+v; the helpers ran %v times, Claude Code's stand-in %d", provider.Counts(), served, others)
	if n := provider.Counts(); n.Requests != n.Refreshes {
		t.Errorf("%+v: the provider refused some", n)
	}
	wait(t, "the locks to be released", func() bool { return len(leftovers(t, other.dir)) == 0 })
	checkSignIn(t, h.credentialsFile(), provider)
}

// A lock of Claude Code is waited for as long as its owner lives, and taken when it does not.
func TestLocksOfOthers(t *testing.T) {
	dead := exec.Command("true")
	if err := dead.Run(); err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		name  string
		owner int           // pid in the owner file; 0: no owner file
		age   time.Duration // since the last touch
		taken bool
	}{
		{"living owner", os.Getpid(), 0, false},
		{"living owner, not touched for 45 s", os.Getpid(), 45 * time.Second, false},
		{"unknown owner", 0, 0, false},
		{"dead owner", dead.Process.Pid, 0, true},
		{"older than 60 s", 0, 70 * time.Second, true},
	}
	for _, test := range cases {
		t.Run(test.name, func(t *testing.T) {
			h, provider := newSignedIn(t, time.Hour)
			h.signIn(expired(provider.Issue()))
			other := otherClaude{h.path(".claude"), provider}
			if err := other.lock(); err != nil {
				t.Fatal(err)
			}
			if err := other.writeOwner(test.owner); err != nil {
				t.Fatal(err)
			}
			if test.owner == 0 {
				os.Remove(other.ownerFile())
			}
			for _, lock := range other.locks() {
				touched := time.Now().Add(-test.age)
				if err := os.Chtimes(lock, touched, touched); err != nil {
					t.Fatal(err)
				}
			}
			h.serve()
			helper := h.command(program("cchelper"), "--timeout", "25s")
			var stdout, stderr bytes.Buffer
			helper.Stdout, helper.Stderr = &stdout, &stderr
			if err := helper.Start(); err != nil {
				t.Fatal(err)
			}
			if !test.taken {
				wait(t, "the worker", func() bool { return h.profile("claude").State == "renewing" })
				time.Sleep(time.Second) // long enough to have taken it, were it going to; a faster machine makes no difference
				if n := provider.Counts().Requests; n != 0 {
					t.Fatal("the provider was asked while Claude Code held its lock")
				}
				for _, lock := range other.locks() {
					if !exists(lock) {
						t.Errorf("%s was taken away", lock)
					}
				}
				other.unlock()
			}
			if err := helper.Wait(); err != nil {
				t.Fatalf("helper: %v %s", err, stderr.String())
			}
			if token := strings.TrimSpace(stdout.String()); !provider.Live(token) {
				t.Errorf("token %s is not live", token)
			}
			wait(t, "the locks to be released", func() bool { return len(leftovers(t, other.dir)) == 0 })
			checkSignIn(t, h.credentialsFile(), provider)
		})
	}
}
