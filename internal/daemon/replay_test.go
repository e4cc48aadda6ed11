package daemon

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

// awayCache can not be reached: no call gets an answer before its caller gives
// up.
type awayCache struct{ *fakeCache }

func (awayCache) Rewind(ctx context.Context, _ func([]string) (string, error)) error {
	return untilDone(ctx)
}

func TestAReplayThatGetsNoAnswerNamesWhoDoesNotGiveIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		pages := newCommanded(t)
		pages.member.running.Store(&assembly{cache: awayCache{pages.cache}, reader: fakeReader{}, attempt: 1})
		pages.happens(1, waitingFor(invalidation.PartCache, "heartbeat: i/o timeout"))
		_, text := pages.post(t, "/replay", `{"since": "1m"}`)
		assert.Equal(t, "no answer within 10s: redis: heartbeat: i/o timeout", lines(t, text)[0].Error)
	})
}
