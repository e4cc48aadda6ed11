package daemon

import (
	"context"
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
	cfg     Config
	log     *slog.Logger
	redact  redactor
	holder  *redissink.Holder // nil where nothing is led: a dry run, a check
	metrics *metrics          // nil: nobody counts
	dryRun  *printer          // nil: it is none
}

// supervisor returns what keeps one source running. From now on no other source
// deletes what belongs to it.
func (w wiring) supervisor(src Source) *supervisor {
	if w.holder != nil {
		w.holder.Spare(w.cfg.Namespace, src.Name)
	}
	watched := newWatch(w.log, w.redact, src.Name, src.kind()).metered(w.metrics, groupNames(src))
	s := &supervisor{watch: watched, feed: newFeed(watched.log)}
	s.assemble = func(watched watch) (assembly, error) { return w.assemble(src, watched, s.feed) }
	return s
}

// assemble makes source and sinks, and opens no connection.
func (w wiring) assemble(src Source, watched watch, told *feed) (assembly, error) {
	observer := told.beside(watched)
	if w.dryRun != nil {
		read, err := w.reader(src, dryRunSink{source: src.Name, rows: src.MySQL != nil, printer: w.dryRun}, observer)
		return assembly{reader: read, parts: []part{read}, close: func() error { return nil }}, err
	}
	built := assembly{}
	held, err := w.cache(src, observer, &built)
	if err != nil {
		return built, err
	}
	built.cache, built.parts, built.close = resetSink{held, told}, []part{held}, held.Close
	sink, err := w.delayed(src, watchedSink{Sink: built.cache, watch: watched, showKeys: w.cfg.ShowKeys}, observer, &built)
	if err == nil {
		built.reader, err = w.reader(src, sink, observer)
	}
	if err != nil {
		return built, errors.Join(err, built.close())
	}
	built.parts = append(built.parts, built.reader, poller{watched, built.reader, held})
	return built, nil
}

// delayed puts the second delete, where one is wanted, around a Sink.
func (w wiring) delayed(src Source, sink watchedSink, observer invalidation.Observer, built *assembly) (invalidation.Sink, error) {
	if src.SecondDelete <= 0 {
		return sink, nil
	}
	sink.beneath = true
	second, err := delaydelete.New(delaydelete.Config{Next: sink, Delay: time.Duration(src.SecondDelete), Observer: observer})
	if err != nil {
		return nil, err
	}
	built.parts = append(built.parts, second)
	return sink.watch.calls(second), nil
}

// cache makes the Sink of a source. It asks the reader, which is made after it,
// which log this is.
func (w wiring) cache(src Source, observer invalidation.Observer, built *assembly) (*redissink.Sink, error) {
	cfg, err := w.sinkConfig(src)
	if err != nil {
		return nil, err
	}
	cfg.Observer = observer
	cfg.Identity = identity(src, built)
	return redissink.New(cfg)
}

// identity asks a source's reader which log it reads.
func identity(src Source, built *assembly) func(context.Context) (redissink.Identity, error) {
	return func(ctx context.Context) (redissink.Identity, error) {
		server, err := built.reader.Identity(ctx)
		return redissink.Identity{Server: server, Hosts: src.hosts()}, err
	}
}

// sinkConfig says where the cache and, in it, the position of a source is.
func (w wiring) sinkConfig(src Source) (redissink.Config, error) {
	options, err := w.cfg.Redis.options()
	if err != nil {
		return redissink.Config{}, err
	}
	return redissink.Config{
		Redis: options, Namespace: w.cfg.Namespace, Source: src.Name, Holder: w.holder,
		Group: groups(src), PurgeRate: w.cfg.PurgeRate,
	}, nil
}

// options returns the section as the client takes it.
func (r Redis) options() (*redis.UniversalOptions, error) {
	tlsConfig, err := r.TLS.Build()
	if err != nil {
		return nil, err
	}
	return &redis.UniversalOptions{
		Addrs: r.Addrs, Username: r.Username, Password: r.Password.Reveal(), DB: r.DB, TLSConfig: tlsConfig,
		MasterName: r.MasterName, SentinelUsername: r.SentinelUsername, SentinelPassword: r.SentinelPassword.Reveal(),
		IsClusterMode: r.Mode == modeCluster,
	}, nil
}

func (w wiring) reader(src Source, sink invalidation.Sink, observer invalidation.Observer) (reader, error) {
	if src.MySQL != nil {
		return w.mysql(src, sink, observer)
	}
	return w.postgres(src, sink, observer)
}

func (w wiring) mysql(src Source, sink invalidation.Sink, observer invalidation.Observer) (reader, error) {
	tlsConfig, err := src.MySQL.TLS.Build()
	if err != nil {
		return nil, err
	}
	rules, err := invalidation.NewRules(src.MappingRules())
	if err != nil {
		return nil, err
	}
	var mapper invalidation.KeyMapper = rules
	if w.dryRun != nil {
		printing, outer := dryRunMapper{Rules: rules, printer: w.dryRun}, observer
		mapper = printing
		observer = invalidation.ObserverFunc(func(e invalidation.Event) {
			outer.Observe(e)
			printing.observe(e)
		})
	}
	source, err := binlog.New(binlog.Config{
		Name: src.Name, Hosts: src.MySQL.Hosts, User: src.MySQL.User, Password: src.MySQL.Password.Reveal(), TLS: tlsConfig,
		Mapper: mapper, Sink: sink, OnLost: src.OnLostPosition.OnLost, ReadsFrom: src.ReadsFrom,
		FromNow: w.dryRun != nil, Observer: observer,
	})
	if err != nil {
		return nil, err
	}
	return binlogReader{source}, nil
}

func (w wiring) postgres(src Source, sink invalidation.Sink, observer invalidation.Observer) (reader, error) {
	tlsConfig, err := src.Postgres.TLS.Build()
	if err != nil {
		return nil, err
	}
	source, err := outbox.NewPostgres(outbox.PostgresConfig{
		Name: src.Name, Hosts: src.Postgres.Hosts, User: src.Postgres.User, Password: src.Postgres.Password.Reveal(),
		Database: src.Postgres.Database, TLS: tlsConfig, Sink: sink, Purge: src.Purge, OnLost: src.OnLostPosition.OnLost,
		FromNow: w.dryRun != nil, Observer: observer,
	})
	if err != nil {
		return nil, err
	}
	return outboxReader{source}, nil
}
