package redissink

import (
	"context"
	"slices"
	"strings"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

const (
	// sampleSize is how many keys are looked at.
	sampleSize = 2000
	// searchPages and searchCount bound the search for a pattern that none of
	// them matches: about a tenth of a second of the server for each.
	searchPages = 50
	searchCount = 2000
)

// sample compares the patterns with keys that are there. That rule and
// application spell a key differently is the commonest mistake, and nothing
// else would tell.
func (c *checks) sample(ctx context.Context, servers []*checkedServer) {
	if len(servers) == 0 || len(c.patterns) == 0 {
		return
	}
	var keys []string
	for _, s := range servers {
		some, err := c.some(ctx, s, sampleSize/len(servers)+1)
		if err != nil {
			c.warn(s.subject("keys"), c.cfg.grant("+scan"), "could not be sampled: %s", firstLine(err))
			continue
		}
		keys = append(keys, some...)
	}
	if len(keys) == 0 {
		c.ok("keys", "the cache has none, so nothing could be sampled: check again when it is filled")
		return
	}
	c.compare(ctx, servers, keys)
}

// some returns up to n of the application's keys.
func (c *checks) some(ctx context.Context, s *checkedServer, n int) ([]string, error) {
	var keys []string
	var cursor uint64
	for {
		page, next, err := s.client.Scan(ctx, cursor, "*", 500).Result()
		if err != nil {
			return nil, err
		}
		for _, key := range page {
			if !c.isOwn(key) {
				keys = append(keys, key)
			}
		}
		if cursor = next; cursor == 0 || len(keys) >= n {
			return keys, nil
		}
	}
}

func (c *checks) isOwn(key string) bool { return IsOwnKey(c.cfg.Namespace, key) }

// compare counts each key for the pattern that fits it best: one that fits the
// keys of another rule says nothing about its own.
func (c *checks) compare(ctx context.Context, servers []*checkedServer, keys []string) {
	hits, doubtful, strays := map[string]int{}, map[string]int{}, map[string]string{}
	var nobodys []string
	for _, key := range keys {
		switch pattern, stray := c.fit(key); {
		case pattern == "":
			nobodys = append(nobodys, key)
		case stray == "":
			hits[pattern]++
		default:
			doubtful[pattern]++
			strays[pattern] = stray
		}
	}
	for _, pattern := range c.patterns {
		subject := "keys " + pattern
		switch spelled := nearMiss(pattern, nobodys); {
		case hits[pattern] > 0:
			c.ok(subject, "%d among %d sampled", hits[pattern], len(keys))
		case c.search(ctx, servers, pattern):
			c.ok(subject, "none among %d sampled, but some exist", len(keys))
		case spelled != "":
			c.warn(subject, "spell the rule's key as the application does", "no key like it among %d sampled, but some begin with %q", len(keys), spelled)
		case doubtful[pattern] > 0:
			c.warn(subject, "compare the rule's key with those of the application: redis-cli --scan --pattern '"+pattern+"'",
				"%d among %d sampled match only if a value contains %q", doubtful[pattern], len(keys), strays[pattern])
		default:
			c.warn(subject, "compare the rule's key with those of the application: redis-cli --scan", "no key like it among %d sampled", len(keys))
		}
	}
}

// fit returns the pattern that fits a key best, "" for none. Where that is
// doubtful, stray is what makes it so.
func (c *checks) fit(key string) (pattern, stray string) {
	best := []int{-1}
	for _, p := range c.patterns {
		if !invalidation.MatchGlob(p, key) {
			continue
		}
		odd, certain := "", 1
		if c.values[p] {
			odd = strayIn(p, key)
		}
		if odd != "" {
			certain = 0
		}
		if how := []int{certain, len(literal(p)), len(p)}; slices.Compare(how, best) > 0 {
			pattern, stray, best = p, odd, how
		}
	}
	return pattern, stray
}

// strayIn returns a separator beside a pattern's *, or a brace, that a key which
// matches has in what the * stands for.
func strayIn(pattern, key string) string {
	for _, c := range []string{":", "/", "|", "#", "{", "}"} {
		counts := c == "{" || c == "}" || strings.Contains(pattern, c+"*") || strings.Contains(pattern, "*"+c)
		if counts && strings.Count(key, c) > strings.Count(pattern, c) {
			return c
		}
	}
	return ""
}

// search looks further for a key of a pattern: it may be rare.
func (c *checks) search(ctx context.Context, servers []*checkedServer, pattern string) bool {
	for _, s := range servers {
		var cursor uint64
		for range searchPages / len(servers) {
			page, next, err := s.client.Scan(ctx, cursor, pattern, searchCount).Result()
			if err != nil {
				break
			}
			for _, key := range page {
				if found, stray := c.fit(key); found == pattern && stray == "" && !c.isOwn(key) {
					return true
				}
			}
			if cursor = next; cursor == 0 {
				break
			}
		}
	}
	return false
}
