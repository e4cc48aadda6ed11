package redissink

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestSlotsAreThoseOfTheSpecification(t *testing.T) {
	t.Parallel()
	for key, want := range map[string]int{
		"123456789": 12739, "foo": 12182, "": 0, "{user1000}.following": 3443, "{user1000}.followers": 3443,
		"foo{}{bar}": 8363, "foo{{bar}}zap": 4015, "foo{bar}{zap}": 5061, "bar": 5061, "{bar": 4015,
	} {
		assert.Equal(t, want, slotOf(key), key)
	}
}

func TestEverySlotHasATagOfItsOwn(t *testing.T) {
	t.Parallel()
	for slot, tag := range slotTags() {
		if slotOf("ns:position:s"+tag) != slot {
			t.Fatalf("%s is in slot %d, not %d", tag, slotOf(tag), slot)
		}
	}
}

func TestThePositionStandsInTheMiddleOfAMastersSlots(t *testing.T) {
	t.Parallel()
	l := &layout{masters: []string{"a", "b"}, owner: new([slots]string)}
	for slot := range slots {
		l.owner[slot] = "a"
		if slot >= 100 && slot < 200 || slot == 5 {
			l.owner[slot] = "b"
		}
	}
	assert.Equal(t, 149, l.middle("b"))
	assert.Equal(t, (200+slots-1)/2, l.middle("a"))
	assert.Equal(t, -1, l.middle("c"))
	assert.Len(t, l.slotsOf("b"), 101)
	assert.Equal(t, -1, (&layout{masters: []string{"a"}}).middle("a"))
}

func TestARedirectNamesAnAddress(t *testing.T) {
	t.Parallel()
	assert.Equal(t, "127.0.0.1:7001", redirect(replyError("MOVED 3999 127.0.0.1:7001"), "MOVED "))
	assert.Empty(t, redirect(replyError("MOVED 3999 127.0.0.1:7001"), "ASK "))
	assert.Equal(t, "10.0.0.9:7001", resolve(":7001", "10.0.0.9:7000"))
	assert.Equal(t, "10.0.0.9:7001", resolve("?:7001", "10.0.0.9:7000"))
	assert.Equal(t, "10.0.0.8:7001", resolve("10.0.0.8:7001", "10.0.0.9:7000"))
}

type replyError string

func (e replyError) Error() string { return string(e) }
func (replyError) RedisError()     {}
