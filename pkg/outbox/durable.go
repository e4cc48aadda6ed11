package outbox

import "time"

// forceAfter is how long a position waits for somebody else's flush.
const forceAfter = time.Second

// durable holds positions back until the server has flushed the WAL that names
// their transaction ids. A crash before that gives the same ids out again, to
// other transactions, which a remembered snapshot would take for old ones.
//
// Two are enough. While others commit, the WAL's end is always ahead of what
// is flushed, so the newest alone would be replaced before it is ready, for
// ever; the oldest stays until it is, and the newest takes its place.
type durable struct {
	flushed        lsn
	oldest, newest *position
	since          time.Time // when oldest came
}

// add takes a position that lies behind all earlier ones.
func (d *durable) add(p position, now time.Time) {
	if d.oldest == nil {
		d.oldest, d.since = &p, now
		return
	}
	d.newest = &p
}

// saw notes how far the WAL is flushed.
func (d *durable) saw(flushed lsn) { d.flushed = max(d.flushed, flushed) }

// take returns the newest position that a crash can not undo, "" for none.
func (d *durable) take(now time.Time) string {
	switch {
	case d.oldest == nil || d.flushed < d.oldest.LSN:
		return ""
	case d.newest == nil:
		p := d.oldest
		d.oldest = nil
		return p.String()
	case d.flushed < d.newest.LSN:
		p := d.oldest
		d.oldest, d.newest, d.since = d.newest, nil, now
		return p.String()
	}
	p := d.newest
	d.oldest, d.newest = nil, nil
	return p.String()
}

// waits reports whether a position waits for a flush, and overdue whether it
// does so for longer than anybody who commits would leave it waiting.
func (d *durable) waits() bool { return d.oldest != nil && d.flushed < d.oldest.LSN }

func (d *durable) overdue(now time.Time) bool { return d.waits() && now.Sub(d.since) >= forceAfter }
