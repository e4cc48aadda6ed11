package integration

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-038af1a6/invalidator/integration/servers"
	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
	"github.com/seed-038af1a6/invalidator/pkg/invalidation/redissink"
)

// leader has a Sink of another process lead.
func leader(t *testing.T, options *redis.UniversalOptions, source, server string) {
	t.Helper()
	sink, err := redissink.New(redissink.Config{
		Redis: options, Namespace: "inv", Source: source, Holder: redissink.NewHolder("other-of-" + source),
		Identity: reads(server, "10.0.0.9:3306"),
	})
	require.NoError(t, err)
	t.Cleanup(func() { sink.Close() })
	runSink(t, sink)
	_, err = sink.Positions(t.Context())
	require.NoError(t, err)
}

func reads(server, host string) func(context.Context) (redissink.Identity, error) {
	return func(context.Context) (redissink.Identity, error) {
		return redissink.Identity{Server: server, Hosts: []string{host}}, nil
	}
}

// leases is what a check says of who leads.
func leases(t *testing.T, options *redis.UniversalOptions, sources ...string) (found []invalidation.Finding) {
	t.Helper()
	var all []redissink.Wanted
	for _, source := range sources {
		w := wanted(options)
		w.Config.Source, w.Config.Identity = source, reads("ours", "10.0.0.1:3306")
		all = append(all, w)
	}
	for _, f := range redissink.Check(t.Context(), all...) {
		if f.Subject == "lease" {
			found = append(found, f)
		}
	}
	return found
}

func TestACheckSaysWhoLeadsForEachSource(t *testing.T) {
	t.Parallel()
	for name, options := range map[string]*redis.UniversalOptions{
		"standalone": servers.NewRedis(t).Options(),
		"cluster":    servers.NewCluster(t, servers.WithReplicas(0)).Options(),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			leader(t, options, "orders", "ours")
			leader(t, options, "carts", "theirs")
			var found []invalidation.Finding
			require.Eventually(t, func() bool { // a lease names the log from its first renewal on
				found = leases(t, options, "shop", "orders", "carts")
				return len(found) == 3 && found[2].Level == invalidation.Fail
			}, 10*time.Second, 50*time.Millisecond)
			assert.Equal(t, invalidation.Passed("lease", `no daemon leads for "shop" in the namespace "inv"`), found[0])
			assert.Equal(t, invalidation.Passed("lease", `other-of-orders leads for "orders" in the namespace "inv"`), found[1])
			assert.Equal(t, "give this daemon a namespace of its own", found[2].Fix)
			for _, want := range []string{"other-of-carts", "carts", "theirs", "10.0.0.9:3306", "ours", "10.0.0.1:3306"} {
				assert.Contains(t, found[2].Text, want)
			}
		})
	}
}

func TestThePreflightNoticesAnotherTeamsDaemon(t *testing.T) {
	t.Parallel()
	c := newMySQLCache(t, nil)
	o := operated{mysqlCache: c, t: t, file: writeConfig(t, c.yaml(""))}
	lead := func(server string) {
		lease := `nonce {"name":"their-daemon","server":"` + server + `","hosts":["10.0.0.9:3306"]}`
		require.NoError(t, c.redis.Client(t).Set(t.Context(), c.prefix+"inv:leader:shop", lease, 0).Err())
	}
	lead("")
	code, out, _ := o.command("check")
	assert.Equal(t, 0, code, out)
	assert.Contains(t, out, `ok    redis: lease  their-daemon leads for "shop"`)
	lead("another")
	code, out, _ = o.command("check")
	assert.Equal(t, 1, code, out)
	assert.Contains(t, out, "fail  redis: lease  their-daemon leads")
	assert.Contains(t, out, "give this daemon a namespace of its own")
}
