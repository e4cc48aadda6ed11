package main

import (
	"strings"
	"testing"

	"github.com/schollz/progressbar/v3"
	"github.com/stretchr/testify/assert"

	"github.com/seed-038af1a6/invalidator/internal/daemon"
)

func TestTheBarShowsAllSourcesTogetherAndLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	var out, drawn strings.Builder
	p := newProgress(&environment{streams: streams{out: &out, err: &drawn}}, false, purged)
	p.bar = progressbar.NewOptions(1000, progressbar.OptionSetWriter(&drawn), progressbar.OptionSetWidth(10), progressbar.OptionSetPredictTime(false))
	for _, line := range []daemon.Progress{
		{Event: daemon.ProgressBegun, Source: "a", Pattern: "user:*", Cached: 10},
		{Event: daemon.ProgressBegun, Source: "b", Pattern: "order:*", Cached: 10},
		{Event: daemon.ProgressGoesOn, Source: "a", Deleted: 4, Done: 0.5},
		{Event: daemon.ProgressDone, Source: "a", Deleted: 9, Done: 1},
		{Event: daemon.ProgressDone, Source: "b", Deleted: 2, Done: 1},
	} {
		p.show(line)
	}
	assert.Equal(t, "a: purges user:*: looks at 10 keys\nb: purges order:*: looks at 10 keys\na: done: 9 keys deleted\nb: done: 2 keys deleted\n", out.String())
	assert.Contains(t, drawn.String(), "4 keys deleted  25%")
	assert.Contains(t, drawn.String(), "9 keys deleted  50%")
	last := drawn.String()[strings.LastIndexByte(drawn.String(), '\r')+1:]
	assert.Empty(t, strings.TrimSpace(last))
}
