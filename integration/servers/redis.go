package servers

import (
	"context"
	"testing"

	"github.com/redis/go-redis/v9"
)

// RedisServer is a standalone Redis, or Valkey, without persistence, so a restart of it loses everything.
type RedisServer struct{ *Server }

// redisKind is one of the servers that speak Redis's protocol.
type redisKind struct{ imageVariable, image, command string }

//nolint:gochecknoglobals // constants
var (
	redis8  = redisKind{"INVALIDATOR_TEST_REDIS_IMAGE", "redis:8.0", "redis-server"}
	redis7  = redisKind{"INVALIDATOR_TEST_REDIS7_IMAGE", "redis:7.4", "redis-server"}
	valkey9 = redisKind{"INVALIDATOR_TEST_VALKEY_IMAGE", "valkey/valkey:9", "valkey-server"}
)

// Redis returns the Redis server that the tests of this process share. No test may flush it or rely on keys outside of its prefix.
func Redis(tb testing.TB) *RedisServer {
	tb.Helper()
	s, err := sharedRedis.get(tb.Context())
	check(tb, err, "start the shared Redis")
	return s
}

// Redis7 is Redis for Redis 7.
func Redis7(tb testing.TB) *RedisServer {
	tb.Helper()
	s, err := sharedRedis7.get(tb.Context())
	check(tb, err, "start the shared Redis 7")
	return s
}

// Valkey is Redis for Valkey.
func Valkey(tb testing.TB) *RedisServer {
	tb.Helper()
	s, err := sharedValkey.get(tb.Context())
	check(tb, err, "start the shared Valkey")
	return s
}

// NewRedis starts a Redis server of the test's own, with additional arguments for redis-server, and removes it when the test ends.
func NewRedis(tb testing.TB, args ...string) *RedisServer {
	tb.Helper()
	return newRedis(tb, redis8, args)
}

// NewRedis7 is NewRedis for Redis 7.
func NewRedis7(tb testing.TB, args ...string) *RedisServer {
	tb.Helper()
	return newRedis(tb, redis7, args)
}

// NewValkey is NewRedis for Valkey.
func NewValkey(tb testing.TB, args ...string) *RedisServer {
	tb.Helper()
	return newRedis(tb, valkey9, args)
}

func newRedis(tb testing.TB, kind redisKind, args []string) *RedisServer {
	tb.Helper()
	s, err := startRedis(tb.Context(), kind, args)
	check(tb, err, "start a server of "+kind.image)
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

func startRedis(ctx context.Context, kind redisKind, args []string) (*RedisServer, error) {
	s, err := spec{
		imageVariable: kind.imageVariable,
		image:         kind.image,
		port:          "6379/tcp",
		cmd:           append([]string{kind.command, "--save", "", "--appendonly", "no"}, args...),
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
