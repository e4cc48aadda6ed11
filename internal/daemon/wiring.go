package daemon

import (
	"errors"
	"log/slog"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/seed-038af1a6/invalidator/pkg/binlog"
	"github.com/seed-038af1a6/invalidator/pkg/delaydelete"
	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
	"github.com/seed-038af1a6/invalidator/pkg/invalidation/redissink"
	"github.com/seed-038af1a6/invalidator/pkg/outbox"
)

// wiring makes the parts that a configuration describes.
type wiring struct {
	cfg    Config
	log    *slog.Logger
	redact redactor
	dryRun *printer // nil: it is none
}

func (w wiring) supervisors() []supervisor {
	all := make([]supervisor, len(w.cfg.Sources))
	for i, src := range w.cfg.Sources {
		kind := "mysql"
		if src.Postgres != nil {
			kind = "postgres"
		}
		watched := newWatch(w.log, w.redact, src.Name, kind)
		all[i] = supervisor{watch: watched, assemble: func() (assembly, error) { return w.assemble(src, watched) }}
	}
	return all
}

// assemble makes source and sinks, and opens no connection.
func (w wiring) assemble(src Source, watched watch) (assembly, error) {
	built := assembly{close: func() error { return nil }}
	var sink invalidation.Sink = dryRunSink{source: src.Name, rows: src.MySQL != nil, printer: w.dryRun}
	if w.dryRun == nil {
		cache, err := w.cache(src, watched)
		if err != nil {
			return built, err
		}
		built.close = cache.Close
		sink = watchedSink{Sink: cache, watch: watched, showKeys: w.cfg.ShowKeys}
	}
	if src.SecondDelete > 0 && w.dryRun == nil {
		second, err := delaydelete.New(delaydelete.Config{Next: sink, Delay: time.Duration(src.SecondDelete), Observer: watched})
		if err != nil {
			return built, errors.Join(err, built.close())
		}
		sink, built.parts = second, append(built.parts, second)
	}
	source, err := w.source(src, sink, watched)
	if err != nil {
		return built, errors.Join(err, built.close())
	}
	built.parts = append(built.parts, source)
	return built, nil
}

func (w wiring) cache(src Source, watched watch) (*redissink.Sink, error) {
	tlsConfig, err := w.cfg.Redis.TLS.Build()
	if err != nil {
		return nil, err
	}
	return redissink.New(redissink.Config{
		Redis: &redis.Options{
			Addr: w.cfg.Redis.Addrs[0], Username: w.cfg.Redis.Username, Password: w.cfg.Redis.Password.Reveal(),
			DB: w.cfg.Redis.DB, TLSConfig: tlsConfig, ClientName: "invalidator",
		},
		Namespace: w.cfg.Namespace, Source: src.Name, PurgeRate: w.cfg.PurgeRate, Observer: watched,
	})
}

func (w wiring) source(src Source, sink invalidation.Sink, watched watch) (part, error) {
	if src.MySQL != nil {
		return w.mysql(src, sink, watched)
	}
	return w.postgres(src, sink, watched)
}

func (w wiring) mysql(src Source, sink invalidation.Sink, watched watch) (part, error) {
	tlsConfig, err := src.MySQL.TLS.Build()
	if err != nil {
		return nil, err
	}
	rules, err := invalidation.NewRules(src.MappingRules())
	if err != nil {
		return nil, err
	}
	var mapper invalidation.KeyMapper = rules
	var observer invalidation.Observer = watched
	if w.dryRun != nil {
		printing := dryRunMapper{Rules: rules, printer: w.dryRun}
		mapper = printing
		observer = invalidation.ObserverFunc(func(e invalidation.Event) {
			watched.Observe(e)
			printing.observe(e)
		})
	}
	return binlog.New(binlog.Config{
		Name: src.Name, Hosts: src.MySQL.Hosts, User: src.MySQL.User, Password: src.MySQL.Password.Reveal(), TLS: tlsConfig,
		Mapper: mapper, Sink: sink, OnLost: src.OnLostPosition.OnLost, ReadsFrom: src.ReadsFrom,
		FromNow: w.dryRun != nil, Observer: observer,
	})
}

func (w wiring) postgres(src Source, sink invalidation.Sink, watched watch) (part, error) {
	tlsConfig, err := src.Postgres.TLS.Build()
	if err != nil {
		return nil, err
	}
	return outbox.NewPostgres(outbox.PostgresConfig{
		Name: src.Name, Hosts: src.Postgres.Hosts, User: src.Postgres.User, Password: src.Postgres.Password.Reveal(),
		Database: src.Postgres.Database, TLS: tlsConfig, Sink: sink, Purge: src.Purge, OnLost: src.OnLostPosition.OnLost,
		FromNow: w.dryRun != nil, Observer: watched,
	})
}
