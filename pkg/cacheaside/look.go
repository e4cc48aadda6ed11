package cacheaside

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	lookShards = 64

	// manyLooks is how many looks under way it takes for one to be pipelined with others. Below it waiting for others
	// costs more than it saves.
	manyLooks = 8

	// looksAlongside is how many GETs of one key are sent before reads share: that many readers are as fast as without
	// sharing, and many more are nearly as fast as with 1.
	looksAlongside = 4
)

// looks are the first looks of reads, which are all that hits cost. A few GETs of a key are under way at a time. Reads
// that come meanwhile do not take their replies, which may be older than a delete that was done before they came: they
// share the next GET, which is sent when one of these is done, and so after all of them came.
type looks struct {
	seed      maphash.Seed
	shards    [lookShards]lookShard
	alongside int // GETs of one key at a time

	busy atomic.Int64 // looks under way
	auto func() *redis.AutoPipeliner
}

type lookShard struct {
	mu    sync.Mutex
	byKey map[string]keyLooks
}

// keyLooks are the GETs of one key.
type keyLooks struct {
	underWay int
	next     *nextLook // nil: nobody waits for it
}

// nextLook is a GET that will be sent when the one under way is done.
type nextLook struct {
	send    func() look
	waiting int // under the shard's mu
	done    chan struct{}
	at      look // once done is closed
}

// newLooks pipelines looks if client can.
func newLooks(client redis.UniversalClient, pipeline bool) *looks {
	l := &looks{seed: maphash.MakeSeed(), alongside: looksAlongside, auto: func() *redis.AutoPipeliner { return nil }}
	for i := range l.shards {
		l.shards[i].byKey = map[string]keyLooks{}
	}
	if able, ok := client.(autoPipelining); ok && pipeline {
		l.auto = sync.OnceValue(func() *redis.AutoPipeliner {
			p, err := able.AsyncAutoPipeline()
			if err != nil { // without it every look is a command of its own
				return nil
			}
			return p
		})
	}
	return l
}

// autoPipelining is what *redis.Client and *redis.ClusterClient offer.
type autoPipelining interface {
	AsyncAutoPipeline() (*redis.AutoPipeliner, error)
}

func (l *looks) shard(key string) *lookShard {
	return &l.shards[maphash.String(l.seed, key)%lookShards]
}

// join returns the GET that a read which comes now has to wait for; nil: it has to send one.
func (c *Client) join(ctx context.Context, s *lookShard, key string, began time.Time) *nextLook {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.byKey[key]
	if k.underWay < c.looks.alongside {
		k.underWay++
		s.byKey[key] = k
		return nil
	}
	if k.next == nil {
		k.next = c.nextLook(ctx, key, began)
		s.byKey[key] = k
	}
	k.next.waiting++
	return k.next
}

func (c *Client) nextLook(ctx context.Context, key string, began time.Time) *nextLook {
	ctx = context.WithoutCancel(ctx)
	return &nextLook{done: make(chan struct{}), send: func() look { return c.look(ctx, key, began) }}
}

// leave is for a read that does not wait any more.
func (s *lookShard) leave(n *nextLook) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n.waiting--
}

// pass returns the GET to send now that one of the key is done; nil: nobody waits.
func (s *lookShard) pass(key string) *nextLook {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.byKey[key]
	next := k.next
	k.next = nil
	if next != nil && next.waiting > 0 {
		s.byKey[key] = k
		return next
	}
	if k.underWay--; k.underWay > 0 {
		s.byKey[key] = k
	} else {
		delete(s.byKey, key)
	}
	return nil
}

// get is the first look of a Get.
func (c *Client) get(ctx context.Context, key string, began time.Time) look {
	shard := c.looks.shard(key)
	next := c.join(ctx, shard, key, began)
	if next == nil {
		defer c.passOn(shard, key)
		return c.look(ctx, key, began)
	}
	select {
	case <-next.done:
		at := next.at
		at.shared = true
		return at
	case <-ctx.Done():
		shard.leave(next)
		return look{err: ctx.Err()}
	}
}

// passOn has the next GET sent, in the background because none of those who wait for it owns it.
func (c *Client) passOn(shard *lookShard, key string) {
	if next := shard.pass(key); next != nil {
		c.flights.spawn(func() { shard.sendAll(next, key) })
	}
}

// sendAll sends next, and what came meanwhile.
func (s *lookShard) sendAll(next *nextLook, key string) {
	for next != nil {
		next.at = next.send()
		close(next.done)
		next = s.pass(key)
	}
}

// look sends one GET.
func (c *Client) look(ctx context.Context, key string, began time.Time) (at look) {
	c.hooks.at(ctx, stepGet, key)
	if !c.redis.allow() {
		return look{err: ErrRedisOpen}
	}
	at.raw, at.err = c.fetch(ctx, key)
	c.hooks.answered(stepGet, key)
	if at.absent = errors.Is(at.err, redis.Nil); at.absent {
		at.err = nil
	}
	if at.err != nil && ctx.Err() != nil { // the caller went away, and Redis is not to blame
		c.redis.record(nil)
		return at
	}
	c.redis.record(at.err)
	if at.err != nil && !isWrongType(at.err) {
		at.err = fmt.Errorf("%s: %w", stepGet, at.err)
		c.opts.Observer.Observe(Event{Kind: EventRedisError, Key: key, Err: at.err, Took: time.Since(began)})
	}
	return at
}

// fetch pipelines with other looks when there are many. Nothing but GETs is pipelined: a command may be sent again with
// its pipeline.
func (c *Client) fetch(ctx context.Context, key string) ([]byte, error) {
	bounded, cancel := context.WithTimeout(ctx, c.opts.RedisTimeout)
	defer cancel()
	if c.opts.AutoPipeline {
		defer c.looks.busy.Add(-1)
		if c.looks.busy.Add(1) > manyLooks {
			if auto := c.looks.auto(); auto != nil {
				cmd := redis.NewStringCmd(bounded, "get", key)
				if err := auto.Submit(bounded, cmd).WaitContext(bounded); err != nil {
					return nil, err // of bounded, perhaps: then cmd is still being written to
				}
				return cmd.Bytes()
			}
		}
	}
	return c.reads.Get(bounded, key).Bytes()
}
