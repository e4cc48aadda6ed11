package cacheaside

import (
	"encoding/hex"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The golden bytes are those of docs/protocol.md.
const (
	goldenLease = "4c" + "000102030405060708090a0b0c0d0e0f"
	goldenValue = "56" + "01" + "a0a1a2a3a4a5a6a7" + "00" + "0000019b76daa923" + "0000000000000000" + "00000bb8" + "0000000000000000" +
		"7b226e616d65223a22416461227d"
	goldenAbsent = "56" + "01" + "a0a1a2a3a4a5a6a7" + "01" + "0000019b76daa923" + "0000000000000000" + "00000bb8" + "0000000000000000"
	goldenClaim  = "56" + "01" + "a0a1a2a3a4a5a6a7" + "02" + "0000019b76daa923" + "0000019b76dad033" + "00000bb8" + "0000000000000000" +
		"7b226e616d65223a22416461227d"
)

func goldenHeader() header {
	return header{
		format:   formatJSON,
		fill:     [8]byte{0xa0, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7},
		loadedAt: time.Date(2026, time.January, 1, 0, 0, 0, 291e6, time.UTC),
		loadCost: 3 * time.Millisecond,
	}
}

func TestEntriesHaveTheDocumentedBytes(t *testing.T) {
	t.Parallel()
	payload, err := JSON{}.Marshal(map[string]string{"name": "Ada"})
	require.NoError(t, err)
	raw := appendValue(nil, goldenHeader(), payload)
	assert.Equal(t, goldenValue, hex.EncodeToString(raw))
	assert.Len(t, raw, headerLen+len(payload))

	kind, h, rest := parse(raw)
	assert.Equal(t, kindValue, kind)
	assert.Equal(t, payload, rest)
	assert.True(t, h.loadedAt.Equal(goldenHeader().loadedAt))
	assert.Equal(t, 3*time.Millisecond, h.loadCost)

	raw, err = hex.DecodeString(goldenLease)
	require.NoError(t, err)
	kind, _, _ = parse(raw)
	assert.Equal(t, kindLease, kind)
	l := newLease()
	kind, _, _ = parse(l[:])
	assert.Equal(t, kindLease, kind)
}

func TestFlaggedEntriesHaveTheDocumentedBytes(t *testing.T) {
	t.Parallel()
	absent, claimed := goldenHeader(), goldenHeader()
	absent.flags, claimed.flags = flagAbsent, flagClaimed
	claimed.softExpiry = claimed.loadedAt.Add(10 * time.Second)
	assert.Equal(t, goldenAbsent, hex.EncodeToString(appendValue(nil, absent, nil)))
	assert.Equal(t, goldenClaim, hex.EncodeToString(appendValue(nil, claimed, []byte(`{"name":"Ada"}`))))
}

func TestTheScriptComparesAWholeHeader(t *testing.T) {
	t.Parallel()
	assert.Equal(t, 39, headerLen)
	assert.Contains(t, fillSource, "'GETRANGE', KEYS[1], 0, 38)")
	assert.Contains(t, fillSource, "string.sub(ARGV[2], 1, 39)")
}

func TestTheProtocolIsDocumentedAsItIs(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("../../docs/protocol.md")
	require.NoError(t, err)
	text := string(doc)
	assert.Contains(t, text, fillSource)
	assert.Contains(t, text, claimSource)
	bytes := strings.ReplaceAll(text, " ", "")
	assert.Contains(t, bytes, "\n"+goldenLease+"\n")
	assert.Contains(t, bytes, "\n"+goldenValue+"\n")
	assert.Contains(t, bytes, "\n"+goldenAbsent+"\n")
	assert.Contains(t, bytes, "\n"+goldenClaim+"\n")
}

func TestLoadCostSaturates(t *testing.T) {
	t.Parallel()
	for cost, want := range map[time.Duration]time.Duration{
		-time.Second:                 0,
		1500 * time.Nanosecond:       time.Microsecond,
		100 * 24 * time.Hour:         math.MaxUint32 * time.Microsecond,
		time.Duration(math.MaxInt64): math.MaxUint32 * time.Microsecond,
	} {
		_, h, _ := parse(appendValue(nil, header{format: formatJSON, loadCost: cost}, nil))
		assert.Equal(t, want, h.loadCost)
	}
}

func TestNoncesAndFillIDsAreNeverReused(t *testing.T) {
	t.Parallel()
	leases, ids := map[lease]bool{}, map[[8]byte]bool{}
	for range 1000 {
		leases[newLease()], ids[newFillID()] = true, true
	}
	assert.Len(t, leases, 1000)
	assert.Len(t, ids, 1000)
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{goldenLease, goldenValue, goldenAbsent, goldenClaim, "", "4c", "56", strings.Repeat("ff", 39), "5601" + strings.Repeat("ff", 8) + "00" + strings.Repeat("80", 28)} {
		raw, err := hex.DecodeString(seed)
		require.NoError(f, err)
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		kind, h, payload := parse(raw)
		switch kind {
		case kindValue:
			assert.Equal(t, raw, appendValue(nil, h, payload), "a value is all of its bytes")
		case kindLease:
			assert.Len(t, raw, leaseLen)
		case kindForeign:
			assert.Nil(t, payload)
		}
		p, err := newPolicy(Policy{}, nil)
		require.NoError(t, err)
		v := &View[map[string]int]{policy: p}
		if _, verdict, _ := v.read(raw, time.Now()); verdict.usable() {
			assert.Equal(t, kindValue, kind)
		}
	})
}
