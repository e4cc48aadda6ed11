package main

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/seed-038af1a6/invalidator/pkg/cacheaside"
)

const (
	hotKey   = "bench:strategies:hot"
	entryTTL = time.Second
)

// load reads the value from where it really is.
type load func(ctx context.Context) (string, error)

// reader is what one process reads and deletes the hot key with.
type reader struct {
	read   func(ctx context.Context, load load) (string, error)
	remove func(ctx context.Context) error
	close  func()
}

type strategy struct {
	name       string
	policyText string
	reader     func(rdb *redis.Client) (reader, error)
}

func strategies() []strategy {
	return []strategy{
		{"none", "`GET`, load, `SET`", naive},
		{"mutex key", "the default", library(cacheaside.Policy{TTL: entryTTL})},
		{"early mutex", "`SoftTTL` 500 ms", library(cacheaside.Policy{TTL: entryTTL, SoftTTL: entryTTL / 2})},
		{"never expire", "`NoTTL`, `SoftTTL` 1 s", library(cacheaside.Policy{NoTTL: true, SoftTTL: entryTTL})},
		{"XFetch", "`XFetch: 1`", library(cacheaside.Policy{TTL: entryTTL, XFetch: 1})},
	}
}

func library(p cacheaside.Policy) func(*redis.Client) (reader, error) {
	p.Codec = cacheaside.Raw{}
	return func(rdb *redis.Client) (reader, error) {
		client, err := cacheaside.New(rdb, cacheaside.Options{})
		if err != nil {
			return reader{}, err
		}
		view := cacheaside.For[string](client, p)
		return reader{
			read: func(ctx context.Context, load load) (string, error) {
				return view.Get(ctx, hotKey, cacheaside.Loader[string](load))
			},
			remove: func(ctx context.Context) error { return client.Delete(ctx, hotKey) },
			close:  client.Close,
		}, nil
	}
}

func naive(rdb *redis.Client) (reader, error) {
	return reader{
		read: func(ctx context.Context, load load) (string, error) {
			value, err := rdb.Get(ctx, hotKey).Result()
			if err != redis.Nil { //nolint:errorlint // go-redis returns it as it is
				return value, err
			}
			if value, err = load(ctx); err != nil {
				return "", err
			}
			return value, rdb.Set(ctx, hotKey, value, entryTTL).Err()
		},
		remove: func(ctx context.Context) error { return rdb.Del(ctx, hotKey).Err() },
		close:  func() {},
	}, nil
}
