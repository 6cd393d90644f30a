package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// A testCase is one of a corpus file: a line `=== id`, with words after it, and the lines up to the next one.
type testCase struct {
	id   string
	body string
}

// readCases reads a corpus file. The words after an id change the text (open: it ends without a newline); `because` and what
// follows is the reason of a difference, for whoever compares.
func readCases(name string) ([]testCase, error) {
	text, err := os.ReadFile(filepath.Join("corpus", name))
	if err != nil {
		return nil, err
	}
	var cases []testCase
	for _, part := range strings.Split("\n"+strings.TrimSuffix(string(text), "\n"), "\n=== ")[1:] {
		head, body, some := strings.Cut(part, "\n")
		if some {
			body += "\n"
		}
		words, _, _ := strings.Cut(head, " because ")
		fields := strings.Fields(words)
		for _, word := range fields[1:] {
			switch word {
			case "open":
				body = strings.TrimSuffix(body, "\n")
			case "crlf":
				body = strings.ReplaceAll(body, "\n", "\r\n")
			case "cr":
				body = strings.ReplaceAll(body, "\n", "\r")
			case "bom":
				body = "\ufeff" + body
			case "latin1":
				body = strings.ReplaceAll(body, "é", "\xe9")
			case "nul":
				body = strings.ReplaceAll(body, "␀", "\x00")
			case "tabs":
				body = strings.ReplaceAll(body, "→", "\t")
			default:
				return nil, fmt.Errorf("%s: %s: nobody knows the word %q", name, fields[0], word)
			}
		}
		cases = append(cases, testCase{id: fields[0], body: body})
	}
	return cases, nil
}

// answerCases answers every case of a file, a line of JSON each.
func answerCases(name string, answer func(body string) any) ([]byte, error) {
	cases, err := readCases(name)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	for _, c := range cases {
		if err := encoder.Encode(map[string]any{"id": c.id, "flowbot": answer(c.body)}); err != nil {
			return nil, fmt.Errorf("%s: %w", c.id, err)
		}
	}
	return out.Bytes(), nil
}
