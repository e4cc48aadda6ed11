package redissink

import (
	"slices"
	"strings"
)

// PositionKey returns the Redis key that holds the position of a source. In a
// cluster every master has one, with a hash tag behind it.
func PositionKey(namespace, source string) string {
	return namespace + ":position:" + source
}

func (c Config) parkedKey() string { return c.Namespace + ":parked:" + c.Source }
func (c Config) leaseKey() string  { return c.Namespace + ":leader:" + c.Source }

// IsOwnKey reports whether a key, or one that begins so, is where those of a
// Sink are in a namespace, whatever its source is called. A key of an
// application does not belong there. See Holder.Spare for which are deleted.
func IsOwnKey(namespace, key string) bool {
	rest, ok := strings.CutPrefix(key, namespace)
	return ok && (strings.HasPrefix(rest, ":position:") || strings.HasPrefix(rest, ":parked:") || strings.HasPrefix(rest, ":leader:"))
}

// Spare has no Sink of this process delete what belongs to a source: its
// position, its lease and its parked keys. New calls it for its own; call it
// for sources whose Sinks come later. All else in the namespace is deleted where
// it is asked for, be it of a source of another configuration.
func (h *Holder) Spare(namespace, source string) {
	c := Config{Namespace: namespace, Source: source}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, own := range []string{PositionKey(namespace, source), c.parkedKey(), c.leaseKey()} {
		if !slices.Contains(h.spared, own) {
			h.spared = append(h.spared, own)
		}
	}
}

// spares reports whether a key belongs to a source of this process.
func (h *Holder) spares(key string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.ContainsFunc(h.spared, func(own string) bool {
		tag, ok := strings.CutPrefix(key, own)
		return ok && (tag == "" || tag[0] == '{' && tag == slotTags()[slotOf(tag)])
	})
}

// isOwn reports whether a key is never deleted. Few keys get as far as to the
// list.
func (c Config) isOwn(key string) bool { return IsOwnKey(c.Namespace, key) && c.Holder.spares(key) }

// withoutOwn takes the daemon's own keys out.
func (s *Sink) withoutOwn(keys []string) (kept, own []string) {
	if !slices.ContainsFunc(keys, s.cfg.isOwn) {
		return keys, nil
	}
	for _, key := range keys {
		if s.cfg.isOwn(key) {
			own = append(own, key)
		} else {
			kept = append(kept, key)
		}
	}
	return kept, own
}
