package protocol

import (
	"context"
	"errors"
)

// Late is for a request to a for profile's token that failed with err. If it failed because ctx is past its deadline, Late asks
// the agent what the profile is doing, for a tenth of a second at most, and returns err with that in its message. It returns any
// other err as it is, and so it does if the agent does not answer.
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
		profile = status.Agent.DefaultProfile
	}
	for _, p := range status.Profiles {
		if FoldProfile(p.Name) == FoldProfile(profile) {
			return &Error{Code: late.Code, Message: late.Message + ": profile " + p.doing(), Hint: late.Hint}
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
