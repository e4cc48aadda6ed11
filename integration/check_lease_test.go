package integration

import (
	"context"
	"fmt"
	"net/http"
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

func TestACheckSaysThatALeaseIsNone(t *testing.T) {
	t.Parallel()
	own := servers.NewRedis(t)
	require.NoError(t, own.Client(t).HSet(t.Context(), "inv:leader:shop", "a", "b").Err())
	found := leases(t, own.Options(), "shop", "orders")
	require.Len(t, found, 2)
	assert.Equal(t, invalidation.Warn, found[0].Level)
	assert.Contains(t, found[0].Text, "inv:leader:shop holds another type of value")
	assert.Contains(t, found[0].Fix, "DEL inv:leader:shop")
	assert.Equal(t, invalidation.OK, found[1].Level)
}

// Nobody else could tell: it goes on deleting.
func TestALeaderThatCanNotRenewItsLeaseIsNamed(t *testing.T) {
	t.Parallel()
	o, _, admin := ownRedis(t)
	lease := o.prefix + "inv:leader:shop"
	setUserTo := func(rules ...any) {
		require.NoError(t, admin.Do(t.Context(), append([]any{"ACL", "SETUSER", "relay"}, rules...)...).Err())
	}
	gone := func(id int) {
		t.Helper()
		require.NoError(t, admin.Set(t.Context(), o.key(id), "stale", 0).Err())
		o.exec(fmt.Sprintf("INSERT INTO users VALUES (%d, 'a', NULL)", id))
		require.Eventually(t, func() bool { return admin.Exists(t.Context(), o.key(id)).Val() == 0 }, 20*time.Second, 5*time.Millisecond)
	}
	setUserTo("resetkeys", "~"+o.prefix+"inv:position:*", "~"+o.prefix+"inv:parked:*", "~"+o.prefix+"[0-9e]*")
	o.says(t, "part=lease state=waiting error=\"can not be renewed, so another daemon may lead beside this one: ask ")
	status, page := o.get(t, "/readyz")
	assert.Equal(t, http.StatusServiceUnavailable, status)
	assert.Contains(t, page, "shop: waiting: lease: can not be renewed")
	assert.Contains(t, page, "NOPERM")
	_, page = o.get(t, "/metrics")
	assert.Contains(t, page, `invalidator_part_working{part="lease",source="shop"} 0`)
	assert.Contains(t, page, `invalidator_part_working{part="redis",source="shop"} 1`)
	assert.NotContains(t, page, `invalidator_retries_total{part="lease",source="shop"} 0`)
	gone(1)
	setUserTo("~*")
	o.ready(t)
	o.says(t, "msg=working source=shop part=lease state=running")

	require.NoError(t, admin.Do(t.Context(), "DEL", lease).Err())
	require.NoError(t, admin.HSet(t.Context(), lease, "a", "b").Err())
	require.Eventually(t, func() bool { return admin.Type(t.Context(), lease).Val() == "string" }, 20*time.Second, 5*time.Millisecond)
	gone(2)
	o.ready(t)
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
