package binlog

import (
	"context"
	"crypto/tls"
	"net"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

// listen says the same to everybody and hangs up.
func listen(t *testing.T, says string) (addr string) {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Write([]byte(says))
			_ = conn.Close()
		}
	}()
	return listener.Addr().String()
}

type noSink struct{}

func (noSink) Positions(context.Context) ([]string, error)     { return nil, nil }
func (noSink) Apply(context.Context, invalidation.Batch) error { return nil }

func TestWhatDoesNotGreetAsItShouldIsNamed(t *testing.T) {
	t.Parallel()
	rules, err := invalidation.NewRules([]invalidation.Rule{{Table: "shop.users", Keys: []string{"user:{id}"}}})
	require.NoError(t, err)
	stranger, plain := "no MySQL server answers there", "the server does not speak TLS"
	for name, c := range map[string]struct{ says, text, fix string }{
		"it hangs up":                 {"", stranger, "correct hosts; or, where it is the MySQL server, see why it does not answer"},
		"it speaks another protocol":  {"-ERR unknown command\r\n", stranger, "correct hosts; or, where it is the MySQL server, see why it does not answer"},
		"it is MySQL and has no TLS":  {"\x1a\x00\x00\x00\x0a8.4.0\x00abcd01234567\x00\x00\x02....", plain, "remove tls from the configuration, or turn it on at the server: tls_version, ssl_cert and ssl_key"},
		"it is MySQL and has no room": {"\x0b\x00\x00\x00\xff\x10\x04too many", "too many", "raise max_connections, or end connections that nobody needs"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			source, err := New(Config{
				Name: "shop", Hosts: []string{listen(t, c.says)}, User: "repl", Mapper: rules, Sink: noSink{},
				TLS: &tls.Config{MinVersion: tls.VersionTLS12},
			})
			require.NoError(t, err)
			found := source.Check(t.Context(), nil)
			require.Len(t, found, 1)
			assert.Contains(t, found[0].Text, c.text)
			assert.Equal(t, c.fix, found[0].Fix)
			assert.NotContains(t, found[0].Text, c.fix, "it is said once")
		})
	}
}
