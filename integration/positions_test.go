package integration

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-038af1a6/invalidator/integration/servers"
	"github.com/seed-038af1a6/invalidator/pkg/binlog"
	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
	"github.com/seed-038af1a6/invalidator/pkg/invalidation/redissink"
)

// elsewhere is a server that no test runs.
const elsewhere = "9f8b2c10-0000-11ee-8000-0242ac110002"

// mastersSink is the Sink of a cache whose masters remember different things.
type mastersSink struct {
	*outboxSink

	masters []string
}

func (s mastersSink) Positions(ctx context.Context) ([]string, error) {
	_, err := s.outboxSink.Positions(ctx)
	return s.masters, err
}

func (s mastersSink) Stored() []string { return s.masters }

// A master was left behind; meanwhile the database failed over and lost what that one had seen, and the others were purged.
func TestALostPositionOfOneMasterPurgesWhicheverItIs(t *testing.T) {
	t.Parallel()
	l := newMySQLLog(t, servers.MySQL(t))
	now, err := l.source(t).Now(t.Context())
	require.NoError(t, err)
	lost := outboxWith(t, now, map[string]any{"gtids": elsewhere + ":1-10"})
	for _, masters := range [][]string{{lost, now}, {now, lost}} {
		l.sink, l.seen = newOutboxSink(), newEvents()
		l.config.Sink, l.config.Observer = mastersSink{l.sink, masters}, l.seen
		source := l.run(t)
		l.seen.await(t, invalidation.Lost, 0)
		l.sink.await(t, "everything is purged", func() bool { return len(l.sink.purged()) > 0 })

		assert.Contains(t, l.check(t, masters...).of(t, "position").Text, "never executed")
		_, err = source.Rewind(t.Context(), time.Second, masters)
		require.ErrorContains(t, err, "purged anyway")
		_, err = source.CompletePosition(t.Context(), now, masters)
		require.ErrorContains(t, err, "purged anyway")
	}
}

func TestReadingBeginsBehindWhatAllMastersHave(t *testing.T) {
	t.Parallel()
	l := newMySQLLog(t, servers.NewMySQL(t))
	before := l.text(t, "SELECT @@global.gtid_executed")
	l.exec(t, "INSERT INTO users VALUES (1, 'a', NULL)")
	first, err := l.source(t).Now(t.Context())
	require.NoError(t, err)
	conn, err := l.db.Conn(t.Context())
	require.NoError(t, err)
	for _, query := range []string{"SET gtid_next = '" + elsewhere + ":1'", "INSERT INTO users VALUES (2, 'a', NULL)", "SET gtid_next = 'AUTOMATIC'"} {
		_, err = conn.ExecContext(t.Context(), query)
		require.NoError(t, err, query)
	}
	require.NoError(t, conn.Close())
	second := outboxWith(t, first, map[string]any{"gtids": before + "," + elsewhere + ":1"})
	for _, masters := range [][]string{{first, second}, {second, first}} {
		l.sink, l.seen = newOutboxSink(), newEvents()
		l.config.Sink, l.config.Observer = mastersSink{l.sink, masters}, l.seen
		assert.Contains(t, l.check(t, masters...).of(t, "position").Text, "2 transactions wait")
		l.run(t)
		l.sink.await(t, "each master gets what it has not", func() bool { return l.sink.has("user:1", "user:2") })
		assert.Empty(t, l.sink.purged())
		assert.Zero(t, l.seen.count(invalidation.Lost))
	}
}

// One master remembers a place on the way through a backlog, another a moment in the middle of it.
func TestEveryMasterGetsTheWholeBacklog(t *testing.T) {
	t.Parallel()
	db := newOutboxDB(t, servers.Postgres(t))
	begin, err := db.source(t).Now(t.Context())
	require.NoError(t, err)
	db.enqueue(t, "k:first")
	middle, err := db.source(t).Now(t.Context())
	require.NoError(t, err)
	const rows = 40_000 // several chunks, so that some are read behind the flush below
	_, err = db.conn.Exec(t.Context(), "SELECT cache_outbox.enqueue('k:' || n) FROM generate_series(1, $1::int) n", rows)
	require.NoError(t, err)

	db.sink.remember(begin)
	onTheWay := errors.New("the relay stops on its way")
	db.sink.before = func(invalidation.Batch) error {
		if strings.Contains(db.sink.applied, `"target"`) {
			return onTheWay
		}
		db.flush(t) // or the last chunk's position may be the first that is durable
		return nil
	}
	require.ErrorIs(t, runToItsEnd(t, db.source(t)), onTheWay)
	way := db.sink.applied

	keys := make([]string, rows)
	for i := range keys {
		keys[i] = fmt.Sprint("k:", i+1)
	}
	for _, masters := range [][]string{{way, middle}, {middle, way}} {
		sink := newOutboxSink()
		cfg := db.config()
		cfg.Sink = mastersSink{sink, masters}
		stop := runOutbox(t, cfg)
		sink.await(t, "all of it, for the master that has only "+middle, func() bool { return sink.has(keys...) })
		_ = stop()
		assert.Empty(t, sink.purged())
	}
}

// An operator has it replay while what a changed rule names is being purged.
func TestAReplayGoesOnWithThePurgeOfAChangedRule(t *testing.T) {
	t.Parallel()
	l := newMySQLLog(t, servers.MySQL(t))
	server := servers.NewRedis(t)
	rdb := server.Client(t)
	l.exec(t, "INSERT INTO users VALUES (1, 'a', NULL)")
	gtids := l.text(t, "SELECT @@global.gtid_executed")
	now, err := l.source(t).Now(t.Context())
	require.NoError(t, err)
	cfg := redissink.Config{
		Redis: &redis.UniversalOptions{Addrs: []string{server.Addr()}}, Namespace: "inv", Source: "s", PurgeRate: 500, Observer: l.seen,
	}
	require.NoError(t, redissink.Set(t.Context(), cfg, now))
	for i := range 2000 {
		require.NoError(t, rdb.Set(t.Context(), fmt.Sprint("name:", i), "stale", 0).Err())
	}
	sink, err := redissink.New(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { _ = sink.Close() })
	runSink(t, sink)
	l.config.Sink = sink
	l.config.Mapper = mysqlRules(t, l.schema+".users", "user:{id}", "user:email:{email}", "name:{name}")
	source, err := binlog.New(l.config)
	require.NoError(t, err)
	runSource(t, source)
	l.seen.await(t, invalidation.PurgeStarted, 0)

	err = sink.Rewind(t.Context(), func(stored []string) (string, error) {
		assert.NotEmpty(t, rdb.Keys(t.Context(), "name:*").Val(), "the purge is not over")
		return source.CompletePosition(t.Context(), gtids, stored)
	})
	require.NoError(t, err)
	require.Eventually(t, func() bool { return len(rdb.Keys(t.Context(), "name:*").Val()) == 0 }, outboxPatience, 50*time.Millisecond)
}
