module github.com/flowplug/flowplug/benches/go

go 1.25.0

require (
	github.com/flowplug/flowplug/bindings/go v0.0.0
	github.com/tetratelabs/wazero v1.12.0
)

require golang.org/x/sys v0.44.0 // indirect

replace github.com/flowplug/flowplug/bindings/go => ../../bindings/go
