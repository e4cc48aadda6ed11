package cacheasidetest_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-038af1a6/invalidator/pkg/cacheaside"
	"github.com/seed-038af1a6/invalidator/pkg/cacheaside/cacheasidetest"
)

// failures is a testing.TB that remembers what it was told.
type failures struct {
	testing.TB
	messages []string
}

func (f *failures) Helper() {}

func (f *failures) Errorf(format string, args ...any) {
	f.messages = append(f.messages, fmt.Sprintf(format, args...))
}

func TestDeletesAreSeen(t *testing.T) {
	t.Parallel()
	c := cacheasidetest.New(t, cacheaside.Options{})
	require.NoError(t, c.Delete(t.Context(), "a"))
	require.NoError(t, c.Redis.Del(t.Context(), "b").Err())
	c.AssertDeleted(t, "a", "b")
	c.AssertNotDeleted(t, "c")
	f := &failures{TB: t}
	c.AssertDeleted(f, "c")
	c.AssertNotDeleted(f, "a")
	assert.Equal(t, []string{`the key "c" was not deleted`, `the key "a" was deleted`}, f.messages)
	c.Reset()
	c.AssertNotDeleted(t, "a", "b")
}

func TestTheProtocolIsTheRealOne(t *testing.T) {
	t.Parallel()
	events := 0
	c := cacheasidetest.New(t, cacheaside.Options{Observer: cacheaside.ObserverFunc(func(cacheaside.Event) { events++ })})
	v := cacheaside.For[string](c.Client, cacheaside.Policy{TTL: time.Minute})
	get := func() {
		got, err := v.Get(t.Context(), "a", func(context.Context) (string, error) { return "value", nil })
		require.NoError(t, err)
		assert.Equal(t, "value", got)
	}
	get()
	get()
	assert.Equal(t, 1, c.Count(cacheaside.EventFilled))
	assert.Equal(t, 1, c.Count(cacheaside.EventHit))
	c.Pass(time.Minute)
	get()
	assert.Equal(t, 2, c.Count(cacheaside.EventFilled))
	c.Fail("LOADING Redis is loading the dataset in memory")
	get()
	assert.Equal(t, 1, c.Count(cacheaside.EventNotFilled))
	c.Fail("")
	get()
	assert.Positive(t, events)
}
