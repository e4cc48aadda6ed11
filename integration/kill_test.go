package integration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-038af1a6/invalidator/integration/servers"
	"github.com/seed-038af1a6/invalidator/pkg/cacheaside"
	"github.com/seed-038af1a6/invalidator/pkg/outbox"
)

// How much the test of killed daemons does; the environment can change it, and
// repeats a run with INVALIDATOR_TEST_SEED.
const (
	defaultKills  = 200
	defaultWrites = 100_000
	redisAway     = 30 * time.Second
	tableRows     = 500
	writersEach   = 8
)

// Anomalies 17, 18, 22 and 34 at once: the daemon is killed again and again, and
// Redis is away for a while, while the application writes without ever deleting
// a key itself and its readers fill what they miss. At the end no cached value
// differs from the database.
func TestKilledDaemonLeavesNothingStale(t *testing.T) {
	t.Parallel()
	r := newTorture(t)
	t.Logf("repeat with INVALIDATOR_TEST_SEED=%d", r.seed)

	load := make(chan struct{})
	var readers, writers sync.WaitGroup
	for i := range 4 {
		readers.Go(func() { r.read(load, rand.New(rand.NewPCG(r.seed, uint64(100+i)))) })
	}
	for i := range 2 * writersEach {
		writers.Go(func() { r.write(r.sources[i%2], rand.New(rand.NewPCG(r.seed, uint64(i)))) })
	}
	away := r.takeRedisAway()
	r.killAgainAndAgain(rand.New(rand.NewPCG(r.seed, 99)))
	writers.Wait()
	<-away

	// No daemon runs now. What is written from here on shows that the check
	// below can fail.
	r.fillAll()
	for _, s := range r.sources {
		for id := range tableRows / 2 {
			require.NoError(t, s.update(t.Context(), id))
		}
	}
	close(load)
	readers.Wait()
	require.Positive(t, r.stale(), "naive: without the daemon the cache is stale")

	stop := r.startDaemon()
	defer stop()
	r.awaitSentinels()
	assert.Zero(t, r.stale(), "stale entries; repeat with INVALIDATOR_TEST_SEED=%d", r.seed)
	t.Logf("writes=%d kills=%d loads=%d stale=0", r.written.Load(), r.kills, r.loads.Load())
}

// torture is what the test works on.
type torture struct {
	t       *testing.T
	seed    uint64
	kills   int
	writes  int64
	binary  string
	config  string
	redis   *servers.RedisServer
	rdb     *redis.Client
	cache   *cacheaside.Client
	values  *cacheaside.View[int]
	sources [2]*tortureSource
	written atomic.Int64
	allowed atomic.Int64 // writes so far, paced by the kills
	loads   atomic.Int64
	away    atomic.Bool
	output  bytes.Buffer // of the daemons, one after the other
}

// tortureSource is one database with a table of counters.
type tortureSource struct {
	prefix string
	update func(ctx context.Context, id int) error
	value  func(ctx context.Context, id int) (int, error)
}

func (s *tortureSource) key(id int) string { return s.prefix + strconv.Itoa(id) }

func fromEnvironment(t *testing.T, name string, byDefault int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return byDefault
	}
	n, err := strconv.Atoi(text)
	require.NoError(t, err, name)
	return n
}

func newTorture(t *testing.T) *torture {
	t.Helper()
	r := &torture{
		t:      t,
		seed:   uint64(fromEnvironment(t, "INVALIDATOR_TEST_SEED", rand.IntN(1<<31))),
		kills:  fromEnvironment(t, "INVALIDATOR_TEST_KILLS", defaultKills),
		writes: int64(fromEnvironment(t, "INVALIDATOR_TEST_WRITES", defaultWrites)),
		// It keeps its data while it is away: an empty cache would be easy.
		redis:  servers.NewRedis(t, "--appendonly", "yes", "--appendfsync", "always"),
		binary: theBinary(t),
	}
	r.rdb = r.redis.Client(t)
	var err error
	r.cache, err = cacheaside.New(r.rdb, cacheaside.Options{Lease: time.Second})
	require.NoError(t, err)
	t.Cleanup(func() { r.cache.Close() })
	r.values = cacheaside.For[int](r.cache, cacheaside.Policy{TTL: time.Hour})

	my, mysqlSchema := r.mysqlSource()
	pg, dbname := r.postgresSource()
	r.sources = [2]*tortureSource{my, pg}
	r.config = filepath.Join(t.TempDir(), "invalidator.yaml")
	mysql, postgres := servers.MySQL(t), servers.Postgres(t)
	require.NoError(t, os.WriteFile(r.config, fmt.Appendf(nil, `
namespace: torture
redis: { addrs: [%q] }
sources:
  - name: my
    mysql: { hosts: [%q], user: %q, password: %q }
    rules:
      - { table: %s.counters, keys: ["%s{id}"] }
  - name: pg
    postgres: { hosts: [%q], user: %q, password: %q, database: %q }
    purge: ["%s*"]
http: { listen: "127.0.0.1:0" }
`, r.redis.Addr(), mysql.Addr(), mysql.User(), mysql.Password(), mysqlSchema, my.prefix,
		postgres.Addr(), postgres.User(), postgres.Password(), dbname, pg.prefix), 0o600))
	out, err := exec.CommandContext(t.Context(), r.binary, "migrate", "up", "--config", r.config).CombinedOutput()
	require.NoError(t, err, "%s", out)
	return r
}

func (r *torture) mysqlSource() (*tortureSource, string) {
	schema, db := servers.MySQL(r.t).Database(r.t)
	_, err := db.ExecContext(r.t.Context(), "CREATE TABLE counters (id INT PRIMARY KEY, n INT NOT NULL)")
	require.NoError(r.t, err)
	for id := range tableRows + 1 {
		_, err := db.ExecContext(r.t.Context(), "INSERT INTO counters VALUES (?, 0)", id)
		require.NoError(r.t, err)
	}
	return &tortureSource{
		prefix: "my:",
		update: func(ctx context.Context, id int) error {
			_, err := db.ExecContext(ctx, "UPDATE counters SET n = n + 1 WHERE id = ?", id)
			return err
		},
		value: func(ctx context.Context, id int) (n int, err error) {
			return n, db.QueryRowContext(ctx, "SELECT n FROM counters WHERE id = ?", id).Scan(&n)
		},
	}, schema
}

func (r *torture) postgresSource() (*tortureSource, string) {
	dbname, dsn := servers.Postgres(r.t).Database(r.t)
	pool, err := pgxpool.New(r.t.Context(), dsn)
	require.NoError(r.t, err)
	r.t.Cleanup(pool.Close)
	_, err = pool.Exec(r.t.Context(), "CREATE TABLE counters AS SELECT id, 0 AS n FROM generate_series(0, $1::int) id", tableRows)
	require.NoError(r.t, err)
	_, err = pool.Exec(r.t.Context(), "ALTER TABLE counters ADD PRIMARY KEY (id)")
	require.NoError(r.t, err)
	s := &tortureSource{prefix: "pg:"}
	s.update = func(ctx context.Context, id int) error {
		tx, err := pool.Begin(ctx)
		if err != nil {
			return err
		}
		defer tx.Rollback(context.WithoutCancel(ctx))
		if _, err := tx.Exec(ctx, "UPDATE counters SET n = n + 1 WHERE id = $1", id); err != nil {
			return err
		}
		if err := outbox.Enqueue(ctx, tx, s.key(id)); err != nil {
			return err
		}
		return tx.Commit(ctx)
	}
	s.value = func(ctx context.Context, id int) (n int, err error) {
		return n, pool.QueryRow(ctx, "SELECT n FROM counters WHERE id = $1", id).Scan(&n)
	}
	return s, dbname
}

// write updates random rows, as fast as the kills allow.
func (r *torture) write(s *tortureSource, random *rand.Rand) {
	for r.written.Load() < r.writes {
		if r.written.Load() >= r.allowed.Load() {
			select {
			case <-r.t.Context().Done():
				return
			case <-time.After(5 * time.Millisecond):
			}
			continue
		}
		if err := s.update(r.t.Context(), random.IntN(tableRows)); !assert.NoError(r.t, err) {
			return
		}
		r.written.Add(1)
	}
}

// read gets random keys, and fills what it misses.
func (r *torture) read(done <-chan struct{}, random *rand.Rand) {
	for {
		select {
		case <-done:
			return
		default:
		}
		r.get(r.sources[random.IntN(2)], random.IntN(tableRows))
	}
}

func (r *torture) get(s *tortureSource, id int) {
	_, err := r.values.Get(r.t.Context(), s.key(id), func(ctx context.Context) (int, error) {
		r.loads.Add(1)
		return s.value(ctx, id)
	})
	assert.NoError(r.t, err)
}

func (r *torture) fillAll() {
	for _, s := range r.sources {
		for id := range tableRows {
			r.get(s, id)
		}
	}
}

// takeRedisAway kills Redis in the middle of the run and brings it back with
// the data that it had.
func (r *torture) takeRedisAway() <-chan struct{} {
	back := make(chan struct{})
	go func() {
		defer close(back)
		for r.written.Load() < r.writes/3 {
			select {
			case <-r.t.Context().Done():
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
		r.away.Store(true)
		r.redis.Kill(r.t)
		<-time.After(redisAway)
		r.redis.Start(r.t)
		r.away.Store(false)
	}()
	return back
}

// killAgainAndAgain starts the daemon and kills it after a random time.
func (r *torture) killAgainAndAgain(random *rand.Rand) {
	for n := range r.kills {
		stop := r.startDaemon()
		r.allowed.Store(r.writes * int64(n+1) / int64(r.kills))
		life := time.Duration(50+random.IntN(450)) * time.Millisecond
		if r.away.Load() {
			life *= 10 // there is nothing to interrupt but the wait
		}
		<-time.After(life)
		stop()
	}
}

// startDaemon starts the program; stop kills it with SIGKILL.
func (r *torture) startDaemon() (stop func()) {
	r.t.Helper()
	daemon := exec.CommandContext(r.t.Context(), r.binary, "run", "--config", r.config)
	r.output.Reset()
	daemon.Stdout, daemon.Stderr = &r.output, &r.output
	require.NoError(r.t, daemon.Start())
	return func() {
		_ = daemon.Process.Kill()
		_ = daemon.Wait()
		if code := daemon.ProcessState.ExitCode(); code > 0 {
			r.t.Errorf("the daemon ended by itself with %d: %s", code, r.output.String())
		}
	}
}

// awaitSentinels waits until the daemon has applied a change made now, of a row
// that nobody else writes: an older change of it would end the wait too early.
func (r *torture) awaitSentinels() {
	r.t.Helper()
	for _, s := range r.sources {
		require.NoError(r.t, r.rdb.Set(r.t.Context(), s.key(tableRows), "sentinel", 0).Err())
		require.NoError(r.t, s.update(r.t.Context(), tableRows))
		require.Eventually(r.t, func() bool {
			n, err := r.rdb.Exists(r.t.Context(), s.key(tableRows)).Result()
			return err == nil && n == 0
		}, time.Minute, 10*time.Millisecond, "the daemon does not catch up: %s", &r.output)
	}
}

var errNotCached = errors.New("not cached")

// stale counts the cached values that differ from the database.
func (r *torture) stale() int {
	r.t.Helper()
	n := 0
	for _, s := range r.sources {
		for id := range tableRows {
			cached, err := r.values.Get(r.t.Context(), s.key(id), func(context.Context) (int, error) { return 0, errNotCached })
			if errors.Is(err, errNotCached) {
				continue
			}
			require.NoError(r.t, err)
			current, err := s.value(r.t.Context(), id)
			require.NoError(r.t, err)
			if cached != current {
				n++
				r.t.Logf("stale: %s is cached as %d, and is %d; %s", s.key(id), cached, current, &r.output)
			}
		}
	}
	return n
}
