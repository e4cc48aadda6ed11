package integration

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/seed-038af1a6/invalidator/integration/servers"
	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

// A dead master without a replica is forgotten, so that nobody serves its slots: that is told, the others go on, and when it comes back with
// what it holds it gets what it has missed.
func TestMasterThatWasForgottenIsStillOwedItsDeletes(t *testing.T) {
	t.Parallel()
	cluster := servers.NewCluster(t, servers.WithReplicas(0), servers.WithPartialCoverage(), servers.WithArgs("--appendonly", "yes"))
	masters := cluster.Masters(t)
	dead, alive := masters[0], masters[1:]
	log := newMemoryLog(t, cluster.Options())
	log.write(t, "k:0")
	log.stored(t)
	onDead, onAlive := cluster.KeysOn(t, dead, "k:", 2), cluster.KeysOn(t, alive[0], "k:", 2)
	fill(t, dead.Client(t), onDead...)
	fill(t, alive[0].Client(t), onAlive...)
	dead.Kill(t)
	log.write(t, onDead[0], onAlive[0]) // it is left behind then
	assert.Empty(t, present(t, alive[0].Client(t), onAlive[0]))

	cluster.Forget(t, dead)
	log.seen.awaitAny(t, "that nobody serves the slots", func() bool {
		return slices.ContainsFunc(log.seen.all(invalidation.Waiting), func(e invalidation.Event) bool {
			return e.Part == "redis slots" && strings.Contains(e.Err.Error(), "the slots 0-5460 are served by no master")
		})
	})
	log.write(t, onDead[1], onAlive[1])
	assert.Empty(t, present(t, alive[0].Client(t), onAlive[1]))
	for _, e := range log.seen.all(invalidation.Working) {
		assert.NotEqual(t, "redis "+dead.Addr(), e.Part, "it was called healthy")
	}
	resumed, reasons := log.count()
	assert.Zero(t, resumed, reasons)

	dead.Start(t) // the others do not take it back by themselves; it has its slots all the same
	log.stored(t)
	gone(t, dead.Client(t), onDead...)
	log.neverLost(t)
}
