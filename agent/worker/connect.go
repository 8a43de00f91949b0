package worker

import (
	"errors"
	"net/url"
	"os"

	"golang.org/x/sys/unix"

	"github.com/ccagent/ccagent/agent/oauth"
	"github.com/ccagent/ccagent/protocol"
)

// maxAuthorities bounds a file of certificate authorities: a system has a quarter of a megabyte of them.
const maxAuthorities = 4 << 20

// connectBy gives c what the settings say of the way to a provider. Errors are ErrConfig and name the key of config.toml.
func connectBy(c *oauth.Client, s Settings) error {
	if s.CAFile != "" {
		data, err := readBounded(s.CAFile, maxAuthorities)
		if err == nil {
			c.CA, err = oauth.ParseCA(data)
		}
		if err != nil {
			return badFile("ca_file", err)
		}
	}
	if s.ClientCert != "" {
		cert, err := readSmall(s.ClientCert)
		if err != nil {
			return badFile("client_cert", err)
		}
		key, err := readPrivate(s.ClientKey)
		if err != nil {
			return badFile("client_key", err)
		}
		if c.Certificate, err = oauth.ParseCertificate(cert, key); err != nil {
			return badFile("client_cert and client_key", err)
		}
	}
	if s.Proxy != "" {
		proxy, err := url.Parse(s.Proxy)
		if err != nil {
			return badFile("proxy", errors.New("it is not a URL"))
		}
		c.Proxy = proxy
	}
	return nil
}

// readPrivate reads a key that nobody else may read.
func readPrivate(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o007 != 0 {
		return nil, errors.New(path + " is open to everybody: " + protocol.ShellLine("chmod", "go=", path))
	}
	return readOpen(f, maxSmall)
}

func badFile(key string, err error) error {
	return &protocol.Error{
		Code:    protocol.CodeConfig,
		Message: key + " can't be used: " + err.Error(),
		Hint:    "check " + key + " in config.toml",
	}
}
