package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"time"

	"github.com/flowplug/flowplug/tests/plugins/go/plain/pb"
)

// misbehave obeys a command whose content is one of these words.
func misbehave(content string) (answer *pb.CommandResponse, obeyed bool) {
	switch content {
	case "flood":
		go flood(os.Stdout, "out ")
		go flood(os.Stderr, "without an end ")
		return &pb.CommandResponse{}, true
	case "panic":
		go deeper(30)
		select {}
	case "grandchild":
		return grandchild(), true
	}
	if name, found := strings.CutPrefix(content, "farewell "); found {
		letter.Store(name)
		return &pb.CommandResponse{}, true
	}
	return nil, false
}

// letter is the name of the file that farewell writes.
var letter atomic.Value

// farewell is what is left to do when the plugin was asked to end, and takes a moment.
func farewell() {
	if name, asked := letter.Load().(string); asked {
		time.Sleep(50 * time.Millisecond)
		_ = os.WriteFile(name, []byte("farewell"), 0o600)
	}
}

// flood prints for ever, to standard error without an end of line.
func flood(stream *os.File, piece string) {
	piece = strings.Repeat(piece, 1000)
	for i := 0; ; i++ {
		if stream == os.Stdout {
			fmt.Fprintln(stream, i, piece)
		} else if _, err := stream.WriteString(piece); err != nil {
			return
		}
	}
}

// deeper panics on a stack of some depth.
func deeper(depth int) int {
	if depth == 0 {
		panic("at the bottom\nof 30 functions")
	}
	return deeper(depth-1) + 1
}

// grandchild leaves a process that has the output of this one, and answers its number.
func grandchild() *pb.CommandResponse {
	child := exec.Command("sleep", "600")
	inherited, err := os.OpenFile("/dev/fd/2", os.O_WRONLY, 0)
	if err == nil {
		child.Stdout, child.Stderr = inherited, inherited
		err = child.Start()
	}
	if err != nil {
		return &pb.CommandResponse{Error: err.Error()}
	}
	return &pb.CommandResponse{Payload: fmt.Sprint(child.Process.Pid)}
}
