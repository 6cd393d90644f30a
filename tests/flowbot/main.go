// Command flowbot says what flowbot makes of the manifests, configs and durations in corpus/, one JSON line a case.
//
// flowbot's module is on no proxy (the README has the answer), so this is a reference derived from reading its
// public code at v0.99.4: the struct types and tags of its documented API, the order of its checks and the way its wasm
// runner reads limits are facts restated here; no line of it is copied. What decodes and validates is the real
// thing: the YAML, JSON and JSON Schema libraries at the versions that flowbot's go.mod pins.
//
//	go run . write    writes the expected answers into corpus/
//	go test ./...     fails where they are not what this program says today
package main

import (
	"fmt"
	"os"
	"path/filepath"
)

// answers maps each file of expected answers to what makes it.
var answers = map[string]func() ([]byte, error){
	"manifests.jsonl": func() ([]byte, error) { return answerCases("manifests.txt", answerManifest) },
	"configs.jsonl":   func() ([]byte, error) { return answerCases("configs.txt", answerConfigs) },
	"durations.txt":   answerDurations,
}

func main() {
	if len(os.Args) != 2 || os.Args[1] != "write" {
		fmt.Fprintln(os.Stderr, "usage: go run . write")
		os.Exit(2)
	}
	for name, answer := range answers {
		text, err := answer()
		if err == nil {
			err = os.WriteFile(filepath.Join("corpus", name), text, 0o644)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}
