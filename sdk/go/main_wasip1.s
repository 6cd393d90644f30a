// Here so that the Go compiler accepts a function without a body: pluginMain, in serve_wasm.go.
