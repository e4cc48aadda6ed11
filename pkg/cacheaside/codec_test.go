package cacheaside

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// reversed is a codec of one's own.
type reversed struct{}

func (reversed) Marshal(v any) ([]byte, error) {
	raw, err := json.Marshal(v)
	for i, j := 0, len(raw)-1; i < j; i, j = i+1, j-1 {
		raw[i], raw[j] = raw[j], raw[i]
	}
	return raw, err
}

func (reversed) Unmarshal(payload []byte, v any) error {
	raw := append([]byte{}, payload...)
	for i, j := 0, len(raw)-1; i < j; i, j = i+1, j-1 {
		raw[i], raw[j] = raw[j], raw[i]
	}
	return json.Unmarshal(raw, v)
}

func TestCodecs(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]Codec{"default": nil, "JSON": JSON{}, "raw": Raw{}, "one's own": reversed{}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			text, bytes := For[string](w.a.Client, Policy{Codec: c}), For[[]byte](w.a.Client, Policy{Codec: c})
			for range 2 {
				assert.Equal(t, "old", w.read(t, text))
				got, err := bytes.Get(t.Context(), "b", func(context.Context) ([]byte, error) { return []byte("\x00\xff"), nil })
				require.NoError(t, err)
				assert.Equal(t, []byte("\x00\xff"), got)
			}
			assert.Equal(t, 1, w.db.loaded())
		})
	}
	t.Run("raw is for nothing else", func(t *testing.T) {
		t.Parallel()
		w := setup(t)
		n, err := For[int](w.a.Client, Policy{Codec: Raw{}}).Get(t.Context(), key, func(context.Context) (int, error) { return 7, nil })
		require.NoError(t, err)
		assert.Equal(t, 7, n)
		require.ErrorContains(t, w.a.events.last().Err, "the codec Raw is for []byte and string, not for int")
	})
}

func TestARollingDeployWithTwoVersionsOfAType(t *testing.T) {
	t.Parallel()
	type v1 struct{ Name string }
	type v2 struct{ Name, Email string }
	type v3 struct{ Name []string } // what v1 and v2 store can't be read as this
	w := setup(t)
	loads := 0
	one := func(context.Context) (v1, error) { loads++; return v1{"Ada"}, nil }
	two := func(context.Context) (v2, error) { loads++; return v2{"Ada", "ada@example.com"}, nil }
	three := func(context.Context) (v3, error) { loads++; return v3{[]string{"Ada"}}, nil }

	_, err := For[v1](w.a.Client, Policy{}).Get(t.Context(), key, one)
	require.NoError(t, err)
	got, err := For[v2](w.b.Client, Policy{}).Get(t.Context(), key, two)
	require.NoError(t, err)
	assert.Equal(t, v2{Name: "Ada"}, got, "a field that is new is empty until the entry is filled again")
	assert.Equal(t, 1, loads)

	for range 2 { // each replaces the other's value, and neither gets one that it can't read
		list, err := For[v3](w.b.Client, Policy{}).Get(t.Context(), key, three)
		require.NoError(t, err)
		assert.Equal(t, []string{"Ada"}, list.Name)
		old, err := For[v1](w.a.Client, Policy{}).Get(t.Context(), key, one)
		require.NoError(t, err)
		assert.Equal(t, "Ada", old.Name)
	}
	assert.Equal(t, 5, loads)
}
