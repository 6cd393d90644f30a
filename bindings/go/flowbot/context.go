// SPDX-License-Identifier: GPL-3.0-only

package flowbot

import "encoding/json"

// sdkNames are the names that plugins on flowbot's SDK know for what flowbot's own context has.
var sdkNames = map[string]string{"AsUser": "user_id", "Topic": "channel_id", "Platform": "platform"}

// withBothContexts adds to the context of a call what flowbot's SDK reads, where it is not there already. Params of another shape
// stay as they are: the library, or the plugin, says what is wrong with them.
func withBothContexts(function string, params json.RawMessage) json.RawMessage {
	if function != "command" && function != "form" && function != "input" {
		return params
	}
	var call, who map[string]json.RawMessage
	if json.Unmarshal(params, &call) != nil || json.Unmarshal(call["context"], &who) != nil || who == nil {
		return params
	}
	metadata := map[string]string{}
	added := map[string]any{"metadata": metadata}
	for name, value := range who {
		var text string
		if json.Unmarshal(value, &text) != nil || text == "" {
			continue
		}
		if other, known := sdkNames[name]; known {
			added[other] = text
		} else {
			metadata[name] = text
		}
	}
	for name, value := range added {
		if _, there := who[name]; there {
			continue
		}
		who[name], _ = json.Marshal(value)
	}
	call["context"], _ = json.Marshal(who)
	both, err := json.Marshal(call)
	if err != nil {
		return params
	}
	return both
}
