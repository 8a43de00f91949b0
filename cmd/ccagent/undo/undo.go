// Package undo takes back the steps that a command has done, if a later step fails.
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

// Steps are the steps that a command has done so far. A command with several steps ends with all of them done, or with none. If
// one fails, those before it are taken back, the last one first.
type Steps struct{ done []Step }

// Step is one step that is done.
type Step struct {
	Back func(context.Context) error // takes it back
	Left string                      // what is left if that fails: a whole sentence without its full stop
	Mend string                      // the command that mends it in that case
}

// backTime limits how long taking back may take. It does not depend on the command's own time limit, which may be over by then.
const backTime = 30 * time.Second

// Did adds a step that is done.
func (s *Steps) Did(d Step) { s.done = append(s.done, d) }

// undone is the error of a command that ends with none of its steps done.
type undone struct{ because error }

func (u undone) Error() string { return u.because.Error() + "; nothing was changed" }
func (u undone) Unwrap() error { return u.because }

// partly is the error of a command that ends with some of its steps done. Its message says which.
type partly struct{ error }

func (p partly) Unwrap() error { return p.error }

// Partly marks an error of a command that ends with some of its steps done. The message of err has to say which.
func Partly(err error) error { return partly{err} }

// Left reports whether the message of err says that some of a command's steps are left.
func Left(err error) bool {
	var some partly
	return errors.As(err, &some)
}

// Told reports whether the message of err says which steps of a command are done.
func Told(err error) bool {
	var none undone
	return errors.As(err, &none) || Left(err)
}

// Fail takes all steps back because of err. The error that it returns says that nothing was changed, or what is left and how to
// mend it. A step can be a command with several steps itself. If err says that such a step has left something, then Fail takes
// nothing back, because the earlier steps are needed for what is left.
func (s *Steps) Fail(ctx context.Context, err error) error {
	var left partly
	if errors.As(err, &left) {
		return err
	}
	var none undone
	if errors.As(err, &none) { // the message is to say it only once
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

// FailAt is Fail for a request to the agent with the time limit of ctx. If that time is over, the agent goes on with the request,
// and its result is not known. So nothing is taken back in that case.
func (s *Steps) FailAt(ctx context.Context, profile string, err error) error {
	if ctx.Err() == nil {
		return s.Fail(ctx, err)
	}
	hint := protocol.HintOf(err) + "\nsee what became of it: ccagent status -p " + profile + "\nthen type the same command again"
	left := "; the agent may still do it"
	if len(s.done) > 0 {
		left += ", so nothing was taken back"
	}
	return partly{&protocol.Error{Code: protocol.CodeOf(err), Detail: protocol.DetailOf(err),
		Message: err.Error() + left, Hint: strings.TrimPrefix(hint, "\n")}}
}

// leaves returns err with what is left, because taking back the last step has failed with backErr. The steps before it stay too.
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
