package integration

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-038af1a6/invalidator/integration/servers"
	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
	"github.com/seed-038af1a6/invalidator/pkg/invalidation/redissink"
)

const (
	grantedUser     = "invalidator"
	grantedPassword = "gr4nted-pa55"
	sentinelReader  = "asks"
)

// The rights that docs/operations.md has an operator grant, and no others.
var (
	grantedKeys     = []string{"~inv:*", "~user:*"}
	grantedCommands = strings.Fields("+get +set +del +unlink +eval +evalsha +script|load +hlen +hgetall +hexists +hset +hdel +scan +dbsize +info")
	clusterCommands = strings.Fields("+cluster|slots +cluster|info +cluster|nodes +asking")
	sentinelGrants  = strings.Fields("resetchannels -@all +sentinel|master +sentinel|get-master-addr-by-name +sentinel|ckquorum")
)

// grant returns the ACL rules of a user with these rights.
func grant(rights ...string) []string {
	return append([]string{"on", ">" + grantedPassword, "resetkeys", "resetchannels", "-@all"}, rights...)
}

// as returns options that log in as the granted user, the way the daemon does.
func as(options *redis.UniversalOptions) *redis.UniversalOptions {
	options.Username, options.Password = grantedUser, grantedPassword
	return options
}

// setUser replaces the granted user's rights.
func setUser(t *testing.T, admin *redis.Client, rights []string) {
	t.Helper()
	args := []any{"ACL", "SETUSER", grantedUser, "reset"}
	for _, rule := range grant(rights...) {
		args = append(args, rule)
	}
	require.NoError(t, admin.Do(t.Context(), args...).Err())
}

// awaitQuorum waits until all Sentinels see each other. One that started before another tries to reach that again after a second, and
// takes it for dead for a moment then.
func awaitQuorum(t *testing.T, s *servers.Sentinel) {
	t.Helper()
	for _, sentinel := range s.Sentinels() {
		client := sentinel.Client(t)
		require.Eventually(t, func() bool {
			others, err := client.Do(t.Context(), "SENTINEL", "SENTINELS", s.MasterName()).Slice()
			text := fmt.Sprint(others)
			return err == nil && !strings.Contains(text, "disconnected") && !strings.Contains(text, "s_down")
		}, 20*time.Second, 20*time.Millisecond)
	}
}

// exercise has a Sink do all that it can do.
func exercise(t *testing.T, options *redis.UniversalOptions, admin redis.UniversalClient) {
	t.Helper()
	ctx, seen := t.Context(), newEvents()
	for _, key := range []string{"user:1", "user:2", "user:3", "other:1"} {
		require.NoError(t, admin.Set(ctx, key, "x", 0).Err())
	}
	cfg := redissink.Config{Redis: options, Namespace: "inv", Source: "s", Observer: seen}
	for _, f := range redissink.Check(ctx, redissink.Wanted{Config: cfg, Patterns: []string{"user:*"}}) {
		assert.Equal(t, invalidation.OK, f.Level, "%s: %s → %s", f.Subject, f.Text, f.Fix)
	}
	sink, err := redissink.New(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { sink.Close() })
	t.Run("lead, delete, purge, park, unpark", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(ctx, time.Minute)
		t.Cleanup(cancel)
		runSink(t, sink)
		_, err := sink.Positions(ctx)
		require.NoError(t, err)
		require.NoError(t, sink.Apply(ctx, invalidation.Batch{Keys: []string{"user:1", "other:1"}, Position: "p1"}))
		require.NoError(t, sink.Apply(ctx, invalidation.Batch{Patterns: []string{"user:*"}, Position: "p2"}))
		seen.await(t, invalidation.PurgeDone, 0)
		require.EventuallyWithT(t, func(c *assert.CollectT) {
			require.NoError(c, sink.Apply(ctx, invalidation.Batch{}))
			assert.NotContains(c, sink.Stored(), "p1")
			assert.Contains(c, sink.Stored(), "p2")
		}, 20*time.Second, 20*time.Millisecond)
		if admin.Del(ctx, redissink.PositionKey("inv", "s")).Val() == 1 { // as an eviction does; a cluster's has a tag
			require.NoError(t, sink.Apply(ctx, invalidation.Batch{}), "nothing was lost")
		}
		for _, key := range []string{"user:1", "user:2", "user:3"} {
			assert.Zero(t, admin.Exists(ctx, key).Val(), key)
		}
		parked, err := sink.Parked(ctx)
		require.NoError(t, err)
		require.Len(t, parked, 1)
		assert.Equal(t, "other:1", parked[0].Key)
		_, err = sink.Unpark(ctx)
		require.NoError(t, err)
	})
	require.NoError(t, sink.Release(ctx))
	state, err := redissink.Look(ctx, cfg)
	require.NoError(t, err)
	assert.Empty(t, state.Leader)
}

func TestTheDocumentedRightsAreEnough(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(testing.TB, ...string) *servers.RedisServer{"redis": servers.NewRedis, "redis 7": servers.NewRedis7, "valkey": servers.NewValkey} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			admin := s.Client(t)
			setUser(t, admin, slices.Concat(grantedKeys, grantedCommands))
			exercise(t, as(s.Options()), admin)
		})
	}
	t.Run("cluster", func(t *testing.T) {
		t.Parallel()
		rules := strings.Join(grant(slices.Concat(grantedKeys, grantedCommands, clusterCommands)...), " ")
		s := servers.NewCluster(t, servers.WithUser(grantedUser, rules))
		exercise(t, as(s.Options()), s.Client(t))
	})
	t.Run("sentinel", func(t *testing.T) {
		t.Parallel()
		rules := strings.Join(grant(slices.Concat(grantedKeys, grantedCommands)...), " ")
		s := servers.NewSentinel(t, servers.WithUser(grantedUser, rules))
		for _, sentinel := range s.Sentinels() {
			args := []any{"ACL", "SETUSER", sentinelReader, "on", ">" + grantedPassword}
			for _, rule := range sentinelGrants {
				args = append(args, rule)
			}
			require.NoError(t, sentinel.Client(t).Do(t.Context(), args...).Err())
		}
		awaitQuorum(t, s)
		options := as(s.Options())
		options.SentinelUsername, options.SentinelPassword = sentinelReader, grantedPassword
		exercise(t, options, s.Client(t))
	})
}

func TestTheManualGrantsTheRightsThatAreTested(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/operations.md")
	require.NoError(t, err)
	for _, rights := range [][]string{grantedCommands, clusterCommands, sentinelGrants} {
		assert.Contains(t, string(page), strings.Join(rights, " "))
	}
}

func TestEachDocumentedRightIsNamedWhereItIsMissing(t *testing.T) {
	t.Parallel()
	s := servers.NewRedis(t)
	admin := s.Client(t)
	all := slices.Concat(grantedKeys, grantedCommands)
	for _, right := range all {
		setUser(t, admin, slices.DeleteFunc(slices.Clone(all), func(r string) bool { return r == right }))
		named := false
		for _, f := range redissink.Check(t.Context(), wanted(as(s.Options()), "user:*")) {
			named = named || f.Level != invalidation.OK && slices.Contains(strings.Fields(f.Fix), right)
		}
		assert.True(t, named, "without %s nothing names it", right)
	}
}

// With the documented rights deletes and purges follow a slot that is on the move.
func TestTheDocumentedRightsAreEnoughWhileASlotMoves(t *testing.T) {
	t.Parallel()
	rules := strings.Join(grant(slices.Concat(grantedKeys, grantedCommands, clusterCommands)...), " ")
	cluster := servers.NewCluster(t, servers.WithReplicas(0), servers.WithUser(grantedUser, rules))
	masters, rdb := cluster.Masters(t), cluster.Client(t)
	tag := "{" + cluster.KeyOn(t, masters[2], "user:") + "}"
	keys := []string{"user:1" + tag, "user:2" + tag, "user:3" + tag}
	setAll(t, rdb, append(cluster.KeysOn(t, masters[1], "user:", 300), keys...)) // they take the purge three seconds
	seen, progress := newEvents(), make(chan struct{}, 100)
	sink, err := redissink.New(redissink.Config{
		Redis: as(cluster.Options()), Namespace: "inv", Source: "s", PurgeRate: 100,
		Observer: logTo(t, invalidation.ObserverFunc(func(e invalidation.Event) {
			seen.Observe(e)
			if e.Kind == invalidation.PurgeProgress {
				progress <- struct{}{}
			}
		})),
	})
	require.NoError(t, err)
	t.Cleanup(func() { sink.Close() })
	runSink(t, sink)
	_, err = sink.Positions(t.Context())
	require.NoError(t, err)

	move := cluster.BeginMove(t, masters[2], masters[0], cluster.Slot(t, keys[0]))
	require.Equal(t, 1, move.Keys(t, 1))
	require.NoError(t, sink.Apply(t.Context(), invalidation.Batch{Keys: keys, Position: "1"}))
	assert.Empty(t, masters[0].Client(t).Keys(t.Context(), "user:*"+tag).Val())
	assert.Empty(t, masters[2].Client(t).Keys(t.Context(), "user:*"+tag).Val())

	require.NoError(t, masters[2].Client(t).Do(t.Context(), "CLUSTER", "SETSLOT", cluster.Slot(t, keys[0]), "STABLE").Err())
	setAll(t, rdb, keys)
	move = cluster.BeginMove(t, masters[2], masters[0], cluster.Slot(t, keys[0]))
	require.NoError(t, sink.Apply(t.Context(), invalidation.Batch{Patterns: []string{"user:*"}, Position: "2"}))
	received(t, progress) // the first master was looked through
	require.Positive(t, move.Keys(t, 10))
	seen.await(t, invalidation.PurgeDone, 0)
	assert.Empty(t, masters[0].Client(t).Keys(t.Context(), "user:*").Val(), "what moved behind its back")
	assert.Empty(t, masters[2].Client(t).Keys(t.Context(), "user:*").Val())
}
