// Package undo takes back what a command of several steps has done where one of them fails.
package undo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ccagent/ccagent/protocol"
)

// Steps are what a command has done so far. A command of several steps ends with all of them done, or with none: where one fails,
// those before it are taken back, the last one first.
type Steps struct{ done []Step }

// Step is one of them.
type Step struct {
	Back func(context.Context) error // takes it back
	Left string                      // what is left where that fails: a whole sentence without its full stop
	Mend string                      // the command that mends it then
}

// backTime bounds the taking back. The command's own time may be over by then.
const backTime = 30 * time.Second

// Did notes a step that is done.
func (s *Steps) Did(d Step) { s.done = append(s.done, d) }

// undone is the error of a command that has ended with none of its steps done.
type undone struct{ because error }

func (u undone) Error() string { return u.because.Error() + "; nothing was changed" }
func (u undone) Unwrap() error { return u.because }

// partly is the error of one that has ended with some of them done. It says which.
type partly struct{ error }

func (p partly) Unwrap() error { return p.error }

// Partly marks an error as that of a command that has ended with some of its steps done, and that says which.
func Partly(err error) error { return partly{err} }

// Told reports whether err says what has become of the steps of a command.
func Told(err error) bool {
	var none undone
	var some partly
	return errors.As(err, &none) || errors.As(err, &some)
}

// Fail takes everything back because of err. The error that it returns says that nothing was changed, or what is left and what
// mends it. Where err is of a step that is such a command itself and has left something, what was done before that rests on it,
// and stays.
func (s *Steps) Fail(ctx context.Context, err error) error {
	var left partly
	if errors.As(err, &left) {
		return err
	}
	var none undone
	if errors.As(err, &none) { // it is said once
		err = none.because
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), backTime)
	defer cancel()
	for len(s.done) > 0 {
		last := s.done[len(s.done)-1]
		if backErr := last.Back(ctx); backErr != nil {
			return s.leaves(err, backErr)
		}
		s.done = s.done[:len(s.done)-1]
	}
	return undone{err}
}

// FailAt is fail for a request to the agent that ctx bounded. Where the command's own time is over, the agent goes on with it:
// nothing is taken back then, for nobody knows what there will be.
func (s *Steps) FailAt(ctx context.Context, profile string, err error) error {
	if ctx.Err() == nil {
		return s.Fail(ctx, err)
	}
	hint := protocol.HintOf(err) + "\nsee what became of it: ccagent status -p " + profile + "\nthen type the same command again"
	return partly{&protocol.Error{Code: protocol.CodeOf(err), Detail: protocol.DetailOf(err),
		Message: err.Error() + "; the agent may still do it, so nothing was taken back", Hint: strings.TrimPrefix(hint, "\n")}}
}

// leaves is err with what is left because taking back the last step failed with backErr: what was done before it rests on it.
func (s *Steps) leaves(err, backErr error) error {
	var left, mends []string
	for i := len(s.done) - 1; i >= 0; i-- {
		if d := s.done[i]; !slices.Contains(left, d.Left) {
			left = append(left, d.Left)
		}
		if d := s.done[i]; !slices.Contains(mends, d.Mend) {
			mends = append(mends, d.Mend)
		}
	}
	return partly{&protocol.Error{Code: protocol.CodeOf(err), Detail: protocol.DetailOf(err),
		Message: fmt.Sprintf("%v; and it could not all be taken back (%v): %s", err, backErr, strings.Join(left, ", ")),
		Hint:    strings.TrimPrefix(protocol.HintOf(err)+"\nonce that is put right: "+strings.Join(mends, "; "), "\n")}}
}
