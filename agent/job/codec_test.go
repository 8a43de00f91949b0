package job

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/ccagent/ccagent/protocol"
)

var (
	at      = time.UnixMilli(1767225600123)
	fullJob = Job{
		Build: "v1.2.3", Op: Renew, Profile: "claude", Settings: []byte(`{"fake":true}`), Base: Version{1, 31: 2}, Lineage: "fake-1",
		Force:  true,
		MinTTL: time.Minute, HalfLife: true, Record: protocol.NewSecret("fake-record"), Since: at, SignIn: true, KeepRemote: true,
		Check: true, Token: protocol.NewSecret("fake-access-0"),
		Key: protocol.NewSecret(
			"fake-key",
		), Passphrase: protocol.NewSecret("fake-old"), NewPassphrase: protocol.NewSecret("fake-new"), Target: "keyring",
		PastID: "0a1b2c3d", Derived: protocol.Derived{IDToken: true, Scope: "a b", Audience: "c", Resource: "d:e"},
		ClientSecret: protocol.NewSecret("fake-secret-2"),
	}
	fullReport = Report{
		Kind: Done,
		Err: &protocol.Error{
			Code:    protocol.CodeStorage,
			Message: "disk full",
			Hint:    "make room",
		}, RetryAfter: time.Hour, Local: true,
		Result: Result{
			Token: protocol.NewSecret("fake-access-1"), Kind: protocol.KindOAuth, Expiry: at, Issued: at.Add(-time.Hour),
			SignInEnds: at.Add(time.Hour), RemindFrom: at.Add(time.Minute), Lineage: "fake-2", LostScopes: []string{"c"},
			Record: protocol.NewSecret(
				"fake-record",
			), Version: Version{3, 31: 4}, Renewed: true, Gone: true, Saved: true, Provider: "claude",
			Store: "file", Location: "/fake/place", Watch: []string{"/fake/place", "/fake/other"}, Subscription: "max",
			Scopes: []string{"a,b", "c"}, Notice: "a line",
			Identity: protocol.Identity{Account: "1", Email: "2", Name: "3", Organization: "4", OrganizationID: "5", Subscription: "6",
				Scopes: []string{"7", "8"}, Fetched: at},
			Note: "a view", Behind: true, Wrote: true,
			Past: []protocol.PastSignIn{
				{ID: "0a1b2c3d", Saved: at, Expiry: at, Account: "1", Renewable: true, Current: true, Problem: "2"},
			},
			Key: protocol.NewSecret("fake-key"), Renewable: true,
		},
	}
)

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	everyFieldSet(t, reflect.ValueOf(fullJob))
	everyFieldSet(t, reflect.ValueOf(fullReport))
	var pipe bytes.Buffer
	for _, want := range []Job{fullJob, {}} {
		if err := WriteJob(&pipe, want); err != nil {
			t.Fatal(err)
		}
		got, err := ReadJob(&pipe)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, %v; want %+v", got, err, want)
		}
	}
	for _, want := range []Report{fullReport, {Kind: Hello}} {
		if err := WriteReport(&pipe, want); err != nil {
			t.Fatal(err)
		}
		got, err := ReadReport(&pipe)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, %v; want %+v", got, err, want)
		}
	}
	if _, err := ReadReport(&pipe); err != io.EOF {
		t.Errorf("after the last report: %v", err)
	}
}

// everyFieldSet fails for a field that the round trip would not notice missing.
func everyFieldSet(t *testing.T, v reflect.Value) {
	for i := range v.NumField() {
		field, f := v.Type().Field(i), v.Field(i)
		if f.IsZero() {
			t.Errorf("%s.%s is not covered", v.Type(), field.Name)
		} else if f.Type() == reflect.TypeFor[Result]() {
			everyFieldSet(t, f)
		}
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	var pipe bytes.Buffer
	big := Report{Kind: HandOver, Result: Result{Record: protocol.NewSecret(strings.Repeat("x", MaxFrame-1000))}}
	if err := WriteReport(&pipe, big); err != nil {
		t.Error(err)
	}
	if got, err := ReadReport(&pipe); err != nil || !reflect.DeepEqual(got, big) {
		t.Error(err)
	}
	if err := WriteJob(&pipe, Job{Settings: make([]byte, MaxFrame)}); err != protocol.ErrFrame || pipe.Len() > 0 {
		t.Errorf("%v, and %d bytes written", err, pipe.Len())
	}
	if _, err := ReadJob(strings.NewReader("\x00\x10\x00\x01xx")); err != protocol.ErrFrame {
		t.Error(err)
	}
	WriteJob(&pipe, fullJob)
	if _, err := ReadReport(&pipe); err != protocol.ErrMalformed {
		t.Errorf("a job read as a report: %v", err)
	}
}

// What can be read at all is stable: written and read again it is the same.
func FuzzJob(f *testing.F) {
	var seed bytes.Buffer
	WriteJob(&seed, fullJob)
	WriteReport(&seed, fullReport)
	f.Add(seed.Bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bytes.NewReader(b)
		if j, err := ReadJob(r); err == nil {
			var w bytes.Buffer
			if err := WriteJob(&w, j); err != nil && !errors.Is(err, protocol.ErrFrame) {
				t.Fatal(err)
			}
			if again, err := ReadJob(&w); err != nil || !reflect.DeepEqual(again, j) {
				t.Errorf("%+v became %+v, %v", j, again, err)
			}
		}
		if p, err := ReadReport(r); err == nil {
			var w bytes.Buffer
			if err := WriteReport(&w, p); err != nil && !errors.Is(err, protocol.ErrFrame) {
				t.Fatal(err)
			}
			if again, err := ReadReport(&w); err != nil || !reflect.DeepEqual(again, p) {
				t.Errorf("%+v became %+v, %v", p, again, err)
			}
		}
	})
}
