package oauth

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/ccagent/ccagent/protocol"
	"github.com/ccagent/ccagent/secureurl"
)

// ParseCA reads certificate authorities in PEM, for [Client.CA]. It fails with ErrConfig where data holds no certificate, where
// it holds one that can't be read, and where all of them have expired.
func ParseCA(data []byte) (*x509.CertPool, error) {
	pool, found, expired := x509.NewCertPool(), 0, 0
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, badTLS("the file of certificate authorities holds a certificate that can't be read")
		}
		if found++; now().After(cert.NotAfter) {
			expired++
		}
		pool.AddCert(cert)
	}
	switch {
	case found == 0:
		return nil, badTLS("the file of certificate authorities holds no certificate in PEM (BEGIN CERTIFICATE)")
	case found == expired:
		return nil, badTLS("the certificate authorities have all expired")
	}
	return pool, nil
}

// ParseCertificate reads a certificate, followed by its chain, and its key in PEM, for [Client.Certificate]. It fails with
// ErrConfig where one of them can't be read, where they don't belong together, and where the certificate has expired or is not
// valid yet.
func ParseCertificate(cert, key []byte) (*tls.Certificate, error) {
	if block, _ := pem.Decode(cert); block == nil {
		return nil, badTLS("the client's certificate is not PEM (BEGIN CERTIFICATE)")
	}
	if block, _ := pem.Decode(key); block == nil {
		return nil, badTLS("the key of the client's certificate is not PEM (BEGIN PRIVATE KEY)")
	}
	pair, err := tls.X509KeyPair(cert, key) // its error is not passed on: a later version of it might quote the key
	if err != nil {
		return nil, badTLS("the client's certificate and its key can't be used together")
	}
	switch at := now(); {
	case at.After(pair.Leaf.NotAfter):
		return nil, badTLS("the client's certificate expired on " + pair.Leaf.NotAfter.Format("2006-01-02"))
	case at.Before(pair.Leaf.NotBefore):
		return nil, badTLS("the client's certificate is not valid before " + pair.Leaf.NotBefore.Format("2006-01-02"))
	}
	return &pair, nil
}

func badTLS(message string) error {
	return &protocol.Error{Code: protocol.CodeConfig, Message: message}
}

// tls returns how a server is checked, and which certificate it is shown.
func (c *Client) tls() *tls.Config {
	config := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: c.CA}
	if c.Certificate != nil {
		config.Certificates = []tls.Certificate{*c.Certificate}
	}
	return config
}

var errProxy = errors.New("the proxy's address can't be used")

// proxyRefused is the status with which a proxy refused to connect us.
type proxyRefused int

func (p proxyRefused) Error() string { return fmt.Sprintf("the proxy answered %d", int(p)) }

// proxyFor returns the proxy for a request: the client's own, else the one in the environment. net/http's error is not passed on,
// because it quotes the address, which may hold a password.
func (c *Client) proxyFor(req *http.Request) (*url.URL, error) {
	if c.Proxy != nil {
		return c.Proxy, nil
	}
	return known(http.ProxyFromEnvironment(req))
}

func known(proxy *url.URL, err error) (*url.URL, error) {
	if err != nil || proxy != nil && !secureurl.KnownProxy(proxy) {
		return nil, errProxy
	}
	return proxy, nil
}
