package daemon

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// closedPort returns an address where nothing listens.
func closedPort(t *testing.T) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	return l.Addr().String()
}

// unreachable is a configuration whose servers are all away.
func unreachable(t *testing.T) Config {
	t.Helper()
	cfg, err := load("testdata/good/full.yaml")
	require.NoError(t, err)
	cfg.HTTP.Listen = closedPort(t)
	cfg.Redis.Addrs = []string{closedPort(t)}
	cfg.Sources[0].MySQL.Hosts = []string{closedPort(t)}
	cfg.Sources[1].Postgres.Hosts = []string{closedPort(t)}
	return cfg
}

// page waits until the admin page has all of these texts.
func page(t *testing.T, url string, texts ...string) (status int) {
	t.Helper()
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		require.NoError(c, err)
		answer, err := new(http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(request)
		require.NoError(c, err)
		defer answer.Body.Close()
		body, err := io.ReadAll(answer.Body)
		require.NoError(c, err)
		for _, text := range texts {
			assert.Contains(c, string(body), text)
		}
		status = answer.StatusCode
	}, 10*time.Second, 10*time.Millisecond)
	return status
}

func TestUnreachableServersDoNotEndTheDaemonAndAreNamed(t *testing.T) {
	t.Parallel()
	cfg := unreachable(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	var log strings.Builder
	go func() { ended <- Run(ctx, cfg, Options{Logger: textLogger(&log, -4)}) }()

	url := "http://" + cfg.HTTP.Listen
	assert.Equal(t, 503, page(t, url+"/readyz", "shop: waiting: redis: ", "orders: waiting: redis: ", "connection refused"))
	assert.Equal(t, 200, page(t, url+"/healthz", "ok"))
	cancel()
	select {
	case err := <-ended:
		require.NoError(t, err)
	case <-time.After(stopWithin):
		t.Fatal("did not stop in time")
	}
	assert.Contains(t, log.String(), "source=shop part=redis state=waiting")
	assert.NotContains(t, log.String(), "pa55")
}

func TestADryRunContactsNoRedisAndServesNoPages(t *testing.T) {
	t.Parallel()
	cfg := unreachable(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	log, out := io.Pipe()
	go func() { ended <- Run(ctx, cfg, Options{Logger: textLogger(out, -4), DryRun: io.Discard}) }()

	text := make([]byte, 1<<12)
	n, err := log.Read(text)
	require.NoError(t, err)
	assert.NotContains(t, string(text[:n]), "part=redis", "the source is what it waits for")
	go func() { _, _ = io.Copy(io.Discard, log) }()
	_, err = new(net.Dialer).DialContext(ctx, "tcp", cfg.HTTP.Listen)
	require.Error(t, err)
	cancel()
	require.NoError(t, <-ended)
	require.NoError(t, out.Close())
}
