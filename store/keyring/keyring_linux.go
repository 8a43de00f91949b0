package keyring

import (
	"context"
	"errors"
	"strings"

	"github.com/godbus/dbus/v5"

	"github.com/ccagent/ccagent/protocol"
)

// The Secret Service, by the names that go-keyring uses.
const (
	secretService    = "org.freedesktop.secrets"
	secretPath       = "/org/freedesktop/secrets"
	secretCollection = "org.freedesktop.Secret.Collection"
	loginCollection  = "/org/freedesktop/secrets/collection/login"
	defaultAlias     = "/org/freedesktop/secrets/aliases/default"
)

// ready asks the session's bus about the collection that go-keyring is going to use. If there were no bus, go-keyring would start
// one. If the collection were locked, it would have a prompt shown, and wait for that for ever.
func ready(ctx context.Context) error {
	conn, err := dbus.SessionBusPrivateNoAutoStartup(dbus.WithContext(ctx))
	if err != nil {
		return unusable("there is no session bus (D-Bus)")
	}
	defer conn.Close()
	if err := conn.Auth(nil); err != nil {
		return unusable("the session bus refuses us")
	}
	if err := conn.Hello(); err != nil {
		return unusable("the session bus does not answer")
	}
	property := func(path dbus.ObjectPath, of, name string) (dbus.Variant, error) {
		var v dbus.Variant
		err := conn.Object(secretService, path).
			CallWithContext(ctx, "org.freedesktop.DBus.Properties.Get", 0, of, name).Store(&v)
		return v, err
	}
	v, err := property(secretPath, "org.freedesktop.Secret.Service", "Collections")
	if err != nil {
		return translate(err)
	}
	collections, ok := v.Value().([]dbus.ObjectPath)
	if !ok {
		return unusable("its answer makes no sense")
	}
	path := dbus.ObjectPath(defaultAlias)
	for _, c := range collections {
		if c == loginCollection {
			path = c
		}
	}
	if v, err = property(path, secretCollection, "Locked"); err != nil {
		return unusable("it has no collection to store anything in")
	}
	if locked, ok := v.Value().(bool); !ok || locked {
		return errLocked()
	}
	// An item may be locked although its collection is not: KeePassXC can ask a person about each program that wants an item, and
	// takes every worker for another program.
	var open, locked []dbus.ObjectPath
	if conn.Object(secretService, secretPath).CallWithContext(ctx, "org.freedesktop.Secret.Service.SearchItems", 0,
		map[string]string{"service": Service}).Store(&open, &locked) != nil {
		return nil // the service can't tell
	}
	for _, item := range locked {
		if v, err := property(item[:strings.LastIndex(string(item), "/")], secretCollection, "Locked"); err == nil &&
			v.Value() == false {
			return &protocol.Error{
				Code:    protocol.CodeLocked,
				Message: "the keyring asks a person about each access to an item",
				Hint: "in KeePassXC, turn off \"Confirm when passwords are retrieved by clients\" (Settings, Secret Service Integration)\n" +
					"or set store = \"file\" for the profile in config.toml",
			}
		}
	}
	return nil
}

func isLocked(err error) bool {
	var e dbus.Error
	return errors.As(err, &e) && e.Name == "org.freedesktop.Secret.Error.IsLocked"
}

// reason says what went wrong. It holds nothing of what was asked for.
func reason(err error) string {
	var e dbus.Error
	if !errors.As(err, &e) {
		return err.Error()
	}
	switch e.Name {
	case "org.freedesktop.DBus.Error.ServiceUnknown", "org.freedesktop.DBus.Error.NameHasNoOwner",
		"org.freedesktop.DBus.Error.Spawn.ServiceNotFound":
		return "no Secret Service is on the session bus"
	}
	return "it fails with " + e.Name
}

// endStarted does nothing: go-keyring starts no program here.
func endStarted() {}
