package cacheaside

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
)

// BenchmarkHit compares hits of 256 B with plain GET on the Redis at CACHEASIDE_BENCH_REDIS:
//
//	CACHEASIDE_BENCH_REDIS=127.0.0.1:6379 go test -run '^$' -bench Hit -benchtime 1s -count 5 ./pkg/cacheaside
func BenchmarkHit(b *testing.B) {
	addr := os.Getenv("CACHEASIDE_BENCH_REDIS")
	if addr == "" {
		b.Skip("CACHEASIDE_BENCH_REDIS is not set")
	}
	rdb := redis.NewClient(&redis.Options{Addr: addr})
	b.Cleanup(func() { _ = rdb.Close() })
	keys := make([]string, 1024)
	view := func(o Options) *View[string] {
		c, err := New(rdb, o)
		require.NoError(b, err)
		b.Cleanup(c.Close)
		return For[string](c, Policy{TTL: time.Hour, Codec: Raw{}})
	}
	v, auto := view(Options{}), view(Options{AutoPipeline: true})
	load := func(context.Context) (string, error) { return strings.Repeat("v", 256), nil }
	for i := range keys {
		keys[i] = fmt.Sprintf("bench:%d", i)
		_, err := v.Get(b.Context(), keys[i], load)
		require.NoError(b, err)
	}
	readers := map[string]func(ctx context.Context, key string) error{
		"GET":  func(ctx context.Context, key string) error { return rdb.Get(ctx, key).Err() },
		"view": func(ctx context.Context, key string) error { _, err := v.Get(ctx, key, load); return err },
		"auto": func(ctx context.Context, key string) error { _, err := auto.Get(ctx, key, load); return err },
	}
	for _, goroutines := range []int{1, 2, 4, 8, 16, 64} {
		for _, n := range []int{1, len(keys)} {
			for name, read := range readers {
				b.Run(fmt.Sprintf("goroutines=%d/keys=%d/%s", goroutines, n, name), func(b *testing.B) {
					readAll(b, goroutines, keys[:n], read)
				})
			}
		}
	}
}

// readAll divides b.N reads among goroutines.
func readAll(b *testing.B, goroutines int, keys []string, read func(ctx context.Context, key string) error) {
	b.Helper()
	b.ReportAllocs()
	var next atomic.Int64
	var done sync.WaitGroup
	for range goroutines {
		done.Go(func() {
			for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
				if err := read(b.Context(), keys[int(i)%len(keys)]); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	done.Wait()
}
