package demo

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"
)

const pageHTML = `<!doctype html>
<html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="1"><title>invalidator demo</title>
<h1>invalidator demo</h1>
<pre>
%s
</pre>
</html>
`

// openPage serves the numbers until stop, which waits. Headless it does nothing.
func openPage(ctx context.Context, o Options, c *counts) (address string, stop func(), err error) {
	if o.Headless {
		return "", func() {}, nil
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", o.Listen)
	if errors.Is(err, syscall.EADDRINUSE) {
		return "", nil, fmt.Errorf("the address %s is taken: is another demo running? choose another one with --listen, or --headless for none", o.Listen)
	}
	if err != nil {
		return "", nil, fmt.Errorf("can not listen on %s: choose an address of this machine with --listen: %w", o.Listen, err)
	}
	server := &http.Server{
		Handler:           page(c),
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 5 * time.Second,
		WriteTimeout: 5 * time.Second, IdleTimeout: time.Minute,
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = server.Serve(listener) // ends with stop, and only then
	}()
	return listener.Addr().String(), func() {
		_ = server.Close()
		<-ended
	}, nil
}

func page(c *counts) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = fmt.Fprintf(w, pageHTML, strings.ReplaceAll(c.now().progress(), " ", "\n"))
	})
	return mux
}
