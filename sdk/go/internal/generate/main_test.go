package main

import (
	"os"
	"path/filepath"
	"testing"
)

// The committed code is what the proto file makes.
func TestCommittedCodeIsCurrent(t *testing.T) {
	const root = "../../../.."
	for _, target := range targets {
		files, err := generate(filepath.Join(root, "proto"), target)
		if err != nil {
			t.Fatal(err)
		}
		if len(files) != 2 {
			t.Fatalf("%d files were generated, not the messages and the services", len(files))
		}
		for name, want := range files {
			got, err := os.ReadFile(filepath.Join(root, target, name))
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != want {
				t.Errorf("%s is not what %s makes: run sdk/go/generate.sh", filepath.Join(target, name), protoFile)
			}
		}
	}
}
