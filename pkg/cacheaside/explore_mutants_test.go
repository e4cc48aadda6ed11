package cacheaside

import (
	"slices"
	"strings"
)

// What goes wrong without a mechanism: a value that was deleted is read, or only work is lost.
const (
	goesStale  = "holds a value that was loaded after"
	takesLease = "lease away"
	takesValue = "threw a value away"
)

// mutants are scenarios in which one mechanism is taken away, so that some schedule must go wrong.
func mutants() map[string]scenario {
	return map[string]scenario{
		"a fill that does not compare":            mutate(missed(), goesStale, fills(noCompare)),
		"a fill for which any lease will do":      mutate(rejected(), goesStale, fills(anyLease)),
		"one nonce for all attempts":              mutate(detached(), goesStale, oneNonce),
		"the same nonce again after a lost reply": mutate(lostLease(), goesStale, oneNonce),
		"a release that does not compare":         mutate(failedLate(), takesLease, fills(releaseAlways)),
		"a lease that replaces whatever is there": mutate(undecodable(), takesLease, fills(replaceAlways)),
		"a lease that replaces a value":           mutate(undecodable(), takesValue, fills(replaceAlways)),
		"a claim that replaces strings too":       mutate(wrongType(), takesLease, claims),
	}
}

// Versions of fill.lua that leave the compare out.
const (
	noCompare     = `redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) return 1`
	anyLease      = `if string.sub(redis.call('GET', KEYS[1]) or '', 1, 1) ~= 'L' then return 0 end ` + noCompare
	releaseAlways = `if ARGV[2] == '' then redis.call('UNLINK', KEYS[1]) return 1 end `
	replaceAlways = `if string.sub(ARGV[2], 1, 1) == 'L' then redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) return 1 end `
	claimAlways   = `redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2]) return 1`
)

func mutate(s scenario, breaks string, change func(m *mutant)) scenario {
	s.mutant.breaks = breaks
	change(&s.mutant)
	return s
}

// fills puts source before the script.
func fills(source string) func(m *mutant) {
	return func(m *mutant) {
		if !strings.HasSuffix(source, "end ") { // then the script would follow its return
			source = "do " + source + " end "
		}
		m.client = func(c *Client) { c.fill = newScript(source + fillSource) }
	}
}

func claims(m *mutant) {
	m.client = func(c *Client) { c.claim = newScript(claimAlways) }
}

// oneNonce makes every process draw its nonce once.
func oneNonce(m *mutant) {
	nonces := map[int]lease{0: newLease(), 1: newLease(), 2: newLease()}
	m.wire = func(_ *exploredRun, a *actor, args []any) { rewrite(args, nonces[a.process]) }
}

// rejected is a delete by another program while one of two processes loads.
func rejected() scenario {
	return scenario{processes: 2, actors: []actor{aReader("R1", 0), aReader("R2", 1), aStranger("D")}}
}

// detached is a write in the process that loads, after which it loads again.
func detached() scenario {
	return scenario{processes: 1, actors: []actor{lazily(aReader("R1", 0)), lazily(aReader("R2", 0)), aWriter(0)}}
}

// failedLate is a load that fails after its lease ended and another took it.
func failedLate() scenario {
	return scenario{processes: 2, actors: []actor{aFailingReader("R1", 0), aReader("R2", 1), leasesEnd()}}
}

// rewrite replaces every argument that is a lease.
func rewrite(args []any, with lease) {
	for i, arg := range args {
		if raw, ok := arg.([]byte); ok && len(raw) == leaseLen && raw[0] == leaseTag {
			args[i] = slices.Clone(with[:])
		}
	}
}
