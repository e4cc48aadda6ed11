package binlog

import (
	"encoding/binary"
	"hash/crc32"
	"testing"

	"github.com/go-mysql-org/go-mysql/replication"
	"github.com/stretchr/testify/assert"
)

func event(kind replication.EventType, end uint32, body ...byte) []byte {
	e := make([]byte, replication.EventHeaderSize, replication.EventHeaderSize+len(body))
	e[4] = byte(kind)
	binary.LittleEndian.PutUint32(e[13:], end)
	return append(e, body...)
}

func rotation(file string, checksum bool) []byte {
	body := binary.LittleEndian.AppendUint64(nil, 4)
	e := event(replication.ROTATE_EVENT, 0, append(body, file...)...)
	if checksum {
		e = binary.LittleEndian.AppendUint32(e, crc32.ChecksumIEEE(e))
	}
	return e
}

func TestPlaceFollowsTheEvents(t *testing.T) {
	t.Parallel()
	var p place
	for _, step := range []struct {
		event []byte
		want  place
	}{
		{rotation("binlog.000009", true), place{"binlog.000009", 4}},
		{event(replication.FORMAT_DESCRIPTION_EVENT, 0), place{"binlog.000009", 4}}, // made up
		{event(replication.XID_EVENT, 500), place{"binlog.000009", 500}},
		{event(replication.XID_EVENT, 4294967000), place{"binlog.000009", 4294967000}},
		{event(replication.XID_EVENT, 200), place{"binlog.000009", 1<<32 + 200}}, // behind a huge transaction
		{event(replication.XID_EVENT, 300), place{"binlog.000009", 1<<32 + 300}},
		{rotation("binlog.000010", false), place{"binlog.000010", 4}},
		{event(replication.XID_EVENT, 100), place{"binlog.000010", 100}},
	} {
		p.follow(step.event)
		assert.Equal(t, step.want, p)
	}
}

func TestBytesBehindAPlace(t *testing.T) {
	t.Parallel()
	files := []logFile{{"b.1", 1000}, {"b.2", 300}, {"b.3", 50}}
	assert.Equal(t, int64(250), bytesBehind(files, place{"b.2", 100}))
	assert.Equal(t, int64(0), bytesBehind(files, place{"b.3", 50}))
	assert.Equal(t, int64(0), bytesBehind(files, place{"b.3", 99}), "the list is older than the stream")
	assert.Equal(t, int64(-1), bytesBehind(files, place{"b.0", 100}))
	assert.Equal(t, int64(-1), bytesBehind(files, place{}))
}
