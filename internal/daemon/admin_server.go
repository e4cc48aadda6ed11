package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync"
	"syscall"
	"time"
)

// adminServer serves admin on open listeners.
type adminServer struct {
	address string
	servers []*http.Server
	running sync.WaitGroup
}

// startAdmin opens the listeners and serves in the background until stop.
func startAdmin(ctx context.Context, cfg HTTP, pages *admin) (*adminServer, error) {
	listener, err := listenTCP(ctx, cfg.Listen)
	if err != nil {
		return nil, err
	}
	s := &adminServer{address: listener.Addr().String()}
	s.serve(listener, pages.handler(false))
	if cfg.Socket == "" {
		return s, nil
	}
	socket, err := listenUnix(ctx, cfg.Socket)
	if err != nil {
		s.stop()
		return nil, err
	}
	s.serve(socket, pages.handler(true))
	return s, nil
}

func listenTCP(ctx context.Context, address string) (net.Listener, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("http.listen: the address %s is taken: is another invalidator running? stop it, or set http.listen to another port", address)
	}
	if err != nil {
		return nil, fmt.Errorf("http.listen: can not listen on %s: set http.listen to an address of this machine: %w", address, err)
	}
	return listener, nil
}

// listenUnix opens a socket that only this user can connect to. One that a
// killed process left behind is taken over.
func listenUnix(ctx context.Context, path string) (net.Listener, error) {
	if conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "unix", path); err == nil {
		_ = conn.Close()
		return nil, fmt.Errorf("http.socket: %s is taken: is another invalidator running? stop it, or set http.socket to another path", path)
	}
	if info, err := os.Lstat(path); err == nil {
		if info.Mode().Type() != os.ModeSocket {
			return nil, fmt.Errorf("http.socket: %s is there and is no socket: remove it, or set http.socket to another path", path)
		}
		_ = os.Remove(path)
	}
	listener, err := (&net.ListenConfig{Control: private}).Listen(ctx, "unix", path)
	if err == nil {
		// Where private has no effect: some systems go by the umask alone.
		if err = os.Chmod(path, 0o600); err == nil {
			return listener, nil
		}
		_ = listener.Close()
	}
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		err = errno // the rest repeats the path
	}
	return nil, fmt.Errorf("http.socket: can not listen on %s: set http.socket to a path in a directory that this user can write to: %w", path, err)
}

func (s *adminServer) serve(listener net.Listener, handler http.Handler) {
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 5 * time.Second,
		// A command asks servers before it answers.
		WriteTimeout: commandWithin + answerWithin, IdleTimeout: time.Minute, MaxHeaderBytes: 1 << 16,
	}
	s.servers = append(s.servers, server)
	s.running.Go(func() {
		_ = server.Serve(listener) // ends with stop, and only then
	})
}

func (s *adminServer) addr() string { return s.address }

// stop closes the listeners and all connections: the pages take no time worth
// waiting for.
func (s *adminServer) stop() {
	for _, server := range s.servers {
		_ = server.Close()
	}
	s.running.Wait()
}
