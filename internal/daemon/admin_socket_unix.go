//go:build unix

package daemon

import "syscall"

// private keeps other users out of a Unix socket before it has a path. Some
// systems take no notice.
func private(_, _ string, socket syscall.RawConn) error {
	return socket.Control(func(fd uintptr) { _ = syscall.Fchmod(int(fd), 0o600) })
}
