package demo

import (
	"fmt"
	"sync"
	"time"
)

// numbers is what the demo counts.
type numbers struct {
	writes, reads int
	deletesLost   int           // writes whose own delete failed or never came
	repaired      int           // stale values that the relay deleted
	staleNow      int           // at the last look
	oldest        time.Duration // the longest that one of them was stale by then
	maxAge        time.Duration // the longest that any entry was seen stale
}

// counts is numbers for many goroutines.
type counts struct {
	mu sync.Mutex
	n  numbers
}

func (c *counts) change(do func(n *numbers)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	do(&c.n)
}

func (c *counts) now() numbers {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n
}

// progress is what one looks at while it runs.
func (n numbers) progress() string {
	return fmt.Sprintf("writes=%d reads=%d deletes_lost=%d repaired=%d stale_now=%d oldest_ms=%d",
		n.writes, n.reads, n.deletesLost, n.repaired, n.staleNow, n.oldest.Milliseconds())
}

// summary is the last line.
func (n numbers) summary() string {
	return fmt.Sprintf("writes=%d deletes_lost=%d repaired=%d stale_now=%d stale_max_age_ms=%d",
		n.writes, n.deletesLost, n.repaired, n.staleNow, n.maxAge.Milliseconds())
}
