package binlog

import (
	"encoding/binary"
	"hash/crc32"
	"time"

	"github.com/go-mysql-org/go-mysql/replication"
)

// place is a place in the server's log.
type place struct {
	file string
	at   uint64 // bytes
}

// follow moves the place behind an event, whose header is complete.
func (p *place) follow(event []byte) {
	if replication.EventType(event[4]) == replication.ROTATE_EVENT {
		p.rotate(event)
		return
	}
	end := uint64(binary.LittleEndian.Uint32(event[13:]))
	if end == 0 {
		return // made up for this stream: it is in no file
	}
	// The header has 32 bits, a file that ends with a huge transaction more.
	end |= p.at &^ 0xffff_ffff
	if end < p.at {
		end += 1 << 32
	}
	p.at = end
}

// rotate reads which file comes next. The event at the stream's start is made
// up, and whether it has a checksum can only be told by looking.
func (p *place) rotate(event []byte) {
	if end := len(event) - checksumLen; end >= replication.EventHeaderSize && crc32.ChecksumIEEE(event[:end]) == binary.LittleEndian.Uint32(event[end:]) {
		event = event[:end]
	}
	if body := event[replication.EventHeaderSize:]; len(body) > 8 {
		p.at, p.file = binary.LittleEndian.Uint64(body), string(body[8:])
	}
}

func isHeartbeat(event []byte) bool {
	kind := replication.EventType(event[4])
	return kind == replication.HEARTBEAT_EVENT || kind == replication.HEARTBEAT_LOG_EVENT_V2
}

// eventTime is when an event was written, by the server's clock.
func eventTime(event []byte) time.Time {
	return time.Unix(int64(binary.LittleEndian.Uint32(event)), 0)
}
