#!/bin/sh
# Tries on a Mac what could not be tried elsewhere: launchd, the Keychain, and who is at the other end of a socket. `make mac-check`
# builds the programs and calls it. It uses fake keys alone. Settings and records of its own lie in a temporary folder; in the
# Keychain and in ~/Library/LaunchAgents it removes what it has put there. Its exit code is 1 if a check failed, 2 if there is
# nothing to check.
set -u
cd "$(dirname "$0")/../.." || exit 2

if [ "$(uname -s)" != Darwin ]; then
	echo "mac-check: this is $(uname -s) and no Mac, so nothing was tried; run make mac-check on macOS" >&2
	exit 2
fi
bin=$PWD/bin
for program in ccagent cchelper; do
	if [ ! -x "$bin/$program" ]; then
		echo "mac-check: $bin/$program is not there; run make mac-check, which builds it" >&2
		exit 2
	fi
done

dir=$(cd "$(mktemp -d /tmp/ccmac.XXXXXX)" && pwd -P) || exit 2
uid=$(id -u)
job=gui/$uid/com.github.ccagent
plist=$HOME/Library/LaunchAgents/com.github.ccagent.plist
profile=mac-check-$$
mkdir -m 700 "$dir/run" "$dir/claude"
export XDG_CONFIG_HOME="$dir/config" XDG_DATA_HOME="$dir/data" XDG_STATE_HOME="$dir/state"
export CCAGENT_SOCK="$dir/run/agent.sock" CLAUDE_CONFIG_DIR="$dir/claude"
unset CLAUDE_SECURESTORAGE_CONFIG_DIR CCAGENT_PROFILE CCAGENT_SOCK_UID

ok=0 failed=0 skipped=0 agent='' installed='' claude_item=''

# check NAME NEXT COMMAND...: runs the command, says how it went, and what to do next where it failed.
check() {
	name=$1 next=$2
	shift 2
	if "$@" >"$dir/said" 2>&1; then
		ok=$((ok + 1))
		printf 'ok    %s\n' "$name"
		return 0
	fi
	failed=$((failed + 1))
	printf 'FAIL  %s\n' "$name"
	tail -n 20 "$dir/said" | sed 's/^/      | /'
	printf '      next: %s\n' "$next"
	return 1
}

# skip NAME WHY
skip() {
	skipped=$((skipped + 1))
	printf 'skip  %s: %s\n' "$1" "$2"
}

start_agent() {
	"$bin/ccagent" serve --log-file "$dir/agent.log" &
	agent=$!
	tries=0
	until "$bin/ccagent" status >/dev/null 2>&1; do
		tries=$((tries + 1))
		if [ $tries -gt 50 ]; then
			cat "$dir/agent.log"
			return 1
		fi
		sleep 0.2
	done
}

stop_agent() {
	if [ -n "$agent" ]; then
		kill "$agent" 2>/dev/null
		wait "$agent" 2>/dev/null
		agent=''
	fi
}

# ours COMMAND...: with the environment of the person, as launchd's agent has it.
ours() {
	env -u CCAGENT_SOCK -u XDG_CONFIG_HOME -u XDG_DATA_HOME -u XDG_STATE_HOME -u CLAUDE_CONFIG_DIR "$@"
}

clean_up() {
	"$bin/ccagent" remove "$profile" --yes >/dev/null 2>&1 # its item in the Keychain
	stop_agent
	[ -z "$claude_item" ] || security delete-generic-password -a "$USER" -s "$claude_item" >/dev/null 2>&1
	[ -z "$installed" ] || ours "$bin/ccagent" uninstall --yes >/dev/null 2>&1
	rm -rf "$dir"
}
trap clean_up EXIT
trap 'exit 1' HUP INT TERM

echo "macOS $(sw_vers -productVersion) on $(uname -m), $(go version), ccagent $("$bin/ccagent" version)"
echo "If macOS asks whether a program may use your Keychain, allow it."
echo

### The programs as they are

check "the unit tests" "the tests that failed are named above; run one with: go test ./PACKAGE -run NAME -v" make -s test
check "the demo" "run it by hand: bin/ccagent demo" "$bin/ccagent" demo

### Who is at the other end of the socket (LOCAL_PEERCRED, protocol/peer_darwin.go)

gives() { # gives WANTED COMMAND...: the command prints just that
	wanted=$1
	shift
	got=$("$@") || return
	[ "$got" = "$wanted" ] || { echo "it printed: $got"; return 1; }
}

add_key() { # add_key STORE
	printf 'fake-key-mac' | "$bin/ccagent" add "$profile" --provider static --store "$1" --force
}

root_refused() {
	if sudo -n env CCAGENT_SOCK="$CCAGENT_SOCK" CCAGENT_SOCK_UID="$uid" "$bin/cchelper" -p "$profile"; then
		echo "root was given a token"
		return 1
	fi
	grep -i 'refused' "$dir/agent.log" || { echo "the log does not say that anybody was refused:"; cat "$dir/agent.log"; return 1; }
}

if check "an agent starts" "its log is above; run it by hand: bin/ccagent serve --log-level debug" start_agent; then
	check "a key is taken" "run it by hand: bin/ccagent add NAME --provider static --store memory" add_key memory
	check "you are let in" "see protocol/peer_darwin.go: does LOCAL_PEERCRED say your user id ($uid)?" \
		gives fake-key-mac "$bin/cchelper" -p "$profile"
	if sudo -n true 2>/dev/null; then
		check "root is refused" "see protocol/peer_darwin.go: whose id does LOCAL_PEERCRED say?" root_refused
	else
		skip "root is refused" "it needs sudo without a question; run sudo -v, then this again"
	fi
fi

### The Keychain: our own items, and Claude Code's

in_keychain() {
	stop_agent
	start_agent && gives fake-key-mac "$bin/cchelper" -p "$profile" || return
	if grep -rq fake-key-mac "$dir/data" "$dir/state" 2>/dev/null; then
		echo "the key lies in a file"
		return 1
	fi
}

removed() {
	"$bin/ccagent" remove "$profile" --yes || return
	add_key memory && "$bin/ccagent" doctor store -p "$profile" | tee "$dir/stores" || return
	grep -q 'keyring.*nothing' "$dir/stores"
}

claude_sign_in() {
	claude_item="Claude Code-credentials-$(printf %s "$CLAUDE_CONFIG_DIR" | shasum -a 256 | cut -c 1-8)"
	security add-generic-password -U -a "$USER" -s "$claude_item" -w \
		'{"claudeAiOauth":{"accessToken":"fake-access-mac","refreshToken":"fake-refresh-mac","expiresAt":32503680000000}}' || return
	stop_agent
	start_agent && gives fake-access-mac "$bin/cchelper" -p claude
}

if [ -n "$agent" ]; then
	"$bin/ccagent" remove "$profile" --yes >/dev/null 2>&1
	if check "a key is kept in the Keychain" "try: security add-generic-password -s ccagent-try -a me -w x" add_key keyring; then
		check "the next agent finds it there" "try: bin/ccagent doctor store -p NAME; the store is store/keyring.go" in_keychain
		check "remove deletes it there" "look for the service ccagent in Keychain Access" removed
	fi
	check "Claude Code's item is read" "see store/keychain_darwin.go: is the item's name right, and its account \$USER?" claude_sign_in
	stop_agent
fi

### launchd

launched() { # launched COMMAND...: with the socket that launchd names
	ours env CCAGENT_SOCK="$(launchctl getenv CCAGENT_SOCK)" "$@"
}
pid_of_agent() { launched "$bin/ccagent" status --json | sed -n 's/.*"pid": *\([0-9][0-9]*\).*/\1/p'; }
socket_is_named() {
	sock=$(launchctl getenv CCAGENT_SOCK)
	[ -S "$sock" ] || { echo "CCAGENT_SOCK of launchd is \"$sock\", and no socket"; return 1; }
	ls -ld "$(dirname "$sock")" "$sock"
}
is_launchds() {
	pid=$(pid_of_agent)
	parent=$(ps -o ppid= -p "$pid" | tr -d ' ')
	[ "$parent" = 1 ] || { echo "agent $pid has the parent $parent, and not launchd (1)"; return 1; }
}
starts_again() {
	before=$(pid_of_agent)
	launched "$bin/ccagent" stop --timeout 60s || return
	after=$(pid_of_agent)
	echo "before it was agent $before, then agent $after"
	[ -n "$after" ] && [ "$after" != "$before" ]
}
uninstalled() {
	ours "$bin/ccagent" uninstall || return
	installed=''
	[ ! -e "$plist" ] || { echo "$plist is there still"; return 1; }
	! launchctl print "$job"
}

if [ -e "$plist" ] || launchctl print "$job" >/dev/null 2>&1; then
	skip "launchd" "ccagent is installed for you already; to have it tried, run ccagent uninstall first"
elif ours "$bin/ccagent" status >/dev/null 2>&1; then
	skip "launchd" "an agent of yours runs, and installing would end it; to have it tried, run ccagent stop first"
else
	installed=yes
	diagnose="run it by hand: bin/ccagent install; then: launchctl print $job"
	if check "install has launchd start the agent" "$diagnose" ours "$bin/ccagent" install --yes; then
		check "launchd names its socket" "look at Sockets in: launchctl print $job" socket_is_named
		check "the agent is a child of launchd" "$diagnose" is_launchds
		check "launchd starts it again" "is it still loaded? launchctl print $job" starts_again
		check "uninstall leaves nothing" "run: launchctl bootout $job; rm $plist" uninstalled
	fi
fi

echo
printf '%d ok, %d failed, %d skipped\n' $ok $failed $skipped
if [ $failed -gt 0 ]; then
	echo "Please open an issue with all of the above. The keys in it are fake."
	exit 1
fi
echo "Please tell us with all of the above, so that the documents can say that it was run on a Mac."
