#!/bin/sh
# Installs the real parts that the end-to-end tests run against: shells, tmux, strace, Chromium, keyrings, systemd-nspawn with a
# Debian tree whose PID 1 is systemd, Claude Code, Gemini CLI and the MCP SDK from npm at pinned versions, docker's client, and a
# newer git than bookworm's.
# Needs Debian (or Ubuntu) and root. Safe to run again: what is there stays. The parts rest in $CCAGENT_E2E_DIR
# (/var/cache/ccagent-e2e), where the tests look for them.
set -eu

claude_version=2.1.330
mcp_sdk_version=1.32.2
node_version=22.23.5
gemini_version=0.61.0
dir=${CCAGENT_E2E_DIR:-/var/cache/ccagent-e2e}

packages="bubblewrap ca-certificates chromium csh curl dbus-daemon fish git gnome-keyring groff keepassxc man-db mmdebstrap npm openssh-client openssh-server python3 qemu-user-static rpm skopeo strace systemd systemd-container tcsh tmux util-linux zsh"
tree_packages=systemd,systemd-sysv,dbus,dbus-user-session,libpam-systemd,login,make,passwd,procps

say() { echo "e2e setup: $*" >&2; }

missing() {
	for p in $packages; do
		dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || echo "$p"
	done
}

install_packages() {
	want=$(missing)
	# npm may be there without Debian's package of it.
	if command -v npm >/dev/null 2>&1; then want=$(echo "$want" | grep -vx npm || true); fi
	[ -n "$want" ] || return 0
	say "installing" $want
	apt-get update -qq
	# shellcheck disable=SC2086 # one word each
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $want >/dev/null
}

# from_npm WHAT FOLDER ARGUMENTS: installs packages of npm into a folder of ours, whole or not at all, and runs nothing of them.
from_npm() {
	say "installing $1"
	folder=$dir/$2
	shift 2
	tmp=$(mktemp -d "$dir/npm.XXXXXX")
	npm install --silent --no-audit --no-fund --ignore-scripts --no-save --prefix "$tmp" "$@"
	chmod 755 "$tmp"
	mv "$tmp" "$folder"
}

# The package of the platform holds the program itself; the outer package's install script only links to it, so that it may be
# left out, and with it whatever it would want to download.
install_claude() {
	case $(uname -m) in
	x86_64) platform=linux-x64 ;;
	aarch64) platform=linux-arm64 ;;
	*) say "no Claude Code for $(uname -m)"; return 1 ;;
	esac
	claude=$dir/claude-$claude_version
	if [ ! -x "$claude" ]; then
		say "installing Claude Code $claude_version"
		tmp=$(mktemp -d "$dir/npm.XXXXXX")
		npm install --silent --no-audit --no-fund --ignore-scripts --no-save --prefix "$tmp" \
			"@anthropic-ai/claude-code-$platform@$claude_version"
		mv "$tmp/node_modules/@anthropic-ai/claude-code-$platform/claude" "$claude"
		rm -rf "$tmp"
	fi
	ln -sfn "claude-$claude_version" "$dir/claude"
	"$dir/claude" --version >/dev/null
}

# The official MCP SDK, whose example is a server with its own authorization server.
install_mcp_sdk() {
	sdk=mcp-sdk-$mcp_sdk_version
	[ -d "$dir/$sdk" ] || from_npm "the MCP SDK $mcp_sdk_version" "$sdk" "@modelcontextprotocol/sdk@$mcp_sdk_version"
	ln -sfn "$sdk" "$dir/mcp-sdk"
}

# Gemini CLI, without the parts that would have to be compiled. It wants a newer Node.js than bookworm's, which npm has too.
install_gemini() {
	node=$(command -v node)
	if ! "$node" -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)'; then
		node=$dir/node-$node_version/node_modules/node-$platform/bin/node
		[ -x "$node" ] || from_npm "Node.js $node_version" "node-$node_version" "node-$platform@$node_version"
	fi
	gemini=gemini-$gemini_version
	[ -d "$dir/$gemini" ] || from_npm "Gemini CLI $gemini_version" "$gemini" --omit=optional "@google/gemini-cli@$gemini_version"
	printf '#!/bin/sh\nexec "%s" "%s" "$@"\n' "$node" "$dir/$gemini/node_modules/.bin/gemini" >"$dir/gemini.new"
	chmod 755 "$dir/gemini.new"
	mv "$dir/gemini.new" "$dir/gemini"
}

# The client alone, which needs no daemon to be installed and started. From bookworm's docker.io, or later releases' docker-cli.
install_docker() {
	[ ! -x "$dir/docker" ] || return 0
	say "installing docker's client"
	apt-get update -qq
	tmp=$(mktemp -d "$dir/docker.XXXXXX")
	package=$(apt-cache show docker-cli >/dev/null 2>&1 && echo docker-cli || echo docker.io)
	(cd "$tmp" && apt-get download -qq "$package" && dpkg-deb -x "$package"_*.deb .)
	mv "$tmp/usr/bin/docker" "$dir/docker"
	rm -rf "$tmp"
	"$dir/docker" --version >/dev/null
}

# A git that sends bearer tokens, which begins with 2.46: trixie's, with the libraries that it wants.
install_git() {
	[ ! -x "$dir/git/usr/bin/git" ] || return 0
	say "installing a newer git"
	tmp=$(mktemp -d "$dir/git.XXXXXX")
	mmdebstrap --quiet --variant=extract --include=git,dash trixie "$tmp"
	chmod 755 "$tmp"
	mv "$tmp" "$dir/git"
}

# A Debian whose PID 1 is systemd, with a user alice who lingers: her user manager runs without a login.
install_tree() {
	[ "$(cat "$dir/debian.packages" 2>/dev/null)" != "$tree_packages" ] || return 0
	say "building a Debian tree"
	rm -rf "$dir/debian" "$dir/debian.packages"
	tmp=$(mktemp -d "$dir/tree.XXXXXX")
	mmdebstrap --quiet --variant=minbase --include=$tree_packages \
		--customize-hook='chroot "$1" useradd --create-home --uid 1000 alice' \
		--customize-hook='mkdir -p "$1/var/lib/systemd/linger" && touch "$1/var/lib/systemd/linger/alice"' \
		--customize-hook='rm -rf "$1"/var/cache/apt/* "$1"/var/lib/apt/lists/*' \
		bookworm "$tmp"
	chmod 755 "$tmp"
	mv "$tmp" "$dir/debian"
	echo "$tree_packages" >"$dir/debian.packages"
}

# Two ordinary people, neither of them us.
install_users() {
	for user in ccagent-alice ccagent-bob; do
		id "$user" >/dev/null 2>&1 || useradd --system --create-home --home-dir "/home/$user" --shell /bin/sh "$user"
		usermod --password '*' "$user" # no password, and not locked: sshd lets a key in
	done
}

[ "$(id -u)" = 0 ] || { say "must run as root"; exit 1; }
mkdir -p "$dir"
chmod 755 "$dir"
install_packages
install_users
install_claude
install_mcp_sdk
install_gemini
install_docker
install_git
install_tree
say "ready in $dir"
