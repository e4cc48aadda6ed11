package cacheprom_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-038af1a6/invalidator/pkg/cacheaside"
	"github.com/seed-038af1a6/invalidator/pkg/cacheaside/cacheprom"
)

func TestEventsBecomeMetrics(t *testing.T) {
	t.Parallel()
	o := cacheprom.New(cacheprom.Options{Labels: prometheus.Labels{"cache": "users"}})
	r := prometheus.NewPedanticRegistry()
	require.NoError(t, r.Register(o))
	series := func() int {
		n, err := testutil.GatherAndCount(r)
		require.NoError(t, err)
		return n
	}
	before := series()
	for _, key := range []string{"a", "b"} {
		o.Observe(cacheaside.Event{Kind: cacheaside.EventHit, Key: key})
		o.Observe(cacheaside.Event{Kind: cacheaside.EventLoadFailed, Key: key, Err: errors.New("down"), Took: time.Second})
	}
	o.Observe(cacheaside.Event{Kind: cacheaside.EventOwedDropped, Key: "a"})
	o.Observe(cacheaside.Event{Kind: cacheaside.EventOpened, Err: cacheaside.ErrRedisOpen})
	o.Observe(cacheaside.Event{Kind: cacheaside.EventOpened, Err: cacheaside.ErrLoaderOpen})
	o.Observe(cacheaside.Event{Kind: cacheaside.EventClosed, Err: cacheaside.ErrLoaderOpen})
	o.Observe(cacheaside.Event{Kind: 0})
	o.Observe(cacheaside.Event{Kind: cacheaside.Kinds + 7})
	assert.Equal(t, before, series(), "keys are no labels")
	require.NoError(t, testutil.GatherAndCompare(r, strings.NewReader(`
# HELP cacheaside_breaker_open How many circuit breakers are open.
# TYPE cacheaside_breaker_open gauge
cacheaside_breaker_open{breaker="loader",cache="users"} 0
cacheaside_breaker_open{breaker="redis",cache="users"} 1
# HELP cacheaside_owed_deletes_dropped_total Deletes that were given up: entries that may be stale until their TTL.
# TYPE cacheaside_owed_deletes_dropped_total counter
cacheaside_owed_deletes_dropped_total{cache="users"} 1
`), "cacheaside_breaker_open", "cacheaside_owed_deletes_dropped_total"))
	problems, err := testutil.GatherAndLint(r)
	require.NoError(t, err)
	assert.Empty(t, problems)
}
