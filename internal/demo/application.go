package demo

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/seed-038af1a6/invalidator/pkg/cacheaside"
)

// The load: up to 4,000 reads and 800 writes a second.
const (
	readers    = 8
	readPause  = 2 * time.Millisecond
	writers    = 4
	writePause = 5 * time.Millisecond
)

// application reads and writes users as any program does that uses cacheaside.
type application struct {
	db     *database
	redis  *redis.Client
	cache  *cacheaside.Client
	users  *cacheaside.View[user]
	ledger *ledger
	counts *counts
	lose   float64
}

func newApplication(db *database, redisAddr string, l *ledger, c *counts, lose float64) (*application, error) {
	opts := redisOptions(redisAddr)
	opts.ContextTimeoutEnabled = true // or cacheaside uses a copy of the client, and copies have no hooks
	rdb := redis.NewClient(opts)
	rdb.AddHook(faultHook{})
	cache, err := cacheaside.New(rdb, cacheaside.Options{
		ReturnOwed: true,             // to count them
		OwedFor:    time.Millisecond, // shorter than the first retry: nothing but the relay repairs
	})
	if err != nil {
		return nil, errors.Join(err, rdb.Close())
	}
	return &application{
		db: db, redis: rdb, cache: cache, ledger: l, counts: c, lose: lose,
		// Nothing that is stale heals because its time is over.
		users: cacheaside.For[user](cache, cacheaside.Policy{TTL: 365 * 24 * time.Hour}),
	}, nil
}

func (a *application) close() error {
	a.cache.Close()
	return a.redis.Close()
}

// read is one read through the cache.
func (a *application) read(ctx context.Context) error {
	id := someID()
	_, err := a.users.Get(ctx, userKey(id), func(ctx context.Context) (user, error) {
		users, err := a.db.load(ctx, id)
		if u, ok := users[id]; ok || err != nil {
			return u, err
		}
		return user{}, cacheaside.ErrNotFound
	})
	if err != nil {
		return fmt.Errorf("read: %w", err)
	}
	a.counts.change(func(n *numbers) { n.reads++ })
	return nil
}

// write is one write, with what becomes of its delete left to chance.
func (a *application) write(ctx context.Context) error {
	id, f := someID(), drawFate(a.lose)
	if f == fails {
		ctx = cutOff(ctx)
	}
	a.ledger.begin(id)
	defer a.ledger.end(id)
	err := a.cache.Write(ctx, func(ctx context.Context) (stale []string, err error) {
		err = a.db.update(ctx, id, func(version int64) { a.ledger.commit(id, version) })
		if f == crashes {
			return nil, err // the process died here: nobody is left to delete
		}
		return []string{userKey(id)}, err
	})
	lost := errors.Is(err, cacheaside.ErrOwed)
	if err != nil && !lost {
		return fmt.Errorf("write: %w", err)
	}
	a.counts.change(func(n *numbers) {
		n.writes++
		if lost || f == crashes {
			n.deletesLost++
		}
	})
	return nil
}

// someID prefers low ids, so that some rows are read and written often.
func someID() int {
	return 1 + min(rand.IntN(userCount), rand.IntN(userCount)) //nolint:gosec // a die, not a secret
}

const userPrefix = "user:"

func userKey(id int) string { return userPrefix + strconv.Itoa(id) }

// userID is the reverse of userKey; ok is false for other keys.
func userID(key string) (id int, ok bool) {
	text, ok := strings.CutPrefix(key, userPrefix)
	if !ok {
		return 0, false
	}
	id, err := strconv.Atoi(text)
	return id, err == nil
}
