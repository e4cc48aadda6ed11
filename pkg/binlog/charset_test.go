package binlog

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestTextBecomesUTF8OrIsUnreadable(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		collation uint64
		text      string
		want      string
		readable  bool
	}{
		"utf8mb4":           {255, "josé", "josé", true},
		"binary":            {63, "\xff\x00", "\xff\x00", true},
		"latin1":            {8, "jos\xe9", "josé", true},
		"latin1, ASCII":     {8, "jose", "jose", true},
		"latin1, euro":      {8, "\x80", "€", true},
		"ucs2":              {35, "\x00a\x00\xe9", "aé", true},
		"utf16, surrogates": {54, "\xd8\x3d\xde\x00", "😀", true},
		"utf16le":           {56, "a\x00", "a", true},
		"utf32":             {60, "\x00\x00\x00a", "a", true},
		"gbk, ASCII":        {28, "abc", "abc", true},
		"gbk":               {28, "\xc4\xe3", "\xc4\xe3", false},
		"unknown":           {9999, "\xff", "\xff", false},
	} {
		got, readable := charsetOf(c.collation).appendUTF8(nil, c.text)
		assert.Equal(t, c.want, string(got), name)
		assert.Equal(t, c.readable, readable, name)
	}
}
