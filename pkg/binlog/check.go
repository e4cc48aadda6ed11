package binlog

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

// Check looks at everything that reading this server needs, and returns what it
// found, one Finding for each requirement. It changes nothing and may run
// beside Run. stored is what each master of the cache remembers, "" for one
// that remembers nothing; nil leaves the position out.
func (s *Source) Check(ctx context.Context, stored []string) []invalidation.Finding {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	srv, err := s.call(ctx)
	if err == nil {
		defer srv.close()
		err = s.connectStream(ctx, srv)
	}
	if err != nil {
		return []invalidation.Finding{s.failed("connection", err)}
	}
	found := s.checkHosts(ctx, srv)
	read, err := readSettings(srv.control)
	if err != nil {
		return append(found, s.failed("settings", err))
	}
	found = append(found, s.judge(read)...)
	if fatal(found) && read.tooOld() {
		return found // what follows would not be understood
	}
	found = append(found, s.checkRights(srv)...)
	filters, err := s.checkFilters(srv, read)
	if err != nil {
		found = append(found, s.failed("binlog filters", err))
	}
	found = append(found, filters...)
	found = append(found, s.checkServerID(srv)...)
	schema, unseen, err := s.checkSchema(srv)
	if err != nil {
		found = append(found, s.failed("rules", err))
	}
	found = append(append(found, schema...), unseen...)
	found = append(found, s.checkCascades(srv, read)...)
	for i, addr := range s.cfg.ReadsFrom {
		found = append(found, s.checkReader(ctx, srv, fmt.Sprintf("reads_from[%d]", i), addr))
	}
	if stored != nil {
		found = append(found, s.checkStored(ctx, srv, read, stored))
	}
	return found
}

// checkHosts tells of the hosts that Run would pass over.
func (s *Source) checkHosts(ctx context.Context, srv *server) []invalidation.Finding {
	found := []invalidation.Finding{invalidation.Passed("connection", fmt.Sprintf("mysql %s answers, as server %s", srv.addr, srv.id))}
	for i, addr := range s.cfg.Hosts {
		if addr == srv.addr {
			continue
		}
		conn, err := s.dial(ctx, addr, silence)
		if err == nil {
			_ = conn.Close()
			continue
		}
		found = append(found, invalidation.Warn.Of(fmt.Sprintf("hosts[%d]", i), lineError{err}.Error()+": it can not stand in for "+srv.addr,
			"start it, correct the address, or take it out of hosts"))
	}
	return found
}

// checkSettings refuses a server whose log can not be read, and notes what has
// a cost. It is the part of Check that a start needs.
func (s *Source) checkSettings(srv *server) error {
	read, err := readSettings(srv.control)
	if err != nil {
		return fmt.Errorf("mysql %s: %w", srv.addr, err)
	}
	filters, err := s.checkFilters(srv, read)
	if err != nil {
		return fmt.Errorf("mysql %s: %w", srv.addr, err)
	}
	return s.refuse("mysql "+srv.addr+": ", append(s.judge(read), filters...))
}

// checkRules compares the rules with the tables that the user may see. A table
// that it may not see, or that does not exist yet, is no mistake.
func (s *Source) checkRules(srv *server) error {
	columns, unseen, err := s.checkSchema(srv)
	if err != nil {
		return fmt.Errorf("mysql %s: %w", srv.addr, err)
	}
	for _, f := range unseen {
		s.note(f)
	}
	return s.refuse("", columns)
}

// refuse makes a fatal error of what fails, and notes what has a cost.
func (s *Source) refuse(at string, found []invalidation.Finding) error {
	var errs lineError
	for _, f := range found {
		switch f.Level {
		case invalidation.Fail:
			errs = append(errs, errors.New(at+line(f)))
		case invalidation.Warn:
			s.note(f)
		case invalidation.OK:
		}
	}
	if len(errs) == 0 {
		return nil
	}
	return invalidation.Fatal(fmt.Errorf("source %q: %w", s.cfg.Name, errs))
}

// line is a Finding on one line, with its remedy.
func line(f invalidation.Finding) string {
	text := f.Text
	if !strings.HasPrefix(text, f.Subject) {
		text = f.Subject + ": " + text
	}
	if f.Fix != "" {
		text += ": " + f.Fix
	}
	return text
}

func (s *Source) note(f invalidation.Finding) { s.say(line(f)) }

// say tells the Observer, once in the life of the Source.
func (s *Source) say(text string) {
	if _, told := s.noted.LoadOrStore(text, true); !told {
		s.cfg.Observer.Observe(invalidation.Event{Kind: invalidation.Noted, Part: invalidation.PartSource, Text: text})
	}
}

// failed is the Finding for a question that the server did not answer.
func (s *Source) failed(subject string, err error) invalidation.Finding {
	err = s.explain(err)
	fix := "start the server, or correct hosts; see its error log"
	if advice, ok := errors.AsType[invalidation.AdvisedError](err); ok {
		fix = advice.Fix
	}
	return invalidation.Fail.Of(subject, strings.TrimSuffix(lineError{err}.Error(), ": "+fix), fix)
}

func fatal(found []invalidation.Finding) bool {
	for _, f := range found {
		if f.Level == invalidation.Fail {
			return true
		}
	}
	return false
}

// joinNames lists names in a line, not more than one can take in.
func joinNames(names []string) string {
	const most = 8
	if len(names) > most {
		return strings.Join(names[:most], ", ") + fmt.Sprintf(" and %d more", len(names)-most)
	}
	return strings.Join(names, ", ")
}
