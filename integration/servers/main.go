package servers

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/testcontainers/testcontainers-go/log"
)

// Main runs the tests of a package and removes the servers that they shared. Its result is for os.Exit. With -short no test runs;
// without a Docker engine the run fails with one line that says so.
func Main(m *testing.M) int {
	flag.Parse()
	if testing.Short() {
		fmt.Println("integration tests skipped: they need real servers, and -short asks for unit tests only")
		return 0
	}
	if !testing.Verbose() {
		log.SetDefault(log.NewNoopLogger())
	}
	ctx := context.Background()
	if _, err := theEngine.get(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	if err := removeShared(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	return code
}

// What this process shares. Starting a server costs seconds, and a test has no other way to reach its neighbours' server.
//
//nolint:gochecknoglobals // one server of each kind per test process is what this package is for
var (
	theEngine      = lazy[*engine]{start: connect}
	sharedMySQL    = lazy[*MySQLServer]{start: func(ctx context.Context) (*MySQLServer, error) { return startMySQL(ctx, nil) }}
	sharedPostgres = lazy[*PostgresServer]{start: func(ctx context.Context) (*PostgresServer, error) { return startPostgres(ctx, nil) }}
	sharedRedis    = lazy[*RedisServer]{start: func(ctx context.Context) (*RedisServer, error) { return startRedis(ctx, redis8, nil) }}
	sharedRedis7   = lazy[*RedisServer]{start: func(ctx context.Context) (*RedisServer, error) { return startRedis(ctx, redis7, nil) }}
	sharedValkey   = lazy[*RedisServer]{start: func(ctx context.Context) (*RedisServer, error) { return startRedis(ctx, valkey9, nil) }}
)

// lazy starts something once, when it is first asked for, and remembers whether that worked.
type lazy[T any] struct {
	start func(context.Context) (T, error)

	mu      sync.Mutex
	started bool
	value   T
	err     error
}

func (l *lazy[T]) get(ctx context.Context) (T, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.started {
		l.started = true
		// Shared by all tests: the end of the one that asked first must not end it.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), startTimeout)
		defer cancel()
		l.value, l.err = l.start(ctx)
	}
	return l.value, l.err
}

// running returns the value if it was ever started.
func (l *lazy[T]) running() (T, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.value, l.started && l.err == nil
}

func removeShared(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var errs []error
	if s, ok := sharedMySQL.running(); ok {
		errs = append(errs, s.remove(ctx))
	}
	if s, ok := sharedPostgres.running(); ok {
		errs = append(errs, s.remove(ctx))
	}
	for _, shared := range []*lazy[*RedisServer]{&sharedRedis, &sharedRedis7, &sharedValkey} {
		if s, ok := shared.running(); ok {
			errs = append(errs, s.remove(ctx))
		}
	}
	return errors.Join(errs...)
}
