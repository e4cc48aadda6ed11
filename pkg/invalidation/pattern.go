package invalidation

import (
	"slices"
	"strings"
)

// Broadest sorts globs and drops those that others cover, as "user:*" covers
// "user:email:*". It changes the slice.
func Broadest(patterns []string) []string {
	slices.Sort(patterns)
	patterns = slices.Compact(patterns)
	all := slices.Clone(patterns)
	return slices.DeleteFunc(patterns, func(p string) bool {
		return slices.ContainsFunc(all, func(q string) bool { return q != p && covers(q, p) })
	})
}

// covers reports whether a glob of a literal prefix and a star matches all that
// another one does.
func covers(broad, narrow string) bool {
	prefix, star := strings.CutSuffix(broad, "*")
	if !star || !strings.HasPrefix(narrow, prefix) {
		return false
	}
	for i := 0; i < len(prefix); i++ {
		switch prefix[i] {
		case '\\':
			if i++; i == len(prefix) {
				return false // the star is a literal one
			}
		case '*', '?', '[':
			return false
		}
	}
	return true
}
