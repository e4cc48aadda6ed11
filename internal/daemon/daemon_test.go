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

// nowhere is an address where nothing listens. A port that was free a moment ago may be another test's by now.
const nowhere = "127.0.0.1:1"

// unreachable is a configuration whose servers are all away.
func unreachable(t *testing.T) Config {
	t.Helper()
	cfg, err := load("testdata/good/full.yaml")
	require.NoError(t, err)
	cfg.HTTP.Listen = nowhere
	cfg.Redis.Addrs = []string{nowhere}
	cfg.Sources[0].MySQL.Hosts = []string{nowhere}
	cfg.Sources[1].Postgres.Hosts = []string{nowhere}
	return cfg
}

// startLog is a log that tells where the daemon listens.
type startLog struct {
	strings.Builder

	addr chan string
}

func (l *startLog) Write(line []byte) (int, error) {
	if _, rest, started := strings.Cut(string(line), "msg=started http="); started {
		l.addr <- strings.Fields(rest)[0]
	}
	return l.Builder.Write(line)
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
	cfg.HTTP.Listen = "127.0.0.1:0"
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	log := startLog{addr: make(chan string, 1)}
	go func() { ended <- Run(ctx, cfg, Options{Logger: textLogger(&log, -4)}) }()

	url := "http://" + <-log.addr
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
