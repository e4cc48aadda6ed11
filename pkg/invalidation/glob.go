package invalidation

import "strings"

// MatchGlob reports whether a key matches a glob as Redis reads it: *, ?, [a-z],
// [^a] and \ in front of what is meant literally.
func MatchGlob(pattern, key string) bool {
	var star, mark int // where the last * is, and the key behind what it has taken
	hasStar := false
	p, k := 0, 0
	for k < len(key) {
		if p < len(pattern) && pattern[p] == '*' {
			hasStar, star, mark = true, p, k
			p++
			continue
		}
		if width, ok := matchOne(pattern[p:], key[k]); ok {
			p, k = p+width, k+1
			continue
		}
		if !hasStar {
			return false
		}
		mark++
		p, k = star+1, mark
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}

// KeyLike returns a key that matches a glob.
func KeyLike(pattern string) string {
	var key strings.Builder
	for pattern != "" {
		if pattern[0] == '*' {
			key.WriteString("check")
			pattern = pattern[1:]
			continue
		}
		width := 0
		for i := range 256 {
			var ok bool
			if width, ok = matchOne(pattern, byte('0'+i)); ok {
				key.WriteByte(byte('0' + i))
				break
			}
		}
		pattern = pattern[width:]
	}
	return key.String()
}

// matchOne matches one byte with the beginning of a pattern that is no *, and
// returns how much of the pattern that took.
func matchOne(pattern string, c byte) (width int, ok bool) {
	switch {
	case pattern == "":
		return 0, false
	case pattern[0] == '?':
		return 1, true
	case pattern[0] == '\\' && len(pattern) > 1:
		return 2, pattern[1] == c
	case pattern[0] == '[':
		return matchClass(pattern, c)
	}
	return 1, pattern[0] == c
}

func matchClass(pattern string, c byte) (width int, ok bool) {
	i := 1
	not := i < len(pattern) && pattern[i] == '^'
	if not {
		i++
	}
	for i < len(pattern) && pattern[i] != ']' {
		switch {
		case pattern[i] == '\\' && i+1 < len(pattern):
			i++
			ok = ok || pattern[i] == c
		case i+2 < len(pattern) && pattern[i+1] == '-':
			low, high := min(pattern[i], pattern[i+2]), max(pattern[i], pattern[i+2])
			ok = ok || low <= c && c <= high
			i += 2
		default:
			ok = ok || pattern[i] == c
		}
		i++
	}
	return min(i+1, len(pattern)), ok != not
}
