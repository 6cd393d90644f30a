package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// What is committed is what the program says today, so that neither drifts from the other.
func TestCommittedAnswersAreTodays(t *testing.T) {
	for name, answer := range answers {
		t.Run(name, func(t *testing.T) {
			today, err := answer()
			if err != nil {
				t.Fatal(err)
			}
			committed, err := os.ReadFile(filepath.Join("corpus", name))
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(today, committed) {
				t.Errorf("corpus/%s is not what `go run . write` writes", name)
			}
		})
	}
}
