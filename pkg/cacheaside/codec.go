package cacheaside

import "encoding/json"

// codec turns values into payloads; its format is the entry's format byte.
type codec[T any] interface {
	format() byte
	encode(v T) ([]byte, error)
	decode(payload []byte) (T, error)
}

type jsonCodec[T any] struct{}

func (jsonCodec[T]) format() byte { return formatJSON }

func (jsonCodec[T]) encode(v T) ([]byte, error) { return json.Marshal(v) }

func (jsonCodec[T]) decode(payload []byte) (v T, err error) {
	err = json.Unmarshal(payload, &v)
	return v, err
}
