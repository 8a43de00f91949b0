package oauth

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/ccagent/ccagent/protocol"
)

// MaxAuthorities bounds a file of certificate authorities, in bytes: a system has a quarter of a megabyte of them.
const MaxAuthorities = 4 << 20

// maxInFolder bounds how many files of one folder are looked into.
const maxInFolder = 500

// distrusted returns the certificates of a server whose authority is not known, its own one first; nil for any other error.
func distrusted(err error) []*x509.Certificate {
	var verify *tls.CertificateVerificationError
	var unknown x509.UnknownAuthorityError
	if !errors.As(err, &verify) || !errors.As(verify.Err, &unknown) {
		return nil
	}
	return verify.UnverifiedCertificates
}

// trustHint says how a server with these certificates comes to be trusted. If a variable by which other programs find authorities
// names one that knows the server, it says which setting takes that.
func (c *Client) trustHint(chain []*x509.Certificate) string {
	for _, v := range protocol.Authorities() {
		if file := fileFor(v.Value, chain); file != "" {
			return v.Name + " names its authority, and ccagent does not read that variable: " + c.trusting(file)
		}
	}
	if c.CA != nil {
		return "the file that ca_file names in config.toml, which counts instead of the system's authorities, does not have its " +
			"authority: add that one's certificate there"
	}
	return "if your company runs its own certificate authority, name that one's certificate in config.toml: ca_file"
}

// trusting says what to do so that servers are judged by the authorities in a file.
func (c *Client) trusting(file string) string {
	if strings.Contains(c.Command, " --ca-file") {
		return "give --ca-file " + protocol.ShellLine(file)
	}
	if c.Command != "" { // there is no table yet
		return "sign in with: " + c.Login("--ca-file", file)
	}
	table := "the profile's table"
	if c.Profile != "" {
		table = "[profiles." + c.Profile + "]"
	}
	return "write into " + table + " of config.toml: " + protocol.AuthorityKey(file)
}

// fileFor returns the file at path, or in the folder there, that has the authority of a server with these certificates.
func fileFor(path string, chain []*x509.Certificate) string {
	path, err := filepath.Abs(path)
	if err != nil || printable(path) != path {
		return ""
	}
	if info, err := os.Stat(path); err != nil || !info.IsDir() {
		if knows(path, chain) {
			return path
		}
		return ""
	}
	folder, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer folder.Close()
	names, _ := folder.Readdirnames(maxInFolder)
	for _, name := range names {
		if file := filepath.Join(path, name); printable(file) == file && knows(file, chain) {
			return file
		}
	}
	return ""
}

// knows reports whether a file has the authority of a server with these certificates.
func knows(path string, chain []*x509.Certificate) bool {
	if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() { // a FIFO must not hang us
		return false
	}
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, MaxAuthorities+1))
	if err != nil || len(data) > MaxAuthorities {
		return false
	}
	roots, err := ParseCA(bytes.TrimPrefix(data, []byte("\ufeff")))
	if err != nil || len(chain) == 0 {
		return false
	}
	between := x509.NewCertPool()
	for _, cert := range chain[1:] {
		between.AddCert(cert)
	}
	_, err = chain[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: now()})
	return err == nil
}
