package daemon

import (
	"bytes"
	"encoding"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// decoder fills a Config from a YAML tree. The library's own decoder stops at
// the first mistake and quotes the source, secrets included; this one does
// neither.
type decoder struct {
	*problems

	lookup func(string) (string, bool)
	// reads tells which secrets are wanted. The others stay empty, and
	// nothing in them is expanded.
	reads func(path string) bool
}

// file decodes the text of a configuration file. It returns false where there
// is nothing to look at any further.
func (d *decoder) file(text []byte, into *Config) bool {
	text = bytes.TrimPrefix(text, []byte("\ufeff")) // a byte order mark
	tree, err := parser.ParseBytes(text, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		d.syntax(text, err)
		return false
	}
	var bodies []ast.Node
	for _, doc := range tree.Docs {
		if doc.Body != nil {
			bodies = append(bodies, doc.Body)
		}
	}
	switch len(bodies) {
	case 0:
		d.add("", "is empty: write at least namespace, redis and sources")
		return false
	case 1:
		d.value("", bodies[0], reflect.ValueOf(into).Elem())
		return bodies[0].Type() == ast.MappingType
	}
	d.lines[""] = bodies[1].GetToken().Position.Line
	d.add("", "a second document begins: put everything into one")
	return false
}

// syntax notes what the parser says, without the source text it would print.
func (d *decoder) syntax(text []byte, err error) {
	var at yaml.Error
	if !errors.As(err, &at) || at.GetToken() == nil {
		d.add("", "is not valid YAML")
		return
	}
	line, hint := at.GetToken().Position.Line, ""
	d.lines[""] = line
	if lines := strings.Split(string(text), "\n"); line <= len(lines) && strings.Contains(lines[line-1], "${") {
		hint = `: put values with ${NAME} in double quotes`
	}
	d.add("", "is not valid YAML: %s%s", quotation.ReplaceAllLiteralString(at.GetMessage(), hidden), hint)
}

// quotation is where the parser repeats what it has read.
var quotation = regexp.MustCompile(`(?s)".*"`)

// value decodes a node into a Go value; path says where the node is.
func (d *decoder) value(path string, node ast.Node, into reflect.Value) {
	if _, known := d.lines[path]; !known {
		d.lines[path] = node.GetToken().Position.Line
	}
	switch node.Type() {
	case ast.NullType:
		return // the same as absent
	case ast.AnchorType, ast.AliasType, ast.TagType, ast.MergeKeyType:
		d.add(path, "anchors, aliases, merges and tags are not supported: write the value out")
		return
	}
	if secret, ok := reflect.TypeAssert[*Secret](into.Addr()); ok {
		d.hidden(path, node, secret)
		return
	}
	if text, ok := reflect.TypeAssert[encoding.TextUnmarshaler](into.Addr()); ok {
		d.text(path, node, text)
		return
	}
	switch into.Kind() { //nolint:exhaustive // these are what Config is made of
	case reflect.Pointer:
		into.Set(reflect.New(into.Type().Elem()))
		d.value(path, node, into.Elem())
	case reflect.Struct:
		d.mapping(path, node, into)
	case reflect.Slice:
		d.sequence(path, node, into)
	default:
		d.scalar(path, node, into)
	}
}

func (d *decoder) mapping(path string, node ast.Node, into reflect.Value) {
	mapping, ok := node.(*ast.MappingNode)
	if !ok {
		d.add(path, "is %s: write a mapping of %s", kindOf(node), strings.Join(fieldNames(into.Type()), ", "))
		return
	}
	seen := map[string]int{}
	for _, entry := range mapping.Values {
		token := entry.Key.GetToken()
		name, line := token.Value, token.Position.Line
		at := strings.TrimPrefix(path+"."+name, ".")
		field, known := fieldNamed(into, name)
		if !known {
			d.unknown(path, line, name, into.Type(), mapping.IsFlowStyle)
			continue
		}
		if first, twice := seen[name]; twice {
			d.addAt(line, path, "duplicate field %q: line %d has it already", name, first)
			continue
		}
		seen[name] = line
		d.lines[at] = line
		d.value(at, entry.Value, field)
	}
}

// unknown notes a field that does not exist. Its name may be what is behind a
// comma of a secret without quotes, so it is not shown unless it is harmless.
func (d *decoder) unknown(path string, line int, name string, in reflect.Type, inFlow bool) {
	names := fieldNames(in)
	known := strings.Join(names, ", ")
	harmless := !inFlow && !holdsSecret(in)
	if harmless || slices.ContainsFunc(names, func(n string) bool { return isTypoOf(name, n) }) {
		d.addAt(line, path, "unknown field %q: known here are %s", name, known)
		return
	}
	d.addAt(line, path, "unknown field: known here are %s; its name is not shown, as it may be part of a secret: a value with , { } [ ] # or : needs double quotes", known)
}

func holdsSecret(section reflect.Type) bool {
	for field := range section.Fields() {
		if field.Type == reflect.TypeFor[Secret]() {
			return true
		}
	}
	return false
}

// isTypoOf reports whether one or two letters make a name of another, and most
// of it is right.
func isTypoOf(name, known string) bool {
	wrong := distance(name, known)
	return wrong <= 2 && wrong < len(known)/2
}

// distance is how many letters have to be added, dropped or changed to make one
// text of another (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

func (d *decoder) sequence(path string, node ast.Node, into reflect.Value) {
	sequence, ok := node.(*ast.SequenceNode)
	if !ok {
		d.add(path, "is %s: write a list, such as [ … ]", kindOf(node))
		return
	}
	into.Set(reflect.MakeSlice(into.Type(), len(sequence.Values), len(sequence.Values)))
	for i, item := range sequence.Values {
		d.value(fmt.Sprintf("%s[%d]", path, i), item, into.Index(i))
	}
}

// scalar decodes a text, a number or a bool.
func (d *decoder) scalar(path string, node ast.Node, into reflect.Value) {
	text, isText := d.string(path, node)
	var err error
	switch into.Kind() { //nolint:exhaustive // these are what Config is made of
	case reflect.String:
		if !isText {
			d.add(path, "is %s: write a text, in double quotes if need be", kindOf(node))
		}
		into.SetString(text)
	case reflect.Bool:
		var value bool
		if value, err = strconv.ParseBool(text); err != nil {
			d.add(path, "is %s: write true or false", kindOf(node))
		}
		into.SetBool(value)
	case reflect.Int:
		var value int
		if value, err = strconv.Atoi(text); err != nil {
			d.add(path, "is %s: write a whole number", kindOf(node))
		}
		into.SetInt(int64(value))
	default:
		panic("Config has a field of kind " + into.Kind().String())
	}
}

// hidden decodes a secret.
func (d *decoder) hidden(path string, node ast.Node, into *Secret) {
	if !d.reads(path) {
		return
	}
	text, isText := d.string(path, node)
	d.secret = append(d.secret, text)
	if !isText {
		d.add(path, "is %s: write a text, in double quotes if need be", kindOf(node))
	}
	*into = NewSecret(text)
}

// text decodes into a type that reads texts.
func (d *decoder) text(path string, node ast.Node, into encoding.TextUnmarshaler) {
	text, ok := d.string(path, node)
	if !ok && text == "" {
		d.add(path, "is %s: write a text", kindOf(node))
		return
	}
	if err := into.UnmarshalText([]byte(text)); err != nil {
		d.add(path, "%v", err)
	}
}

// string returns the text of a scalar with its variables replaced; ok is false
// where it is a number or a bool, or no scalar at all.
func (d *decoder) string(path string, node ast.Node) (text string, ok bool) {
	switch n := node.(type) {
	case *ast.StringNode:
		text = n.Value
	case *ast.LiteralNode:
		text = n.Value.Value
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode:
		return node.GetToken().Value, false
	default:
		return "", false
	}
	expanded, values, err := expand(text, d.lookup)
	d.secret = append(d.secret, values...)
	if err != nil {
		for line := range strings.SplitSeq(err.Error(), "\n") {
			d.add(path, "%s", line)
		}
	}
	return expanded, true
}

func kindOf(node ast.Node) string {
	switch node.Type() { //nolint:exhaustive // the rest is "something else"
	case ast.MappingType, ast.MappingValueType:
		return "a mapping"
	case ast.SequenceType:
		return "a list"
	case ast.IntegerType, ast.FloatType, ast.InfinityType, ast.NanType:
		return "a number"
	case ast.BoolType:
		return "a bool"
	case ast.StringType, ast.LiteralType:
		return "a text"
	}
	return "something else"
}

func fieldNamed(into reflect.Value, name string) (reflect.Value, bool) {
	for i := range into.NumField() {
		if into.Type().Field(i).Tag.Get("yaml") == name {
			return into.Field(i), name != ""
		}
	}
	return reflect.Value{}, false
}

func fieldNames(of reflect.Type) []string {
	names := make([]string, of.NumField())
	for i := range names {
		names[i] = of.Field(i).Tag.Get("yaml")
	}
	return names
}
