package binlog

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// identityTimeout bounds the question who a server is.
const identityTimeout = 5 * time.Second

// Identity returns the server_uuid of the first host that answers within 5 s,
// on a connection of its own. It is safe beside Run, as is everything below.
func (s *Source) Identity(ctx context.Context) (server string, err error) {
	ctx, cancel := context.WithTimeout(ctx, identityTimeout)
	defer cancel()
	srv, err := s.call(ctx)
	if err != nil {
		return "", s.explain(err)
	}
	defer srv.close()
	return srv.id, nil
}

// Now returns the log's present end as a position that Run would write: every
// transaction in it is visible on the server and on those of ReadsFrom, and the
// rules are those of the Mapper.
func (s *Source) Now(ctx context.Context) (position string, err error) {
	err = s.ask(ctx, func(srv *server, found logState) error {
		position = found.now.encode()
		return s.visible(srv, found.now.done.String())
	})
	return position, err
}

// CheckPosition returns an error for a text that is no position of a MySQL
// source: neither one that a cache remembers, nor a bare GTID set.
func (s *Source) CheckPosition(text string) error {
	_, err := parseGiven(text)
	return err
}

// CompletePosition returns the position that an operator means: a GTID set gets
// its server. stored is what each master of the cache remembers, where reading
// is to go back: the position must not be newer than any of them, and none may
// be "". Its rules are those that are in force for all of them, too, so that
// what a changed rule owes is still purged. With nil a GTID set gets the rules
// that Run would write. The error says why the server can not be read from there.
func (s *Source) CompletePosition(ctx context.Context, text string, stored []string) (position string, err error) {
	given, err := parseGiven(text)
	if err != nil {
		return "", err
	}
	err = s.ask(ctx, func(_ *server, found logState) error {
		if err := found.complete(given, stored); err != nil {
			return fmt.Errorf("source %q can not be read from %q: %w", s.cfg.Name, shorten(given.done.String()), err)
		}
		position = given.encode()
		return nil
	})
	return position, err
}

// complete fills in what a given position lacks, or says why it is refused.
func (l logState) complete(given *position, stored []string) error {
	limit, err := l.limit(stored)
	if err != nil {
		return err
	}
	if reason := lost(given, l.now.done, l.purged); reason != "" {
		return errors.New(reason)
	}
	if !limit.done.Contain(given.done) {
		return fmt.Errorf("it is newer than what the cache remembers (%s), and what lies between would never be deleted: give a position that is not, as \"invalidator position show\" prints it",
			shorten(limit.done.String()))
	}
	switch {
	case given.server == "":
		given.server, given.rules = l.now.server, limit.rules
	case len(stored) > 0:
		given.rules = inBoth(given.rules, limit.rules)
	}
	return nil
}

// ask opens the connections that Run would, but for the stream, checks the
// server as Run does, and calls do.
func (s *Source) ask(ctx context.Context, do func(*server, logState) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	srv, err := s.visit(ctx)
	if err != nil {
		return s.explain(err)
	}
	defer srv.close()
	found, err := s.inspect(srv)
	if err == nil {
		err = do(srv, found)
	}
	if err != nil {
		return s.explain(err)
	}
	return nil
}
