package redissink

import (
	"context"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

func TestAKeyIsSparedWhereItBelongsToASourceOfThisProcess(t *testing.T) {
	t.Parallel()
	c := Config{Namespace: "ns", Source: "src"}.withDefaults()
	c.Holder.Spare("ns", "src")
	c.Holder.Spare("ns", "b:2")
	for key, spared := range map[string]bool{
		"ns:position:src":                        true,
		"ns:position:src" + slotTags()[77]:       true,
		"ns:parked:b:2":                          true,
		"ns:parked:b:2" + slotTags()[slots-1]:    true,
		"ns:leader:src":                          true,
		"ns:position:pg2":                        false,
		"ns:position:src2":                       false,
		"ns:position:src:5":                      false,
		"ns:position:src{user}":                  false,
		"ns:position:src" + slotTags()[77] + "x": false,
		"ns:parked:cars":                         false,
		"ns:leader:board":                        false,
		"ns:leader:":                             false,
		"ns:positions:src":                       false,
		"other:position:src":                     false,
	} {
		assert.Equal(t, spared, c.isOwn(key), key)
	}
}

// Keys of an application that look like the daemon's own go, be it by name or by
// pattern; what belongs to the sources of the same process stays.
func TestOnlyTheKeysOfTheSourcesOfThisProcessAreSpared(t *testing.T) {
	t.Parallel()
	for name, remove := range map[string]func(ctx context.Context, sink *Sink, keys []string) error{
		"delete": func(ctx context.Context, sink *Sink, keys []string) error {
			return sink.Apply(ctx, invalidation.Batch{Keys: keys})
		},
		"purge": func(ctx context.Context, sink *Sink, _ []string) error {
			return sink.purge(ctx, &purge{pattern: "ns:*"})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			one := miniredis.RunT(t)
			holder := NewHolder("")
			sink, _ := instance(t, one, func(c *Config) { c.Holder = holder })
			_, _ = instance(t, one, func(c *Config) { c.Holder, c.Source = holder, "other" })
			_, err := sink.Positions(t.Context())
			require.NoError(t, err)
			require.NoError(t, sink.Apply(t.Context(), invalidation.Batch{}))
			require.NoError(t, one.Set("ns:position:other", "1"))
			one.HSet("ns:parked:other", "k", "{}")
			own := one.Keys()
			require.Len(t, own, 4)
			for _, key := range []string{"ns:position:pg2", "ns:parked:cars", "ns:leader:board", "ns:position:src{user}"} {
				require.NoError(t, one.Set(key, "stale"))
			}
			require.NoError(t, remove(t.Context(), sink, one.Keys()))
			assert.Equal(t, own, one.Keys())
		})
	}
}
