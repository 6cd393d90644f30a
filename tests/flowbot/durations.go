package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"strconv"
	"strings"
	"time"
)

const (
	durationBlocks = 128
	durationBlock  = 256
)

// answerDurations says what time.ParseDuration makes of 32,768 texts, as a digest of each block of 256, and the first
// text of the block with its value, for people. The Rust test makes the same texts by the same rules.
func answerDurations() ([]byte, error) {
	var out bytes.Buffer
	texts := durationTexts{seed: 0x9e3779b97f4a7c15}
	for range durationBlocks {
		digest := sha256.New()
		first := ""
		for i := range durationBlock {
			text := texts.next()
			said := "error"
			if d, err := time.ParseDuration(text); err == nil {
				said = strconv.FormatInt(int64(d), 10)
			}
			fmt.Fprintf(digest, "%s=%s\n", text, said)
			if i == 0 {
				first = fmt.Sprintf("%q=%s", text, said)
			}
		}
		fmt.Fprintf(&out, "%x %s\n", digest.Sum(nil)[:8], first)
	}
	return out.Bytes(), nil
}

// durationTexts makes texts that are durations, nearly are, or are at the edges of what a duration can be.
type durationTexts struct{ seed uint64 }

// below is a number below n, by xorshift.
func (t *durationTexts) below(n uint64) uint64 {
	t.seed ^= t.seed << 13
	t.seed ^= t.seed >> 7
	t.seed ^= t.seed << 17
	return (t.seed >> 11) % n
}

func (t *durationTexts) digits(most uint64) string {
	text := ""
	for range t.below(most + 1) {
		text += string(rune('0' + t.below(10)))
	}
	return text
}

var (
	durationEdges = strings.Fields("0 9223372036854775807 9223372036854775808 9223372036854775809 2562047 153722867 9223372036 " +
		"18446744073709551616 1 00 0.999999999 .5 5. 0.9223372036854775807 0.9223372036854775808 .9223372036854775809 1e3 0x1 1_0")
	durationUnits = strings.Fields("ns us µs μs ms s m h s m h")
	durationNoise = strings.Fields("- + . n d S 秒 ٣ e x , -- .. ns")
)

func (t *durationTexts) next() string {
	text := []string{"", "", "", "-", "+"}[t.below(5)]
	for range t.below(4) {
		switch t.below(6) {
		case 0:
			text += durationEdges[t.below(uint64(len(durationEdges)))]
		case 1:
			text += t.digits(21)
		case 2:
			text += t.digits(12) + "." + t.digits(22)
		case 3:
			text += t.digits(1) + "." + t.digits(4)
		default:
			text += t.digits(4)
		}
		text += durationUnits[t.below(uint64(len(durationUnits)))]
	}
	switch t.below(8) {
	case 0:
		text += durationNoise[t.below(uint64(len(durationNoise)))]
	case 1:
		text = durationNoise[t.below(uint64(len(durationNoise)))] + text
	case 2:
		text += t.digits(3)
	case 3:
		// Cut between any two characters.
		text = string([]rune(text)[:t.below(uint64(len([]rune(text)))+1)])
	}
	return text
}
