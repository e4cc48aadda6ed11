package servers

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"testing"
	"time"
)

// LoseReplication makes sure that a master's replicas have what was written before the call and never get what is written after it: it
// waits for them, cuts their connections and refuses new ones. The master goes on answering, and when it dies a replica is promoted that
// lacks the writes it has answered. (Freezing a replica would not do: what the master has sent waits in its socket.)
//
// Sentinels take no replica for the new master that has lost the old one for more than ten times down-after-milliseconds, so a test
// has about ten seconds for the rest.
func (n *Node) LoseReplication(tb testing.TB) {
	tb.Helper()
	ctx := tb.Context()
	var replicas []*Node
	offset := int64(-1)
	check(tb, n.owner.await(ctx, "the replicas of "+n.Addr(), func(ctx context.Context) error { // one that is slow to answer counts as well
		replicas, offset = n.owner.replicasOf(ctx, n), n.offset(ctx, "master_repl_offset")
		if connected := n.info(ctx, "connected_slaves"); offset < 0 || len(replicas) == 0 || strconv.Itoa(len(replicas)) != connected {
			return fmt.Errorf("it has %q, of which %v answer", connected, replicas)
		}
		return nil
	}), "look for replicas")
	for _, replica := range replicas {
		check(tb, n.owner.await(ctx, "the replica "+replica.Addr(), func(ctx context.Context) error {
			if got := replica.offset(ctx, "slave_repl_offset"); got < offset {
				return fmt.Errorf("it is at offset %d of %d", got, offset)
			}
			return nil
		}), "replicate what was written so far")
	}
	check(tb, n.tell(ctx, "ACL", "SETUSER", replicationUser, "off").Err(), "refuse new connections of replicas")
	check(tb, n.tell(ctx, "CLIENT", "KILL", "TYPE", "replica").Err(), "cut the connections of replicas")
	check(tb, n.owner.await(ctx, "the replicas to be cut off", func(ctx context.Context) error {
		if left := n.info(ctx, "connected_slaves"); left != "0" {
			return fmt.Errorf("still connected: %q", left)
		}
		return nil
	}), "cut the connections of replicas")
}

// RestoreReplication ends what LoseReplication began and waits until the replicas have everything.
func (n *Node) RestoreReplication(tb testing.TB) {
	tb.Helper()
	check(tb, n.tell(tb.Context(), "ACL", "SETUSER", replicationUser, "on").Err(), "accept connections of replicas")
	check(tb, n.owner.await(tb.Context(), "the replicas", func(ctx context.Context) error {
		if len(n.owner.replicasOf(ctx, n)) == 0 {
			return errors.New("none is connected")
		}
		return nil
	}), "replicate again")
}

// Promoted waits until the first of the candidates is a master, and returns it and the time of that, as near as asking every 10 ms
// tells: call it right after what causes the failover.
func Promoted(tb testing.TB, candidates ...*Node) (*Node, time.Time) {
	tb.Helper()
	if len(candidates) == 0 {
		tb.Fatal("no candidate for a promotion")
	}
	var promoted *Node
	check(tb, candidates[0].owner.await(tb.Context(), "a promotion", func(ctx context.Context) error {
		for _, candidate := range candidates {
			if candidate.role(ctx) == "master" {
				promoted = candidate
				return nil
			}
		}
		return fmt.Errorf("none of %v is a master", candidates)
	}), "fail over")
	return promoted, time.Now()
}

// replicasOf returns the nodes that replicate from master and are connected to it, as they say themselves.
func (n *nodes) replicasOf(ctx context.Context, master *Node) []*Node {
	var replicas []*Node
	for _, node := range n.all {
		if node != master && !node.sentinel && node.running &&
			node.info(ctx, "master_port") == strconv.Itoa(master.port) &&
			node.info(ctx, "master_link_status") == "up" {
			replicas = append(replicas, node)
		}
	}
	return replicas
}

func (n *Node) offset(ctx context.Context, field string) int64 {
	offset, err := strconv.ParseInt(n.info(ctx, field), 10, 64)
	if err != nil {
		return -1
	}
	return offset
}
