package invalidation

import "strings"

// Op says what happened to a row.
type Op uint8

// The three kinds of row change.
const (
	Insert Op = iota + 1
	Update
	Delete
)

// String returns "insert", "update" or "delete".
func (o Op) String() string {
	switch o {
	case Insert:
		return "insert"
	case Update:
		return "update"
	case Delete:
		return "delete"
	}
	return "unknown"
}

// Row is one committed row change. An insert has no Before, a delete no After.
// Its memory belongs to the Source and is valid until the call that it was
// passed to returns.
type Row struct {
	Schema, Table string
	Op            Op
	Before, After Columns
}

// State tells apart a value, an SQL NULL, and a column that the log left out.
type State uint8

// The states of a column in a row image.
const (
	Present State = iota
	Null
	Absent     // the table has the column, this image does not carry it
	Unreadable // its Value is good for comparing only: not UTF-8, and not convertible
)

// Column is one column of a row image.
type Column struct {
	Name string
	// Value is the text form: numbers in decimal, times as the database
	// prints them in UTC, enums by label, strings and binary as they are.
	Value []byte
	State State
}

// Columns is one image of a row, with every column of its table.
type Columns []Column

// Get returns the column with the given name, compared without regard to case
// as MySQL does; ok is false where the table has none.
func (c Columns) Get(name string) (col Column, ok bool) {
	for i := range c {
		if c[i].Name == name {
			return c[i], true
		}
	}
	for i := range c {
		if strings.EqualFold(c[i].Name, name) {
			return c[i], true
		}
	}
	return Column{}, false
}
