package servers

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/testcontainers/testcontainers-go"
)

const nodesDir = "/nodes" // in the container: a script that starts the nodes, and a directory for each

// nodeConfig is what a node's configuration file says.
type nodeConfig struct {
	lines    []string
	sentinel bool
}

func dirOf(port int) string { return nodesDir + "/" + strconv.Itoa(port) }

// dataLines configure a server that keeps data. Replicas log in as a user of their own.
func (s settings) dataLines(port int) []string {
	lines := append(s.tls.lines(port, s.clientCerts),
		"protected-mode no",
		`save ""`,
		"appendonly no",
		"repl-diskless-sync-delay 0",
		"repl-ping-replica-period 1",
		"user "+replicationUser+" on >"+password+" ~* &* +@all", // Valkey moves slots as that user as well
		"masteruser "+replicationUser,
		"masterauth "+password,
	)
	if s.password != "" {
		lines = append(lines, "requirepass "+s.password)
	}
	return append(lines, s.users...)
}

// nodeFiles are a node's configuration and the script that runs it.
func (s settings) nodeFiles(port int, node nodeConfig) []testcontainers.ContainerFile {
	command := []string{s.kind.command, "./conf"}
	if node.sentinel {
		command = append(command, "--sentinel") // a binary of that name is not in every image
	} else {
		for _, arg := range s.args {
			command = append(command, quote(arg))
		}
	}
	return []testcontainers.ContainerFile{
		textFile(dirOf(port)+"/conf", strings.Join(append(node.lines, "dir "+dirOf(port)), "\n")+"\n"),
		textFile(dirOf(port)+"/run", fmt.Sprintf("cd %s || exit\n%s >>log 2>&1 </dev/null &\necho $! >pid\n", dirOf(port), strings.Join(command, " "))),
	}
}

// startScript starts the nodes and stays, as the parent that processes without one need: a dead one would be there for ever.
func startScript(ports []int) string {
	var script strings.Builder
	for _, port := range ports {
		fmt.Fprintf(&script, "sh %s/run\n", dirOf(port))
	}
	script.WriteString("while :; do sleep 1; done\n")
	return script.String()
}

func textFile(path, text string) testcontainers.ContainerFile {
	return testcontainers.ContainerFile{Reader: strings.NewReader(text), ContainerFilePath: path, FileMode: 0o644}
}

func quote(arg string) string { return "'" + strings.ReplaceAll(arg, "'", `'\''`) + "'" }
