package redissink

import (
	"context"
	"errors"
	"io"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

func TestMain(m *testing.M) {
	// A client whose server is away tries it for up to a second after it was closed.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial"))
}

const positionKey = "ns:position:src"

// setup returns a Sink of a fresh server that has asked for its positions.
func setup(t *testing.T) (*Sink, *miniredis.Miniredis) {
	t.Helper()
	server := miniredis.RunT(t)
	sink, err := New(Config{Redis: &redis.UniversalOptions{Addrs: []string{server.Addr()}}, Namespace: "ns", Source: "src"})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, sink.Close()) })
	positions, err := sink.Positions(t.Context())
	require.NoError(t, err)
	require.Equal(t, []string{""}, positions)
	return sink, server
}

// stored returns the position that the server remembers.
func stored(t *testing.T, server *miniredis.Miniredis) string {
	t.Helper()
	value, err := server.Get(positionKey)
	require.NoError(t, err)
	position, err := positionOf(positionKey, value)
	require.NoError(t, err)
	return position
}

func TestEveryPipelineWritesANewNonce(t *testing.T) {
	t.Parallel()
	sink, server := setup(t)
	seen := map[string]bool{}
	for range 5 {
		require.NoError(t, sink.Apply(t.Context(), invalidation.Batch{Keys: []string{"k"}}))
		value, err := server.Get(positionKey)
		require.NoError(t, err)
		assert.False(t, seen[value])
		seen[value] = true
	}
}

func TestPositionFollowsItsDeletesByOnePipeline(t *testing.T) {
	t.Parallel()
	sink, server := setup(t)
	require.NoError(t, server.Set("k", "v"))
	require.NoError(t, sink.Apply(t.Context(), invalidation.Batch{Keys: []string{"k"}, Position: "p1"}))
	assert.False(t, server.Exists("k"))
	assert.Empty(t, stored(t, server))
	require.NoError(t, sink.Apply(t.Context(), invalidation.Batch{Keys: []string{"k"}, Position: "p2"}))
	assert.Equal(t, "p1", stored(t, server))
	require.NoError(t, sink.Apply(t.Context(), invalidation.Batch{Keys: []string{"k"}}))
	assert.Equal(t, "p2", stored(t, server))
}

func TestABatchOfAnySizeIsDeleted(t *testing.T) {
	t.Parallel()
	sink, server := setup(t)
	keys := make([]string, 3*keysPerPipeline+1)
	for i := range keys {
		keys[i] = "k:" + strconv.Itoa(i)
		require.NoError(t, server.Set(keys[i], "v"))
	}
	require.NoError(t, sink.Apply(t.Context(), invalidation.Batch{Keys: keys}))
	assert.Equal(t, []string{"ns:leader:src", positionKey}, server.Keys())
}

func TestAPositionThatSomebodyElseWroteMakesTheSourceResume(t *testing.T) {
	t.Parallel()
	sink, server := setup(t)
	require.NoError(t, sink.Apply(t.Context(), invalidation.Batch{Position: "p1"}))
	older := newValue("p0")
	require.NoError(t, server.Set(positionKey, older))
	require.ErrorIs(t, sink.Apply(t.Context(), invalidation.Batch{}), invalidation.ErrResume)
	require.ErrorIs(t, sink.Apply(t.Context(), invalidation.Batch{}), invalidation.ErrResume, "until it asks for the positions")
	positions, err := sink.Positions(t.Context())
	require.NoError(t, err)
	assert.Equal(t, []string{"p0"}, positions)
	require.NoError(t, sink.Apply(t.Context(), invalidation.Batch{}))
}

func TestAPositionThatIsGoneAfterAReconnectMakesTheSourceResume(t *testing.T) {
	t.Parallel()
	sink, server := setup(t)
	require.NoError(t, sink.Apply(t.Context(), invalidation.Batch{Position: "p1"}))
	require.NoError(t, sink.Apply(t.Context(), invalidation.Batch{}))
	server.Close()
	server.FlushAll()
	require.NoError(t, server.Restart())
	require.ErrorIs(t, sink.Apply(t.Context(), invalidation.Batch{}), invalidation.ErrResume)
}

// A pipeline without a reply may have stored its nonce. The next one, with other
// deletes, has one of its own, or a failover between the two went unnoticed.
func TestANonceIsNeverSentTwice(t *testing.T) {
	t.Parallel()
	sink, server := setup(t)
	require.NoError(t, sink.Apply(t.Context(), invalidation.Batch{Keys: []string{"a"}}))
	sh := sink.current()[0]
	lost := newValue("")
	sh.tried = []string{newValue(""), lost}
	require.NoError(t, server.Set(positionKey, lost), "the reply was lost, the pipeline was not")
	require.NoError(t, sink.Apply(t.Context(), invalidation.Batch{Keys: []string{"b"}}))
	value, err := server.Get(positionKey)
	require.NoError(t, err)
	assert.NotEqual(t, lost, value)
	require.NoError(t, server.Set(positionKey, lost), "a replica that saw the first of the two only")
	require.ErrorIs(t, sink.Apply(t.Context(), invalidation.Batch{}), invalidation.ErrResume)
}

func TestThereIsOneConnection(t *testing.T) {
	t.Parallel()
	sink, _ := setup(t)
	sh := sink.current()[0]
	require.NoError(t, sink.Apply(t.Context(), invalidation.Batch{Keys: []string{"a"}}))
	require.NoError(t, sink.purge(t.Context(), &purge{pattern: "a*"}))
	sh.identity(t.Context())
	assert.Equal(t, int64(1), sh.connections.Load(), "scans, pipelines and questions go to the same server")
}

func TestAMasterThatWasReplacedIsNotGoneBackTo(t *testing.T) {
	t.Parallel()
	sink, server := setup(t)
	sh := sink.current()[0]
	sh.connect("127.0.0.1:1")
	sh.renew(server.Addr()) // by somebody who saw the address before
	assert.Equal(t, "127.0.0.1:1", sh.address())
}

func TestKeysOfAMasterThatIsLeftBehindAreNotTakenForDeleted(t *testing.T) {
	t.Parallel()
	sink, _ := setup(t)
	in := &layout{masters: []string{"a:1", "b:1"}, owner: new([slots]string)}
	for slot := range slots {
		in.owner[slot] = in.masters[slot%2]
	}
	even, odd := "k"+slotTags()[2], "k"+slotTags()[3]
	one := newShard(sink.cfg, sink.scripts, &sink.earned, "a:1", sink.placeIn(0))
	two := newShard(sink.cfg, sink.scripts, &sink.earned, "b:1", sink.placeIn(1))
	two.state.leave()
	sink.layout.Store(in)
	sink.replace([]*shard{one, two})
	found := &tally{}
	parts, lost := sink.route([]string{even, odd}, found)
	assert.Empty(t, lost)
	require.Len(t, parts, 1)
	assert.Equal(t, []string{even}, parts[0].keys)
	assert.Equal(t, []string{odd}, found.left)
}

// Whoever sends to it: it has missed deletes that the position is past of.
func TestAMasterThatIsLeftBehindGetsNoPosition(t *testing.T) {
	t.Parallel()
	sink, server := setup(t)
	require.NoError(t, sink.Apply(t.Context(), invalidation.Batch{Position: "p1"}))
	require.NoError(t, sink.Apply(t.Context(), invalidation.Batch{Position: "p4"}))
	sh := sink.current()[0]
	sh.state.leave()
	require.ErrorIs(t, sink.ask(t.Context(), sh.address(), []string{"k"}, nil), errBehind)
	require.NoError(t, sink.save(t.Context()))
	assert.Equal(t, "p1", stored(t, server))
}

// A replay drops the purges that held the position, also where it does not
// succeed: nothing may go on after that but from the beginning.
func TestAReplayThatFailsMakesTheSourceResume(t *testing.T) {
	t.Parallel()
	sink, server := setup(t)
	require.NoError(t, sink.Apply(t.Context(), invalidation.Batch{Position: "p1"}))
	require.NoError(t, sink.Apply(t.Context(), invalidation.Batch{Patterns: []string{"a*"}, Position: "p2"}), "nothing runs that purges")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 20 { // ctx is done, and so the turn may or may not be had
		if err := sink.Rewind(ctx, func([]string) (string, error) { return "p0", nil }); errors.Is(err, invalidation.ErrResume) {
			require.ErrorIs(t, sink.Apply(t.Context(), invalidation.Batch{Position: "p4"}), invalidation.ErrResume)
			break
		}
	}
	require.ErrorIs(t, sink.Apply(t.Context(), invalidation.Batch{Position: "p4"}), invalidation.ErrResume)
	assert.NotEqual(t, "p4", stored(t, server))
}

// What a replay's position is compared with can not become older meanwhile.
func TestAReplayIsChosenFromWhatIsStoredUntilItIsStoredItself(t *testing.T) {
	t.Parallel()
	sink, server := setup(t)
	require.NoError(t, sink.Apply(t.Context(), invalidation.Batch{Position: "p10"}))
	require.NoError(t, sink.Apply(t.Context(), invalidation.Batch{}))
	again := make(chan []string, 1)
	err := sink.Rewind(t.Context(), func(stored []string) (string, error) {
		assert.Equal(t, []string{"p10"}, stored)
		require.NoError(t, server.Set(positionKey, newValue("p5"))) // a failover
		go func() {
			positions, _ := sink.Positions(t.Context())
			again <- positions
		}()
		return "p9", nil
	})
	require.ErrorIs(t, err, invalidation.ErrResume)
	assert.Equal(t, []string{"p5"}, <-again, "p9 was not stored: it is newer")
}

func TestAScriptThatRedisForgotIsLoadedAgain(t *testing.T) {
	t.Parallel()
	sink, server := setup(t)
	flush := redis.NewClient(&redis.Options{Addr: server.Addr()})
	defer flush.Close()
	require.NoError(t, flush.ScriptFlush(t.Context()).Err())
	require.NoError(t, sink.Apply(t.Context(), invalidation.Batch{Position: "p1"}))
	require.NoError(t, sink.Apply(t.Context(), invalidation.Batch{}))
	assert.Equal(t, "p1", stored(t, server))
}

func TestAValueOfAnotherVersionIsFatal(t *testing.T) {
	t.Parallel()
	sink, server := setup(t)
	for _, value := range []string{"2 012345678901234567890123 p", "nonsense", "1 short p"} {
		require.NoError(t, server.Set(positionKey, value))
		_, err := sink.Positions(t.Context())
		require.ErrorIs(t, err, invalidation.ErrFatal, value)
		require.ErrorContains(t, err, positionKey)
	}
}

// Bytes that every version has to read.
func TestAPositionOfAnEarlierVersionIsRead(t *testing.T) {
	t.Parallel()
	sink, server := setup(t)
	position := `{"server":"3e11fa47-71ca-11e1-9e33-c80aa9429562","gtids":"3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5","rules":["0123456789ab"]}`
	require.NoError(t, server.Set(positionKey, "1 000102030405060708090a0b "+position))
	positions, err := sink.Positions(t.Context())
	require.NoError(t, err)
	assert.Equal(t, []string{position}, positions)
	require.NoError(t, sink.Apply(t.Context(), invalidation.Batch{}))
	assert.Equal(t, position, stored(t, server), "nothing was earned yet")
}

func TestWrongConfigIsRefusedAllAtOnce(t *testing.T) {
	t.Parallel()
	_, err := New(Config{})
	for _, want := range []string{"Redis is nil", "Namespace is empty", "Source is empty"} {
		require.ErrorContains(t, err, want)
	}
}

func TestAMasterIsAwayWhereItTakesNobodysWrites(t *testing.T) {
	t.Parallel()
	for text, away := range map[string]bool{
		"NOREPLICAS Not enough good replicas to write.":               true,
		"MISCONF Redis is configured to save RDB snapshots":           true,
		"LOADING Redis is loading the dataset in memory":              true,
		"CLUSTERDOWN The cluster is down":                             true,
		"CLUSTERDOWN Hash slot not served":                            false,
		"NOPERM User app has no permissions to run the 'get' command": false,
		"MOVED 1 127.0.0.1:6379":                                      false,
	} {
		assert.Equal(t, away, isAway(replyError(text)), text)
	}
	assert.True(t, isAway(io.EOF))
	assert.False(t, isAway(errAllMoving))
}

// fakeCluster is a topology that changes when it is told to.
type fakeCluster struct{ at atomic.Pointer[layout] }

func (f *fakeCluster) ask(context.Context) (*layout, error) { return f.at.Load(), nil }
func (*fakeCluster) hint(string)                            {}
func (*fakeCluster) close()                                 {}

// has gives the last slots to b, if there is one, and the others to a.
func (f *fakeCluster) has(a, b string) {
	in := &layout{masters: []string{a}, owner: &[slots]string{}}
	for slot := range in.owner {
		in.owner[slot] = a
	}
	if b != "" {
		in.masters = append(in.masters, b)
		for slot := slots - 100; slot < slots; slot++ {
			in.owner[slot] = b
		}
	}
	f.at.Store(in)
}

func TestANewMasterThatIsReplacedIsNotWaitedForAnyMore(t *testing.T) {
	t.Parallel()
	first, replica, gone := miniredis.RunT(t), miniredis.RunT(t), miniredis.RunT(t)
	dead := gone.Addr()
	gone.Close()
	waited, waiting := make(chan struct{}), 0
	sink, err := New(Config{
		Redis: &redis.UniversalOptions{Addrs: []string{first.Addr()}, IsClusterMode: true}, Namespace: "ns", Source: "src",
		Observer: invalidation.ObserverFunc(func(e invalidation.Event) {
			switch {
			case e.Kind == invalidation.Waiting:
				if waiting++; waiting == 1 {
					close(waited)
				}
			case e.Kind == invalidation.Working && waiting > 0 && strings.Contains(e.Part, dead):
				waiting = -1000
			}
		}),
	})
	require.NoError(t, err)
	t.Cleanup(func() { sink.Close() })
	cluster := &fakeCluster{}
	cluster.has(first.Addr(), "")
	sink.topology = cluster
	_, err = sink.Positions(t.Context())
	require.NoError(t, err)

	cluster.has(first.Addr(), dead)
	require.NoError(t, sink.look(t.Context()))
	done := make(chan error, 1)
	go func() { done <- sink.Apply(t.Context(), invalidation.Batch{}) }()
	<-waited
	cluster.has(first.Addr(), replica.Addr())
	require.NoError(t, sink.look(t.Context()))
	require.NoError(t, <-done)
	assert.Negative(t, waiting, "nobody says that it is over")
	assert.Len(t, sink.Stored(), 2)
}
