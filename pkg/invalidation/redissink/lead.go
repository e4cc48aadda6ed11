package redissink

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

// lead waits until this process holds the lease.
func (s *Sink) lead(ctx context.Context) error {
	began, told := time.Now(), time.Time{}
	var theirs seenLease
	for answered := false; ; {
		asked, cancel := context.WithTimeout(ctx, 2*timeout)
		other, err := s.lease.once(asked, theirs.stuck())
		cancel()
		answered = answered || err == nil
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			if err = s.blame(ctx, err, answered); errors.Is(err, invalidation.ErrFatal) {
				return err
			}
			s.waiting(invalidation.PartCache, err)
			if s.leadAnyway(ctx, &began) {
				return nil
			}
		case other == "":
			s.leads()
			return nil
		default:
			if err := s.refuse(other); err != nil {
				return err
			}
			s.lease.hold(false)
			theirs.see(other)
			if time.Since(told) >= time.Second {
				told = time.Now()
				s.observe(invalidation.Event{Kind: invalidation.Standby, Part: invalidation.PartLease, Text: parseHolder(other).Name})
			}
		}
		if err := sleep(ctx, leasePoll); err != nil {
			return err
		}
	}
}

// seenLease is somebody else's lease, which is the same since then.
type seenLease struct {
	value string
	since time.Time
}

func (l *seenLease) see(value string) {
	if l.value != value {
		l.value, l.since = value, time.Now()
	}
}

// stuck returns the lease if it was not renewed for too long.
func (l *seenLease) stuck() string {
	if time.Since(l.since) < leaseStuck {
		return ""
	}
	return l.value
}

// blame explains why the lease can not be asked for. Of a server that has never
// answered it says what a check would: the configuration may be to blame.
func (s *Sink) blame(ctx context.Context, err error, answered bool) error {
	err = explain(s.cfg, err)
	addr := s.lease.address()
	if answered || addr == "" || errors.Is(err, invalidation.ErrFatal) {
		return err
	}
	switch text, fix := diagnose(ctx, s.cfg, addr, err); {
	case text != "":
		return fmt.Errorf("%s: %s: %w", text, fix, err)
	case fix != "":
		return fmt.Errorf("%w: %s", err, fix)
	}
	return err
}

// leads notes that this process leads.
func (s *Sink) leads() {
	if s.lease.hold(true) {
		s.observe(invalidation.Event{Kind: invalidation.Leading, Part: invalidation.PartLease, Text: s.cfg.Holder.name})
	}
}

// dead is a master that was waited for in vain.
type dead struct {
	addr  string
	since time.Time
}

// leadAnyway leads without the lease, and reports whether it did: in a cluster
// one master that is down does not hold the others up. Two that do are waste and
// no error, the nonce tells them; while another one writes, this one waits.
func (s *Sink) leadAnyway(ctx context.Context, began *time.Time) bool {
	if in := s.seen.Load(); in == nil || len(in.masters) < 2 || time.Since(*began) < patience {
		return false
	}
	if s.someoneWrites(ctx) {
		*began = time.Now()
		return false
	}
	s.dead.Store(&dead{s.seen.Load().ownerOf(slotOf(s.cfg.leaseKey())), *began})
	s.leads()
	s.observe(invalidation.Event{Kind: invalidation.Noted, Part: invalidation.PartLease, Text: "leads without the lease, because the master that has it can not be reached"})
	return true
}

// someoneWrites looks twice at what the masters that can be reached store. A
// leader writes a new nonce every second.
func (s *Sink) someoneWrites(ctx context.Context) bool {
	look := func() (all []storedValue) {
		for _, addr := range s.seen.Load().masters {
			asked, cancel := context.WithTimeout(ctx, timeout)
			values, err := s.storedAt(asked, addr)
			cancel()
			if err == nil {
				all = append(all, values...)
			}
		}
		return all
	}
	before := look()
	if err := sleep(ctx, 2*leaseRenew); err != nil {
		return true
	}
	return !slices.Equal(before, look())
}

// refuse fails where the one that leads reads another log.
func (s *Sink) refuse(other string) error {
	theirs, ours := parseHolder(other), s.lease.identity.Load()
	if !ours.conflicts(theirs.Identity) {
		return nil
	}
	return invalidation.Fatal(fmt.Errorf(
		"namespace %q, source %q: %s leads there for another database (server %s at %s; here it is %s at %s): give this daemon a namespace of its own",
		s.cfg.Namespace, s.cfg.Source, theirs.Name,
		theirs.Server, strings.Join(theirs.Hosts, " "), ours.Server, strings.Join(ours.Hosts, " ")))
}

// keepLease renews the lease while it is held. Where that fails the Sink goes
// on, since the position's nonce tells when another one leads, and says so once
// the lease has run out: until then nobody else can have it.
func (s *Sink) keepLease(ctx context.Context) error {
	renewed, waits := time.Now(), false
	return every(ctx, leaseRenew, func() error {
		if !s.lease.held.Load() {
			renewed, waits = time.Now(), false
			return nil
		}
		other, err := s.lease.acquire(ctx, "")
		if err != nil {
			if ctx.Err() == nil && time.Since(renewed) >= leaseTTL {
				waits = true
				s.waiting(invalidation.PartLease, fmt.Errorf("can not be renewed, so another daemon may lead beside this one: %w", err))
			}
			return nil
		}
		if other == "" && waits {
			s.working(invalidation.PartLease)
		}
		renewed, waits = time.Now(), false
		if other != "" && s.lease.hold(false) {
			name := parseHolder(other).Name
			s.observe(invalidation.Event{Kind: invalidation.Standby, Part: invalidation.PartLease, Text: name})
			resume := fmt.Errorf("%s leads now: %w", name, invalidation.ErrResume)
			s.resume.CompareAndSwap(nil, &resume)
		}
		return nil
	})
}

// identify keeps the identity of the log up to date: for the lease, and to
// tell while waiting for it whether this process could take over.
func (s *Sink) identify(ctx context.Context) error {
	if s.cfg.Identity == nil {
		<-ctx.Done()
		return ctx.Err()
	}
	failing := false
	for {
		found, err := s.cfg.Identity(ctx)
		switch standby := !s.lease.held.Load(); {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil:
			s.lease.identity.Store(&found)
			if failing && standby {
				s.working(invalidation.PartSource)
			}
			failing = false
		case standby:
			failing = true
			s.waiting(invalidation.PartSource, fmt.Errorf("could not take over now: %w", err))
		}
		if err := sleep(ctx, identifyEvery); err != nil {
			return err
		}
	}
}

// Leads reports whether this process holds the lease, as far as it knows.
func (s *Sink) Leads() bool { return s.lease.held.Load() }

// Release gives the lease up at once, so that another daemon takes over without
// waiting for its end. Call it when Run has returned.
func (s *Sink) Release(ctx context.Context) error {
	if !s.lease.hold(false) && !s.cfg.Holder.has(s.cfg.leaseKey()) {
		return nil
	}
	_, err := s.lease.run(ctx, "", "")
	return err
}
