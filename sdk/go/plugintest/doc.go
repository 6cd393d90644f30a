// Package plugintest runs a plugin in a Go test, against a host that records what it is asked:
//
//	func TestCreate(t *testing.T) {
//		host := plugintest.NewHost()
//		host.HandleFunc("GET https://api.example.com/title", func(w http.ResponseWriter, r *http.Request) {
//			fmt.Fprint(w, "Hello")
//		})
//		plugin := plugintest.Start(t, bookmarks{}, host, map[string]any{"user_agent": "test"})
//		result, err := plugin.Invoke("create", map[string]string{"url": "https://api.example.com/title"})
//		…
//		if events := host.Events(); len(events) != 1 {
//			t.Error(events)
//		}
//	}
//
// The plugin runs in the test's own process, without a build and without a library. It is called the way that a host calls a
// WebAssembly module: everything goes in and comes out as JSON, and a panic is an error. What only a real host has is not there: no
// manifest, so that nothing is gated and no config is checked against a schema; no limits; no second instance.
package plugintest
