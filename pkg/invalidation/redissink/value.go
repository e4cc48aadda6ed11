package redissink

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

// valueVersion begins every stored value: "1 <nonce> <position>".
const valueVersion = "1"

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
		return "", invalidation.Fatal(fmt.Errorf("the Redis key %q does not hold a position that this version can read: upgrade, or delete the key to purge and start anew", key))
	}
	return position, nil
}
