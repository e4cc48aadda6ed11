package integration

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-038af1a6/invalidator/integration/servers"
	"github.com/seed-038af1a6/invalidator/pkg/binlog"
	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

func TestLagCountsWhatWaits(t *testing.T) {
	t.Parallel()
	l := newMySQLLog(t, servers.NewMySQL(t))
	lag, err := l.source(t).Lag(t.Context())
	require.NoError(t, err)
	assert.Equal(t, binlog.Lag{Transactions: -1, Bytes: -1}, lag, "nothing is applied yet")

	source := l.run(t)
	l.settle(t)
	l.seen.awaitAny(t, "it is idle", func() bool { return l.seen.idle() > 1 })
	lag, err = source.Lag(t.Context())
	require.NoError(t, err)
	assert.Equal(t, binlog.Lag{}, lag)

	held, release := make(chan struct{}), make(chan struct{})
	hold := sync.OnceFunc(func() { close(held); <-release })
	l.sink.mu.Lock()
	l.sink.before = func(b invalidation.Batch) error {
		if len(b.Keys) > 0 { // and what is committed meanwhile has some as well
			hold()
		}
		return nil
	}
	l.sink.mu.Unlock()
	l.exec(t, "INSERT INTO users VALUES (1, 'a', NULL)")
	received(t, held)
	l.exec(t, "UPDATE users SET name = 'b'", "FLUSH BINARY LOGS", "UPDATE users SET name = REPEAT('c', 50)")
	lag, err = source.Lag(t.Context())
	require.NoError(t, err)
	assert.Equal(t, int64(3), lag.Transactions)
	assert.Greater(t, lag.Bytes, int64(600))
	assert.Less(t, lag.Bytes, int64(6000))
	close(release)
	l.settle(t)
	l.seen.awaitAny(t, "it caught up", func() bool {
		lag, err = source.Lag(t.Context())
		return err == nil && lag == binlog.Lag{}
	})

	l.server.Kill(t)
	lag, err = source.Lag(t.Context())
	require.Error(t, err)
	assert.Equal(t, binlog.Lag{Transactions: -1, Bytes: -1}, lag)
}
