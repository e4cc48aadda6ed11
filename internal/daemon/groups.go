package daemon

import (
	"cmp"
	"slices"
	"strings"
)

// group is one of the names under which deletes of keys are counted.
type group struct{ prefix, name string }

// groups returns the function that tells a key's group: the template, or the
// glob of an outbox, with the longest literal beginning that the key has. Keys
// that begin like none of them are in the group "".
func groups(src Source) func(key string) string {
	var known []group
	for _, rule := range src.Rules {
		for _, template := range rule.Keys {
			known = append(known, group{templatePrefix(template), template})
		}
	}
	for _, glob := range src.Purge {
		known = append(known, group{globPrefix(glob), glob})
	}
	// The longest prefix first, and of two rules with the same one the first.
	slices.SortStableFunc(known, func(a, b group) int { return cmp.Compare(len(b.prefix), len(a.prefix)) })
	return func(key string) string {
		for _, g := range known {
			if strings.HasPrefix(key, g.prefix) {
				return g.name
			}
		}
		return ""
	}
}

// templatePrefix returns the text before the first placeholder of a template.
func templatePrefix(template string) string {
	var literal strings.Builder
	for i := 0; i < len(template); i++ {
		c := template[i]
		if (c == '{' || c == '}') && i+1 < len(template) && template[i+1] == c {
			i++
		} else if c == '{' {
			break
		}
		literal.WriteByte(c)
	}
	return literal.String()
}

// globPrefix returns the text before the first wildcard of a glob.
func globPrefix(glob string) string {
	var literal strings.Builder
	for i := 0; i < len(glob); i++ {
		if strings.IndexByte("*?[", glob[i]) >= 0 {
			break
		}
		if glob[i] == '\\' && i+1 < len(glob) {
			i++
		}
		literal.WriteByte(glob[i])
	}
	return literal.String()
}
