// Package server finds the Redis that benchmarks run against.
package server

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// Addr returns what BENCH_REDIS_ADDR says. Load goes to this machine only, so it has to be a loopback address.
func Addr() (string, error) {
	addr := os.Getenv("BENCH_REDIS_ADDR")
	if addr == "" {
		return "", errors.New("BENCH_REDIS_ADDR is not set: run this under bench/with-redis, or set it to host:port")
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return "", fmt.Errorf("BENCH_REDIS_ADDR: %w", err)
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return "", fmt.Errorf("BENCH_REDIS_ADDR: %s is not a loopback address such as 127.0.0.1", host)
	}
	return addr, nil
}

// Version returns the version of the server behind rdb.
func Version(ctx context.Context, rdb *redis.Client) (string, error) {
	info, err := rdb.Info(ctx, "server").Result()
	if err != nil {
		return "", fmt.Errorf("ask Redis for its version: %w", err)
	}
	return field(info, "redis_version"), nil
}

// CPU returns the processor time that the server has used since its start.
func CPU(ctx context.Context, rdb *redis.Client) (time.Duration, error) {
	info, err := rdb.Info(ctx, "cpu").Result()
	if err != nil {
		return 0, fmt.Errorf("ask Redis for its processor time: %w", err)
	}
	var seconds float64
	for _, name := range []string{"used_cpu_user", "used_cpu_sys"} {
		part, err := strconv.ParseFloat(field(info, name), 64)
		if err != nil {
			return 0, fmt.Errorf("read %s: %w", name, err)
		}
		seconds += part
	}
	return time.Duration(seconds * float64(time.Second)), nil
}

func field(info, name string) string {
	lines := bufio.NewScanner(strings.NewReader(info))
	for lines.Scan() {
		if value, found := strings.CutPrefix(lines.Text(), name+":"); found {
			return value
		}
	}
	return ""
}
