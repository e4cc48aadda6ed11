package redissink

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

// errAgain asks for the same pipeline again, at once.
var errAgain = errors.New("send the pipeline again")

// maxTried bounds what is remembered of pipelines without a reply, of which
// most never reached the server. One too few costs a replay.
const maxTried = 32

// read asks what is stored, and takes it for the truth.
func (sh *shard) read(ctx context.Context) (position string, err error) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	var stored string
	for range 3 {
		if stored, err = sh.look(ctx); !errors.Is(err, errAgain) {
			break
		}
	}
	if err != nil {
		return "", err
	}
	if stored != "" {
		if position, err = positionOf(sh.at.Load().key, stored); err != nil {
			return "", err
		}
	}
	sh.last, sh.tried, sh.own, sh.fresh = stored, nil, position, false
	sh.confirm(ctx)
	sh.state.remember(position)
	return position, nil
}

// look returns what is stored, "" for nothing. It runs the writing script, so
// that a replica or a server that is still loading answers with an error.
func (sh *shard) look(ctx context.Context) (string, error) {
	reply, err := sh.scripts.of(sh.scripts.position).Run(ctx, sh.client.Load(), []string{sh.at.Load().key}, "").Result()
	switch {
	case errors.Is(err, redis.Nil):
		return "", nil
	case err != nil && sh.scripts.withoutFlags(err):
		return "", errAgain
	case err != nil:
		return "", err
	}
	stored, ok := reply.(string)
	if !ok {
		return "", fmt.Errorf("unexpected reply %T to the position script", reply)
	}
	return stored, nil
}

// send sends one pipeline: what fill adds and then, on the same connection, the
// compare-and-set of the position's value. The position that it stores is the
// one that earlier pipelines have earned, never this one's. It fails where the
// compare-and-set does; the other replies are the caller's to read.
func (sh *shard) send(ctx context.Context, fill func(redis.Pipeliner)) error {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	for again := 0; ; again++ {
		err := sh.sendOnce(ctx, fill)
		if !errors.Is(err, errAgain) || again == 3 {
			return err
		}
	}
}

// sendOnce writes a nonce that no other pipeline has: one that was used before,
// by a pipeline without a reply, would hide that a failover lost this one. What
// such pipelines may have stored is accepted; their deletes are sent again by
// whoever sent them.
func (sh *shard) sendOnce(ctx context.Context, fill func(redis.Pipeliner)) error {
	earned := sh.earned.get()
	if sh.state.isBehind() { // asked for after the position: one that is left behind misses deletes before it
		return errBehind
	}
	if sh.last == "" && !sh.unbroken(ctx) { // nothing there is what a master that lost all would say too
		return fmt.Errorf("the connection to %s broke before it had a position: %w", sh.address(), invalidation.ErrResume)
	}
	value := newValue(cmp.Or(earned, sh.own))
	args := []any{value, sh.last}
	for _, tried := range sh.tried {
		args = append(args, tried)
	}
	pipe := sh.client.Load().Pipeline()
	fill(pipe)
	// Where Redis has forgotten the script, settle loads it and asks for the
	// whole pipeline again.
	cas := pipe.EvalSha(ctx, sh.scripts.of(sh.scripts.position).Hash(), []string{sh.at.Load().key}, args...)
	_, _ = pipe.Exec(ctx) // the error is that of the first reply; each is read by itself
	if err := sh.settle(ctx, cas, value); err != nil {
		return err
	}
	if sh.fresh = sh.fresh || earned != ""; sh.fresh && len(sh.extra) > 0 {
		sh.tidy(ctx)
	}
	return nil
}

// tidy removes the older positions, now that a newer one is known to be stored.
// What has gone ahead, in a slot on its way to another master, is removed there.
func (sh *shard) tidy(ctx context.Context) {
	replies := make([]*redis.IntCmd, len(sh.extra))
	pipe := sh.client.Load().Pipeline()
	for i, key := range sh.extra {
		replies[i] = pipe.Unlink(ctx, key)
	}
	_, _ = pipe.Exec(ctx) // each is read by itself
	var left []string
	for i, reply := range replies {
		err := reply.Err()
		if err != nil && redirect(err, "ASK ") != "" {
			err = sh.unlinkAsked(ctx, redirect(err, "ASK "), sh.extra[i])
		}
		if err != nil {
			left = append(left, sh.extra[i])
		}
	}
	sh.extra = left
}

func (sh *shard) unlinkAsked(ctx context.Context, addr, key string) error {
	ctx, cancel := context.WithTimeout(ctx, askGrace)
	defer cancel()
	client := sh.dial(addr, func() {})
	return askOnce(ctx, client, func(pipe redis.Pipeliner) *redis.IntCmd { return pipe.Unlink(ctx, key) }).Err()
}

// settle reads the reply to the compare-and-set.
func (sh *shard) settle(ctx context.Context, cas *redis.Cmd, value string) error {
	reply, err := cas.Result()
	switch {
	case err != nil && strings.HasPrefix(err.Error(), "NOSCRIPT"):
		if err := sh.scripts.of(sh.scripts.position).Load(ctx, sh.client.Load()).Err(); err != nil {
			return fmt.Errorf("load the position script: %w", err)
		}
		return errAgain
	case errors.Is(err, redis.Nil):
		return sh.missing(ctx)
	case err != nil && redirect(err, "ASK ") != "":
		return errAhead
	case err != nil:
		sh.tried = append(sh.tried, value)
		sh.tried = sh.tried[max(0, len(sh.tried)-maxTried):]
		return fmt.Errorf("save the position: %w", err)
	}
	if written, ok := reply.(int64); !ok || written != 1 {
		return fmt.Errorf("%s holds an older position, or another daemon's: it failed over, was restored, or somebody else writes to it: %w", sh.address(), invalidation.ErrResume)
	}
	sh.last, sh.tried = value, nil
	if sh.connections.Load() != sh.seenOn {
		sh.confirm(ctx)
	}
	if position, err := positionOf(sh.at.Load().key, value); err == nil && len(sh.extra) == 0 { // else an older one is there as well
		sh.state.remember(position)
	}
	return nil
}

// confirm notes on which connection, to which server, last is known to be true.
// Where the connection breaks in between, that is none.
func (sh *shard) confirm(ctx context.Context) {
	on := sh.connections.Load()
	server, known := sh.identity(ctx)
	sh.server, sh.seenOn = server, on
	if !known || sh.connections.Load() != on {
		sh.seenOn = -1
	}
}

// missing decides what it means that the position is gone. On the connection
// and the server that it was written to, Redis evicted it or was flushed, and
// it is written again. Otherwise deletes may be lost with it.
func (sh *shard) missing(ctx context.Context) error {
	if sh.unbroken(ctx) {
		sh.last, sh.tried = "", nil
		return errAgain
	}
	return fmt.Errorf("%s has lost the position: it failed over or came back without its data: %w", sh.address(), invalidation.ErrResume)
}

// unbroken reports whether the connection is still the one on which the value
// was last confirmed, to the same server with the same data. It asks, and so
// would notice a connection that broke meanwhile.
func (sh *shard) unbroken(ctx context.Context) bool {
	server, known := sh.identity(ctx)
	return known && server == sh.server && sh.answers(ctx) && sh.connections.Load() == sh.seenOn
}

// answers reports whether the connection works. That PING is not allowed is an
// answer too.
func (sh *shard) answers(ctx context.Context) bool {
	err := sh.client.Load().Ping(ctx).Err()
	_, refused := errors.AsType[redis.Error](err)
	return err == nil || refused
}

// moveTo gives the position another place, where nothing is stored yet. Only on
// the connection that confirmed the value before, so that nothing can have been
// lost in between. It fails where the place is not the given one any more.
func (sh *shard) moveTo(ctx context.Context, from, to place) error {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if *sh.at.Load() != from {
		return errAgain // somebody else was faster
	}
	if !sh.unbroken(ctx) {
		return fmt.Errorf("the position of %s has moved to another master: %w", sh.address(), invalidation.ErrResume)
	}
	sh.at.Store(&to)
	sh.last, sh.tried, sh.fresh = "", nil, false
	sh.extra = append(sh.extra, from.key)
	return nil
}

// forget has an older position removed once a newer one is stored.
func (sh *shard) forget(key string) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if key != sh.at.Load().key && !slices.Contains(sh.extra, key) {
		sh.extra = append(sh.extra, key)
	}
}

// strayed takes out the older positions that another master has by now.
func (sh *shard) strayed(in *layout) (keys []string) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.extra = slices.DeleteFunc(sh.extra, func(key string) bool {
		if in.ownerOf(slotOf(key)) == sh.address() {
			return false
		}
		keys = append(keys, key)
		return true
	})
	return keys
}

// identity returns what changes when the server restarts or takes over the
// data of another one; "" where it never tells. It is not known where it does
// not tell now.
func (sh *shard) identity(ctx context.Context) (server string, known bool) {
	var id strings.Builder
	for _, section := range []string{"server", "replication"} {
		text, err := sh.client.Load().Info(ctx, section).Result()
		switch {
		case err != nil && isAway(err):
			return "", false
		case err != nil:
			continue // it may not be asked that
		}
		for line := range strings.Lines(text) {
			if strings.HasPrefix(line, "run_id:") || strings.HasPrefix(line, "master_replid:") {
				id.WriteString(strings.TrimSpace(line))
				id.WriteByte(' ')
			}
		}
	}
	return id.String(), true
}
