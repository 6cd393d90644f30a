package sdk

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
)

// Load reads a value that Store has put into the key-value store, and says whether there is one.
func Load[T any](ctx context.Context, key string) (value T, found bool, err error) {
	raw, found, err := Host(ctx).KVGet(ctx, key)
	if err != nil || !found {
		return value, false, err
	}
	if err := json.Unmarshal(raw, &value); err != nil {
		return value, false, fmt.Errorf("what is stored as %s is not what it should be: %w", key, err)
	}
	return value, true, nil
}

// Store puts a value into the key-value store, as JSON.
func Store(ctx context.Context, key string, value any) error {
	raw, err := marshal(value)
	if err != nil {
		return fmt.Errorf("what is to be stored as %s is not JSON: %w", key, err)
	}
	return Host(ctx).KVSet(ctx, key, raw)
}

// Config reads one key of the plugin's config, and says whether there is one. A string of T is the text as it stands there.
func Config[T any](ctx context.Context, key string) (value T, found bool, err error) {
	text, err := Host(ctx).GetConfig(ctx, key)
	if err != nil || text == "" {
		return value, false, err
	}
	if plain, ok := any(&value).(*string); ok {
		*plain = text
		return value, true, nil
	}
	if err := json.Unmarshal([]byte(text), &value); err != nil {
		return value, false, fmt.Errorf("%s in the config is not what it should be: %w", key, err)
	}
	return value, true, nil
}

// Operations is an Ability made of a function for each operation. Embed it beside ModuleBase.
type Operations map[string]Operation

// Operation is one operation of an Ability; Op makes it.
type Operation func(ctx context.Context, params json.RawMessage) (any, error)

var _ Ability = Operations{}

// Op makes an Operation of a function whose params are typed. Params that are null leave P empty.
func Op[P any](run func(ctx context.Context, params P) (any, error)) Operation {
	return func(ctx context.Context, raw json.RawMessage) (any, error) {
		var params P
		if err := json.Unmarshal(orNull(raw), &params); err != nil {
			return nil, fmt.Errorf("the params do not have the shape that this operation takes: %w", err)
		}
		return run(ctx, params)
	}
}

// Invoke runs an operation. The error for one that does not exist names those that do.
func (o Operations) Invoke(ctx context.Context, operation string, params json.RawMessage) (any, error) {
	run, ok := o[operation]
	if !ok {
		return nil, fmt.Errorf("no operation %q: there are %s", operation, strings.Join(o.Names(), ", "))
	}
	return run(ctx, params)
}

// Names are the names of all operations, in order.
func (o Operations) Names() []string {
	names := make([]string, 0, len(o))
	for name := range o {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// Logger returns a logger whose records go to the host that runs this plugin or that ctx has. A record that is made with a ctx of a call
// goes to that call's host. Groups are written as prefixes: `http.status`.
func Logger(ctx context.Context) *slog.Logger { return slog.New(&logHandler{ctx: ctx}) }

// logHandler writes records of log/slog to the host.
type logHandler struct {
	ctx    context.Context
	prefix string
	fields []slog.Attr // with their prefixes
}

func (h *logHandler) Enabled(context.Context, slog.Level) bool { return true }

func (h *logHandler) Handle(ctx context.Context, record slog.Record) error {
	fields := make(map[string]string, len(h.fields)+record.NumAttrs())
	for _, attr := range h.fields {
		fields[attr.Key] = attr.Value.String()
	}
	record.Attrs(func(attr slog.Attr) bool {
		for _, flat := range flattened(nil, h.prefix, attr) {
			fields[flat.Key] = flat.Value.String()
		}
		return true
	})
	if ctx == context.Background() {
		ctx = h.ctx // Info and the like are given no context by their callers
	}
	Host(ctx).Log(ctx, levelOf(record.Level), record.Message, fields)
	return nil
}

func (h *logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	next := &logHandler{h.ctx, h.prefix, slices.Clip(h.fields)}
	for _, attr := range attrs {
		next.fields = flattened(next.fields, h.prefix, attr)
	}
	return next
}

func (h *logHandler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	return &logHandler{h.ctx, h.prefix + name + ".", h.fields}
}

// flattened adds an attribute, and what is in it if it is a group.
func flattened(to []slog.Attr, prefix string, attr slog.Attr) []slog.Attr {
	value := attr.Value.Resolve()
	if value.Kind() != slog.KindGroup {
		if attr.Key == "" {
			return to
		}
		return append(to, slog.Attr{Key: prefix + attr.Key, Value: value})
	}
	if attr.Key != "" {
		prefix += attr.Key + "."
	}
	for _, inner := range value.Group() {
		to = flattened(to, prefix, inner)
	}
	return to
}

func levelOf(level slog.Level) Level {
	switch {
	case level < slog.LevelInfo:
		return LevelDebug
	case level < slog.LevelWarn:
		return LevelInfo
	case level < slog.LevelError:
		return LevelWarn
	default:
		return LevelError
	}
}
