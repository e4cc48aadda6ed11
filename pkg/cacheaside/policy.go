package cacheaside

import (
	"errors"
	"fmt"
	"time"
)

const (
	defaultTTL         = 10 * time.Minute
	defaultNegativeTTL = 10 * time.Second
	defaultLoadTimeout = 10 * time.Second
	defaultBreakFor    = time.Second
)

// Policy says how one kind of entry is kept. The zero value is the default. Whatever it says, a Delete removes the entry
// and with it everything that could be served: no field lets a value outlive a delete.
type Policy struct {
	// TTL is how long an entry lives after its fill. At least 1 ms, default 10 min. It bounds what goes stale in the
	// cases that the guarantee exempts.
	TTL time.Duration

	// Jitter shortens every TTL, SoftTTL and NegativeTTL by a random share of up to this, so that entries that were
	// filled together don't expire together. 0 to 0.5, default 0.
	Jitter float64

	// NegativeTTL is how long it is remembered that a loader returned [ErrNotFound]. At least 1 ms, or negative: not at
	// all. Default 10 s, or TTL if that is shorter. Who inserts a thing has to delete its key, as with any write.
	NegativeTTL time.Duration

	// LoadTimeout ends the context of a load, which the end of its caller's context does not. At least 1 ms, default
	// 10 s.
	LoadTimeout time.Duration

	// SoftTTL is the age after which one reader of all processes loads a new value in the background while the others,
	// and itself, are served the old one. At least 1 ms and shorter than TTL; default 0: never. After a delete there is
	// no old one, and readers wait for the load as after any miss.
	SoftTTL time.Duration

	// NoTTL lets Redis keep entries until they are deleted or evicted: only the soft expiry is left, which needs SoftTTL.
	// What was not deleted is then served for as long as loads fail. Conflicts with TTL, XFetch and StaleIfError. Default
	// false.
	NoTTL bool

	// XFetch makes reads refresh an entry before it expires (softly, with SoftTTL), at random and the earlier the longer
	// its load took: by the load's time times XFetch times an exponentially distributed number. 1 is a good value, more
	// is earlier. Default 0: not. After a delete it changes nothing.
	XFetch float64

	// StaleIfError keeps entries for that long after their TTL, for reads whose load fails: they return the old value, if
	// this very read found it, instead of the error. As long as loads succeed nothing older than TTL is returned. At
	// least 1 ms; default 0: not. After a delete there is nothing old to find, and the read fails with the load.
	StaleIfError time.Duration

	// BreakAfter is how many loads of the view have to fail in a row (other than with [ErrNotFound]) for further ones to
	// fail at once with [ErrLoaderOpen]. Default 0: never. The count is the view's, so it has to be made once.
	BreakAfter int

	// BreakFor is how long loads are refused after BreakAfter failures before one is tried again. At least 1 ms, default
	// 1 s.
	BreakFor time.Duration

	// MergeWindow is how long a miss waits for others, so that one call of the view's [BatchLoader] loads all of them;
	// see [LoadMany], which it needs. At least 1 ms; default 0: not.
	MergeWindow time.Duration

	// Codec encodes values: [JSON], [Raw] or another. Default JSON.
	Codec Codec
}

// policy is a Policy with its defaults filled in, and what goes with it.
type policy struct {
	Policy
	format byte
	loader *breaker
}

func newPolicy(p Policy, observe func(Event)) (policy, error) {
	p, err := p.withDefaults()
	return policy{
		Policy: p,
		format: formatOf(p.Codec),
		loader: newBreaker(p.BreakAfter, p.BreakFor, func(open bool) {
			observe(Event{Kind: openOrClosed(open), Err: ErrLoaderOpen})
		}),
	}, err
}

// withDefaults returns p with its zero fields filled in, or everything that is wrong with it.
func (p Policy) withDefaults() (Policy, error) {
	var errs []error
	add := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("cacheaside: Policy."+format, args...))
	}
	duration := func(name string, field *time.Duration, byDefault time.Duration, means string) {
		switch {
		case *field == 0:
			*field = byDefault
		case *field < time.Millisecond:
			add("%s is %v: set it to 1ms or more, or to 0 for %s", name, *field, means)
		}
	}
	if p.NoTTL && p.TTL != 0 {
		add("NoTTL and Policy.TTL are set: an entry can't both expire and not; set one of them")
	}
	duration("TTL", &p.TTL, defaultTTL, "the default of "+defaultTTL.String())
	if p.NegativeTTL >= 0 {
		duration("NegativeTTL", &p.NegativeTTL, min(defaultNegativeTTL, max(p.TTL, time.Millisecond)), "the default of "+defaultNegativeTTL.String())
	}
	duration("LoadTimeout", &p.LoadTimeout, defaultLoadTimeout, "the default of "+defaultLoadTimeout.String())
	duration("SoftTTL", &p.SoftTTL, 0, "no soft expiry")
	duration("StaleIfError", &p.StaleIfError, 0, "errors instead of old values")
	duration("BreakFor", &p.BreakFor, defaultBreakFor, "the default of "+defaultBreakFor.String())
	duration("MergeWindow", &p.MergeWindow, 0, "no merging")
	p.checkCombinations(add)
	if p.Codec == nil {
		p.Codec = JSON{}
	}
	return p, errors.Join(errs...)
}

func (p Policy) checkCombinations(add func(format string, args ...any)) {
	if !(p.Jitter >= 0 && p.Jitter <= 0.5) {
		add("Jitter is %v: set it to a share from 0 to 0.5", p.Jitter)
	}
	if !(p.XFetch >= 0 && p.XFetch <= 1000) {
		add("XFetch is %v: set it to 0 for none, or to a factor of up to 1000, such as 1", p.XFetch)
	}
	if p.BreakAfter < 0 {
		add("BreakAfter is %d: set it to 1 or more, or to 0 for never", p.BreakAfter)
	}
	if !p.NoTTL {
		if p.SoftTTL >= p.TTL && p.SoftTTL > 0 {
			add("SoftTTL is %v, not shorter than TTL, %v: an entry that old is gone; set SoftTTL to less than TTL", p.SoftTTL, p.TTL)
		}
		return
	}
	if p.SoftTTL == 0 {
		add("NoTTL is set without SoftTTL: nothing would ever be loaded again; set SoftTTL")
	}
	if p.XFetch > 0 {
		add("NoTTL and Policy.XFetch are set: there is no miss to be earlier than; set one of them")
	}
	if p.StaleIfError > 0 {
		add("NoTTL and Policy.StaleIfError are set: old values are served anyway; set one of them")
	}
}
