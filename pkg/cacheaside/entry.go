package cacheaside

import (
	"crypto/rand"
	"encoding/binary"
	"math"
	"time"
)

// An entry is one Redis string: a lease or a value. docs/protocol.md has the layout; golden tests pin it.
const (
	leaseTag = 'L'
	valueTag = 'V'

	leaseLen  = 1 + 16
	headerLen = 1 + 1 + 8 + 1 + 8 + 8 + 4 + 8 // fill.lua compares this many bytes

	formatJSON   = 1
	formatRaw    = 2
	formatCustom = 3

	flagAbsent  = 1 << 0 // the loader found nothing; no payload
	flagClaimed = 1 << 1 // somebody loads a newer value, until the soft expiry at the latest
)

// A lease is the right to fill one entry once. Its nonce goes on the wire at most once (see onceCmd): a copy that
// arrived late would bring a revoked lease back.
type lease [leaseLen]byte

func newLease() lease {
	l := lease{leaseTag}
	rand.Read(l[1:])
	return l
}

// header is what precedes the payload of a value.
type header struct {
	format     byte
	fill       [8]byte // random, new for every fill: names this value in a compare-and-set
	flags      byte
	loadedAt   time.Time // when the load began, by the loader's clock; milliseconds
	softExpiry time.Time // zero: none; milliseconds
	loadCost   time.Duration
	stamp      [8]byte // reserved
}

func newFillID() (id [8]byte) {
	rand.Read(id[:])
	return id
}

func appendValue(dst []byte, h header, payload []byte) []byte {
	dst = append(dst, valueTag, h.format)
	dst = append(dst, h.fill[:]...)
	dst = append(dst, h.flags)
	dst = appendMillis(dst, h.loadedAt)
	dst = appendMillis(dst, h.softExpiry)
	dst = binary.BigEndian.AppendUint32(dst, saturate(h.loadCost.Microseconds()))
	dst = append(dst, h.stamp[:]...)
	return append(dst, payload...)
}

func appendMillis(dst []byte, t time.Time) []byte {
	var ms int64
	if !t.IsZero() {
		ms = t.UnixMilli()
	}
	return binary.BigEndian.AppendUint64(dst, uint64(ms))
}

func saturate(n int64) uint32 {
	return uint32(min(max(n, 0), math.MaxUint32))
}

// kind says what the bytes under a key are.
type kind int

const (
	kindForeign kind = iota // not ours, or of a version that we don't know
	kindLease
	kindValue
)

// parse is strict: whatever it doesn't know entirely is foreign. The payload aliases raw.
func parse(raw []byte) (k kind, h header, payload []byte) {
	switch {
	case len(raw) == leaseLen && raw[0] == leaseTag:
		return kindLease, header{}, nil
	case len(raw) < headerLen || raw[0] != valueTag:
		return kindForeign, header{}, nil
	}
	h.format = raw[1]
	copy(h.fill[:], raw[2:])
	h.flags = raw[10]
	h.loadedAt = millis(raw[11:])
	h.softExpiry = millis(raw[19:])
	h.loadCost = time.Duration(binary.BigEndian.Uint32(raw[27:])) * time.Microsecond
	copy(h.stamp[:], raw[31:])
	if h.format < formatJSON || h.format > formatCustom || h.flags&^(flagAbsent|flagClaimed) != 0 {
		return kindForeign, header{}, nil
	}
	return kindValue, h, raw[headerLen:]
}

func millis(raw []byte) time.Time {
	ms := int64(binary.BigEndian.Uint64(raw)) //nolint:gosec // two's complement is the format
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}

// seen is the part of an entry that a compare-and-set compares: its header, or all of it if it is shorter.
func seen(raw []byte) []byte {
	return raw[:min(len(raw), headerLen)]
}
