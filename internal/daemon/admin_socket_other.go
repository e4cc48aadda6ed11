//go:build !unix

package daemon

import "syscall"

// private does nothing where sockets have no mode.
func private(_, _ string, _ syscall.RawConn) error { return nil }
