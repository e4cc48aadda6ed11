package binlog

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/go-mysql-org/go-mysql/replication"
	"github.com/klauspost/compress/zstd"
)

// A compressed transaction is one event that contains the others, so parsing it
// whole takes as much memory as the transaction has rows. Here it is
// decompressed and parsed one inner event at a time.

const checksumLen = 4

var errPayload = errors.New("read the binlog: malformed compressed transaction")

// describe keeps what a FORMAT_DESCRIPTION event says for the events inside of
// payloads, which have no checksums.
func (r *reader) describe(event []byte) error {
	if len(event) < replication.EventHeaderSize+checksumLen+1 {
		return errPayload
	}
	r.checksums = hasChecksums(event)
	inner := bytes.Clone(event)
	inner[len(event)-checksumLen-1] = byte(replication.BINLOG_CHECKSUM_ALG_OFF)
	r.inner = r.newParser()
	_, err := decode(r.inner, inner)
	return err
}

// hasChecksums reports what a FORMAT_DESCRIPTION event, of at least that many
// bytes, says of the events behind it.
func hasChecksums(description []byte) bool {
	return description[len(description)-checksumLen-1] == byte(replication.BINLOG_CHECKSUM_ALG_CRC32)
}

// payload reads the events of a compressed transaction.
func (r *reader) payload(ctx context.Context, event []byte) error {
	if r.inner == nil {
		return errPayload
	}
	if r.checksums {
		end := len(event) - checksumLen
		if end < replication.EventHeaderSize || crc32.ChecksumIEEE(event[:end]) != binary.LittleEndian.Uint32(event[end:]) {
			return fmt.Errorf("%w: wrong checksum", errPayload)
		}
		event = event[:end]
	}
	compressed, err := payloadBytes(event[replication.EventHeaderSize:])
	if err != nil {
		return err
	}
	events, err := zstd.NewReader(compressed, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true))
	if err != nil {
		return fmt.Errorf("decompress a transaction: %w", err)
	}
	defer events.Close()
	for {
		data, err := innerEvent(events)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("decompress a transaction: %w", err)
		}
		if err := r.parse(ctx, r.inner, data); err != nil {
			return err
		}
	}
}

// innerEvent reads one event; io.EOF at the end.
func innerEvent(events io.Reader) ([]byte, error) {
	var header [replication.EventHeaderSize]byte
	if _, err := io.ReadFull(events, header[:]); err != nil {
		return nil, err
	}
	size := binary.LittleEndian.Uint32(header[9:])
	if size < replication.EventHeaderSize {
		return nil, errPayload
	}
	// Not make(size): a broken length must not allocate gigabytes.
	var data bytes.Buffer
	data.Write(header[:])
	rest := int64(size) - replication.EventHeaderSize
	if n, err := io.CopyN(&data, events, rest); err != nil {
		return nil, fmt.Errorf("%w: %d of %d bytes", errPayload, n, rest)
	}
	return data.Bytes(), nil
}

// payloadBytes skips the fields in front of the compressed bytes.
func payloadBytes(body []byte) (io.Reader, error) {
	for len(body) > 0 {
		kind := body[0]
		if kind == replication.OTW_PAYLOAD_HEADER_END_MARK {
			return bytes.NewReader(body[1:]), nil
		}
		length, _, n := mysql.LengthEncodedInt(body[1:])
		if n == 0 || uint64(len(body)) < 1+uint64(n)+length { //nolint:gosec // n is at most 9
			return nil, errPayload
		}
		value := body[1+n : 1+uint64(n)+length] //nolint:gosec // as above
		if kind == replication.OTW_PAYLOAD_COMPRESSION_TYPE_FIELD && (len(value) == 0 || value[0] != replication.ZSTD) {
			return nil, fmt.Errorf("%w: unknown compression", errPayload)
		}
		body = body[1+uint64(n)+length:] //nolint:gosec // as above
	}
	return nil, errPayload
}
