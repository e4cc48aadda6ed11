//go:build !race

package cacheaside

const raceEnabled = false
