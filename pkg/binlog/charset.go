package binlog

import (
	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/encoding/unicode/utf32"
)

// charset says how the log spells a column's text. Applications build their
// keys in UTF-8, so other spellings are converted, or the key is not known.
type charset uint8

const (
	charsetUTF8  charset = iota // or ASCII, or binary: as it is
	charsetOther                // not converted: ASCII is as it is, the rest is unreadable
	charsetLatin1
	charsetUTF16 // ucs2 too, its subset
	charsetUTF16LE
	charsetUTF32
)

// charsetOf returns the character set of a collation, by the numbers of
// information_schema.COLLATIONS, which never change.
func charsetOf(collation uint64) charset {
	switch c := collation; {
	case c == 11, c == 63, c == 65, // ascii, binary
		c == 33, c == 76, c == 83, c >= 192 && c <= 215, c == 223, // utf8mb3
		c == 45, c == 46, c >= 224 && c <= 247, c >= 255 && c <= 323: // utf8mb4
		return charsetUTF8
	case c == 5, c == 8, c == 15, c == 31, c == 47, c == 48, c == 49, c == 94:
		return charsetLatin1
	case c == 35, c == 90, c >= 128 && c <= 151, c == 159, // ucs2
		c == 54, c == 55, c >= 101 && c <= 124: // utf16
		return charsetUTF16
	case c == 56, c == 62:
		return charsetUTF16LE
	case c == 60, c == 61, c >= 160 && c <= 183:
		return charsetUTF32
	}
	return charsetOther
}

func (c charset) encoding() encoding.Encoding {
	switch c {
	case charsetLatin1:
		return charmap.Windows1252 // which is what MySQL calls latin1
	case charsetUTF16:
		return unicode.UTF16(unicode.BigEndian, unicode.IgnoreBOM)
	case charsetUTF16LE:
		return unicode.UTF16(unicode.LittleEndian, unicode.IgnoreBOM)
	case charsetUTF32:
		return utf32.UTF32(utf32.BigEndian, utf32.IgnoreBOM)
	case charsetUTF8, charsetOther:
	}
	return nil
}

// appendUTF8 appends text in UTF-8; readable is false where it can not be
// converted, and what is appended is then only good for comparing.
func (c charset) appendUTF8(dst []byte, text string) (_ []byte, readable bool) {
	switch c {
	case charsetUTF8:
		return append(dst, text...), true
	case charsetOther:
		return append(dst, text...), isASCII(text)
	case charsetLatin1:
		if isASCII(text) {
			return append(dst, text...), true
		}
	case charsetUTF16, charsetUTF16LE, charsetUTF32:
	}
	converted, err := c.encoding().NewDecoder().String(text)
	if err != nil {
		return append(dst, text...), false
	}
	return append(dst, converted...), true
}

func isASCII(text string) bool {
	for i := range len(text) {
		if text[i] >= 0x80 {
			return false
		}
	}
	return true
}
