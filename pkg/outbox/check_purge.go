package outbox

import (
	"context"
	_ "embed"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/jackc/pgx/v5"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

//go:embed sql/check_keys.sql
var checkKeysSQL string

// How many keys are compared with the globs: those of the newest rows, some of
// each, unless they are longer than this.
const (
	sampledRows  = 1000
	sampledKeys  = 10
	sampledBytes = 512
)

// mostNames is how many beginnings of keys are named. What has more of them
// begins with data.
const mostNames = 5

// sharedBy is how many keys at least begin with a word that may be named. What
// one key alone begins with may be data as well.
const sharedBy = 2

// checkPurge compares the globs with keys that were enqueued. That one is
// missing shows in nothing else: rows are relayed without them.
func (l *postgresLog) checkPurge(ctx context.Context, s *session) invalidation.Finding {
	rows, err := s.conn.Query(ctx, checkKeysSQL, sampledRows, sampledKeys, sampledBytes)
	if err != nil {
		return failed("purge", l.explain(s.server, err))
	}
	keys, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return failed("purge", l.explain(s.server, err))
	}
	return judgePurge(l.source.purge, keys)
}

// judgePurge looks for keys that no glob covers. It shows none of them: a key
// can be personal data.
func judgePurge(globs, keys []string) invalidation.Finding {
	const subject = "purge"
	slices.Sort(keys)
	keys = slices.Compact(keys)
	missed := slices.DeleteFunc(slices.Clone(keys), func(key string) bool {
		return slices.ContainsFunc(globs, func(glob string) bool { return invalidation.MatchGlob(glob, key) })
	})
	are := "the globs (" + strings.Join(globs, " ") + ")"
	switch {
	case len(keys) == 0:
		return invalidation.Passed(subject, are+" could not be compared with any key: nothing was enqueued lately")
	case len(missed) == 0:
		return invalidation.Passed(subject, fmt.Sprintf("%s cover the last %d keys", are, len(keys)))
	}
	fix := "add globs for them: SELECT DISTINCT unnest(keys) FROM cache_outbox.events shows the keys"
	if more := globsFor(missed); more != nil {
		fix = "purge: [" + strings.Join(append(quoted(globs), quoted(more)...), ", ") + "], or narrower ones"
	}
	return invalidation.Warn.Of(subject, fmt.Sprintf("%s do not cover %d of the last %d keys: when the position is lost, what was pruned of their rows by then may stay stale",
		are, len(missed), len(keys)), fix)
}

// globsFor returns globs for all of the keys, made of their first words, each
// key once; nil where these may be data, as anything may that is not made of
// letters only, or that one key alone begins with.
func globsFor(keys []string) []string {
	var globs []string
	begin := map[string]int{} // glob -> the keys that it covers
	for _, key := range keys {
		end := strings.IndexAny(key, ":./-_|#")
		if end <= 0 || strings.ContainsFunc(key[:end], func(r rune) bool { return !unicode.IsLetter(r) }) {
			return nil
		}
		glob := key[:end+1] + "*"
		if begin[glob]++; begin[glob] == 1 {
			globs = append(globs, glob)
		}
	}
	if len(globs) > mostNames || slices.ContainsFunc(globs, func(glob string) bool { return begin[glob] < sharedBy }) {
		return nil
	}
	return globs
}

func quoted(globs []string) []string {
	texts := make([]string, len(globs))
	for i, glob := range globs {
		texts[i] = fmt.Sprintf("%q", glob)
	}
	return texts
}
