package redissink

import (
	"strconv"
	"strings"
	"sync"
)

// slots is how many hash slots a Redis Cluster has.
const slots = 16384

// slotOf returns the slot of a key: CRC16 (XMODEM) of what stands in its first
// braces, or of all of it, as the Redis Cluster specification has it.
func slotOf(key string) int {
	if open := strings.IndexByte(key, '{'); open >= 0 {
		if length := strings.IndexByte(key[open+1:], '}'); length > 0 {
			key = key[open+1 : open+1+length]
		}
	}
	var sum uint16
	for i := range len(key) {
		sum = sum<<8 ^ crcTable()[byte(sum>>8)^key[i]]
	}
	return int(sum) % slots
}

//nolint:gochecknoglobals // two tables of constants that are too long to write down
var (
	crcTable = sync.OnceValue(func() *[256]uint16 {
		var table [256]uint16
		for i := range table {
			sum := uint16(i) << 8
			for range 8 {
				if sum&0x8000 != 0 {
					sum = sum<<1 ^ 0x1021
				} else {
					sum <<= 1
				}
			}
			table[i] = sum
		}
		return &table
	})
	// slotTags has a hash tag for every slot: the first number with it.
	slotTags = sync.OnceValue(func() *[slots]string {
		var tags [slots]string
		for n, left := 0, slots; left > 0; n++ {
			tag := strconv.Itoa(n)
			if slot := slotOf(tag); tags[slot] == "" {
				tags[slot] = "{" + tag + "}"
				left--
			}
		}
		return &tags
	})
)
