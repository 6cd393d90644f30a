package main

import (
	"strings"

	"github.com/bytedance/sonic"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

// answerConfigs answers a schema, the first line, and each config, a line of its own: "-" is an absent one.
func answerConfigs(text string) any {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	said := []string{}
	for _, config := range lines[1:] {
		if config == "-" {
			config = ""
		}
		said = append(said, validate(lines[0], config))
	}
	return said
}

// validate checks in flowbot's order: the schema as JSON, the config as JSON, the schema as a schema, the config by it.
func validate(schema, config string) (said string) {
	defer func() {
		if broken := recover(); broken != nil {
			said = "panic"
		}
	}()
	if schema == "" {
		return "valid"
	}
	document, err := jsonschema.UnmarshalJSON(strings.NewReader(schema))
	if err != nil {
		return "invalid schema"
	}
	var value any
	if err := sonic.Unmarshal([]byte(config), &value); err != nil {
		return "not JSON"
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("plugin.yaml", document); err != nil {
		return "invalid schema"
	}
	compiled, err := compiler.Compile("plugin.yaml")
	if err != nil {
		return "invalid schema"
	}
	if err := compiled.Validate(value); err != nil {
		return "invalid config"
	}
	return "valid"
}
