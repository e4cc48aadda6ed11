package binlog

import (
	"bytes"
	"io"
	"testing"

	"github.com/go-mysql-org/go-mysql/replication"
	"github.com/stretchr/testify/require"
)

func TestMalformedPayloadsAreErrors(t *testing.T) {
	t.Parallel()
	for name, body := range map[string][]byte{
		"empty":                 {},
		"no end mark":           {2, 1, 0},
		"length beyond the end": {2, 200, 0},
		"unknown compression":   {2, 1, 255, 0},
	} {
		_, err := payloadBytes(body)
		require.ErrorIs(t, err, errPayload, name)
	}
	rest, err := payloadBytes([]byte{2, 1, 0, 3, 1, 9, 0, 'z'})
	require.NoError(t, err)
	text, err := io.ReadAll(rest)
	require.NoError(t, err)
	require.Equal(t, "z", string(text))
}

func TestInnerEventsOfBrokenLengthAreErrors(t *testing.T) {
	t.Parallel()
	header := make([]byte, 19)
	_, err := innerEvent(bytes.NewReader(header))
	require.ErrorIs(t, err, errPayload, "shorter than its header")
	copy(header[9:], []byte{255, 255, 255, 255})
	_, err = innerEvent(bytes.NewReader(header))
	require.ErrorIs(t, err, errPayload, "longer than what is there")
	_, err = innerEvent(bytes.NewReader(nil))
	require.ErrorIs(t, err, io.EOF)
}

func FuzzPayload(f *testing.F) {
	f.Add([]byte{2, 1, 0, 3, 1, 9, 0, 'z'})
	f.Fuzz(func(_ *testing.T, body []byte) { _, _ = payloadBytes(body) })
}

// Neither the parser's panics nor the row data in its errors go further.
func TestMalformedEventsAreErrorsWithoutTheirData(t *testing.T) {
	t.Parallel()
	r := newReader(nil, nil, nil)
	for kind := range byte(50) {
		event := append(make([]byte, replication.EventHeaderSize), "alice@example.com"...)
		event[4], event[9] = kind, byte(len(event))
		parsed, err := decode(r.parser, event)
		if err != nil {
			require.Nil(t, parsed)
			require.NotContains(t, err.Error(), "alice")
			require.NotContains(t, err.Error(), "616c")
		}
	}
}
