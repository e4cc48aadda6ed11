package redissink

import (
	"strings"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

func TestAServerThatCanNotTellTheRightsRefusesNothing(t *testing.T) {
	t.Parallel()
	to := miniredis.RunT(t) // without redis.acl_check_cmd
	cfg := Config{Redis: &redis.UniversalOptions{Addrs: []string{to.Addr()}}, Namespace: "ns", Source: "src"}
	client := redis.NewClient(cfg.Redis.Simple())
	defer client.Close()
	_, script, _ := strings.Cut(rightsLua, "\n") // flags, which miniredis does not know
	answer, err := client.Eval(t.Context(), script, nil, `["GET","x"]`).Slice()
	require.NoError(t, err)
	require.Empty(t, answer)
	to.Server().SetPreHook(func(c *server.Peer, cmd string, _ ...string) bool {
		if cmd != "EVAL" {
			return false
		}
		c.WriteLen(0)
		return true
	})

	require.NoError(t, MayStart(t.Context(), cfg))
	assert.Contains(t, Check(t.Context(), Wanted{Config: cfg, Patterns: []string{"user:*"}}),
		invalidation.Warn.Of("rights", "could not be looked at: the server does not tell what a user may", ""))
}
