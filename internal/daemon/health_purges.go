package daemon

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

// Purge is a purge that is asked for or runs.
type Purge struct {
	Pattern string `json:"pattern"`
	// Keys is how many keys the cache had when it began, Scanned how many
	// were looked at, Deleted how many matched. All are 0 until it begins.
	Keys    int `json:"keys"`
	Scanned int `json:"scanned"`
	Deleted int `json:"deleted"`
	// AtStart: it was asked for before the source had got anywhere, because
	// of a first start, a lost position or a new rule. Until it is done, any
	// entry that it would delete may be stale.
	AtStart bool `json:"at_start,omitempty"`
	// ByHand: an operator asked for it, and no commit waits for it.
	ByHand bool `json:"by_hand,omitempty"`
}

type purge struct {
	Purge

	begun bool
	// Calls that ask for it: those before it began and, for the one that
	// follows it, those since. A call that fails has not asked.
	asked, again int
}

func isPurgeOwed(what string) bool { return strings.HasPrefix(what, "purge ") }

func owedPurge(pattern string) string { return "purge " + pattern }
func owedAgain(pattern string) string { return "purge again " + pattern }
func (h *health) purgeAtStart() bool  { return h.lost || !h.progressed }
func (h *health) sortedPurges() []*purge {
	return slices.SortedFunc(maps.Values(h.purges), func(a, b *purge) int { return strings.Compare(a.Pattern, b.Pattern) })
}

// askedFor notes that a purge is owed. One that runs already may have passed
// what the new one is for.
func (h *health) askedFor(pattern string) *purge {
	p := h.purges[pattern]
	switch {
	case p == nil:
		p = &purge{Purge: Purge{Pattern: pattern, AtStart: h.purgeAtStart()}, asked: 1}
		h.purges[pattern] = p
		h.covered.hold(owedPurge(pattern))
	case p.begun:
		p.again++
		h.covered.hold(owedAgain(pattern))
	default:
		p.asked++
	}
	return p
}

// notAskedFor takes one askedFor back.
func (h *health) notAskedFor(pattern string) {
	p := h.purges[pattern]
	switch {
	case p == nil: // it was dropped
	case p.begun && p.again > 0:
		if p.again--; p.again == 0 {
			h.covered.release(owedAgain(pattern))
		}
	case !p.begun:
		if p.asked--; p.asked == 0 {
			delete(h.purges, pattern)
			h.covered.release(owedPurge(pattern))
		}
	}
}

// purge hears how far a purge is.
func (h *health) purge(e invalidation.Event) {
	if e.Kind == invalidation.PurgeDone {
		h.status.Purged += e.Count
	}
	if e.ByHand {
		h.purgeByHand(e)
		return
	}
	p := h.purges[e.Text]
	switch {
	case p == nil && e.Kind == invalidation.PurgeStarted:
		p = h.askedFor(e.Text) // by somebody who did not tell
		h.lost = false
	case p == nil:
		return // it was dropped
	}
	switch e.Kind { //nolint:exhaustive // the caller has chosen
	case invalidation.PurgeStarted:
		p.begun = true
		p.Keys, p.Scanned, p.Deleted = e.Count, 0, 0
	case invalidation.PurgeProgress:
		p.Scanned, p.Deleted = e.Scanned, e.Count
	case invalidation.PurgeDone:
		h.purged(p)
	}
}

// purgeByHand hears how far a purge is for which no commit waits.
func (h *health) purgeByHand(e invalidation.Event) {
	name := "by hand " + e.Text // a source may ask for the same
	p := h.purges[name]
	if p == nil {
		p = &purge{Purge: Purge{Pattern: e.Text, ByHand: true}, begun: true}
		h.purges[name] = p
	}
	switch e.Kind { //nolint:exhaustive // the caller has chosen
	case invalidation.PurgeStarted:
		p.Keys, p.Scanned, p.Deleted = e.Count, 0, 0
	case invalidation.PurgeProgress:
		p.Scanned, p.Deleted = e.Scanned, e.Count
	case invalidation.PurgeDone:
		delete(h.purges, name)
	}
}

// purged ends a purge. The one that was asked for meanwhile is still owed.
func (h *health) purged(p *purge) {
	h.covered.release(owedPurge(p.Pattern))
	if p.again == 0 {
		delete(h.purges, p.Pattern)
		return
	}
	h.covered.move(owedAgain(p.Pattern), owedPurge(p.Pattern))
	*p = purge{Purge: Purge{Pattern: p.Pattern}, asked: p.again}
}

// describe is one purge in one line, without keys.
func (p Purge) describe() string {
	text := fmt.Sprintf("%s: %d keys deleted", p.Pattern, p.Deleted)
	if p.Scanned > 0 && p.Keys > 0 {
		text += fmt.Sprintf(", %d of %d looked at", min(p.Scanned, p.Keys), p.Keys)
	}
	return text
}

// describePurges names all purges, and whether one of them is AtStart.
func (h *health) describePurges() (text string, atStart bool) {
	var lines []string
	for _, p := range h.sortedPurges() {
		lines = append(lines, p.describe())
		atStart = atStart || p.AtStart
	}
	return strings.Join(lines, "; "), atStart
}
