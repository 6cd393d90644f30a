// Command bookmark is a plugin that keeps bookmarks: it fetches a page's title, stores it with the page's address, and lists what it has.
//
// This one file makes both builds, plugin.wasm.yaml and plugin.grpc.yaml are their manifests:
//
//	GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -trimpath -ldflags="-s -w" -o plugin.wasm .
//	go build -trimpath -o bookmark .
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"

	sdk "github.com/flowplug/flowplug/sdk/go"
)

func main() { sdk.Serve(newBookmarks()) }

const (
	capability = "bookmark"
	indexKey   = "index" // the ids of all bookmarks, in order of creation
)

// bookmarks has no state of its own: all of it is in the host's key-value store.
type bookmarks struct {
	sdk.ModuleBase
	sdk.Operations
}

func newBookmarks() bookmarks {
	return bookmarks{Operations: sdk.Operations{"list": sdk.Op(list), "get": sdk.Op(get), "create": sdk.Op(create)}}
}

// request is what get and create are told.
type request struct{ ID, URL string }

type bookmark struct {
	ID    string `json:"id"`
	URL   string `json:"url"`
	Title string `json:"title"`
}

func (bookmarks) Init(_ context.Context, config json.RawMessage) error {
	var settings struct {
		UserAgent string `json:"user_agent"`
	}
	if err := json.Unmarshal(config, &settings); err != nil {
		return fmt.Errorf("the config is not an object with user_agent: %w", err)
	}
	if settings.UserAgent == "" {
		return errors.New("user_agent is empty")
	}
	return nil
}

func (bookmarks) Command(ctx context.Context, _ sdk.Context, _ json.RawMessage) (any, error) {
	ids, err := readIndex(ctx)
	if err != nil {
		return nil, err
	}
	return sdk.TextMsg{Text: fmt.Sprintf("%d bookmark(s) saved. Try: list, get <id>, create <url>.", len(ids))}, nil
}

func (bookmarks) Form(context.Context, sdk.Context, map[string]string) (any, error) {
	return nil, errors.New("no form here")
}

func (bookmarks) Help(context.Context) (map[string][]string, error) {
	return map[string][]string{capability: {
		"list: all bookmarks",
		"get <id>: one bookmark",
		"create <url>: fetch the page's title and save it",
	}}, nil
}

func list(ctx context.Context, _ struct{}) (any, error) {
	ids, err := readIndex(ctx)
	if err != nil {
		return nil, err
	}
	all := make([]bookmark, 0, len(ids))
	for _, id := range ids {
		one, found, err := sdk.Load[bookmark](ctx, key(id))
		if err != nil {
			return nil, err
		}
		if found {
			all = append(all, one)
		}
	}
	return sdk.InvokeResult{Capability: capability, Operation: "list", Data: all, Text: fmt.Sprintf("%d bookmark(s)", len(all))}, nil
}

func get(ctx context.Context, asked request) (any, error) {
	one, found, err := sdk.Load[bookmark](ctx, key(asked.ID))
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, fmt.Errorf("no bookmark with id %s", asked.ID)
	}
	return sdk.InvokeResult{Capability: capability, Operation: "get", Data: one}, nil
}

func create(ctx context.Context, asked request) (any, error) {
	url := asked.URL
	title, err := fetchTitle(ctx, url)
	if err != nil {
		return nil, err
	}
	one := bookmark{ID: idOf(url), URL: url, Title: title}
	if err := save(ctx, one); err != nil {
		return nil, err
	}
	host := sdk.Host(ctx)
	host.Log(ctx, sdk.LevelInfo, "bookmark created", map[string]string{"id": one.ID, "url": url})
	event := sdk.DataEvent{
		EventType: "bookmark.created", Source: "bookmarks", Capability: capability, Operation: "create", EntityID: one.ID,
		Data: map[string]any{"url": url, "title": title},
	}
	if err := host.EmitEvent(ctx, event); err != nil {
		return nil, err
	}
	return sdk.InvokeResult{
		Capability: capability, Operation: "create", Data: one,
		Text:   fmt.Sprintf("Saved \"%s\" as %s.", title, one.ID),
		Events: []sdk.EventRef{{EventID: one.ID + "-created", EventType: event.EventType, EntityID: one.ID}},
	}, nil
}

// save stores a bookmark, and its id in the index if it is new there. The store has no transactions: of two bookmarks that are created at the
// same moment the index can lose one, which then is found by its id alone.
func save(ctx context.Context, one bookmark) error {
	if err := sdk.Store(ctx, key(one.ID), one); err != nil {
		return err
	}
	ids, err := readIndex(ctx)
	if err != nil || slices.Contains(ids, one.ID) {
		return err
	}
	return sdk.Store(ctx, indexKey, append(ids, one.ID))
}

// fetchTitle asks the host for a page and returns its title as it is written there, or the address if it has none.
func fetchTitle(ctx context.Context, url string) (string, error) {
	host := sdk.Host(ctx)
	agent, err := host.GetConfig(ctx, "user_agent")
	if err != nil {
		return "", err
	}
	page, err := host.HTTPRequest(ctx, &sdk.HTTPRequest{Method: "GET", URL: url, Headers: map[string]string{"User-Agent": agent}})
	if err != nil {
		return "", err
	}
	if page.Status != 200 {
		return "", fmt.Errorf("GET %s answered %d", url, page.Status)
	}
	_, after, opened := strings.Cut(string(page.Body), "<title>")
	title, _, closed := strings.Cut(after, "</title>")
	if title = strings.TrimSpace(title); opened && closed && title != "" {
		return title, nil
	}
	return url, nil
}

func idOf(url string) string {
	hash := fnv.New32a()
	hash.Write([]byte(url))
	return fmt.Sprintf("%08x", hash.Sum32())
}

func key(id string) string { return "bookmark/" + id }

func readIndex(ctx context.Context) ([]string, error) {
	ids, _, err := sdk.Load[[]string](ctx, indexKey)
	return ids, err
}
