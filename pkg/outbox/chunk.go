package outbox

import "time"

// What one chunk may hold. A row has at most 1,000 keys when it was written by
// cache_outbox.enqueue, so a chunk is at most a row larger than this.
const (
	chunkRows  = 5000
	chunkBytes = 4 << 20
)

// row is one call of cache_outbox.enqueue.
type row struct {
	at      cursor
	keys    []string
	created time.Time
}

// chunk collects the rows of one statement.
type chunk struct {
	keys      []string
	seen      map[string]struct{}
	coalesced int // keys that were there already
	rows      int
	bytes     int
	limit     int
	full      bool // cut off for its size
	last      cursor

	oldest, newest time.Time
}

// add takes a row and reports whether there is room for another.
func (c *chunk) add(r row) bool {
	c.rows++
	c.last = r.at
	if r.created.After(c.newest) {
		c.newest = r.created
	}
	if c.oldest.IsZero() || r.created.Before(c.oldest) {
		c.oldest = r.created
	}
	for _, key := range r.keys {
		if _, double := c.seen[key]; double {
			c.coalesced++
			continue
		}
		c.seen[key] = struct{}{}
		c.keys = append(c.keys, key)
		c.bytes += len(key) + 16
	}
	c.full = c.bytes >= chunkBytes && c.rows < c.limit
	return !c.full
}

// step returns what the Sink has to do for the chunk.
func (c *chunk) step() step {
	return step{keys: c.keys, rows: c.rows, coalesced: c.coalesced, oldest: c.oldest, newest: c.newest}
}

func (c *chunk) more() bool { return c.full || c.rows >= c.limit }
