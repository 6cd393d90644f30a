module github.com/flowline-io/flowbot

go 1.26

require (
	github.com/goccy/go-yaml v1.19.2
	github.com/rs/zerolog v1.35.0
)

require (
	github.com/mattn/go-colorable v0.1.14 // indirect
	github.com/mattn/go-isatty v0.0.20 // indirect
	golang.org/x/sys v0.29.0 // indirect
)
