package main

import (
	"context"
	"time"

	"github.com/dtm-labs/rockscache"
	rediscache "github.com/go-redis/cache/v9"
	"github.com/redis/go-redis/v9"
	"github.com/zeromicro/go-zero/core/logx"
	zerocache "github.com/zeromicro/go-zero/core/stores/cache"
	zeroredis "github.com/zeromicro/go-zero/core/stores/redis"
	"github.com/zeromicro/go-zero/core/syncx"

	"github.com/seed-038af1a6/invalidator/pkg/cacheaside"
)

// Names that ratios refer to.
const (
	plainGET = "GET"
	ours     = "this library"
	rocks    = "rockscache"
)

const ttl = time.Hour

// load is the loader of every contestant: what it returns is the value, the same for every key.
type load func() (string, error)

// contestant is one way to read. Each has a client, and with it a connection pool, of its own with the library's defaults.
type contestant struct {
	name string
	get  func(ctx context.Context, key string, load load) (string, error)
	many func(ctx context.Context, keys []string, load load) (values int, err error) // nil: not offered
}

func contestants(addr string) ([]contestant, error) {
	piped, err := autoPipelined(addr)
	if err != nil {
		return nil, err
	}
	own, err := library(addr, ours, cacheaside.Options{})
	if err != nil {
		return nil, err
	}
	ownPiped, err := library(addr, ours+", AutoPipeline", cacheaside.Options{AutoPipeline: true})
	if err != nil {
		return nil, err
	}
	return []contestant{plain(addr), leaseFirst(addr), piped, own, ownPiped, rockscached(addr), goZero(addr), goRedisCache(addr)}, nil
}

func newClient(addr string) *redis.Client {
	return redis.NewClient(&redis.Options{Addr: addr})
}

// plain is cache-aside without any protection: GET, and on a miss a load and SET.
func plain(addr string) contestant {
	rdb := newClient(addr)
	return contestant{
		name: plainGET,
		get:  naive(rdb),
		many: func(ctx context.Context, keys []string, load load) (int, error) {
			values, err := rdb.MGet(ctx, keys...).Result()
			if err != nil {
				return 0, err
			}
			return len(values), setMissing(ctx, rdb, keys, values, load)
		},
	}
}

// leaseFirst asks for the value or a lease with one command, as a library could instead of GET. It fills without looking.
func leaseFirst(addr string) contestant {
	rdb := newClient(addr)
	lease := redis.SetArgs{Mode: "NX", Get: true, TTL: 5 * time.Second}
	return contestant{
		name: "SET NX GET",
		get: func(ctx context.Context, key string, load load) (string, error) {
			value, err := rdb.SetArgs(ctx, key, "L0123456789abcdef", lease).Result()
			if err != redis.Nil { //nolint:errorlint // go-redis returns it as it is, and this is the hot path
				return value, err
			}
			if value, err = load(); err != nil {
				return "", err
			}
			return value, rdb.Set(ctx, key, value, ttl).Err()
		},
	}
}

func autoPipelined(addr string) (contestant, error) {
	ap, err := newClient(addr).AutoPipeline()
	if err != nil {
		return contestant{}, err
	}
	return contestant{name: "GET, auto-pipelined", get: naive(ap)}, nil
}

func naive(rdb redis.Cmdable) func(context.Context, string, load) (string, error) {
	return func(ctx context.Context, key string, load load) (string, error) {
		value, err := rdb.Get(ctx, key).Result()
		if err != redis.Nil { //nolint:errorlint // go-redis returns it as it is, and this is the hot path
			return value, err
		}
		if value, err = load(); err != nil {
			return "", err
		}
		return value, rdb.Set(ctx, key, value, ttl).Err()
	}
}

func setMissing(ctx context.Context, rdb *redis.Client, keys []string, values []any, load load) error {
	pipe := rdb.Pipeline()
	for i, value := range values {
		if value != nil {
			continue
		}
		loaded, err := load()
		if err != nil {
			return err
		}
		pipe.Set(ctx, keys[i], loaded, ttl)
	}
	if pipe.Len() == 0 {
		return nil
	}
	_, err := pipe.Exec(ctx)
	return err
}

func library(addr, name string, opts cacheaside.Options) (contestant, error) {
	client, err := cacheaside.New(newClient(addr), opts)
	if err != nil {
		return contestant{}, err
	}
	view := cacheaside.For[string](client, cacheaside.Policy{TTL: ttl, Codec: cacheaside.Raw{}})
	return contestant{
		name: name,
		get: func(ctx context.Context, key string, load load) (string, error) {
			return view.Get(ctx, key, func(context.Context) (string, error) { return load() })
		},
		many: func(ctx context.Context, keys []string, load load) (int, error) {
			values, err := view.GetMany(ctx, keys, func(_ context.Context, keys []string) (map[string]string, error) {
				return loadAll(keys, load)
			})
			return len(values), err
		},
	}, nil
}

func rockscached(addr string) contestant {
	client := rockscache.NewClient(newClient(addr), rockscache.NewDefaultOptions())
	return contestant{
		name: rocks,
		get: func(ctx context.Context, key string, load load) (string, error) {
			return client.Fetch2(ctx, key, ttl, load)
		},
		many: func(ctx context.Context, keys []string, load load) (int, error) {
			values, err := client.FetchBatch2(ctx, keys, ttl, func(missing []int) (map[int]string, error) {
				return loadAll(missing, load)
			})
			return len(values), err
		},
	}
}

func loadAll[K comparable](keys []K, load load) (map[K]string, error) {
	values := make(map[K]string, len(keys))
	for _, key := range keys {
		value, err := load()
		if err != nil {
			return nil, err
		}
		values[key] = value
	}
	return values, nil
}

// goZero stores JSON; it offers no other encoding.
func goZero(addr string) contestant {
	logx.Disable()
	client := zerocache.NewNode(zeroredis.New(addr), syncx.NewSingleFlight(), zerocache.NewStat("bench"),
		redis.Nil, zerocache.WithExpiry(ttl))
	return contestant{
		name: "go-zero",
		get: func(ctx context.Context, key string, load load) (value string, err error) {
			err = client.TakeCtx(ctx, &value, key, func(v any) error {
				loaded, err := load()
				*v.(*string) = loaded //nolint:errcheck // it is what TakeCtx was given
				return err
			})
			return value, err
		},
	}
}

// goRedisCache stores strings as they are, and has no local cache unless it is given one.
func goRedisCache(addr string) contestant {
	client := rediscache.New(&rediscache.Options{Redis: newClient(addr)})
	return contestant{
		name: "go-redis/cache",
		get: func(ctx context.Context, key string, load load) (value string, err error) {
			err = client.Once(&rediscache.Item{
				Ctx: ctx, Key: key, TTL: ttl, Value: &value,
				Do: func(*rediscache.Item) (any, error) { return load() },
			})
			return value, err
		},
	}
}
