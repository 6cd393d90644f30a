//go:build cgo && linux

package flowplug

// #include "shim.h"
import "C"

import (
	"os"
	"sync"
	"sync/atomic"
)

// telling says that a goroutine tells of the ends of calls; mu guards its beginning.
var telling struct {
	atomic.Bool
	mu sync.Mutex
}

// tellEnded sees to it that a goroutine tells others of the ends of calls that no thread waits for. The library adds each to a list, and Go's
// poller hears of it as of any socket.
func tellEnded() error {
	if telling.Load() {
		return nil
	}
	telling.mu.Lock()
	defer telling.mu.Unlock()
	if telling.Load() {
		return nil
	}
	fd := C.fp_ended_fd()
	if fd < 0 {
		return &Error{Status: StatusIO, Message: "The system gave no descriptor by which to hear of the ends of calls; check the limit on open files."}
	}
	telling.Store(true)
	go func(file *os.File) {
		var count [8]byte
		for {
			if _, err := file.Read(count[:]); err != nil {
				panic("flowplug: the ends of calls cannot be heard of: " + err.Error())
			}
			forceGC()
			for c := C.fp_ended(); c != nil; {
				next := c.next // whoever is told may begin another call at once
				frameByID(uint32(c.id)).ended <- struct{}{}
				c = next
			}
		}
	}(os.NewFile(uintptr(fd), "flowplug"))
	return nil
}
