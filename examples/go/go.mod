module github.com/flowplug/flowplug/examples/go

go 1.24

require github.com/flowplug/flowplug/bindings/go v0.0.0

replace github.com/flowplug/flowplug/bindings/go => ../../bindings/go
