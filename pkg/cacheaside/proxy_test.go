package cacheaside

import (
	"bytes"
	"context"
	"net"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// proxy stands between a client and Redis and can deliver a request late: after its client has given up.
type proxy struct {
	addr   string
	server string
	held   func(request []byte) bool // decides about each request; runs under mu

	mu       sync.Mutex
	requests [][]byte
	conns    []net.Conn
	closed   bool

	release chan struct{} // closed: the held requests go on
	landed  chan struct{} // one for each held request that the server has answered
	running sync.WaitGroup
}

// newProxy starts a proxy that holds the requests that held chooses.
func newProxy(t *testing.T, server string, held func(request []byte) bool) *proxy {
	t.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &proxy{addr: l.Addr().String(), server: server, held: held, release: make(chan struct{}), landed: make(chan struct{}, 100)}
	p.running.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			p.running.Go(func() { p.serve(client) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		p.mu.Lock()
		p.closed = true
		for _, c := range p.conns {
			_ = c.Close()
		}
		p.mu.Unlock()
		p.deliver()
		p.running.Wait()
	})
	return p
}

// deliver lets the held requests go to the server.
func (p *proxy) deliver() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.release:
	default:
		close(p.release)
	}
}

func (p *proxy) seen(request []byte) (hold bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.requests = append(p.requests, bytes.Clone(request))
	return p.held(request)
}

func (p *proxy) keep(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns = append(p.conns, conns...)
	return !p.closed
}

func (p *proxy) serve(client net.Conn) {
	defer client.Close()
	var d net.Dialer
	server, err := d.DialContext(context.Background(), "tcp", p.server)
	if err != nil {
		return
	}
	defer server.Close()
	if !p.keep(client, server) {
		return
	}
	late := make(chan bool, 1)          // the next reply answers a held request
	answered := make(chan struct{}, 10) // closed when the server is gone
	p.running.Go(func() {
		defer close(answered)
		buf := make([]byte, 1<<16)
		for {
			n, err := server.Read(buf)
			if err != nil {
				return
			}
			select {
			case <-late:
				answered <- struct{}{}
			default:
			}
			_, _ = client.Write(buf[:n]) // the client of a held request is gone
		}
	})
	buf := make([]byte, 1<<16)
	for {
		n, err := client.Read(buf)
		if err != nil {
			return
		}
		if p.seen(buf[:n]) {
			<-p.release
			late <- true
			_, _ = server.Write(buf[:n])
			if _, ok := <-answered; ok {
				p.landed <- struct{}{}
			}
			continue
		}
		if _, err := server.Write(buf[:n]); err != nil {
			return
		}
	}
}

func containing(part string) func([]byte) bool {
	return func(request []byte) bool { return bytes.Contains(request, []byte(part)) }
}

func firstOf(held func([]byte) bool) func([]byte) bool {
	done := false
	return func(request []byte) bool {
		if done || !held(request) {
			return false
		}
		done = true
		return true
	}
}
