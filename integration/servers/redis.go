package servers

import (
	"context"
	"testing"

	"github.com/redis/go-redis/v9"
)

// RedisServer is a standalone Redis without persistence, so a restart of it loses everything.
type RedisServer struct{ *Server }

// Redis returns the Redis server that the tests of this process share. No test may flush it or rely on keys outside of its prefix.
func Redis(tb testing.TB) *RedisServer {
	tb.Helper()
	s, err := sharedRedis.get(tb.Context())
	check(tb, err, "start the shared Redis")
	return s
}

// NewRedis starts a Redis server of the test's own, with additional arguments for redis-server, and removes it when the test ends.
func NewRedis(tb testing.TB, args ...string) *RedisServer {
	tb.Helper()
	s, err := startRedis(tb.Context(), args)
	check(tb, err, "start a Redis")
	s.cleanup(tb)
	return s
}

// Client returns a go-redis client with default options and closes it when the test ends.
func (s *RedisServer) Client(tb testing.TB) *redis.Client {
	tb.Helper()
	rdb := redis.NewClient(&redis.Options{Addr: s.Addr()})
	tb.Cleanup(func() { check(tb, rdb.Close(), "close a Redis client") })
	return rdb
}

func startRedis(ctx context.Context, args []string) (*RedisServer, error) {
	s, err := spec{
		imageVariable: "INVALIDATOR_TEST_REDIS_IMAGE",
		image:         "redis:8.0",
		port:          "6379/tcp",
		cmd:           append([]string{"redis-server", "--save", "", "--appendonly", "no"}, args...),
		probe: func(ctx context.Context, addr string) error {
			rdb := redis.NewClient(&redis.Options{Addr: addr, MaxRetries: -1})
			defer rdb.Close()
			return rdb.Ping(ctx).Err()
		},
	}.start(ctx)
	if err != nil {
		return nil, err
	}
	return &RedisServer{s}, nil
}
