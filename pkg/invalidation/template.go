package invalidation

import (
	"errors"
	"fmt"
	"strings"
)

// template is a parsed key template such as "user:{id}".
type template struct {
	parts []part
}

// part is a literal, or the column of a placeholder.
type part struct {
	literal string
	column  string
}

var (
	errNoLiteral = errors.New("has no literal text, so purging it would match every key: put a prefix in front, such as \"user:\"")
	errEmpty     = errors.New("is empty: write a key such as \"user:{id}\"")
)

// parseTemplate reads a template: {column} is a placeholder, {{ and }} are
// literal braces.
func parseTemplate(text string) (template, error) {
	if text == "" {
		return template{}, errEmpty
	}
	var t template
	var literal strings.Builder
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case (c == '{' || c == '}') && i+1 < len(text) && text[i+1] == c:
			literal.WriteByte(c)
			i++
		case c == '{':
			end := strings.IndexByte(text[i:], '}')
			if end < 0 {
				return template{}, fmt.Errorf("placeholder at offset %d is not closed: add \"}\", or write \"{{\" for a brace", i)
			}
			column := text[i+1 : i+end]
			if strings.TrimSpace(column) != column || column == "" || strings.ContainsAny(column, "{") {
				return template{}, fmt.Errorf("placeholder %q at offset %d is not a column name: write one such as \"{id}\"", text[i:i+end+1], i)
			}
			if literal.Len() > 0 {
				t.parts = append(t.parts, part{literal: literal.String()})
				literal.Reset()
			}
			t.parts = append(t.parts, part{column: column})
			i += end
		case c == '}':
			return template{}, fmt.Errorf("\"}\" at offset %d closes nothing: write \"}}\" for a brace", i)
		default:
			literal.WriteByte(c)
		}
	}
	if literal.Len() > 0 {
		t.parts = append(t.parts, part{literal: literal.String()})
	}
	if !t.hasLiteral() {
		return template{}, errNoLiteral
	}
	return t, nil
}

func (t template) hasLiteral() bool {
	for _, p := range t.parts {
		if p.literal != "" {
			return true
		}
	}
	return false
}

// pattern returns the glob that matches every key of the template.
func (t template) pattern() string {
	var b strings.Builder
	for _, p := range t.parts {
		if p.column != "" {
			b.WriteByte('*')
			continue
		}
		b.WriteString(EscapeGlob(p.literal))
	}
	return b.String()
}

func (t template) columns() []string {
	var names []string
	for _, p := range t.parts {
		if p.column != "" {
			names = append(names, p.column)
		}
	}
	return names
}

// EscapeGlob returns text so that a Redis glob matches it literally.
func EscapeGlob(text string) string {
	var b strings.Builder
	for i := range len(text) {
		if strings.IndexByte(`*?[]\`, text[i]) >= 0 {
			b.WriteByte('\\')
		}
		b.WriteByte(text[i])
	}
	return b.String()
}
