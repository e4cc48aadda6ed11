package redissink

import (
	"strings"
	"unicode"
)

// longestEnding is how much a plural adds to what it has in common with the
// singular: a dress, dresses.
const longestEnding = 5

// nearMiss returns how keys begin that differ from a pattern's literal beginning
// in case, in separators, in the braces of a hash tag, in singular and plural, or
// by one more word in front; "" where there are none. What follows is data and
// not returned.
func nearMiss(pattern string, keys []string) string {
	want := normal(literal(pattern))
	if strings.Trim(want, ":") == "" {
		return ""
	}
	for _, key := range keys {
		if at := beginning(key, want); at != "" && at != literal(pattern) {
			return at
		}
	}
	for _, key := range keys {
		front, rest, ok := cutWord(key)
		if at := beginning(rest, want); ok && at != "" {
			return front + at
		}
	}
	return ""
}

// beginning returns the shortest beginning of key that is want once it is
// normal.
func beginning(key, want string) string {
	for i := range len(key) + 1 {
		got := normal(key[:i])
		if got == want {
			return key[:i]
		}
		if len(got) > len(want)+longestEnding {
			break
		}
	}
	return ""
}

// cutWord cuts a key behind its first word, if that is made of letters only:
// anything else may be data.
func cutWord(key string) (front, rest string, ok bool) {
	at := strings.IndexFunc(key, isSeparator)
	if at <= 0 || strings.ContainsFunc(key[:at], func(r rune) bool { return !unicode.IsLetter(r) && r != '{' }) {
		return "", "", false
	}
	return key[:at+1], key[at+1:], true
}

// normal returns a text as those write it who agree on its words.
func normal(text string) string {
	text = strings.Map(func(r rune) rune {
		switch {
		case r == '{' || r == '}':
			return -1
		case isSeparator(r):
			return ':'
		}
		return unicode.ToLower(r)
	}, text)
	words := strings.Split(text, ":")
	for i := range len(words) - 1 { // what no separator follows may be a part of a word
		words[i] = stem(words[i])
	}
	return strings.Join(words, ":")
}

// stem returns what singular and plural have in common: user and users, box and
// boxes, city and cities.
func stem(word string) string { return strings.TrimRight(word, "seiy") }

func isSeparator(r rune) bool { return strings.ContainsRune(":./-_|#", r) }

// literal returns the text in front of a pattern's first wildcard.
func literal(pattern string) string {
	var text strings.Builder
	for i := 0; i < len(pattern); i++ {
		c := pattern[i]
		if c == '*' || c == '?' || c == '[' {
			break
		}
		if c == '\\' && i+1 < len(pattern) {
			i++
			c = pattern[i]
		}
		text.WriteByte(c)
	}
	return text.String()
}
