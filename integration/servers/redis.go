package servers

import (
	"context"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/testcontainers/testcontainers-go"
)

// RedisServer is a standalone Redis, or Valkey, without persistence, so a restart of it loses everything.
type RedisServer struct {
	*Server
	TLS *TLS // nil: the server speaks plain text

	password string
}

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

// Options are those that a client of the server needs.
func (s *RedisServer) Options() *redis.UniversalOptions {
	options := &redis.UniversalOptions{Addrs: []string{s.Addr()}, Password: s.password}
	if s.TLS != nil {
		options.TLSConfig = s.TLS.Config()
	}
	return options
}

// Client returns a go-redis client with default options and closes it when the test ends.
func (s *RedisServer) Client(tb testing.TB) *redis.Client {
	tb.Helper()
	rdb := redis.NewClient(s.Options().Simple())
	tb.Cleanup(func() { check(tb, rdb.Close(), "close a Redis client") })
	return rdb
}

func startRedis(ctx context.Context, kind redisKind, args []string) (*RedisServer, error) {
	return startStandalone(ctx, settings{kind: kind, args: args})
}

func startStandalone(ctx context.Context, set settings) (*RedisServer, error) {
	cmd := []string{set.kind.command, "--save", "", "--appendonly", "no"}
	if set.tls != nil {
		cmd = append(cmd, asArgs(set.tls.lines(6379, set.clientCerts))...)
	}
	if set.password != "" {
		cmd = append(cmd, "--requirepass", set.password)
	}
	cmd = append(cmd, asArgs(set.users)...)
	options := redis.Options{MaxRetries: -1, Password: set.password}
	if set.tls != nil {
		options.TLSConfig = set.tls.Config()
	}
	s, err := spec{
		imageVariable: set.kind.imageVariable,
		image:         set.kind.image,
		port:          "6379/tcp",
		cmd:           append(cmd, set.args...),
		files:         func([]int) []testcontainers.ContainerFile { return set.tls.containerFiles() },
		probe: func(ctx context.Context, addr string) error {
			options := options
			options.Addr = addr
			rdb := redis.NewClient(&options)
			defer rdb.Close()
			return rdb.Ping(ctx).Err()
		},
	}.start(ctx)
	if err != nil {
		return nil, err
	}
	return &RedisServer{Server: s, TLS: set.tls, password: set.password}, nil
}

// asArgs turns lines of a configuration file into arguments.
func asArgs(lines []string) []string {
	var args []string
	for _, line := range lines {
		words := strings.Fields(line)
		args = append(append(args, "--"+words[0]), words[1:]...)
	}
	return args
}
