package worker

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/url"
	"os"

	"golang.org/x/sys/unix"

	"github.com/ccagent/ccagent/agent/oauth"
	"github.com/ccagent/ccagent/protocol"
)

// connectBy gives c what the settings say of the way to a provider. Errors are ErrConfig and name the key of config.toml.
func connectBy(c *oauth.Client, s Settings) error {
	var err error
	if c.CA, c.Certificate, err = ReadTLS(s.CAFile, s.ClientCert, s.ClientKey); err != nil {
		return err
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

// ReadTLS reads from files in PEM the authorities that servers are judged by, and a client's certificate with its key. It returns
// nil for what has no path. Errors are ErrConfig and name the key of config.toml.
func ReadTLS(caFile, clientCert, clientKey string) (authorities *x509.CertPool, certificate *tls.Certificate, err error) {
	if caFile != "" {
		data, err := readBounded(caFile, oauth.MaxAuthorities)
		if err == nil {
			authorities, err = oauth.ParseCA(data)
		}
		if err != nil {
			return nil, nil, badFile("ca_file", err)
		}
	}
	if clientCert != "" {
		cert, err := readSmall(clientCert)
		if err != nil {
			return nil, nil, badFile("client_cert", err)
		}
		key, err := readPrivate(clientKey)
		if err != nil {
			return nil, nil, badFile("client_key", err)
		}
		if certificate, err = oauth.ParseCertificate(cert, key); err != nil {
			return nil, nil, badFile("client_cert and client_key", err)
		}
	}
	return authorities, certificate, nil
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
