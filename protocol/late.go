package protocol

import (
	"context"
	"errors"
	"strings"
)

// Late explains err, with which a request for the token of profile has failed. If it failed because the deadline of ctx has
// passed, Late asks the agent a what the profile is doing, for a tenth of a second at most, and returns err with that in its
// message, and with what helps against the profile's last error in its hint. If a does not answer, and for every other err, it
// returns err as it is.
func Late(ctx context.Context, a Agent, profile string, err error) error {
	var late *Error
	if ctx.Err() != context.DeadlineExceeded || !errors.As(err, &late) || late.Code != CodeUnavailable {
		return err
	}
	asking, cancel := context.WithTimeout(context.WithoutCancel(ctx), PromptTime)
	defer cancel()
	status, statusErr := StatusAll(asking, a, StatusRequest{Profile: profile})
	if statusErr != nil {
		return err
	}
	if profile == "" {
		profile = status.Agent.Here
	}
	for _, p := range status.Profiles {
		if FoldProfile(p.Name) == FoldProfile(profile) {
			return &Error{Code: late.Code, Message: late.Message + ": profile " + p.doing(),
				Hint: strings.Trim(late.Hint+"\n"+p.LastHint, "\n")}
		}
	}
	return err
}

// doing says what the profile is doing, where its record is, and what went wrong last.
func (p ProfileStatus) doing() string {
	text := p.Name + " is " + string(p.State)
	if p.Location != "" {
		text += ", its record is at " + p.Location
	}
	if p.LastError != "" {
		text += ", and its last error was: " + p.LastError
	}
	return text
}
