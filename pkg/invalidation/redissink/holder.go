package redissink

import (
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
)

// Identity tells which log a process reads.
type Identity struct {
	// Server is the server_uuid or the system identifier; "": not known.
	Server string `json:"server,omitempty"`
	// Hosts are the addresses in the configuration.
	Hosts []string `json:"hosts,omitempty"`
}

// conflicts reports whether two processes are known to read different logs.
// Those of a pair may be on two servers for a while, but they share the
// addresses.
func (i Identity) conflicts(o Identity) bool {
	if i.Server == "" || o.Server == "" || i.Server == o.Server {
		return false
	}
	return !slices.ContainsFunc(i.Hosts, func(host string) bool { return slices.Contains(o.Hosts, host) })
}

// Holder is a process that may hold leases. Two with the same name are taken
// for the same one, started again: the second takes the lease over at once.
type Holder struct {
	name, nonce string
	restarted   bool // the name is kept over restarts

	mu     sync.Mutex
	took   map[string]bool // leases that this process has held
	spared []string        // see Spare; in a cluster a hash tag may stand behind
}

// NewHolder returns a Holder with a name by which people know the process,
// such as its host and port; no other that runs may have it. "" stands for the
// host and the process id, which are new with every start.
func NewHolder(name string) *Holder {
	var nonce [12]byte
	_, _ = rand.Read(nonce[:]) // never fails
	return &Holder{name: cmp.Or(name, hostAndPID()), restarted: name != "", nonce: hex.EncodeToString(nonce[:]), took: map[string]bool{}}
}

func hostAndPID() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return fmt.Sprintf("%s/%d", host, os.Getpid())
}

// replaces reports whether a lease may be taken over before it ends, because
// who holds it is dead: it was a process of this machine that is gone, or what
// this one was before it was started again.
func (h *Holder) replaces(other holderValue, lease string) bool {
	if other.Process.isDead() {
		return true
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.restarted && other.Name == h.name && !h.took[lease]
}

// takes notes that this process has held the lease.
func (h *Holder) takes(lease string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.took[lease] = true
}

// has reports whether this process has held the lease, maybe by another Sink,
// and so may hold it still.
func (h *Holder) has(lease string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.took[lease]
}

// holder is what a lease says of who holds it. Its nonce stands in front.
type holderValue struct {
	Name    string   `json:"name"`
	Process *process `json:"process,omitempty"`
	Identity
	// Renewal is another one each time, so that others see that it lives.
	Renewal uint64 `json:"renewal,omitempty"`
}

// parseHolder reads a lease; the name is a text for people at any rate.
func parseHolder(stored string) holderValue {
	var v holderValue
	_, text, _ := strings.Cut(stored, " ")
	if err := json.Unmarshal([]byte(text), &v); err != nil || v.Name == "" {
		v.Name = "somebody unknown"
	}
	return v
}
