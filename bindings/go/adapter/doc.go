// Package adapter gives a running plugin the faces that a Go host knows its own parts by: a [Module] that people talk to, an [Ability]
// whose operations other parts call, a [Provider] of an outside service. Each has typed methods, makes the JSON that plugins take, and reads
// the JSON that they answer; what a plugin answers is checked before the host sees it.
//
//	runner := host.NewRunner("bookmarks")
//	info, err := runner.Load(ctx, manifest)
//	…
//	module := adapter.NewModule(runner)
//	answer, err := module.Command(ctx, adapter.Context{Platform: "slack", UserID: "u1"}, "list")
//
//	for _, ability := range adapter.Abilities(runner, info.Provides) {
//		for operation, invoke := range ability.Invokers() {
//			registry.Add(ability.Capability, operation, invoke)
//		}
//	}
//
// An adapter holds nothing but the runner, and can be used from any number of goroutines at once. Its errors are those of the runner; an
// answer that does not have the shape it must have is [flowplug.ErrInvalidResponse], and what the manifest does not declare
// [flowplug.ErrNotFound].
package adapter
