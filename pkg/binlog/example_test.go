package binlog_test

import (
	"context"
	"errors"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"github.com/seed-038af1a6/invalidator/pkg/binlog"
	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
	"github.com/seed-038af1a6/invalidator/pkg/invalidation/redissink"
)

// invalidate is a daemon of one's own: a source, the rules that map its rows to
// keys, and a sink. Two programs that run it are a pair: one leads, the other
// waits to take over.
func invalidate(ctx context.Context, mysql, redisAddr, password string) error {
	rules, err := invalidation.NewRules([]invalidation.Rule{
		{Table: "shop.users", Keys: []string{"user:{id}", "user:email:{email}"}},
	})
	if err != nil {
		return err
	}
	sink, err := redissink.New(redissink.Config{
		Redis: &redis.UniversalOptions{Addrs: []string{redisAddr}}, Namespace: "shop-prod", Source: "shop",
	})
	if err != nil {
		return err
	}
	defer sink.Close()
	source, err := binlog.New(binlog.Config{
		Name: "shop", Hosts: []string{mysql}, User: "relay", Password: password,
		Mapper: rules, Sink: sink,
	})
	if err != nil {
		return err
	}
	all, running := errgroup.WithContext(ctx)
	all.Go(func() error { return sink.Run(running) })
	all.Go(func() error {
		for {
			// After a failover of Redis, begin again at what it remembers.
			if err := source.Run(running); !errors.Is(err, invalidation.ErrResume) {
				return err
			}
		}
	})
	err = all.Wait()
	return errors.Join(err, sink.Release(context.WithoutCancel(ctx)))
}

func Example() {
	_ = invalidate // run it until its context is done
}
