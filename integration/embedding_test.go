package integration

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/seed-038af1a6/invalidator/pkg/binlog"
	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
	"github.com/seed-038af1a6/invalidator/pkg/invalidation/redissink"
)

// byID maps the rows of one table to keys, without rules.
type byID struct{ prefix string }

func (m byID) Keys(dst []string, row invalidation.Row) ([]string, error) {
	for _, image := range []invalidation.Columns{row.Before, row.After} {
		if id, ok := image.Get("id"); ok {
			dst = append(dst, m.prefix+string(id.Value))
		}
	}
	return dst, nil
}

func (m byID) Patterns(dst []string, _, table string) []string {
	if table != "users" && table != "*" {
		return dst
	}
	return append(dst, m.prefix+"*")
}

func (m byID) Fingerprints() []invalidation.Fingerprint {
	return []invalidation.Fingerprint{{ID: "byID-1", Patterns: []string{m.prefix + "*"}}}
}

// Source, mapper and sink in a program of one's own, with a mapper of one's own.
func TestTheSamePartsRunWithoutTheDaemon(t *testing.T) {
	t.Parallel()
	c := newMySQLCache(t, nil)
	sink, err := redissink.New(redissink.Config{Redis: c.redis.Options(), Namespace: "embedded", Source: c.prefix})
	require.NoError(t, err)
	defer sink.Close()
	c.config.Mapper, c.config.Sink = byID{c.prefix}, sink
	source, err := binlog.New(c.config)
	require.NoError(t, err)

	ctx, cancel := context.WithCancel(t.Context())
	all, running := errgroup.WithContext(ctx)
	all.Go(func() error { return sink.Run(running) })
	all.Go(func() error {
		for {
			if err := source.Run(running); !errors.Is(err, invalidation.ErrResume) {
				return err
			}
		}
	})
	c.seen.await(t, invalidation.Working, 0)
	c.cache(1, 2)
	c.exec("INSERT INTO users VALUES (1, 'a', NULL)")
	c.awaitGone(1)
	require.NoError(t, sink.Rewind(ctx, func(stored []string) (string, error) { return stored[0], nil }))
	c.exec("INSERT INTO users VALUES (2, 'a', NULL)")
	c.awaitGone(2)
	cancel()
	require.ErrorIs(t, all.Wait(), context.Canceled)
	require.NoError(t, sink.Release(t.Context()))
}
