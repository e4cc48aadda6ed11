package daemon

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
)

// TLS turns on encryption; all fields are optional.
type TLS struct {
	// CAFile is a PEM file with the authorities to trust. Default: the
	// system's.
	CAFile string `yaml:"ca_file"`
	// CertFile and KeyFile are PEM files of a client certificate.
	CertFile string `yaml:"cert_file"`
	KeyFile  string `yaml:"key_file"`
	// ServerName is what the server's certificate has to name. Default:
	// the host.
	ServerName string `yaml:"server_name"`
	// InsecureSkipVerify trusts any certificate.
	InsecureSkipVerify bool `yaml:"insecure_skip_verify"`
}

// Build reads the files. It returns nil for a nil TLS: no encryption.
func (t *TLS) Build() (*tls.Config, error) {
	if t == nil {
		return nil, nil //nolint:nilnil // no section, no encryption
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.ServerName, InsecureSkipVerify: t.InsecureSkipVerify} //nolint:gosec // the operator asked for it
	if t.CAFile != "" {
		pem, err := os.ReadFile(t.CAFile)
		if err != nil {
			return nil, fmt.Errorf("ca_file: can not be read: %w", reason(err))
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, errors.New("ca_file: holds no PEM certificate")
		}
	}
	if t.CertFile == "" && t.KeyFile == "" {
		return cfg, nil
	}
	pair, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("cert_file: can not be used with key_file: %w", reason(err))
	}
	cfg.Certificates = []tls.Certificate{pair}
	return cfg, nil
}

func (c *checker) tls(path string, t *TLS) {
	if t == nil || c.withoutSecrets {
		return
	}
	if (t.CertFile == "") != (t.KeyFile == "") {
		c.add(path, "has one of cert_file and key_file: write both, or none")
		return
	}
	if _, err := t.Build(); err != nil {
		c.joined(path, err)
	}
}
