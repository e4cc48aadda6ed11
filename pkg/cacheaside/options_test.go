package cacheaside

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestNewRefusesWhatBreaksTheGuarantee(t *testing.T) {
	t.Parallel()
	cluster := func(o redis.ClusterOptions) redis.UniversalClient {
		o.Addrs = []string{"127.0.0.1:1"}
		c := redis.NewClusterClient(&o)
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	ring := redis.NewRing(&redis.RingOptions{HeartbeatFrequency: time.Hour})
	t.Cleanup(func() { _ = ring.Close() })
	const hangs = "redis.ClusterOptions.ContextTimeoutEnabled is false: the client would ignore the option RedisTimeout and a Redis that hangs would hang reads; " +
		"set it to true"
	replica := func(name string) string {
		return "redis.ClusterOptions." + name + " is set: a read could be answered by a replica that has not seen a delete; set it to false"
	}
	cases := map[string]struct {
		rdb  redis.UniversalClient
		opts Options
		want string
	}{
		"nil":             {nil, Options{}, "the Redis client is nil"},
		"nil client":      {(*redis.Client)(nil), Options{}, "the Redis client is a nil *redis.Client"},
		"nil cluster":     {(*redis.ClusterClient)(nil), Options{}, "the Redis client is a nil *redis.ClusterClient"},
		"ReadOnly":        {cluster(redis.ClusterOptions{ReadOnly: true, ContextTimeoutEnabled: true}), Options{}, replica("ReadOnly")},
		"RouteByLatency":  {cluster(redis.ClusterOptions{RouteByLatency: true, ContextTimeoutEnabled: true}), Options{}, replica("RouteByLatency")},
		"RouteRandomly":   {cluster(redis.ClusterOptions{RouteRandomly: true, ContextTimeoutEnabled: true}), Options{}, replica("RouteRandomly")},
		"several of them": {cluster(redis.ClusterOptions{RouteRandomly: true}), Options{}, replica("RouteRandomly") + "\n" + hangs},
		"ring": {ring, Options{}, "a *redis.Ring moves the keys of a shard that it cannot reach to other shards, where no delete finds the entries left behind: " +
			"use redis.NewClient, redis.NewFailoverClient or redis.NewClusterClient"},
		"client-side cache": {
			connect(t, "127.0.0.1:1", func(o *redis.Options) { o.Protocol, o.ClientSideCacheConfig = 3, &redis.ClientSideCacheConfig{} }),
			Options{},
			"redis.Options.ClientSideCacheConfig or ClientSideCache is set: a read could be answered from this process's memory after another process's delete; " +
				"leave both nil",
		},
		"options": {nil, Options{Lease: -1, MaxWait: 1, OwedKeys: -1}, "the Redis client is nil\n" +
			"option Lease is -1ns: set it to 1ms or more, or to 0 for the default of 5s\n" +
			"option MaxWait is 1ns: set it to 1ms or more, or to 0 for the default of 1ms\n" +
			"option OwedKeys is -1: set it to 1 or more, or to 0 for the default of 10000"},
		"MaxWait": {
			connect(t, "127.0.0.1:1"),
			Options{Lease: time.Second, MaxWait: 2 * time.Second},
			"option MaxWait is 2s, longer than Lease, 1s: a lease that old is gone; set MaxWait to at most Lease",
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			rc, err := New(c.rdb, c.opts)
			require.EqualError(t, err, "cacheaside: "+c.want)
			assert.Nil(t, rc)
		})
	}
}

func TestNewDoesNoIO(t *testing.T) {
	t.Parallel()
	rdb := connect(t, "127.0.0.1:1")
	rc, err := New(rdb, Options{Lease: 300 * time.Millisecond})
	require.NoError(t, err)
	assert.Zero(t, rdb.PoolStats().Misses)
	assert.Equal(t, 300*time.Millisecond, rc.opts.MaxWait, "no longer than the lease")
	rc.Close()
	rc.Close()
}

func TestEveryKindOfEventHasAName(t *testing.T) {
	t.Parallel()
	names := map[string]bool{}
	for k := EventHit; k < Kinds; k++ {
		names[k.String()] = true
	}
	assert.Len(t, names, int(Kinds)-1)
	assert.NotContains(t, names, "unknown")
	assert.Equal(t, "unknown", EventKind(0).String())
}
