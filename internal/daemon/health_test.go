package daemon

import (
	"encoding/json"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed-038af1a6/invalidator/pkg/invalidation"
)

func working(part string) invalidation.Event {
	return invalidation.Event{Kind: invalidation.Working, Part: part}
}

func waitingFor(part, reason string) invalidation.Event {
	return invalidation.Event{Kind: invalidation.Waiting, Part: part, Err: errors.New(reason)}
}

// idle is what a source says each second that has nothing to read.
func idle() invalidation.Event {
	return invalidation.Event{Kind: invalidation.Advanced, Part: invalidation.PartSource, Idle: true}
}

// read is what a source says that has deleted for a commit of this age.
func read(age time.Duration) invalidation.Event {
	at := time.Now().Add(-age)
	return invalidation.Event{Kind: invalidation.Advanced, Part: invalidation.PartSource, At: at, Oldest: at, Count: 1, Keys: 1}
}

func purging(kind invalidation.Kind, pattern string, count, scanned int) invalidation.Event {
	return invalidation.Event{Kind: kind, Part: invalidation.PartCache, Text: pattern, Count: count, Scanned: scanned}
}

func leads(kind invalidation.Kind, leader string) invalidation.Event {
	return invalidation.Event{Kind: kind, Part: invalidation.PartLease, Text: leader}
}

// each calls do every second for a while, and at its begin.
func each(d time.Duration, do func()) {
	for range d / time.Second {
		do()
		time.Sleep(time.Second)
	}
	do()
}

func TestReadyMeansThatNothingWaitsAndThatThereWasProgress(t *testing.T) {
	t.Parallel()
	lost := invalidation.Event{Kind: invalidation.Lost, Part: invalidation.PartSource, Text: "none"}
	master := invalidation.PartCache + " 127.0.0.1:7002"
	cases := map[string]struct {
		happens func(h *health)
		ready   bool
		line    string
	}{
		"nothing yet":   {func(*health) {}, false, "starting"},
		"read":          {func(h *health) { h.Observe(read(time.Second)) }, true, "running"},
		"nothing to do": {func(h *health) { h.Observe(idle()) }, true, "running"},
		"the cache answers heartbeats": {func(h *health) {
			h.called(0)
			h.returned(0, 0, nil)
			h.answered(0)
		}, false, "starting"},
		"a part of a huge transaction is deleted": {func(h *health) {
			h.called(0)
			h.returned(0, 1000, nil)
		}, true, "running"},
		"deletes that failed are no progress": {func(h *health) {
			h.called(0)
			h.returned(0, 1000, invalidation.ErrResume)
		}, false, "starting"},
		"second deletes are no progress": {func(h *health) {
			h.Observe(idle())
			each(12*time.Second, func() { h.Observe(invalidation.Event{Kind: invalidation.Deleted, Count: 1}) })
		}, false, "running: no progress for 12s: it waits for the database"},
		"idle for 10 s": {func(h *health) {
			h.Observe(idle())
			time.Sleep(10 * time.Second)
		}, true, "running"},
		"silent for longer": {func(h *health) {
			h.Observe(idle())
			time.Sleep(12 * time.Second)
		}, false, "running: no progress for 12s: it waits for the database"},
		"the cache is called and silent": {func(h *health) {
			h.Observe(idle())
			h.called(0)
			time.Sleep(12 * time.Second)
		}, false, "running: no progress for 12s: it waits for the cache"},
		"says the same all the time without knowing that there is nothing": {func(h *health) {
			at := time.Now()
			each(12*time.Second, func() {
				h.Observe(invalidation.Event{Kind: invalidation.Advanced, Text: "uuid:1-7", At: at})
			})
		}, false, "running: no progress for 12s: it waits for the database"},
		"connected, and no progress ever": {func(h *health) {
			h.Observe(working(invalidation.PartSource))
			time.Sleep(time.Second)
		}, false, "running: no progress yet"},
		"redis is away": {func(h *health) {
			h.Observe(idle())
			h.Observe(waitingFor(invalidation.PartCache, "connection refused"))
		}, false, "waiting: redis: connection refused"},
		"everything is away, in one line": {func(h *health) {
			h.Observe(waitingFor(invalidation.PartSource, "no route\nto host"))
			h.Observe(waitingFor(invalidation.PartCache, "connection refused"))
		}, false, "waiting: redis: connection refused; source: no route; to host"},
		"redis is back": {func(h *health) {
			h.Observe(waitingFor(invalidation.PartCache, "connection refused"))
			h.Observe(working(invalidation.PartCache))
			h.Observe(idle())
		}, true, "running"},
		"the gate's trouble ends with the source's next progress": {func(h *health) {
			h.Observe(waitingFor(invalidation.PartGate, "timeout"))
			h.Observe(idle())
		}, true, "running"},
		"redis answers while the source is away": {func(h *health) {
			h.Observe(waitingFor(invalidation.PartSource, "no route to host"))
			h.answered(0)
		}, false, "waiting: source: no route to host"},
		"a master is left behind while the others answer": {func(h *health) {
			h.Observe(waitingFor(master, "refused"))
			h.answered(0)
			h.Observe(idle())
		}, false, "waiting: redis 127.0.0.1:7002: refused"},
		"the source begins anew, and a master is still behind": {func(h *health) {
			h.Observe(waitingFor(master, "refused"))
			h.locating(0)
			h.Observe(waitingFor(master, "still refused"))
			h.located(0)
			h.Observe(idle())
		}, false, "waiting: redis 127.0.0.1:7002: still refused"},
		"the source begins anew, and a master that was behind is no more": {func(h *health) {
			h.Observe(waitingFor(master, "refused"))
			h.locating(0)
			h.located(0)
			h.Observe(idle())
		}, true, "running"},
		"a master caught up": {func(h *health) {
			h.Observe(waitingFor(master, "refused"))
			h.Observe(working(master))
			h.Observe(idle())
		}, true, "running"},
		"purges and goes on": {func(h *health) {
			h.Observe(idle())
			h.asked(0, []string{"user:*", "order:*"})
			h.Observe(purging(invalidation.PurgeStarted, "user:*", 1000, 0))
			h.Observe(purging(invalidation.PurgeProgress, "user:*", 30, 400))
		}, true, "purging: order:*: 0 keys deleted; user:*: 30 keys deleted, 400 of 1000 looked at"},
		"purges and is stuck": {func(h *health) {
			h.Observe(idle())
			h.asked(0, []string{"user:*"})
			each(15*time.Second, func() { h.Observe(purging(invalidation.PurgeProgress, "user:*", 30, 0)) })
		}, false, "purging: no progress for 15s: it waits for the database"},
		"has purged": {func(h *health) {
			h.Observe(purging(invalidation.PurgeStarted, "user:*", 1000, 0))
			h.Observe(purging(invalidation.PurgeDone, "user:*", 30, 1000))
			h.Observe(idle())
		}, true, "running"},
		"the position is lost, and no purge has begun": {func(h *health) {
			h.Observe(idle())
			h.Observe(lost)
			h.Observe(idle())
		}, false, "purging: no usable position: a purge is about to begin, entries may be stale until it is done"},
		"purges for a lost position and goes on": {func(h *health) {
			h.Observe(lost)
			h.asked(0, []string{"user:*", "order:*"})
			h.Observe(purging(invalidation.PurgeStarted, "order:*", 1000, 0))
			h.Observe(purging(invalidation.PurgeDone, "order:*", 30, 0))
			h.Observe(idle())
		}, false, "purging: user:*: 0 keys deleted: entries may be stale until it is done"},
		"has purged for a lost position": {func(h *health) {
			h.Observe(lost)
			h.asked(0, []string{"user:*"})
			h.Observe(purging(invalidation.PurgeStarted, "user:*", 1000, 0))
			h.Observe(idle())
			h.Observe(purging(invalidation.PurgeDone, "user:*", 30, 0))
		}, true, "running"},
		"purges for a new rule, for which nobody has deleted yet": {func(h *health) {
			h.asked(0, []string{"user:*"})
			h.Observe(idle())
		}, false, "purging: user:*: 0 keys deleted: entries may be stale until it is done"},
		"a purge was asked for again while it ran": {func(h *health) {
			h.Observe(idle())
			h.asked(0, []string{"user:*"})
			h.Observe(purging(invalidation.PurgeStarted, "user:*", 1000, 0))
			h.asked(0, []string{"user:*"})
			h.Observe(purging(invalidation.PurgeDone, "user:*", 30, 0))
		}, true, "purging: user:*: 0 keys deleted"},
		"the purge that was asked for again is done": {func(h *health) {
			h.Observe(idle())
			h.asked(0, []string{"user:*"})
			h.Observe(purging(invalidation.PurgeStarted, "user:*", 1000, 0))
			h.asked(0, []string{"user:*"})
			h.Observe(purging(invalidation.PurgeDone, "user:*", 30, 0))
			h.Observe(purging(invalidation.PurgeStarted, "user:*", 1000, 0))
			h.Observe(purging(invalidation.PurgeDone, "user:*", 3, 0))
		}, true, "running"},
		"purges that were asked for before it began anew are dropped": {func(h *health) {
			h.Observe(idle())
			h.asked(0, []string{"user:*"})
			h.Observe(purging(invalidation.PurgeStarted, "user:*", 1000, 0))
			h.located(0)
			h.asked(0, []string{"user:*"})
			h.Observe(purging(invalidation.PurgeProgress, "order:*", 1000, 0))
			h.Observe(purging(invalidation.PurgeStarted, "user:*", 1000, 0))
			h.Observe(purging(invalidation.PurgeDone, "user:*", 1000, 0))
		}, true, "running"},
		"a purge for a lost position was dropped, and none was asked for since": {func(h *health) {
			h.Observe(lost)
			h.asked(0, []string{"user:*"})
			h.Observe(idle())
			h.located(0)
		}, false, "running: no progress since the last start or change of leader"},
		"stands by": {func(h *health) {
			h.called(0)
			each(time.Minute, func() { h.Observe(leads(invalidation.Standby, "host-b/7")) })
		}, true, "standby: host-b/7 leads"},
		"stands by and hears nothing of the leader": {func(h *health) {
			h.Observe(leads(invalidation.Standby, "host-b/7"))
			time.Sleep(12 * time.Second)
		}, false, "standby: host-b/7 leads, as of 12s ago"},
		"stands by and could not take over": {func(h *health) {
			h.called(0)
			each(time.Minute, func() {
				h.Observe(waitingFor(invalidation.PartSource, "could not take over"))
				h.Observe(leads(invalidation.Standby, "host-b/7"))
			})
		}, false, "waiting: source: could not take over"},
		"stands by and can take over again": {func(h *health) {
			h.Observe(leads(invalidation.Standby, "host-b/7"))
			h.Observe(waitingFor(invalidation.PartSource, "could not take over"))
			h.Observe(working(invalidation.PartSource))
		}, true, "standby: host-b/7 leads"},
		"stands by without redis": {func(h *health) {
			h.Observe(leads(invalidation.Standby, "host-b/7"))
			h.Observe(waitingFor(invalidation.PartCache, "connection refused"))
		}, false, "waiting: redis: connection refused"},
		"leads, and no progress since": {func(h *health) {
			h.Observe(leads(invalidation.Standby, "host-b/7"))
			h.Observe(leads(invalidation.Leading, "host-a/1"))
		}, false, "starting: it waits for the database"},
		"leads, and never reached its database": {func(h *health) {
			h.Observe(leads(invalidation.Leading, "host-a/1"))
			h.answered(0)
		}, false, "starting: it waits for the database"},
		"leads, and has reached its database": {func(h *health) {
			h.Observe(leads(invalidation.Leading, "host-a/1"))
			h.Observe(working(invalidation.PartSource))
		}, false, "running: no progress yet"},
		"leads again, and no progress since": {func(h *health) {
			h.Observe(idle())
			h.Observe(leads(invalidation.Standby, "host-b/7"))
			h.Observe(leads(invalidation.Leading, "host-a/1"))
		}, false, "starting: it waits for the database"},
		"leads and can not renew its lease": {func(h *health) {
			h.Observe(leads(invalidation.Leading, "host-a/1"))
			h.Observe(waitingFor(invalidation.PartLease, "refused"))
			h.Observe(idle())
		}, false, "waiting: lease: refused"},
		"could not renew its lease, and can again": {func(h *health) {
			h.Observe(idle())
			h.Observe(waitingFor(invalidation.PartLease, "refused"))
			h.Observe(working(invalidation.PartLease))
		}, true, "running"},
		"could not renew its lease, and another one leads": {func(h *health) {
			h.Observe(idle())
			h.Observe(waitingFor(invalidation.PartLease, "refused"))
			h.Observe(leads(invalidation.Standby, "host-b/7"))
		}, true, "standby: host-b/7 leads"},
		"leads": {func(h *health) {
			h.Observe(leads(invalidation.Leading, "host-a/1"))
			h.Observe(idle())
		}, true, "running"},
		"some keys are parked": {func(h *health) {
			h.Observe(idle())
			h.Observe(invalidation.Event{Kind: invalidation.Parked, Count: 999, Err: errors.New("NOPERM")})
		}, true, "running"},
		"as many keys are parked as can be": {func(h *health) {
			h.Observe(idle())
			h.Observe(invalidation.Event{Kind: invalidation.Parked, Count: 1000, Err: errors.New("NOPERM")})
		}, false, "running: 1000 keys are parked because Redis refuses to delete them, and no more can be: see invalidator parked"},
		"they were unparked": {func(h *health) {
			h.Observe(idle())
			h.Observe(invalidation.Event{Kind: invalidation.Parked, Count: 1000, Err: errors.New("NOPERM")})
			h.SetParked(0)
		}, true, "running"},
		"ended, to be started again": {func(h *health) {
			h.Observe(idle())
			h.stopped(errors.New("binlog: unexpected event"))
		}, false, "waiting: binlog: unexpected event"},
		"ended, and the next attempt works": {func(h *health) {
			h.stopped(errors.New("binlog: unexpected event"))
			h.begin()
			h.Observe(idle())
		}, true, "running"},
		"ended for good": {func(h *health) {
			h.Observe(idle())
			h.endedForGood(invalidation.Fatal(errors.New("wrong password")))
			time.Sleep(time.Hour)
		}, false, "ended: wrong password"},
		"hangs": {func(h *health) {
			h.Observe(idle())
			time.Sleep(31 * time.Second)
		}, false, "wedged: nothing was heard for 31s from the source: it hangs: restart this process"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				h := newHealth("shop", "mysql")
				c.happens(h)
				s := h.snapshot()
				line := string(s.State)
				if s.Reason != "" {
					line += ": " + s.Reason
				}
				assert.Equal(t, c.line, line)
				assert.Equal(t, c.ready, s.Ready)
			})
		})
	}
}

func TestTheStatusTellsAllThatIsKnown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHealth("shop", "mysql")
		for _, e := range []invalidation.Event{
			leads(invalidation.Leading, "host-a/1"),
			{Kind: invalidation.Deleted, Text: "user:{id}", Count: 3, Found: 2},
			{Kind: invalidation.Deleted, Text: "user:{id}", Count: 4},
			{Kind: invalidation.Advanced, Text: "uuid:1-7", At: time.Unix(1, 0).UTC(), Count: 1},
			idle(),
			purging(invalidation.PurgeStarted, "order:*", 70, 0),
			purging(invalidation.PurgeDone, "order:*", 5, 70),
			purging(invalidation.PurgeStarted, "user:*", 70, 0),
			purging(invalidation.PurgeProgress, "user:*", 6, 7),
			{Kind: invalidation.Parked, Count: 2, Err: errors.New("NOPERM")},
			{Kind: invalidation.Incomplete, Text: "shop.users"},
			{Kind: invalidation.Replaying, Err: errors.New("failed over")},
			waitingFor(invalidation.PartCache+" 127.0.0.1:7002", "refused"),
			waitingFor(invalidation.PartCache+" 127.0.0.1:7002", "refused"),
			waitingFor(invalidation.PartGate, "timeout"),
		} {
			h.Observe(e)
		}
		h.SetLag(12, -7)
		time.Sleep(2 * time.Second)
		page, err := json.Marshal(h.snapshot())
		require.NoError(t, err)
		assert.JSONEq(t, `{
			"name": "shop", "kind": "mysql", "state": "waiting", "ready": false,
			"reason": "gate: timeout; redis 127.0.0.1:7002: refused",
			"role": "leading", "leader": "host-a/1",
			"position": "uuid:1-7", "committed": "1970-01-01T00:00:01Z",
			"last_progress": "2000-01-01T00:00:00Z", "last_heard": "2000-01-01T00:00:00Z",
			"oldest_undeleted_seconds": 2, "lag": {"transactions": 12, "bytes": -1},
			"waiting": {"gate": "timeout", "redis 127.0.0.1:7002": "refused"}, "behind": ["127.0.0.1:7002"],
			"purges": [{"pattern": "user:*", "keys": 70, "scanned": 7, "deleted": 6}],
			"parked": 2, "deleted": 7, "purged": 5, "restarts": 0, "replays": 1, "incomplete": 1,
			"retries": {"gate": 1, "redis": 2}
		}`, string(page))
		time.Sleep(time.Minute)
		assert.Nil(t, h.snapshot().Lag, "nobody has said anything of it for a minute")
	})
}
