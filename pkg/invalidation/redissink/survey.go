package redissink

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// survey is what a purge has to find unchanged at its end.
type survey struct {
	size    int      // how many keys there are
	on      []int64  // the connection to each master
	owned   []string // the slots of each
	moving  []string // slots that are on the move
	targets []string // where to
}

// survey asks all masters but those that are left behind.
func (s *Sink) survey(ctx context.Context, shards []*shard) (survey, error) {
	var found survey
	for _, sh := range shards {
		var state slotState
		var on, size int64
		if !sh.state.isBehind() {
			begun := time.Now()
			err := sh.ask(func(client *redis.Client) (err error) { size, err = client.DBSize(ctx).Result(); return err })
			if err != nil {
				sh.state.fails(begun)
				s.waiting(s.partOf(sh), fmt.Errorf("count the keys: %w", err))
				return found, errMoved
			}
			on = sh.connections.Load()
			if state, err = s.slotState(ctx, sh); err != nil {
				sh.state.fails(begun)
				s.waiting(s.partOf(sh), fmt.Errorf("ask which slots are on the move: %w", err))
				return found, errMoved
			}
		}
		found.size += int(size)
		found.on, found.owned = append(found.on, on), append(found.owned, state.owned)
		found.moving, found.targets = append(found.moving, state.moving...), append(found.targets, state.targets...)
	}
	return found, nil
}

// slotState is which slots a master of a cluster says to own, and which of them
// are on their way to it or away.
type slotState struct {
	owned   string
	moving  []string
	targets []string // addresses that slots are on their way to
}

// slotState asks a master.
func (s *Sink) slotState(ctx context.Context, sh *shard) (slotState, error) {
	var state slotState
	if s.layout.Load().owner == nil {
		return state, nil
	}
	var text string
	err := sh.ask(func(client *redis.Client) (err error) { text, err = client.ClusterNodes(ctx).Result(); return err })
	if err != nil {
		return state, err
	}
	addrs := map[string]string{}
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 8 {
			continue
		}
		addrs[fields[0]], _, _ = strings.Cut(fields[1], "@")
		if !strings.Contains(fields[2], "myself") {
			continue
		}
		for _, field := range fields[8:] { // behind the state of the link
			if strings.HasPrefix(field, "[") {
				state.moving = append(state.moving, field)
			} else {
				state.owned += field + " "
			}
		}
	}
	for _, field := range state.moving {
		if _, id, to := strings.Cut(strings.Trim(field, "[]"), "->-"); to && addrs[id] != "" {
			state.targets = append(state.targets, addrs[id])
		}
	}
	return state, nil
}
