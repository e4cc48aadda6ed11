package servers

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/testcontainers/testcontainers-go"
)

const tlsDir = "/tls" // in the container

// TLS is what a client needs to reach servers that speak TLS. The certificates are valid for 127.0.0.1 and localhost.
type TLS struct {
	CAFile, CertFile, KeyFile string // PEM files on the host: who signed the servers' certificates, and a client's own

	ca     *x509.CertPool
	client tls.Certificate
	files  map[string][]byte // of the server, by name
}

// Config trusts the servers and shows the client's certificate.
func (t *TLS) Config() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: t.ca, Certificates: []tls.Certificate{t.client}}
}

// ConfigWithoutCertificate trusts the servers and shows no certificate.
func (t *TLS) ConfigWithoutCertificate() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: t.ca}
}

// NewRedisTLS starts a standalone server of the test's own that speaks TLS only, and removes it when the test ends. Of the options,
// those about passwords of Sentinels and about replicas mean nothing here.
func NewRedisTLS(tb testing.TB, options ...Option) *RedisServer {
	tb.Helper()
	set := newSettings(0, append([]Option{WithTLS()}, options...))
	check(tb, set.tls.generate(tb.TempDir()), "make certificates")
	s, err := startStandalone(tb.Context(), set)
	check(tb, err, "start a server of "+set.kind.image+" with TLS")
	s.cleanup(tb)
	return s
}

// generate makes a certificate authority and the certificates of the servers and of a client, and writes the client's to dir.
func (t *TLS) generate(dir string) error {
	ca, err := newAuthority()
	if err != nil {
		return err
	}
	server, serverKey, err := ca.issue("server")
	if err != nil {
		return err
	}
	client, clientKey, err := ca.issue("client")
	if err != nil {
		return err
	}
	if t.client, err = tls.X509KeyPair(client, clientKey); err != nil {
		return fmt.Errorf("load the client's certificate: %w", err)
	}
	t.ca = x509.NewCertPool()
	t.ca.AddCert(ca.cert)
	t.files = map[string][]byte{"ca.crt": ca.pem(), "server.crt": server, "server.key": serverKey}
	t.CAFile, t.CertFile, t.KeyFile = filepath.Join(dir, "ca.crt"), filepath.Join(dir, "client.crt"), filepath.Join(dir, "client.key")
	for path, content := range map[string][]byte{t.CAFile: ca.pem(), t.CertFile: client, t.KeyFile: clientKey} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// containerFiles are the servers' files. The server may run as any user, so all may read the key: it lives as long as the test.
func (t *TLS) containerFiles() []testcontainers.ContainerFile {
	if t == nil {
		return nil
	}
	var files []testcontainers.ContainerFile
	for name, content := range t.files {
		files = append(files, testcontainers.ContainerFile{
			Reader: bytes.NewReader(content), ContainerFilePath: tlsDir + "/" + name, FileMode: 0o644,
		})
	}
	return files
}

// lines configure a server, or a Sentinel, that listens on port.
func (t *TLS) lines(port int, clientCerts bool) []string {
	if t == nil {
		return []string{fmt.Sprintf("port %d", port)}
	}
	auth := "optional"
	if clientCerts {
		auth = "yes"
	}
	return []string{
		"port 0",
		fmt.Sprintf("tls-port %d", port),
		"tls-ca-cert-file " + tlsDir + "/ca.crt",
		"tls-cert-file " + tlsDir + "/server.crt",
		"tls-key-file " + tlsDir + "/server.key",
		"tls-auth-clients " + auth,
		"tls-replication yes",
	}
}

// authority signs certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority() (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	template := certificate("integration tests")
	template.IsCA, template.BasicConstraintsValid, template.KeyUsage = true, true, x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make a certificate authority: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("read the certificate authority: %w", err)
	}
	return &authority{cert, key}, nil
}

func (a *authority) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
}

// issue returns a certificate and its key as PEM. It serves both ends: a node is a server to clients and a client to other nodes.
func (a *authority) issue(name string) (cert, key []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("make a key: %w", err)
	}
	template := certificate(name)
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	template.IPAddresses, template.DNSNames = []net.IP{net.IPv4(127, 0, 0, 1)}, []string{"localhost"}
	signed, err := x509.CreateCertificate(rand.Reader, template, a.cert, private.Public(), a.key)
	if err != nil {
		return nil, nil, fmt.Errorf("sign the certificate of the %s: %w", name, err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, nil, fmt.Errorf("encode a key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: signed}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

func certificate(name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Now().Add(-time.Hour), // the engine's clock may differ
		NotAfter:     time.Now().Add(24 * time.Hour),
	}
}
