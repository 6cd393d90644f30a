module github.com/flowplug/flowplug/bindings/go/flowbot

go 1.26

require (
	github.com/flowline-io/flowbot v0.99.4
	github.com/flowplug/flowplug/bindings/go v0.0.0
)

replace github.com/flowplug/flowplug/bindings/go => ..
