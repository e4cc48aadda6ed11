package cacheaside

import (
	"encoding/json"
	"fmt"
)

// Codec turns values into payloads and back. It is called from many goroutines.
type Codec interface {
	Marshal(v any) ([]byte, error)         // v is a T
	Unmarshal(payload []byte, v any) error // v is a *T; payload may be kept
}

// JSON is the default codec.
type JSON struct{}

// Marshal encodes v.
func (JSON) Marshal(v any) ([]byte, error) { return json.Marshal(v) }

// Unmarshal decodes payload.
func (JSON) Unmarshal(payload []byte, v any) error { return json.Unmarshal(payload, v) }

// Raw is the codec of views of []byte and of string: the payload is the value. Readers that share one load get slices of
// their own.
type Raw struct{}

// Marshal returns v, which must be a []byte or a string.
func (Raw) Marshal(v any) ([]byte, error) {
	switch v := v.(type) {
	case []byte:
		return v, nil
	case string:
		return []byte(v), nil
	}
	return nil, fmt.Errorf("cacheaside: the codec Raw is for []byte and string, not for %T", v)
}

// Unmarshal copies payload to v, which must be a *[]byte or a *string.
func (Raw) Unmarshal(payload []byte, v any) error {
	switch v := v.(type) {
	case *[]byte:
		*v = append([]byte{}, payload...)
	case *string:
		*v = string(payload)
	default:
		return fmt.Errorf("cacheaside: the codec Raw is for []byte and string, not for %T", v)
	}
	return nil
}

// formatOf is the format byte of a codec's entries.
func formatOf(c Codec) byte {
	switch c.(type) {
	case JSON:
		return formatJSON
	case Raw:
		return formatRaw
	}
	return formatCustom
}
