package redissink

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

// valueVersion begins every stored value: "1 <nonce> <position>".
const valueVersion = "1"

// ErrUnreadable is wrapped by what Positions and Look return where a value is
// of a version that this one does not know.
var ErrUnreadable = errors.New("does not hold a position that this version can read")

// newValue returns the bytes to store for a position, with a new nonce.
func newValue(position string) string {
	var nonce [12]byte
	_, _ = rand.Read(nonce[:]) // never fails
	return valueVersion + " " + hex.EncodeToString(nonce[:]) + " " + position
}

// positionOf returns the position part of a stored value.
func positionOf(key, value string) (string, error) {
	version, rest, _ := strings.Cut(value, " ")
	nonce, position, ok := strings.Cut(rest, " ")
	if version != valueVersion || !ok || len(nonce) != 24 {
		return "", invalidation.Fatal(fmt.Errorf("the Redis key %q %w: upgrade, or delete the key to purge and start anew", key, ErrUnreadable))
	}
	return position, nil
}
