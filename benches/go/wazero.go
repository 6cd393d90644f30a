package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
)

var errOutside = errors.New("the guest named memory that it does not have")

// bare is wazero with nothing around it: functions found once, no deadline, one instance for one caller. The
// answer's data is cut out of the envelope, whose form this guest never changes.
type bare struct {
	memory api.Memory
	echo   func(json.RawMessage) (json.RawMessage, error)
}

func newBare(code []byte) (*bare, error) {
	ctx := context.Background()
	module, err := wazero.NewRuntime(ctx).Instantiate(ctx, code)
	if err != nil {
		return nil, err
	}
	b := &bare{memory: module.Memory()}
	alloc, free, echo := module.ExportedFunction("alloc"), module.ExportedFunction("free"), module.ExportedFunction("echo")
	const before, after = len(`{"error":null,"data":`), len(`}`)
	b.echo = func(params json.RawMessage) (json.RawMessage, error) {
		var stack [2]uint64
		stack[0] = uint64(len(params))
		if err := alloc.CallWithStack(ctx, stack[:]); err != nil {
			return nil, err
		}
		if !b.memory.Write(uint32(stack[0]), params) {
			return nil, errOutside
		}
		stack[1] = uint64(len(params))
		if err := echo.CallWithStack(ctx, stack[:]); err != nil {
			return nil, err
		}
		at, size := uint32(stack[0]>>32), uint32(stack[0])
		envelope, ok := b.memory.Read(at, size)
		if !ok {
			return nil, errOutside
		}
		result := append(json.RawMessage(nil), envelope[before:len(envelope)-after]...)
		stack[0] = uint64(at)
		return result, free.CallWithStack(ctx, stack[:])
	}
	return b, nil
}

// flowbots does what flowbot's documentation says of its wasm runner: a pool of instances, the execution limit as a
// deadline that closes the module, parameters marshalled, memory allocated, written and read through the exports, the
// envelope unmarshalled.
type flowbots struct{ pool chan api.Module }

const (
	maxInstances = 4
	waitTimeout  = 5 * time.Second
	execution    = 30 * time.Second
)

func newFlowbots(code []byte) (*flowbots, error) {
	ctx := context.Background()
	runtime := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfig().WithCloseOnContextDone(true))
	compiled, err := runtime.CompileModule(ctx, code)
	if err != nil {
		return nil, err
	}
	f := &flowbots{pool: make(chan api.Module, maxInstances)}
	for range maxInstances {
		module, err := runtime.InstantiateModule(ctx, compiled, wazero.NewModuleConfig().WithName(""))
		if err != nil {
			return nil, err
		}
		f.pool <- module
	}
	return f, nil
}

func (f *flowbots) call(ctx context.Context, function string, params any) (json.RawMessage, error) {
	ctx, cancel := context.WithTimeout(ctx, execution)
	defer cancel()
	module, err := f.take(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { f.pool <- module }()
	text, err := json.Marshal(params)
	if err != nil {
		return nil, err
	}
	at, err := module.ExportedFunction("alloc").Call(ctx, uint64(len(text)))
	if err != nil {
		return nil, err
	}
	if !module.Memory().Write(uint32(at[0]), text) {
		return nil, errOutside
	}
	packed, err := module.ExportedFunction(function).Call(ctx, at[0], uint64(len(text)))
	if err != nil {
		return nil, err
	}
	result, size := uint32(packed[0]>>32), uint32(packed[0])
	read, ok := module.Memory().Read(result, size)
	if !ok {
		return nil, errOutside
	}
	var envelope struct {
		Error *string         `json:"error"`
		Data  json.RawMessage `json:"data"`
	}
	if err := json.Unmarshal(read, &envelope); err != nil {
		return nil, fmt.Errorf("the envelope: %w", err)
	}
	if envelope.Error != nil {
		return nil, errors.New(*envelope.Error)
	}
	_, err = module.ExportedFunction("free").Call(ctx, uint64(result))
	return envelope.Data, err
}

func (f *flowbots) take(ctx context.Context) (api.Module, error) {
	patience := time.NewTimer(waitTimeout)
	defer patience.Stop()
	select {
	case module := <-f.pool:
		return module, nil
	case <-patience.C:
		return nil, errors.New("every instance is busy")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
