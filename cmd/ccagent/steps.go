package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ccagent/ccagent/protocol"
)

// steps are what a command has done so far. A command of several steps ends with all of them done, or with none: where one fails,
// those before it are taken back, the last one first.
type steps struct{ done []deed }

// deed is one of them.
type deed struct {
	back func(context.Context) error // takes it back
	left string                      // what is left where that fails: a whole sentence without its full stop
	mend string                      // the command that mends it then
}

// backTime bounds the taking back. The command's own time may be over by then.
const backTime = 30 * time.Second

func (s *steps) did(d deed) { s.done = append(s.done, d) }

// undone is the error of a command that has ended with none of its steps done.
type undone struct{ because error }

func (u undone) Error() string { return u.because.Error() + "; nothing was changed" }
func (u undone) Unwrap() error { return u.because }

// partly is the error of one that has ended with some of them done. It says which.
type partly struct{ error }

func (p partly) Unwrap() error { return p.error }

// fail takes everything back because of err. The error that it returns says that nothing was changed, or what is left and what
// mends it. Where err is of a step that is such a command itself and has left something, what was done before that rests on it,
// and stays.
func (s *steps) fail(ctx context.Context, err error) error {
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
		if backErr := last.back(ctx); backErr != nil {
			return s.leaves(err, backErr)
		}
		s.done = s.done[:len(s.done)-1]
	}
	return undone{err}
}

// failAt is fail for a request to the agent. Where the command's own time is over, the agent goes on with it: nothing is taken
// back then, for nobody knows what there will be.
func (s *steps) failAt(conn *connection, profile string, err error) error {
	if conn.ctx.Err() == nil {
		return s.fail(conn.ctx, err)
	}
	hint := protocol.HintOf(err) + "\nsee what became of it: ccagent status -p " + profile + "\nthen type the same command again"
	return partly{&protocol.Error{Code: protocol.CodeOf(err), Detail: protocol.DetailOf(err),
		Message: err.Error() + "; the agent may still do it, so nothing was taken back", Hint: strings.TrimPrefix(hint, "\n")}}
}

// leaves is err with what is left because taking back the last step failed with backErr: what was done before it rests on it.
func (s *steps) leaves(err, backErr error) error {
	var left, mends []string
	for i := len(s.done) - 1; i >= 0; i-- {
		if d := s.done[i]; !slices.Contains(left, d.left) {
			left = append(left, d.left)
		}
		if d := s.done[i]; !slices.Contains(mends, d.mend) {
			mends = append(mends, d.mend)
		}
	}
	return partly{&protocol.Error{Code: protocol.CodeOf(err), Detail: protocol.DetailOf(err),
		Message: fmt.Sprintf("%v; and it could not all be taken back (%v): %s", err, backErr, strings.Join(left, ", ")),
		Hint:    strings.TrimPrefix(protocol.HintOf(err)+"\nonce that is put right: "+strings.Join(mends, "; "), "\n")}}
}

// configDeed is an edit of config.toml.
func configDeed(conn *connection, edit *configEdit, mend string) deed {
	return deed{
		back: func(ctx context.Context) error {
			if err := edit.undo(ctx); err != nil {
				return err
			}
			reload(&connection{Client: conn.Client, ctx: ctx}) // if this fails, the agent looks at the file by itself
			return nil
		},
		left: edit.path + " still holds the edit", mend: mend,
	}
}
