package invalidation

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// CheckPattern returns an error for a glob that does not begin with literal
// text, as it could match every key of the cache, and for one that Redis would
// read otherwise than it looks.
func CheckPattern(glob string) error {
	if glob == "" {
		return errors.New("is empty: write a glob such as \"user:*\"")
	}
	if strings.IndexByte("*?[", glob[0]) >= 0 {
		return errors.New("does not begin with literal text, so it could match every key: put a prefix in front, such as \"user:\"")
	}
	for i := 0; i < len(glob); i++ {
		switch glob[i] {
		case '\\':
			i++
		case '[':
			end := classEnd(glob, i)
			if end < 0 {
				return fmt.Errorf("has a class at offset %d that is not closed: add \"]\", or write \"\\[\" for a bracket", i)
			}
			i = end
		}
	}
	return nil
}

// classEnd returns where the class that begins at an offset is closed; -1:
// nowhere. As Redis reads it, \ takes what follows literally, and a-] is a range.
func classEnd(glob string, at int) int {
	i := at + 1
	if i < len(glob) && glob[i] == '^' {
		i++
	}
	for ; i < len(glob); i++ {
		switch {
		case glob[i] == '\\' && i+1 < len(glob):
			i++
		case glob[i] == ']':
			return i
		case i+2 < len(glob) && glob[i+1] == '-':
			i += 2
		}
	}
	return -1
}

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
