package outbox

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

func TestKeysThatNoGlobCoversAreTold(t *testing.T) {
	t.Parallel()
	const look = "add globs for them: SELECT DISTINCT unnest(keys) FROM cache_outbox.events shows the keys"
	cases := map[string]struct {
		keys      []string
		text, fix string
	}{
		"none":                {nil, "the globs (order:* item:?) could not be compared with any key", ""},
		"all are covered":     {[]string{"order:1", "order:", "item:1", "item:1"}, "the globs (order:* item:?) cover the last 3 keys", ""},
		"one beginning":       {[]string{"order:1", "cart:2", "cart:3"}, "the globs (order:* item:?) do not cover 2 of the last 3 keys: when", `purge: ["order:*", "item:?", "cart:*"], or narrower ones`},
		"two":                 {[]string{"cart:2", "cart:3", "Käse/3/x", "Käse/4"}, "4 of the last 4 keys", `purge: ["order:*", "item:?", "Käse/*", "cart:*"], or narrower ones`},
		"a glob too narrow":   {[]string{"item:12", "item:13"}, "2 of the last 2 keys", `purge: ["order:*", "item:?", "item:*"], or narrower ones`},
		"begins with data":    {[]string{"cart:2", "cart:3", "42:cart"}, "3 of the last 3 keys", look},
		"is one word":         {[]string{"alice"}, "1 of the last 1 keys", look},
		"begins with nothing": {[]string{":alice"}, "1 of the last 1 keys", look},
		"begins with names":   {[]string{"ann:1", "bea:1", "cid:1", "dan:1", "eve:1", "fay:1"}, "6 of the last 6 keys", look},
		"begins with few":     {[]string{"alice:cart", "bob:cart", "bob:orders"}, "3 of the last 3 keys", look},
		"one key, twice":      {[]string{"alice:cart", "alice:cart"}, "1 of the last 1 keys", look},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := judgePurge([]string{"order:*", "item:?"}, c.keys)
			want := invalidation.OK
			if c.fix != "" {
				want = invalidation.Warn
			}
			assert.Equal(t, want, got.Level)
			assert.Equal(t, c.fix, got.Fix)
			assert.Contains(t, got.Text, c.text)
			for _, secret := range []string{"alice", "fay", "42"} {
				assert.NotContains(t, fmt.Sprint(got), secret)
			}
		})
	}
}
