package redissink

import (
	"errors"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

// answersAtMost has a server be silent about a pipeline from the key after the
// given number on, as if a slow link had not brought the rest. It returns the
// sizes of those that were answered.
func answersAtMost(one *miniredis.Miniredis, keys int) (answered func() []int) {
	var mu sync.Mutex
	var done []int
	sent := map[*server.Peer]int{}
	one.Server().SetPreHook(func(c *server.Peer, cmd string, args ...string) bool {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case cmd == "UNLINK":
			sent[c] += len(args)
		case sent[c] <= keys && sent[c] > 0 && cmd == "EVALSHA":
			done = append(done, sent[c])
			sent[c] = 0
		}
		return sent[c] > keys
	})
	return func() []int {
		mu.Lock()
		defer mu.Unlock()
		return done
	}
}

func TestWhatASlowLinkDoesNotCarryInTimeIsSentInSmallerPipelines(t *testing.T) {
	t.Parallel()
	for name, remove := range map[string]func(t *testing.T, sink *Sink, keys []string){
		"delete": func(t *testing.T, sink *Sink, keys []string) {
			t.Helper()
			require.NoError(t, sink.Apply(t.Context(), invalidation.Batch{Keys: keys, Position: "p1"}))
		},
		"purge": func(t *testing.T, sink *Sink, _ []string) {
			t.Helper()
			require.NoError(t, sink.purge(t.Context(), &purge{pattern: "k:*"}))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sink, one := setup(t)
			sink.cfg.PurgeRate = -1
			keys := make([]string, 2100)
			for i := range keys {
				keys[i] = "k:" + strconv.Itoa(i)
				require.NoError(t, one.Set(keys[i], "v"))
			}
			require.NoError(t, sink.Apply(t.Context(), invalidation.Batch{})) // without a position the Source would begin again
			answered := answersAtMost(one, 600)
			remove(t, sink, keys)
			assert.Equal(t, []string{"ns:leader:src", positionKey}, one.Keys())
			assert.LessOrEqual(t, len(answered()), 2100/300, "they stay as large as they can be")
			require.NoError(t, sink.Apply(t.Context(), invalidation.Batch{}))
		})
	}
}

func TestPipelinesGrowAgain(t *testing.T) {
	t.Parallel()
	var s size
	late := os.ErrDeadlineExceeded
	for _, want := range []int{2048, 1024, 512, 256, 128, 64, 32, 16, 16} {
		s.learn(s.get(), late)
		assert.Equal(t, want, s.get())
	}
	s.learn(3, late)
	s.learn(15, nil)
	s.learn(s.get(), errors.New("refused"))
	assert.Equal(t, 16, s.get(), "a small one proves nothing, nor does another error")
	s.learn(16, nil)
	assert.Equal(t, 18, s.get())
	for range 200 {
		s.learn(s.get(), nil)
	}
	assert.Equal(t, keysPerPipeline, s.get())
}

// The Source begins again while the link is slow.
func TestASlowLinkIsRememberedWhereTheSourceBeginsAgain(t *testing.T) {
	t.Parallel()
	sink, _ := setup(t)
	sink.current()[0].size.learn(keysPerPipeline, os.ErrDeadlineExceeded)
	_, err := sink.Positions(t.Context())
	require.NoError(t, err)
	assert.Equal(t, keysPerPipeline/2, sink.current()[0].size.get())
}

// What is known to be dead is not waited for again.
func TestAMasterThatWasLeftBehindIsLeftBehindAtOnceWhereTheSourceBeginsAgain(t *testing.T) {
	t.Parallel()
	a, b := miniredis.RunT(t), miniredis.RunT(t)
	sink, _, _ := clusterOf(t, a, b)
	_, err := sink.Positions(t.Context())
	require.NoError(t, err)
	sh := sink.current()[1]
	b.Close()
	sh.state.fails(time.Now().Add(-time.Hour))
	sh.state.leave()
	positions, err := sink.Positions(t.Context())
	require.NoError(t, err)
	assert.Len(t, positions, 1)
	assert.True(t, sink.current()[1].state.isBehind())
	since := sink.current()[1].state.since()
	assert.False(t, since.IsZero())
	assert.Greater(t, time.Since(since), time.Minute, "it was not waited for again")
}

func TestTheMasterOfTheLeaseThatWasWaitedForInVainIsNotWaitedForAgain(t *testing.T) {
	t.Parallel()
	a, b := miniredis.RunT(t), miniredis.RunT(t)
	sink, _, _ := clusterOf(t, a, b)
	require.NoError(t, sink.look(t.Context()))
	a.Close()
	began := time.Now().Add(-time.Hour)
	require.True(t, sink.leadAnyway(t.Context(), &began))
	positions, err := sink.begin(t.Context())
	require.NoError(t, err)
	assert.Len(t, positions, 1)
	since := sink.current()[0].state.since()
	assert.False(t, since.IsZero())
	assert.Greater(t, time.Since(since), time.Minute)
}
