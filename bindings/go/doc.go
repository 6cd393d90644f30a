// Package flowplug runs plugins in a Go program: sandboxed WebAssembly modules and
// gRPC subprocesses, behind one contract.
//
// A [Host] holds what plugins may ask of the program (a [HostAPI]), what they are
// granted (the policy) and the library's threads. A [Runner] is one plugin of it:
// Load, Start, Call, Reload, Health, Stop, Close. A [Manifest] says what a plugin is and
// what it asks for. A [Manager] runs whole folders of plugins, and reloads those that
// change. Package adapter makes a Runner a module, an ability or a provider with typed
// methods.
//
// docs/go.md in the repository goes from an empty folder to a plugin and a program that
// runs it.
//
// # Threads and ownership
//
// Host, Runner and Function can be used from any number of goroutines at once. A
// Manifest is a plain value: it may be read by many goroutines, and changed by one while
// nobody reads it; a Runner takes a copy of what it needs. Byte slices that go in
// are borrowed for the call, those that come out belong to the caller.
//
// Close everything: closing a Host ends all of its plugins, and when it has returned no
// method of a HostAPI of this host runs or ever will. What is never closed is freed when
// it is collected, at a time nobody knows.
//
// # Calls and contexts
//
// A call of a wasm plugin runs on the calling goroutine's own thread, and so does a call of a
// gRPC plugin while few of these are under way in the program. Beyond them a goroutine waits
// for its answer and holds no thread, so that thousands may wait. The methods that gRPC plugins
// ask for run on threads of the library, 256 of a [Host] at once, 32 of them for one plugin; they
// may make calls of their own. The context of a call ends it: errors.Is(err,
// context.DeadlineExceeded) or context.Canceled then holds. A bound that the manifest or
// the policy sets is [ErrTimeout] and neither of the two.
//
// The methods of a HostAPI get a context that derives from the one of the call, so that
// its values are there, and that ends when the call does. Calls that a method makes with it
// are known to be nested: at most eight deep, and never a deadlock, but [ErrBusy].
// Methods run inline, on the thread that called a wasm plugin or on a thread of the
// library for a gRPC plugin; a method that blocks without minding its context delays the
// caller, unless the host was made [WithDetachedCallbacks]. A panic in a method fails the plugin's request and nothing else.
//
// # Errors
//
// Every error of the library is an [*Error] and matches one of the sentinels ([ErrBusy],
// [ErrNotFound], …) by errors.Is. What the plugin itself said stands in PluginMessage.
//
// # Building
//
// The package needs cgo, Linux and libflowplug, which a clone of the repository builds and
// `make install PREFIX=...` puts in place. pkg-config finds it when the program is built
// (PKG_CONFIG_PATH=$PREFIX/lib/pkgconfig), the system's loader when it runs (ldconfig, or
// LD_LIBRARY_PATH=$PREFIX/lib). Go's build cache does not see that pkg-config answers
// otherwise than before: after the library has moved, build once with -a. The build tag
// flowplug_static links the static library into the program. Without cgo, or on another
// system, the package compiles and everything that needs the library answers
// [ErrUnsupported].
package flowplug
