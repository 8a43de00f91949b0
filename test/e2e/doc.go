// Package e2e proves ccagent with real parts: the real Claude Code, systemd as PID 1, real shells, a second Unix user, full and
// read-only file systems, 1,000 processes at once. The tests carry the build tag e2e, run as root on Linux, and find what
// setup.sh installed; `make e2e` does both. A missing part is a failure: CCAGENT_E2E_PARTIAL=1 makes it a skip on a machine that
// can't have it, and is ignored where CI is set.
package e2e
