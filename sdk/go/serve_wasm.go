//go:build wasip1

package sdk

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	_ "unsafe" // for go:linkname
)

var (
	// served is the plugin once main has called Serve.
	served *plugin
	// serving is closed then, or when main has ended without it.
	serving = make(chan struct{})
	// starting is set before main is run on behalf of a host. In a build that is no library main runs by itself, and nobody could call it.
	starting bool
	// startFailure says why there is no plugin.
	startFailure error
)

// Serve runs the plugin. Call it once, as the last thing in main.
//
// As a process it serves until the host asks it to end, then returns. As a WebAssembly module it never returns.
func Serve(module Module) {
	if !starting {
		fmt.Fprintln(os.Stderr, "[ERROR] sdk.Serve runs in a library alone: build with -buildmode=c-shared, and call it from main, not from init")
		os.Exit(1)
	}
	served = &plugin{module}
	close(serving)
	// Whatever main does after Serve it means to do when all is over.
	select {}
}

// pluginMain is the plugin's main. Go does not run it in a library, which a c-shared build is, though it keeps it; running it from here is
// what lets one main serve both runtimes. main_wasip1.s is there to let the declaration go without a body.
//
//go:linkname pluginMain main.main
func pluginMain()

var start = sync.OnceFunc(func() {
	go func() {
		defer func() {
			if value := recover(); value != nil {
				startFailure = fmt.Errorf("the plugin panicked in main: %v", value)
			} else {
				startFailure = errors.New("the plugin's main has ended without a call of sdk.Serve")
			}
			close(serving)
		}()
		starting = true
		pluginMain()
	}()
	<-serving
})

// current is the plugin, started by the first call of the instance.
func current() (*plugin, error) {
	start()
	return served, startFailure
}

// call is one call of the host: parameters read, plugin asked, envelope made.
func call(function string, address, size uint32) uint64 {
	return envelope(func() (json.RawMessage, error) {
		plugin, err := current()
		if err != nil {
			return nil, err
		}
		params, err := parameters(address, size)
		if err != nil {
			return nil, err
		}
		return plugin.call(context.Background(), function, params)
	}())
}

// envelope is the answer as the host expects it.
func envelope(data json.RawMessage, err error) uint64 {
	if err != nil {
		// A string always encodes.
		text, _ := json.Marshal(errorText(err))
		return packed(join(`{"error":`, text, `,"data":null}`))
	}
	return packed(join(`{"error":null,"data":`, orNull(data), `}`))
}
