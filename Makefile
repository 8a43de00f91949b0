# ccagent's workbench. `make help` lists what there is; CI (.ci/run) calls these targets and nothing else.

GO      ?= go
BIN     ?= bin
PREFIX  ?= /usr/local
DESTDIR ?=
# Not every shell expands the ~ in `make install PREFIX=~/.local`.
override PREFIX := $(patsubst ~/%,$(HOME)/%,$(PREFIX))

# Flags for one run: make test TESTFLAGS='-v -run Renew', make bench BENCHFLAGS=-quick, make fuzz FUZZTIME=5m.
TESTFLAGS  ?=
BENCHFLAGS ?=
FUZZTIME   ?= 50000x

# Pinned, and run from the module proxy: none is a dependency of ours.
STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOVULNCHECK = golang.org/x/vuln/cmd/govulncheck@v1.9.0
APIDIFF     = golang.org/x/exp/cmd/apidiff@v0.0.0-20261014143641-f0251eb4aa3e

PROGRAMS  = ccagent cchelper
PLATFORMS = linux/amd64 linux/arm64 darwin/amd64 darwin/arm64

# What is shipped has no C in it and no path of the machine that built it. Its version is what Go stamps into it from the
# repository; a tree that git cannot read (an unpacked archive, another user's checkout) builds without one.
# urfave_cli_no_docs leaves out a Markdown renderer that the programs never use.
BUILDVCS   := $(shell git rev-parse --verify -q HEAD >/dev/null 2>&1 && echo true || echo false)
BUILDFLAGS  = -trimpath -buildvcs=$(BUILDVCS) -tags urfave_cli_no_docs -ldflags '-s -w'

# Where cchelper can ask before Go's runtime starts, it does (cmd/cchelper/early/README.md): $(call entry,linux/amd64).
entry = $(if $(filter linux/amd64 linux/arm64,$(1)),-ldflags './cmd/cchelper=-s -w -E github.com/ccagent/ccagent/cmd/cchelper/early.entry')

export CGO_ENABLED = 0

.DEFAULT_GOAL := build
.DELETE_ON_ERROR:

##@ Every day

.PHONY: build
build: ## build both programs into BIN (bin)
	$(GO) build $(BUILDFLAGS) $(call entry,$(shell $(GO) env GOOS)/$(shell $(GO) env GOARCH)) -o '$(BIN)/' $(PROGRAMS:%=./cmd/%)

.PHONY: test
test: ## unit tests: need Go alone, no C compiler and no network
	$(GO) test $(TESTFLAGS) ./...

.PHONY: demo
demo: build ## see it work: a sign-in, a herd, an outage and a crash, in a temporary home
	'$(BIN)/ccagent' demo

.PHONY: recording
recording: build ## draw what the demo prints into docs/demo.svg, which README shows (Linux)
	$(GO) run ./test/recording -o docs/demo.svg '$(BIN)/ccagent' demo

.PHONY: vet
vet: ## gofmt, and vet for Linux: the quick part of lint
	@files=$$(gofmt -l $$(git ls-files --cached --others --exclude-standard '*.go')) || exit 1; \
	if [ -n "$$files" ]; then echo "gofmt -w is due for:"; echo "$$files"; exit 1; fi
	GOOS=linux $(GO) vet -tags e2e ./...

.PHONY: lint
lint: vet ## vet, also for macOS, staticcheck, the width of lines
	GOOS=darwin $(GO) vet ./...
	$(GO) run $(STATICCHECK) -tags e2e ./...
	$(GO) test -run TestWidth .

##@ Before a merge

.PHONY: race
race: ## unit tests under the race detector: needs a C compiler
# It has each process sleep for a second at its end, unless told otherwise, and the scripts start hundreds.
	GORACE=atexit_sleep_ms=0 CGO_ENABLED=1 $(GO) test -race $(TESTFLAGS) ./...

.PHONY: fuzz
fuzz: ## every fuzz target for FUZZTIME (50000 inputs) each
	@targets=$$(grep -ro --include='*_test.go' '^func Fuzz[[:alnum:]_]*' . | sed 's|/[^/]*:func | |'); \
	if [ -z "$$targets" ]; then echo "no fuzz target found"; exit 1; fi; \
	echo "$$targets" | while read -r pkg name; do \
		echo "== $$name ($$pkg)"; \
		$(GO) test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) "$$pkg" </dev/null || exit 1; \
	done

.PHONY: e2e
e2e: dist ## the proof with real parts (installs them first, as root; Linux)
	test/e2e/setup.sh
# Those that mostly wait, in a home that nobody else has a part in, run four at a time when all others are done.
	$(GO) test -tags e2e -count=1 -v -timeout 40m -parallel 4 $(TESTFLAGS) ./test/e2e/...

.PHONY: mac-check
mac-check: ## on a Mac: launchd, the Keychain and the socket's peers, each tried and reported
	@if [ "$$(uname -s)" = Darwin ]; then $(MAKE) -s build BIN=bin; fi
	@test/mac/check.sh

.PHONY: bench
bench: build ## speed and size against other agents, as a table (docs/performance.md)
	$(GO) run ./test/bench -bin '$(BIN)' $(BENCHFLAGS)

.PHONY: cover
cover: ## coverage of the unit tests, per function and in all
	$(GO) test -coverprofile=cover.out -coverpkg=./... ./...
	$(GO) tool cover -func=cover.out

.PHONY: apidiff
apidiff: ## what is different for programs that import our packages, since the last tag
# From version 1 on an incompatible change fails; before, it is shown, for CHANGELOG.md to tell.
	@tag=$$(git describe --tags --abbrev=0 --match 'v[0-9]*' 2>/dev/null) || { echo "there is no tag to compare with yet"; exit 0; }; \
	module=$$($(GO) list -m) && dir=$$(mktemp -d) && trap 'rm -rf "$$dir"' EXIT && \
	git clone -q . "$$dir/old" && git -C "$$dir/old" checkout -q "$$tag" && \
	(cd "$$dir/old" && $(GO) run $(APIDIFF) -m -w "$$dir/old.api" "$$module") && \
	$(GO) run $(APIDIFF) -m -w "$$dir/new.api" "$$module" && \
	echo "since $$tag:" && $(GO) run $(APIDIFF) -m "$$dir/old.api" "$$dir/new.api" && \
	case $$tag in v0.*) ;; *) \
		broken=$$($(GO) run $(APIDIFF) -m -incompatible "$$dir/old.api" "$$dir/new.api") && \
		if [ -n "$$broken" ]; then echo "incompatible changes need a new major version"; exit 1; fi;; \
	esac

.PHONY: vuln
vuln: ## known vulnerabilities in what we link (asks vuln.go.dev)
# Not a part of CI: its answer changes without a change of ours, and it wants a host that is not a module proxy.
	$(GO) run $(GOVULNCHECK) -tags urfave_cli_no_docs ./...

##@ Shipping

.PHONY: install
install: build ## install into PREFIX (/usr/local), below DESTDIR where a package is built
	$(if $(filter /%,$(PREFIX)),,$(error PREFIX must be an absolute path, not "$(PREFIX)"))
	@case '$(PREFIX)' in *[[:space:]%\&\|\;\"\\]*) echo 'PREFIX has a character that a unit may not have: $(PREFIX)' >&2; exit 1;; esac
	install -d '$(DESTDIR)$(PREFIX)/bin'
# Linux keeps the memory of a program that its user may run and not read closed from its first moment (docs/security.md).
	install -m $(if $(filter Linux,$(shell uname -s)),0711,0755) $(PROGRAMS:%='$(BIN)'/%) '$(DESTDIR)$(PREFIX)/bin/'
ifeq ($(shell uname -s),Darwin)
	install -d '$(DESTDIR)$(PREFIX)/share/ccagent'
	sed 's|/usr/bin/ccagent|$(PREFIX)/bin/ccagent|' packaging/launchd/com.github.ccagent.plist \
		>'$(DESTDIR)$(PREFIX)/share/ccagent/com.github.ccagent.plist'
else
# share/systemd/user is searched below ~/.local, /usr/local and /usr alike.
	install -d '$(DESTDIR)$(PREFIX)/share/systemd/user'
	install -m 0644 packaging/systemd/ccagent.socket '$(DESTDIR)$(PREFIX)/share/systemd/user/'
	sed 's|/usr/bin/ccagent|$(PREFIX)/bin/ccagent|' packaging/systemd/ccagent.service \
		>'$(DESTDIR)$(PREFIX)/share/systemd/user/ccagent.service'
endif

.PHONY: units
units: build ## check the systemd units as installed, and the launchd plist
# Neither checker says by its exit code what it says on stderr.
	@dir=$$(mktemp -d) && trap 'rm -rf "$$dir"' EXIT && \
	$(MAKE) --no-print-directory install PREFIX="$$dir" >/dev/null && \
	{ XDG_RUNTIME_DIR="$$dir" systemd-analyze --user verify "$$dir"/share/systemd/user/ccagent.socket "$$dir"/share/systemd/user/ccagent.service && \
	plistutil -i packaging/launchd/com.github.ccagent.plist -o "$$dir/plist"; } 2>"$$dir/said"; rc=$$?; \
	cat "$$dir/said"; [ $$rc -eq 0 ] && [ ! -s "$$dir/said" ] && [ -s "$$dir/plist" ] && echo "units and plist are in order"

.PHONY: cross
cross: ## build both programs for every platform, into dist/
	@$(foreach platform,$(PLATFORMS),echo "== $(platform)" && mkdir -p "dist/$(platform)" && \
		GOOS=$(patsubst %/,%,$(dir $(platform))) GOARCH=$(notdir $(platform)) $(GO) build $(BUILDFLAGS) $(call entry,$(platform)) -o "dist/$(platform)/" $(PROGRAMS:%=./cmd/%) &&) true

.PHONY: man
man: build ## the manual pages, into dist/man/
	bin=$$(realpath '$(BIN)') && cd packaging/man && $(GO) run . "$$bin" ../../docs ../../dist/man devel "$$(git log -1 --format=%cs 2>/dev/null)"

.PHONY: dist
dist: cross ## packages (deb, rpm), archives, bill of materials and sums of HEAD, into dist/out/
	GO=$(GO) packaging/dist.sh

.PHONY: committed
committed:
	@[ -z "$$(git status --porcelain)" ] || { echo "commit first: what is built again is HEAD"; exit 1; }

.PHONY: repro
repro: committed build dist ## build and package HEAD again, in another folder, with another build cache and umask: the same bytes?
	@dir=$$(mktemp -d) && trap 'rm -rf "$$dir"' EXIT && \
	(umask 077 && git clone -q . "$$dir/elsewhere/two" && \
	GOCACHE="$$dir/cache" TOOLS_CACHE=$$($(GO) env GOCACHE) $(MAKE) --no-print-directory -C "$$dir/elsewhere/two" build dist >/dev/null) && \
	for p in $(PROGRAMS); do cmp "$(BIN)/$$p" "$$dir/elsewhere/two/bin/$$p" || exit 1; done && \
	diff dist/out/SHA256SUMS "$$dir/elsewhere/two/dist/out/SHA256SUMS" && cat dist/out/SHA256SUMS && \
	echo "both builds are the same, byte for byte"

.PHONY: clean
clean: ## remove what was built
	rm -rf '$(BIN)' dist cover.out

.PHONY: help
help: ## this list
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-z][a-z0-9-]*:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
