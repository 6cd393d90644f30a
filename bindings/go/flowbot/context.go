// SPDX-License-Identifier: GPL-3.0-only

package flowbot

import (
	"bytes"
	"encoding/json"
	"slices"
)

// sdkNames are the names that plugins on flowbot's SDK know for what flowbot's own context has.
var sdkNames = map[string]string{"AsUser": "user_id", "Topic": "channel_id", "Platform": "platform"}

// withBothContexts adds to the context of a call what flowbot's SDK reads, where it is not there already, and leaves the rest as it is
// written. Params of another shape stay as they are: the library, or the plugin, says what is wrong with them.
func withBothContexts(function string, params json.RawMessage) json.RawMessage {
	if function != "command" && function != "form" && function != "input" {
		return params
	}
	context, end := contextIn(params)
	var who map[string]json.RawMessage
	if json.Unmarshal(context, &who) != nil || len(who) == 0 {
		return params
	}
	added, err := json.Marshal(missing(who))
	if err != nil || len(added) <= len("{}") {
		return params
	}
	// Before the brace that closes the context.
	added[0] = ','
	return slices.Concat(params[:end-1], added[:len(added)-1], params[end-1:])
}

// contextIn is the context in the params of a call, and where it ends.
func contextIn(params []byte) (context json.RawMessage, end int64) {
	d := json.NewDecoder(bytes.NewReader(params))
	if open, err := d.Token(); err != nil || open != json.Delim('{') {
		return nil, 0
	}
	for d.More() {
		name, err := d.Token()
		if err != nil || d.Decode(&context) != nil {
			return nil, 0
		}
		if name == "context" {
			return context, d.InputOffset()
		}
	}
	return nil, 0
}

// missing is what flowbot's SDK reads and is not there: each text that it has a name for, and the others as metadata.
func missing(who map[string]json.RawMessage) map[string]any {
	metadata, added := map[string]string{}, map[string]any{}
	for name, value := range who {
		var text string
		if json.Unmarshal(value, &text) != nil || text == "" {
			continue
		}
		if other, known := sdkNames[name]; !known {
			metadata[name] = text
		} else if _, there := who[other]; !there {
			added[other] = text
		}
	}
	if _, there := who["metadata"]; !there {
		added["metadata"] = metadata
	}
	return added
}
