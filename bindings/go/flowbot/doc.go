// SPDX-License-Identifier: GPL-3.0-only

// Package flowbot puts flowplug under flowbot: [NewRunner] makes flowbot's [plugin.Runner] of a plugin that the library runs, and what
// the plugin asks for is answered by flowbot's [plugin.HostAPI].
//
// It takes the place of flowbot's own two runners. docs/flowbot.md says which lines flowbot writes, what its operators notice, and how
// to go back.
//
// # Life of a Runner
//
// flowbot's manager makes a Runner, loads it and starts it; its module framework then starts it a second time, with a config of its own. The second
// start does nothing but say so, and the first config stays. A start that failed has ended the plugin, and the second one does nothing then, too: a
// config that is not its own must not bring it up, and an error would stop flowbot's server for the sake of one plugin. Its calls and its
// health say why it does not run.
//
// A reload is a second Runner of the same identity, started while the first still runs. When the first is stopped its calls
// in flight have until the context's deadline to end, and every later call of it goes to the Runner that was started last of those
// that run. So what flowbot has bound to the first Runner, which its abilities and providers are, is on the new plugin after a reload,
// and no call is refused on the way. If the second is stopped first, its later calls go to the first. When the last Runner of
// an identity is stopped the identity is free again.
//
// Runners can be used from many goroutines at once. A Stop ends a Start that is on its way, at its context's deadline at the latest.
// A Host that is closed ends all of its plugins; stop the Runners first, which flowbot does when it unloads plugins.
//
// # Requests of plugins
//
// A URL has passed the plugin's permissions.http before HTTPRequest of the HostAPI is asked. Where the answer is a redirect nobody
// but the HTTP client asks again, and one of net/http's own follows it to any host. So make the client by [flowplug.HTTPClient],
// with the context that HTTPRequest was given: it asks the permissions before each request that it sends. Or return
// [flowplug.ErrUseDefault]: then the library makes the request, and keeps away from addresses that are not public, too.
//
// # Contexts of calls
//
// flowbot writes who asks as {"Id", "Platform", "Topic", "AsUser", …}; plugins on its SDK read {"user_id", "channel_id", "platform",
// "metadata"}. The calls command, form and input get both: AsUser is user_id too, Topic channel_id, Platform platform, and what other texts there
// are stand in metadata under flowbot's names. What flowbot wrote itself is not changed.
//
// # Errors
//
// An error is a [flowplug.Error] (by errors.As), matches the library's sentinels (by errors.Is), and matches the one of flowbot's types.Err… that has
// its meaning, so that flowbot's server answers with the right HTTP status: 503 for [flowplug.ErrBusy], for instance.
//
// # Licence
//
// flowbot is under the GPL-3.0, so this package, which is linked with it, is too. Nothing else in this repository imports it.
package flowbot
