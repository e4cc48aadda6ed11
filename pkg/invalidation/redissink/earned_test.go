package redissink

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestPositionsWaitForThePurgesBeforeThem(t *testing.T) {
	t.Parallel()
	var e earned
	one, two := &purge{pattern: "1"}, &purge{pattern: "2"}
	e.put("p1", nil)
	assert.Equal(t, "p1", e.get())
	e.put("p2", []*purge{one})
	e.put("p3", nil)
	e.put("", []*purge{two}) // inside of a huge transaction
	e.put("p4", []*purge{one})
	e.put("", nil)
	assert.Equal(t, "p1", e.get())
	two.done.Store(true)
	assert.Equal(t, "p1", e.get(), "the first one still runs")
	one.done.Store(true)
	assert.Equal(t, "p4", e.get())
	e.put("p5", nil)
	assert.Equal(t, "p5", e.get())
}

func TestTheSamePurgeIsWaitingAtMostOnce(t *testing.T) {
	t.Parallel()
	p := newPurger(nil)
	first := p.request([]string{"a:*", "b:*"}, false)
	assert.Equal(t, first, p.request([]string{"a:*", "b:*"}, false))
	running, _, end := p.next(t.Context())
	assert.Same(t, first[0], running)
	second := p.request([]string{"a:*"}, false)
	assert.NotSame(t, first[0], second[0], "what it has passed may match again")
	assert.Equal(t, second, p.request([]string{"a:*"}, false))
	end()
	assert.False(t, second[0].done.Load())
	assert.Len(t, p.queue, 2)
}

// Where a position waits for it as well, what it can not delete is parked.
func TestAPurgeByHandThatASourceNeedsTooIsTheSources(t *testing.T) {
	t.Parallel()
	p := newPurger(nil)
	byHand := p.request([]string{"a:*"}, true)
	assert.True(t, byHand[0].byHand)
	_, _, end := p.next(t.Context())
	assert.NotSame(t, byHand[0], p.request([]string{"a:*"}, false)[0])
	assert.True(t, byHand[0].byHand, "what runs stays what it is")
	end()

	waiting := p.request([]string{"b:*"}, true)
	assert.Equal(t, waiting, p.request([]string{"b:*"}, false))
	assert.False(t, waiting[0].byHand)
	assert.Equal(t, waiting, p.request([]string{"b:*"}, true))
	assert.False(t, waiting[0].byHand)
}
