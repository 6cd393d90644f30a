package plugins

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/tetratelabs/wazero/api"
)

// hostModule is the import module `flowbot`: the forms that the SDK uses, over the guest that the ctx of the call names.
func hostModule(ctx context.Context) error {
	builder := engine.NewHostModuleBuilder("flowbot")
	for name, function := range map[string]any{
		"get_config": func(ctx context.Context, m api.Module, key, size, out, capacity uint32) int32 {
			g := asked(ctx)
			name := g.read(key, size)
			if name == "secret" {
				g.failure = "not for you"
				return -2
			}
			value, ok := g.config[name]
			return g.put(value, ok, out, capacity)
		},
		"kv_get": func(ctx context.Context, m api.Module, key, size, out, capacity uint32) int32 {
			g := asked(ctx)
			value, ok := g.kv[g.read(key, size)]
			return g.put(value, ok, out, capacity)
		},
		"kv_set": func(ctx context.Context, m api.Module, key, size, value, valueSize uint32) uint32 {
			g := asked(ctx)
			name := g.read(key, size)
			if name == "full" {
				return uint32(g.fail("the store is full"))
			}
			g.kv[name] = g.read(value, valueSize)
			return 1
		},
		"kv_delete": func(ctx context.Context, m api.Module, key, size uint32) uint32 {
			g := asked(ctx)
			delete(g.kv, g.read(key, size))
			return 1
		},
		"http_request": func(ctx context.Context, m api.Module, request, size uint32) uint64 {
			return asked(ctx).serve(request, size)
		},
		"emit_event": func(ctx context.Context, m api.Module, event, size uint32) uint32 {
			g := asked(ctx)
			g.events = append(g.events, g.read(event, size))
			return 1
		},
		"log": func(ctx context.Context, m api.Module, level, message, size, fields, fieldsSize uint32) {
			g := asked(ctx)
			g.logs = append(g.logs, fmt.Sprintf("%d %s %s", level, g.read(message, size), g.read(fields, fieldsSize)))
		},
		"last_error": func(ctx context.Context, m api.Module) uint64 {
			g := asked(ctx)
			if g.failure == "" {
				return 0
			}
			return g.give(g.failure)
		},
	} {
		builder.NewFunctionBuilder().WithFunc(function).Export(name)
	}
	_, err := builder.Instantiate(ctx)
	return err
}

func asked(ctx context.Context) *guest { return ctx.Value(guestKey{}).(*guest) }

func (g *guest) read(address, size uint32) string {
	data, ok := g.module.Memory().Read(address, size)
	if !ok {
		panic(fmt.Sprintf("the guest passed %d bytes at %#x, outside memory", size, address))
	}
	return string(data)
}

// put answers in the checked form: the value's size, and the value if there is room; -1 for what is missing.
func (g *guest) put(value string, found bool, out, capacity uint32) int32 {
	if !found {
		return -1
	}
	if len(value) <= int(capacity) && !g.module.Memory().Write(out, []byte(value)) {
		panic(fmt.Sprintf("the guest gave %d bytes at %#x, outside memory", capacity, out))
	}
	return int32(len(value))
}

// give answers by value.
func (g *guest) give(value string) uint64 { return g.write([]byte(value))<<32 | uint64(len(value)) }

func (g *guest) fail(text string) uint64 {
	g.failure = text
	return 0
}

func (g *guest) serve(address, size uint32) uint64 {
	var request struct {
		Method, URL string
		Headers     map[string]string
	}
	if err := json.Unmarshal([]byte(g.read(address, size)), &request); err != nil {
		return g.fail("the request is not JSON")
	}
	page, ok := g.pages[request.Method+" "+request.URL]
	if !ok {
		return g.fail("no host may be reached but 127.0.0.1")
	}
	answer, _ := json.Marshal(map[string]any{"status": 200, "headers": request.Headers, "body": []byte(page)})
	return g.give(string(answer))
}
