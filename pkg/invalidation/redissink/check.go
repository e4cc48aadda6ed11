package redissink

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

// Wanted is what a source wants of the cache.
type Wanted struct {
	// Config is that of the Sink. Those of one Check have the same Redis and
	// Namespace.
	Config Config
	// Patterns match the keys that the source deletes.
	Patterns []string
	// IsTemplates: each * of the Patterns stands for the value of a column,
	// which seldom contains the separator beside it.
	IsTemplates bool
}

// Check asks the cache whether Sinks could do their work, and samples its keys:
// whether there are some that the patterns match. It leaves nothing behind.
// What it may not ask is a warning at the most.
func Check(ctx context.Context, wanted ...Wanted) []invalidation.Finding {
	if len(wanted) == 0 {
		return nil
	}
	for _, w := range wanted {
		if err := w.Config.check(); err != nil {
			return []invalidation.Finding{invalidation.Fail.Of("configuration", firstLine(err), "correct the redis section")}
		}
	}
	c := newChecks(wanted)
	in := c.topology(ctx)
	if in == nil {
		return c.findings
	}
	var servers []*checkedServer
	for _, addr := range in.masters {
		s := c.connect(ctx, addr, in)
		if s == nil {
			continue
		}
		defer func() { _ = s.client.Close() }()
		servers = append(servers, s)
		c.server(ctx, s)
	}
	c.sample(ctx, servers)
	for _, w := range wanted {
		c.lease(ctx, w.Config, in, servers)
	}
	return c.findings
}

// checks collects what was found.
type checks struct {
	cfg      Config
	sources  []Config
	patterns []string        // of all sources, each once
	values   map[string]bool // those whose * stand for values of columns
	findings []invalidation.Finding
}

func newChecks(wanted []Wanted) *checks {
	c := &checks{cfg: wanted[0].Config.withDefaults(), values: map[string]bool{}}
	for _, w := range wanted {
		c.sources = append(c.sources, w.Config)
		for _, pattern := range w.Patterns {
			before, twice := c.values[pattern]
			c.values[pattern] = w.IsTemplates && (before || !twice)
		}
	}
	c.patterns = slices.Sorted(maps.Keys(c.values))
	return c
}

func (c *checks) ok(subject, text string, args ...any) {
	c.findings = append(c.findings, invalidation.Passed(subject, fmt.Sprintf(text, args...)))
}

func (c *checks) warn(subject, fix, text string, args ...any) {
	c.findings = append(c.findings, invalidation.Warn.Of(subject, fmt.Sprintf(text, args...), fix))
}

func (c *checks) fail(subject, fix, text string, args ...any) {
	c.findings = append(c.findings, invalidation.Fail.Of(subject, fmt.Sprintf(text, args...), fix))
}

// checkedServer is one master.
type checkedServer struct {
	addr     string
	name     string // in front of subjects: "" where there is one master
	client   *redis.Client
	info     map[string]string
	cluster  bool
	position string // a key of a position there
}

// subject is what a finding about the server is called.
func (s *checkedServer) subject(of string) string {
	if s.name == "" {
		return of
	}
	return s.name + " " + of
}

// connect logs in to a master. It returns nil where that fails.
func (c *checks) connect(ctx context.Context, addr string, in *layout) *checkedServer {
	s := &checkedServer{addr: addr, client: redis.NewClient(c.cfg.options(addr, func() {})), cluster: in.owner != nil}
	s.position = PositionKey(c.cfg.Namespace, c.cfg.Source)
	if slot := in.middle(addr); slot >= 0 {
		s.position += slotTags()[slot]
	}
	if len(in.masters) > 1 {
		s.name = addr
	}
	if err := s.client.Ping(ctx).Err(); err != nil && (!isNoPermission(err) || mayNotSelect(err)) {
		_ = s.client.Close()
		c.unreachable(ctx, s.subject("connection"), addr, err)
		return nil
	}
	c.ok(s.subject("connection"), "%s answers and takes the login", addr)
	return s
}

// unreachable says why a server can not be used, and what to do.
func (c *checks) unreachable(ctx context.Context, subject, addr string, err error) {
	text, fix := diagnose(ctx, c.cfg, addr, err)
	text = cmp.Or(text, fmt.Sprintf("%s: %s", addr, strings.ReplaceAll(err.Error(), "\n", "; ")))
	c.fail(subject, cmp.Or(fix, "start the server, open the firewall, or correct redis.addrs"), "%s", text)
}
