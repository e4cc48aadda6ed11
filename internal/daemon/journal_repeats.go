package daemon

import (
	"maps"
	"regexp"
	"time"
)

const (
	// reasonEvery is how often another reason for the same wait is logged.
	reasonEvery = 30 * time.Second
	// A part that waits and works in turns has this many of its waits logged
	// in a minute.
	waitsInAMinute = 5
	// mostRecent is how many repeats are remembered until old ones are
	// forgotten.
	mostRecent = 1000
)

// numbers is what differs between two errors of the same kind: ports,
// attempts, offsets.
var numbers = regexp.MustCompile(`\d+`)

func kindOfError(what string, err error) string {
	return numbers.ReplaceAllString(what+" "+errorText(err), "#")
}

// recent remembers when what repeats was last logged.
type recent map[string]time.Time

// isDue reports whether what was last logged so long ago that it is news again.
func (r recent) isDue(what string, every time.Duration) bool {
	if last, ok := r[what]; ok && time.Since(last) < every {
		return false
	}
	if len(r) >= mostRecent {
		maps.DeleteFunc(r, func(_ string, last time.Time) bool { return time.Since(last) >= every })
	}
	r[what] = time.Now()
	return true
}

// waits tells what is news about the parts that wait.
type waits map[string]*partWaits

type partWaits struct {
	kind   string    // of the error that it waits for, as far as logged; "": it works
	said   time.Time // when a reason was last logged
	minute time.Time // when counting began
	logged int       // waits since then
}

// isNews reports whether a part that can not work has something new to say: it
// worked before, or it waits for another reason than the one last logged, which
// was a while ago. A server that goes down and comes back gives several.
func (w waits) isNews(part string, err error) bool {
	p := w[part]
	if p == nil {
		p = &partWaits{}
		w[part] = p
	}
	now, kind := time.Now(), kindOfError("", err)
	if now.Sub(p.minute) >= time.Minute {
		p.minute, p.logged = now, 0
	}
	switch {
	case p.kind == "":
		if p.logged >= waitsInAMinute {
			return false // for now: it may still wait when the minute is over
		}
		p.logged++
	case p.kind == kind || now.Sub(p.said) < reasonEvery:
		return false
	}
	p.kind, p.said = kind, now
	return true
}

// heal ends a part's wait, and reports whether the log had one. What was left
// out of it needs no end there.
func (w waits) heal(part string) bool {
	p := w[part]
	if p == nil {
		return false
	}
	had := p.kind != ""
	p.kind = ""
	return had
}
