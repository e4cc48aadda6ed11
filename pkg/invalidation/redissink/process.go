package redissink

import (
	"errors"
	"os"
	"strings"
	"syscall"
)

// process says where in the world a process runs, so that another one on the
// same machine can tell whether it still does.
type process struct {
	Machine string `json:"machine"` // its boot, and the process ids' namespace
	PID     int    `json:"pid"`
}

// thisProcess returns nil where the system does not tell, which is on all but
// Linux.
func thisProcess() *process {
	machine := thisMachine()
	if machine == "" {
		return nil
	}
	return &process{machine, os.Getpid()}
}

func thisMachine() string {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	namespace, err := os.Readlink("/proc/self/ns/pid")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(boot)) + " " + namespace
}

// isDead reports whether it is known not to run any more.
func (p *process) isDead() bool {
	if p == nil || p.PID <= 0 || p.Machine != thisMachine() {
		return false
	}
	found, err := os.FindProcess(p.PID)
	if err != nil {
		return false
	}
	err = found.Signal(syscall.Signal(0))
	return errors.Is(err, os.ErrProcessDone) || errors.Is(err, syscall.ESRCH)
}
