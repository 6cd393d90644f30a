package adapter

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	flowplug "github.com/flowplug/flowplug/bindings/go"
)

// Caller calls a function of a plugin: a [flowplug.Runner], or a host's own choice among several.
type Caller interface {
	Call(ctx context.Context, function string, params json.RawMessage) (json.RawMessage, error)
}

var _ Caller = (*flowplug.Runner)(nil)

// ask calls a function with params, and reads its answer into result. A null leaves result as it is.
func ask(ctx context.Context, plugin Caller, function string, params, result any) error {
	var input json.RawMessage
	if params != nil {
		var err error
		if input, err = encoded(params); err != nil {
			return &flowplug.Error{
				Status: flowplug.StatusInvalidArgument, Function: function,
				Message: "What the plugin is to be given cannot be written as JSON: " + err.Error(),
			}
		}
	}
	output, err := plugin.Call(ctx, function, input)
	if err != nil || isNull(output) {
		return err
	}
	if err := json.Unmarshal(output, result); err != nil {
		return misshapen(function, err)
	}
	return nil
}

// encoded is json.Marshal that leaves <, > and & as they are: nothing here ends up inside a web page.
func encoded(value any) (json.RawMessage, error) {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n")), nil
}

func isNull(text json.RawMessage) bool { return len(text) == 0 || string(text) == "null" }

// isObject says whether JSON that was checked before is an object.
func isObject(text json.RawMessage) bool {
	text = bytes.TrimLeft(text, " \t\r\n")
	return len(text) > 0 && text[0] == '{'
}

var errNoObject = errors.New("it is no JSON object")

// misshapen is the error of an answer that is JSON, and not what the function must answer.
func misshapen(function string, err error) error {
	return &flowplug.Error{
		Status: flowplug.StatusInvalidResponse, Function: function,
		Message: "The plugin's answer does not have the shape that this function answers in: " + err.Error() + ".",
	}
}

// undeclared is the error of what the manifest does not declare.
func undeclared(function, what string) error {
	return &flowplug.Error{
		Status: flowplug.StatusNotFound, Function: function,
		Message: fmt.Sprintf("The plugin's manifest does not declare %s.", what),
	}
}
