package redissink

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
)

// layout says which masters the cache has.
type layout struct {
	masters []string       // addresses, in the order of their first slots
	owner   *[slots]string // cluster: the master of each slot, "" for none
}

// topology asks the cache for its layout.
type topology interface {
	// ask returns the layout as of now. Where it is not known it returns an
	// error that a retry may heal, or one that wraps invalidation.ErrFatal.
	ask(ctx context.Context) (*layout, error)
	// hint names a node that may know better than those asked so far.
	hint(addr string)
	close()
}

func newTopology(cfg Config) topology {
	switch {
	case cfg.Redis.MasterName != "":
		return newSentinels(cfg)
	case cfg.Redis.IsClusterMode:
		return newCluster(cfg)
	}
	return standalone(cfg.Redis.Addrs[0])
}

// standalone is the address of the one server.
type standalone string

func (s standalone) ask(context.Context) (*layout, error) {
	return &layout{masters: []string{string(s)}}, nil
}
func (standalone) hint(string) {}
func (standalone) close()      {}

// equal reports whether nothing changed.
func (l *layout) equal(o *layout) bool {
	if !slices.Equal(l.masters, o.masters) {
		return false
	}
	return l.owner == o.owner || l.owner != nil && o.owner != nil && *l.owner == *o.owner
}

// ownerOf returns the master of a slot; "" where none has it.
func (l *layout) ownerOf(slot int) string {
	if l.owner == nil {
		return l.masters[0]
	}
	return l.owner[slot]
}

// keep leaves slots that nobody serves with the master that had them before. It
// may have died and been forgotten, and be back one day with what it holds.
func (l *layout) keep(before *layout) {
	if before == nil || before.owner == nil || l.unserved() == nil {
		return
	}
	l.masters = nil
	for slot := range l.owner {
		l.owner[slot] = cmp.Or(l.owner[slot], before.owner[slot])
		if owner := l.owner[slot]; owner != "" && !l.has(owner) {
			l.masters = append(l.masters, owner)
		}
	}
}

// unserved returns the slots that no master has; nil outside of clusters.
func (l *layout) unserved() []int {
	if l.owner == nil {
		return nil
	}
	return l.slotsOf("")
}

// ranges writes slots as people do: 0-5460, 7.
func ranges(owned []int) string {
	var text strings.Builder
	for i, slot := range owned {
		from, to := i == 0 || owned[i-1] != slot-1, i+1 == len(owned) || owned[i+1] != slot+1
		switch {
		case from && i > 0:
			fmt.Fprintf(&text, ", %d", slot)
		case from:
			fmt.Fprintf(&text, "%d", slot)
		case to:
			fmt.Fprintf(&text, "-%d", slot)
		}
	}
	return text.String()
}

// slotsOf returns the slots of a master.
func (l *layout) slotsOf(addr string) []int {
	var owned []int
	for slot, owner := range l.owner {
		if owner == addr {
			owned = append(owned, slot)
		}
	}
	return owned
}

func (l *layout) has(addr string) bool { return slices.Contains(l.masters, addr) }

// middle returns the slot in the middle of the longest run of a master's: the
// last that a reshard from either end takes away. -1 outside of clusters.
func (l *layout) middle(addr string) int {
	if l.owner == nil {
		return -1
	}
	middle, longest, run := -1, 0, 0
	for slot, owner := range l.owner {
		if owner != addr {
			run = 0
			continue
		}
		if run++; run > longest {
			middle, longest = slot-run/2, run
		}
	}
	return middle
}
