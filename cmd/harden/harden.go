// Package harden hides a process's memory from the other programs of its user, as far as the system can do that for a process
// that runs already. docs/security.md says what is left open before.
package harden
