module github.com/flowplug/flowplug/bindings/go

go 1.24
