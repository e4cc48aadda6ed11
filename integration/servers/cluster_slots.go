package servers

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

// ID returns the node's id in its cluster.
func (n *Node) ID(tb testing.TB) string {
	tb.Helper()
	id, err := n.tell(tb.Context(), "CLUSTER", "MYID").Text()
	check(tb, err, "ask a node for its id")
	return id
}

// idOf returns the id of a node that is dead, as the others know it.
func (c *Cluster) idOf(tb testing.TB, dead *Node) string {
	tb.Helper()
	text, err := c.running()[0].tell(tb.Context(), "CLUSTER", "NODES").Text()
	check(tb, err, "ask a node for the others")
	for line := range strings.Lines(text) {
		if id, rest, _ := strings.Cut(line, " "); strings.HasPrefix(rest, dead.Addr()+"@") {
			return id
		}
	}
	tb.Fatalf("nobody knows %s", dead)
	return ""
}

// SlotRange is the slots from First to Last, both included.
type SlotRange struct{ First, Last int }

// Slots returns the slots that the node believes it has. A replica has none.
func (n *Node) Slots(tb testing.TB) []SlotRange {
	tb.Helper()
	slots, err := n.slots(tb.Context())
	check(tb, err, "ask a node for its slots")
	return slots
}

func (n *Node) slots(ctx context.Context) ([]SlotRange, error) {
	text, err := n.tell(ctx, "CLUSTER", "NODES").Text()
	if err != nil {
		return nil, fmt.Errorf("CLUSTER NODES: %w", err)
	}
	return ownSlots(text), nil
}

// ownSlots reads what a node's CLUSTER NODES says of itself.
func ownSlots(text string) []SlotRange {
	const columns = 8 // id, address, flags, master, ping, pong, epoch, link; then slots
	var slots []SlotRange
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) < columns || !strings.Contains(words[2], "myself") {
			continue
		}
		for _, word := range words[columns:] {
			first, last, ok := strings.Cut(word, "-")
			if !ok {
				last = first
			}
			from, err1 := strconv.Atoi(first)
			to, err2 := strconv.Atoi(last)
			if err1 == nil && err2 == nil { // else a slot on its way, in brackets
				slots = append(slots, SlotRange{from, to})
			}
		}
	}
	return slots
}

// Slot returns the slot of a key.
func (c *Cluster) Slot(tb testing.TB, key string) int {
	tb.Helper()
	slot, err := c.running()[0].tell(tb.Context(), "CLUSTER", "KEYSLOT", key).Int()
	check(tb, err, "ask for a key's slot")
	return slot
}

// Owner returns the running master that has a slot by its own account.
func (c *Cluster) Owner(tb testing.TB, slot int) *Node {
	tb.Helper()
	for _, master := range c.Masters(tb) {
		for _, r := range master.Slots(tb) {
			if r.First <= slot && slot <= r.Last {
				return master
			}
		}
	}
	tb.Fatalf("no running master has slot %d", slot)
	return nil
}

// KeyOn returns a key that begins with prefix and is in a slot of master.
func (c *Cluster) KeyOn(tb testing.TB, master *Node, prefix string) string {
	tb.Helper()
	return c.KeysOn(tb, master, prefix, 1)[0]
}

// KeysOn returns n keys that begin with prefix and are in slots of master.
func (c *Cluster) KeysOn(tb testing.TB, master *Node, prefix string, n int) []string {
	tb.Helper()
	slots, rdb := master.Slots(tb), master.Client(tb)
	if len(slots) == 0 {
		tb.Fatalf("%s has no slots", master)
	}
	var keys []string
	for i := 0; len(keys) < n; i++ {
		key := prefix + strconv.Itoa(i)
		slot, err := rdb.ClusterKeySlot(tb.Context(), key).Result()
		check(tb, err, "ask for a key's slot")
		for _, r := range slots {
			if r.First <= int(slot) && int(slot) <= r.Last {
				keys = append(keys, key)
			}
		}
	}
	return keys
}

// Move is slots on their way from one master to another. Until Finish, the old master answers for the keys that it still has and sends
// clients on (ASK) with the others.
type Move struct {
	cluster  *Cluster
	from, to *Node
	slots    []int
}

// BeginMove marks slots as migrating and importing; no key has moved yet.
func (c *Cluster) BeginMove(tb testing.TB, from, to *Node, slots ...int) *Move {
	tb.Helper()
	m := &Move{c, from, to, slots}
	source, target := from.ID(tb), to.ID(tb)
	m.each(tb, to, func(slot int) []any { return []any{"CLUSTER", "SETSLOT", slot, "IMPORTING", source} })
	m.each(tb, from, func(slot int) []any { return []any{"CLUSTER", "SETSLOT", slot, "MIGRATING", target} })
	return m
}

// Keys moves up to limit keys of each slot, and returns how many it moved.
func (m *Move) Keys(tb testing.TB, limit int) int {
	tb.Helper()
	var moves [][]any
	moved := 0
	for _, cmd := range m.each(tb, m.from, func(slot int) []any { return []any{"CLUSTER", "GETKEYSINSLOT", slot, limit} }) {
		keys, err := cmd.Slice()
		check(tb, err, "list the keys of a slot")
		if len(keys) > 0 {
			moves = append(moves, append(m.migrate(), keys...))
			moved += len(keys)
		}
	}
	pipeline(tb, m.from, moves)
	return moved
}

// migrate is a MIGRATE command up to its keys.
func (m *Move) migrate() []any {
	args := []any{"MIGRATE", "127.0.0.1", m.to.port, "", 0, 5000}
	if password := m.cluster.nodes.password; password != "" {
		args = append(args, "AUTH", password)
	}
	return append(args, "KEYS")
}

// Finish gives the slots to their new master and tells all masters, the new one first.
func (m *Move) Finish(tb testing.TB) {
	tb.Helper()
	target := m.to.ID(tb)
	for _, node := range append([]*Node{m.to, m.from}, without(without(m.cluster.Masters(tb), m.to), m.from)...) {
		m.each(tb, node, func(slot int) []any { return []any{"CLUSTER", "SETSLOT", slot, "NODE", target} })
	}
}

// MoveSlot moves a slot and its keys.
func (c *Cluster) MoveSlot(tb testing.TB, slot int, from, to *Node) {
	tb.Helper()
	c.move(tb, from, to, slot)
}

// MoveSlots moves n slots of from, the first it has, and their keys.
func (c *Cluster) MoveSlots(tb testing.TB, n int, from, to *Node) {
	tb.Helper()
	var slots []int
	for _, r := range from.Slots(tb) {
		for slot := r.First; slot <= r.Last && len(slots) < n; slot++ {
			slots = append(slots, slot)
		}
	}
	if len(slots) < n {
		tb.Fatalf("%s has %d slots, not %d", from, len(slots), n)
	}
	c.move(tb, from, to, slots...)
}

func (c *Cluster) move(tb testing.TB, from, to *Node, slots ...int) {
	tb.Helper()
	const page = 1000
	m := c.BeginMove(tb, from, to, slots...)
	for moved := 1; moved > 0; {
		moved = m.Keys(tb, page)
	}
	m.Finish(tb)
}

// MoveSlotsAtOnce moves slots as Valkey 9 does by itself: it copies the keys, and then the new master takes them over together. Only on
// [OnValkey].
func (c *Cluster) MoveSlotsAtOnce(tb testing.TB, from, to *Node, r SlotRange) {
	tb.Helper()
	ctx := tb.Context()
	check(tb, from.tell(ctx, "CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", r.First, r.Last, "NODE", to.ID(tb)).Err(), "move slots at once")
	check(tb, c.nodes.await(ctx, "slots to arrive at "+to.Addr(), func(ctx context.Context) error {
		slots, err := to.slots(ctx)
		if err != nil {
			return err
		}
		for _, has := range slots {
			if has.First <= r.First && r.Last <= has.Last {
				return nil
			}
		}
		return fmt.Errorf("it has %v", slots)
	}), "move slots at once")
}

// each sends a command for every slot to node.
func (m *Move) each(tb testing.TB, node *Node, command func(slot int) []any) []*redis.Cmd {
	tb.Helper()
	commands := make([][]any, len(m.slots))
	for i, slot := range m.slots {
		commands[i] = command(slot)
	}
	return pipeline(tb, node, commands)
}

func pipeline(tb testing.TB, node *Node, commands [][]any) []*redis.Cmd {
	tb.Helper()
	options := node.Options()
	options.DialTimeout, options.ReadTimeout = settleTimeout, settleTimeout
	rdb := redis.NewClient(options)
	defer rdb.Close()
	pipe := rdb.Pipeline()
	replies := make([]*redis.Cmd, len(commands))
	for i, command := range commands {
		replies[i] = pipe.Do(tb.Context(), command...)
	}
	_, err := pipe.Exec(tb.Context())
	check(tb, err, "move slots")
	return replies
}
