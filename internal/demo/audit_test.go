package demo

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

// setup returns a demo without load and without a relay.
func setup(t *testing.T) *demo {
	t.Helper()
	d := &demo{opts: Options{NoDaemon: true}.withDefaults(), counts: &counts{}}
	t.Cleanup(func() { require.NoError(t, d.close()) })
	require.NoError(t, d.open(t.Context()))
	return d
}

// fill reads the user through the cache, which holds it then.
func (d *demo) fill(t *testing.T, id int) {
	t.Helper()
	_, err := d.app.users.Get(t.Context(), userKey(id), func(ctx context.Context) (user, error) {
		users, err := d.db.load(ctx, id)
		return users[id], err
	})
	require.NoError(t, err)
}

// update changes the user and tells nobody.
func (d *demo) update(t *testing.T, id int) {
	t.Helper()
	require.NoError(t, d.db.update(t.Context(), id, func(version int64) { d.audit.ledger.commit(id, version) }))
}

func TestAnOldValueIsStaleAndItsAgeCountsFromTheNextCommit(t *testing.T) {
	t.Parallel()
	d := setup(t)
	d.fill(t, 1)
	d.fill(t, 2)
	d.fill(t, 3)
	d.update(t, 1)
	d.update(t, 1)
	d.update(t, 4) // not cached
	found, err := d.audit.stale(t.Context(), allIDs(), false)
	require.NoError(t, err)
	require.Len(t, found, 1)
	assert.Equal(t, 1, found[0].id)
	assert.Equal(t, int64(1), found[0].version)
	assert.Equal(t, d.audit.ledger.rows[1].commits[2], found[0].since)
	assert.True(t, found[0].settled)
}

func TestTheAgeOutlivesTheLedgersMemory(t *testing.T) {
	t.Parallel()
	d := setup(t)
	d.fill(t, 1)
	d.update(t, 1)
	require.NoError(t, d.audit.look(t.Context(), false))
	since := d.audit.seen[1].since
	require.False(t, since.IsZero())
	for range 2 * commitsKept {
		d.update(t, 1)
	}
	require.NoError(t, d.audit.look(t.Context(), false))
	assert.Equal(t, since, d.audit.seen[1].since)
	assert.Equal(t, 1, d.counts.now().staleNow)
}

func TestALeaseIsNoValue(t *testing.T) {
	t.Parallel()
	d := setup(t)
	_, err := d.app.users.Get(t.Context(), userKey(1), func(ctx context.Context) (user, error) {
		d.update(t, 1)
		require.Equal(t, []string{userKey(1)}, d.server.Keys())
		found, err := d.audit.stale(ctx, allIDs(), true)
		require.NoError(t, err)
		assert.Empty(t, found)
		return user{ID: 1}, nil
	})
	require.NoError(t, err)
	found, err := d.audit.stale(t.Context(), allIDs(), true)
	require.NoError(t, err)
	assert.Len(t, found, 1, "any difference counts at rest")
}

func TestAnEntryThatNobodyCanReadIsAnError(t *testing.T) {
	t.Parallel()
	d := setup(t)
	for _, entry := range []string{"", "V", "x", "V0123456789012345678901234567890123456789{"} {
		require.NoError(t, d.server.Set(userKey(1), entry))
		require.ErrorIs(t, d.audit.look(t.Context(), true), errEntry, entry)
	}
}

func TestALostDeleteReachesRedisNeverAndACrashedWriterDoesNotDelete(t *testing.T) {
	t.Parallel()
	d := setup(t)
	d.app.lose = 1
	for _, id := range allIDs() {
		d.fill(t, id)
	}
	for range 1000 {
		require.NoError(t, d.app.write(t.Context()))
	}
	d.app.cache.Close()
	assert.Len(t, d.server.Keys(), userCount)
	assert.Equal(t, 1000, d.counts.now().deletesLost)
}

func TestTheSinkCountsWhatItRepairs(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		prepare func(d *demo)
		want    int
	}{
		"a stale value":                       {func(d *demo) { d.update(t, 1) }, 1},
		"a fresh value":                       {func(*demo) {}, 0},
		"an entry that is gone":               {func(d *demo) { d.update(t, 1); d.server.Del(userKey(1)) }, 0},
		"one that its writer deletes as well": {func(d *demo) { d.update(t, 1); d.audit.ledger.begin(1) }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := setup(t)
			d.fill(t, 1)
			c.prepare(d)
			last := make(chan struct{})
			sink := &countingSink{Sink: quietSink{}, audit: d.audit, last: last}
			require.NoError(t, sink.Apply(t.Context(), invalidation.Batch{Keys: []string{userKey(1), "other", lastKey}}))
			assert.Equal(t, c.want, d.counts.now().repaired)
			<-last
			require.NoError(t, sink.Apply(t.Context(), invalidation.Batch{Keys: []string{lastKey}}), "a replay")
		})
	}
}

type quietSink struct{}

func (quietSink) Positions(context.Context) ([]string, error) { return []string{""}, nil }

func (quietSink) Apply(context.Context, invalidation.Batch) error { return nil }
