// Package harden hides the memory of a running process from other programs of its user, as far as the system can.
// docs/security.md says what other programs can do before that.
package harden
