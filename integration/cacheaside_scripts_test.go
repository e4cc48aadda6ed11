package integration

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-038af1a6/invalidator/integration/servers"
)

// scriptCase is one call of a script, on a key that holds before for an hour.
type scriptCase struct {
	script string
	before any // a string, a list, or nothing
	args   []any
	want   int64
	after  string        // "" is nothing, "a list" is the list
	ttl    time.Duration // at most; 0: none
}

const (
	scriptLease  = "L0123456789abcdef"
	scriptOther  = "Lfedcba9876543210"
	scriptMinute = 60_000
)

// scriptHeader is as long as what the script compares.
func scriptHeader(fill string) string { return "V\x01" + fill + strings.Repeat("\x00", 29) }

func scriptCases() map[string]scriptCase {
	value, next := scriptHeader("fill-id1")+"old", scriptHeader("fill-id2")+"new"
	long := scriptHeader("fill-id3") + strings.Repeat("x", 100_000)
	seen, list, header := value[:39], []any{"a"}, next[:39]
	const fill, claim = "fill.lua", "claim.lua"
	return map[string]scriptCase{
		"fill the lease":                      {fill, scriptLease, []any{scriptLease, value, scriptMinute}, 1, value, time.Minute},
		"fill a long value":                   {fill, scriptLease, []any{scriptLease, long, scriptMinute}, 1, long, time.Minute},
		"fill another's lease":                {fill, scriptOther, []any{scriptLease, value, scriptMinute}, 0, scriptOther, time.Hour},
		"fill what was deleted":               {fill, nil, []any{scriptLease, value, scriptMinute}, 0, "", 0},
		"fill over a value":                   {fill, value, []any{scriptLease, next, scriptMinute}, 0, value, time.Hour},
		"fill over a list":                    {fill, list, []any{scriptLease, next, scriptMinute}, 0, "a list", time.Hour},
		"the second copy of a fill":           {fill, value, []any{scriptLease, value, scriptMinute}, 1, value, time.Hour},
		"replace what was seen of a value":    {fill, value, []any{seen, next, scriptMinute}, 1, next, time.Minute},
		"replace foreign bytes":               {fill, "foreign", []any{"foreign", scriptLease, scriptMinute}, 1, scriptLease, time.Minute},
		"replace bytes that begin like those": {fill, "foreigner", []any{"foreign", scriptLease, scriptMinute}, 0, "foreigner", time.Hour},
		"replace the empty string":            {fill, "", []any{"", scriptLease, scriptMinute}, 1, scriptLease, time.Minute},
		"release":                             {fill, scriptLease, []any{scriptLease, "", 0}, 1, "", 0},
		"release another's lease":             {fill, scriptOther, []any{scriptLease, "", 0}, 0, scriptOther, time.Hour},
		"fill without an end":                 {fill, scriptLease, []any{scriptLease, value, 0}, 1, value, 0},
		"another header, and the rest stays":  {fill, value, []any{seen, header, "keep"}, 1, header + "old", time.Hour},
		"the second copy of another header":   {fill, next, []any{seen, header, "keep"}, 1, next, time.Hour},
		"another header on another's value":   {fill, next, []any{seen, scriptHeader("fill-id4"), "keep"}, 0, next, time.Hour},
		"another header on nothing":           {fill, nil, []any{seen, header, "keep"}, 0, "", 0},
		"renew":                               {fill, scriptLease, []any{scriptLease, scriptLease, scriptMinute}, 1, scriptLease, time.Minute},
		"claim a list":                        {claim, list, []any{scriptLease, scriptMinute}, 1, scriptLease, time.Minute},
		"claim a string":                      {claim, "foreign", []any{scriptLease, scriptMinute}, 0, "foreign", time.Hour},
		"claim nothing":                       {claim, nil, []any{scriptLease, scriptMinute}, 0, "", 0},
	}
}

func TestScriptsOnRealServers(t *testing.T) {
	t.Parallel()
	fake := miniredis.RunT(t)
	fakeClient := redis.NewClient(&redis.Options{Addr: fake.Addr()})
	t.Cleanup(func() { _ = fakeClient.Close() })
	for name, rdb := range map[string]*redis.Client{
		"redis 7":                            servers.Redis7(t).Client(t),
		"redis 8":                            servers.Redis(t).Client(t),
		"valkey":                             servers.Valkey(t).Client(t),
		"miniredis, which other tests trust": fakeClient,
	} {
		for what, c := range scriptCases() {
			t.Run(name+"/"+what, func(t *testing.T) {
				t.Parallel()
				c.run(t, rdb, "scripts:"+name+":"+what)
			})
		}
	}
}

func (c scriptCase) run(t *testing.T, rdb *redis.Client, key string) {
	t.Helper()
	ctx := t.Context()
	source, err := os.ReadFile(filepath.Join("..", "pkg", "cacheaside", c.script))
	require.NoError(t, err)
	require.NoError(t, rdb.Del(ctx, key).Err())
	switch before := c.before.(type) {
	case string:
		require.NoError(t, rdb.Set(ctx, key, before, time.Hour).Err())
	case []any:
		require.NoError(t, rdb.RPush(ctx, key, before...).Err())
		require.NoError(t, rdb.Expire(ctx, key, time.Hour).Err())
	}
	got, err := rdb.Eval(ctx, string(source), []string{key}, c.args...).Int64()
	require.NoError(t, err)
	assert.Equal(t, c.want, got)

	after, err := rdb.Get(ctx, key).Result()
	switch {
	case redis.HasErrorPrefix(err, "WRONGTYPE"):
		after = "a list"
	case err != nil:
		require.ErrorIs(t, err, redis.Nil)
	}
	assert.Equal(t, c.after, after)
	left, err := rdb.PTTL(ctx, key).Result()
	require.NoError(t, err)
	if c.after == "" {
		assert.Equal(t, time.Duration(-2), left, "there is nothing")
		return
	}
	if c.ttl == 0 {
		assert.Equal(t, time.Duration(-1), left, "there is no end")
		return
	}
	assert.LessOrEqual(t, left, c.ttl)
	assert.Greater(t, left, c.ttl-30*time.Second)
}
