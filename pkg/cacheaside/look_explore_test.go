package cacheaside

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// sharedLooks are readers of one Client who share GETs, whose replies are steps, while others write.
func sharedLooks(t *testing.T, actors ...actor) scenario {
	t.Helper()
	payload, err := json.Marshal(exploredLoad{Key: exploreKey, By: "before"})
	require.NoError(t, err)
	return scenario{processes: 2, actors: actors, before: func(r *exploredRun) {
		h := header{format: formatJSON, fill: newFillID(), loadedAt: time.Now()}
		r.w.other.Set(r.ctx, exploreKey, appendValue(nil, h, payload), exploreTTL)
		c := r.clients[0]
		c.looks.alongside = 1
		c.hooks.after = func(s step, _ string) {
			if s == stepGet {
				r.park(&actor{name: "background", process: -1}, "get's reply", "")
			}
		}
	}}
}

func TestTheExplorerFindsNoSharedGETThatReturnsWhatWasDeleted(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]scenario{
		"another process writes": sharedLooks(t, lazily(aReader("R1", 0)), lazily(aReader("R2", 0)), aWriter(1)),
		"this process deletes":   sharedLooks(t, lazily(aReader("R1", 0)), lazily(aReader("R2", 0)), aDeleter("D", 0)),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			found := explore(t, s)
			assert.Empty(t, found.wrong, "%v", found)
			t.Logf("%d schedules, %d states", found.runs, found.states)
		})
	}
}
