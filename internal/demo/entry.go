package demo

import (
	"encoding/json"
	"errors"
	"fmt"
)

// The entry format of pkg/cacheaside: L and a nonce is a lease, V and a header
// of this length in all comes before the JSON of a value.
const valueHeader = 39

var errEntry = errors.New("the cache holds something that is no entry")

// decodeEntry returns the user in an entry; ok is false for a lease.
func decodeEntry(raw string) (u user, ok bool, err error) {
	switch {
	case raw != "" && raw[0] == 'L':
		return u, false, nil
	case len(raw) < valueHeader || raw[0] != 'V':
		return u, false, errEntry
	}
	if err := json.Unmarshal([]byte(raw[valueHeader:]), &u); err != nil {
		return u, false, fmt.Errorf("%w: %w", errEntry, err)
	}
	return u, true, nil
}
