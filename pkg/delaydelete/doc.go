// Package delaydelete deletes twice: at once, and again after a delay. The
// second delete removes what a slow reader filled from data that was older
// than the first one, such as a read from a lagging replica.
//
//	second, err := delaydelete.New(delaydelete.Config{Next: cache, Delay: 5 * time.Second})
//	source, err := binlog.New(binlog.Config{Sink: second, …})
//	go second.Run(ctx)
//	err = source.Run(ctx)
//
// A position reaches the next Sink only after the second delete of everything
// before it, so a crash between the two deletes is made good by the replay.
// The delay bounds what is caught: a reader slower than it still fills.
package delaydelete
