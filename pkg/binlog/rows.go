package binlog

import (
	"fmt"
	"strconv"

	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/go-mysql-org/go-mysql/replication"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

// rowDecoder turns the parser's values into text. Its buffers are reused from
// row to row.
type rowDecoder struct {
	before, after invalidation.Columns
	text          []byte
}

// each calls do for every row of the event, which is of the given kind.
func (d *rowDecoder) each(kind replication.EventType, e *replication.RowsEvent, do func(invalidation.Row)) error {
	row := invalidation.Row{Schema: string(e.Table.Schema), Table: string(e.Table.Table)}
	table := columnsOf(e.Table)
	step := 1
	switch {
	case e.Type() == replication.EnumRowsEventTypeInsert:
		row.Op = invalidation.Insert
	case e.Type() == replication.EnumRowsEventTypeDelete:
		row.Op = invalidation.Delete
	case e.Type() == replication.EnumRowsEventTypeUpdate, kind == replication.PARTIAL_UPDATE_ROWS_EVENT:
		row.Op, step = invalidation.Update, 2
	default:
		return fmt.Errorf("unknown kind of row event %v", kind)
	}
	for i := 0; i+step <= len(e.Rows); i += step {
		d.text = d.text[:0]
		var err error
		switch row.Op {
		case invalidation.Insert:
			row.After, err = d.image(d.after[:0], table, e.Rows[i], e.SkippedColumns[i])
			d.after = row.After
		case invalidation.Delete:
			row.Before, err = d.image(d.before[:0], table, e.Rows[i], e.SkippedColumns[i])
			d.before = row.Before
		case invalidation.Update:
			if row.Before, err = d.image(d.before[:0], table, e.Rows[i], e.SkippedColumns[i]); err == nil {
				row.After, err = d.image(d.after[:0], table, e.Rows[i+1], e.SkippedColumns[i+1])
			}
			d.before, d.after = row.Before, row.After
		}
		if err != nil {
			return err
		}
		do(row)
	}
	return nil
}

// tableColumns is what the table map tells of the columns.
type tableColumns struct {
	names     []string
	enums     map[int][]string
	sets      map[int][]string
	binaryLen map[int]int // BINARY(n), whose trailing zeros the log leaves out
	charsets  map[int]charset
}

func columnsOf(t *replication.TableMapEvent) tableColumns {
	c := tableColumns{names: t.ColumnNameString(), enums: t.EnumStrValueMap(), sets: t.SetStrValueMap()}
	c.charsets = map[int]charset{}
	for i, collation := range t.EnumSetCollationMap() {
		c.charsets[i] = charsetOf(collation)
	}
	for i, collation := range t.CollationMap() {
		c.charsets[i] = charsetOf(collation)
		if collation == 63 && t.ColumnType[i] == mysql.MYSQL_TYPE_STRING {
			if c.binaryLen == nil {
				c.binaryLen = map[int]int{}
			}
			c.binaryLen[i] = int(t.ColumnMeta[i] & 0xff)
		}
	}
	return c
}

func (d *rowDecoder) image(dst invalidation.Columns, table tableColumns, values []any, skipped []int) (invalidation.Columns, error) {
	for i, value := range values {
		if i >= len(table.names) {
			return nil, fmt.Errorf("the row has %d columns, the table %d", len(values), len(table.names))
		}
		col := invalidation.Column{Name: table.names[i]}
		switch {
		case len(skipped) > 0 && skipped[0] == i:
			col.State, skipped = invalidation.Absent, skipped[1:]
		case value == nil:
			col.State = invalidation.Null
		default:
			first := len(d.text)
			readable, err := d.append(table, i, value)
			if err != nil {
				return nil, fmt.Errorf("column %q: %w", col.Name, err)
			}
			if !readable {
				col.State = invalidation.Unreadable
			}
			col.Value = d.text[first:len(d.text):len(d.text)]
		}
		dst = append(dst, col)
	}
	return dst, nil
}

// append adds the text form of a value; readable is false where it is not
// UTF-8 and can not be converted.
func (d *rowDecoder) append(table tableColumns, i int, value any) (readable bool, err error) {
	switch v := value.(type) {
	case string:
		d.text, readable = table.charsets[i].appendUTF8(d.text, v)
		for range table.binaryLen[i] - len(v) {
			d.text = append(d.text, 0)
		}
		return readable, nil
	case []byte:
		d.text, readable = table.charsets[i].appendUTF8(d.text, string(v))
		return readable, nil
	case int64:
		return d.appendInt64(table, i, v), nil
	case float32:
		d.text = strconv.AppendFloat(d.text, float64(v), 'f', -1, 32)
	case float64:
		d.text = strconv.AppendFloat(d.text, v, 'f', -1, 64)
	case *replication.JsonDiff:
		return false, nil // a part of a document is not a key
	default:
		return true, d.appendInteger(value)
	}
	return true, nil
}

func (d *rowDecoder) appendInteger(value any) error {
	switch v := value.(type) {
	case int:
		d.text = strconv.AppendInt(d.text, int64(v), 10)
	case int8:
		d.text = strconv.AppendInt(d.text, int64(v), 10)
	case int16:
		d.text = strconv.AppendInt(d.text, int64(v), 10)
	case int32:
		d.text = strconv.AppendInt(d.text, int64(v), 10)
	case uint8:
		d.text = strconv.AppendUint(d.text, uint64(v), 10)
	case uint16:
		d.text = strconv.AppendUint(d.text, uint64(v), 10)
	case uint32:
		d.text = strconv.AppendUint(d.text, uint64(v), 10)
	case uint64:
		d.text = strconv.AppendUint(d.text, v, 10)
	default:
		return fmt.Errorf("unknown type %T", value)
	}
	return nil
}

// appendInt64 knows that enums and sets arrive as numbers.
func (d *rowDecoder) appendInt64(table tableColumns, i int, v int64) (readable bool) {
	if labels, ok := table.enums[i]; ok {
		if v >= 1 && v <= int64(len(labels)) {
			d.text, readable = table.charsets[i].appendUTF8(d.text, labels[v-1])
			return readable
		}
		return true // 0 stands for the empty text of an invalid value
	}
	labels, ok := table.sets[i]
	if !ok {
		d.text = strconv.AppendInt(d.text, v, 10)
		return true
	}
	comma, readable := false, true
	for bit, label := range labels {
		if v&(1<<bit) == 0 {
			continue
		}
		if comma {
			d.text = append(d.text, ',')
		}
		var ok bool
		d.text, ok = table.charsets[i].appendUTF8(d.text, label)
		comma, readable = true, readable && ok
	}
	return readable
}
