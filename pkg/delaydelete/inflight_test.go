package delaydelete_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-038af1a6/invalidator/pkg/delaydelete"
	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

// slowCache answers a batch with a position only when it is told to.
type slowCache struct {
	*cache

	answer chan struct{}
}

func (c slowCache) Apply(ctx context.Context, b invalidation.Batch) error {
	if b.Position != "" {
		<-c.answer
	}
	return c.cache.Apply(ctx, b)
}

// A second delete that is answered after the source asked where to resume would
// bring a position that lies ahead of the answer, and of deletes that a cache
// which went back in time has lost.
func TestResumingWaitsForTheSecondDeleteOnItsWay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		next := slowCache{newCache(), make(chan struct{})}
		s, stop := start(t, delaydelete.Config{Next: next})
		require.NoError(t, s.Apply(t.Context(), invalidation.Batch{Keys: []string{"a"}, Position: "1"}))
		time.Sleep(delay)
		synctest.Wait() // the second delete is on its way

		var positions []string
		go func() { positions, _ = s.Positions(t.Context()) }()
		synctest.Wait()
		assert.Empty(t, positions)
		close(next.answer)
		synctest.Wait()
		assert.Equal(t, []string{"1"}, positions)
		stop()
	})
}
