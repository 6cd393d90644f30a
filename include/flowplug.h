/*
 * flowplug: a plugin host. Generated from src/ffi; `make header` writes it anew.
 *
 * THREADS. Every function may be called from any thread, and any number of threads may use one handle at once, unless
 * its comment says otherwise. Callbacks come from any thread, several at once: inline, on the thread that called the
 * plugin (wasm, where that has stack enough), or on a thread of the library (gRPC, asynchronous calls, and everything
 * with callbacks: detached). A callback may call the library, but for what would wait for the callback itself: closing,
 * stopping or reloading the object that it serves is FLOWPLUG_INVALID_STATE. It may return without an answer and answer
 * the request later, from any thread. In a child made by fork everything answers FLOWPLUG_INVALID_STATE.
 *
 * OWNERSHIP. What a function named _new, _parse, _read, _load or _get gives is ended, once, by the _free of its kind;
 * _free(NULL) does nothing, and no _free blocks. Handles may be freed in any order: each keeps what it needs. A
 * flowplug_str that goes in is borrowed until the function returns; one that a callback gets, until the callback
 * returns. A flowplug_bytes that comes out is the caller's, to be ended with flowplug_bytes_free. When
 * flowplug_host_close has returned FLOWPLUG_OK, no callback of that host runs or ever will.
 *
 * ERRORS. A flowplug_status other than FLOWPLUG_OK is a failure; the numbers never change. `error`, always last, may be
 * NULL; otherwise a failure stores an error there that the caller frees, and a success leaves it alone. Other outputs
 * are written only on success. NULL, a number that is no token, text that is not UTF-8: nothing here crashes on them,
 * they are errors.
 *
 * STRUCTS that start with struct_size may grow. Start from their _INIT macro, which sets the size and spells out every
 * member. An unknown tail must be zero.
 */

#ifndef FLOWPLUG_H
#define FLOWPLUG_H

#include <stddef.h>
#include <stdint.h>

/* The ABI that this header describes: flowplug_abi_version() of a library that fits says the same. */
#define FLOWPLUG_ABI_VERSION 1
#define FLOWPLUG_VERSION_MAJOR 0
#define FLOWPLUG_VERSION_MINOR 1
#define FLOWPLUG_VERSION_PATCH 0

/* flowplug_status; flowplug_status_name() names them. */
#define FLOWPLUG_OK 0
/* An argument is NULL, out of range, of a wrong size, or not UTF-8. */
#define FLOWPLUG_INVALID_ARGUMENT 1
/* The manifest cannot be used. */
#define FLOWPLUG_INVALID_MANIFEST 2
/* The config is not what the manifest's schema, or the host, asks for. */
#define FLOWPLUG_INVALID_CONFIG 3
/* The object is not in a state in which this is legal. */
#define FLOWPLUG_INVALID_STATE 4
/* No such plugin, ability, operation or token; or the manifest does not provide it. */
#define FLOWPLUG_NOT_FOUND 5
/* The plugin has no function of this name. */
#define FLOWPLUG_UNKNOWN_FUNCTION 6
/* The plugin could not be loaded. */
#define FLOWPLUG_LOAD_FAILED 7
/* The plugin could not be started. */
#define FLOWPLUG_START_FAILED 8
/* The plugin answered with an error of its own: flowplug_error_plugin_message() has its text. */
#define FLOWPLUG_PLUGIN_ERROR 9
/* The plugin answered something that is not an answer. */
#define FLOWPLUG_INVALID_RESPONSE 10
/* The guest trapped. */
#define FLOWPLUG_TRAP 11
/* The guest needs more memory than it may have. */
#define FLOWPLUG_OUT_OF_MEMORY 12
/* The deadline passed. */
#define FLOWPLUG_TIMEOUT 13
/* The call was cancelled. */
#define FLOWPLUG_CANCELLED 14
/* No instance came free in time, or calls are nested too deep. */
#define FLOWPLUG_BUSY 15
/* The policy or the manifest does not allow it. */
#define FLOWPLUG_PERMISSION_DENIED 16
/* The plugin's process is gone or restarting. */
#define FLOWPLUG_UNAVAILABLE 17
/* A callback of the embedding program failed. */
#define FLOWPLUG_HOST_ERROR 18
/* The system failed to read, write or start something. */
#define FLOWPLUG_IO 19
/* A fault of the library. */
#define FLOWPLUG_INTERNAL 20
/* This version cannot do it. */
#define FLOWPLUG_UNSUPPORTED 21

/* Levels of flowplug_log_record. */
#define FLOWPLUG_LOG_DEBUG 0
#define FLOWPLUG_LOG_INFO 1
#define FLOWPLUG_LOG_WARN 2
#define FLOWPLUG_LOG_ERROR 3

/* flowplug_plugin_state() */
#define FLOWPLUG_STATE_LOADING 0
#define FLOWPLUG_STATE_RUNNING 1
#define FLOWPLUG_STATE_STOPPING 2
#define FLOWPLUG_STATE_ERROR 3
#define FLOWPLUG_STATE_STOPPED 4

/* flowplug_function_runtime() */
#define FLOWPLUG_RUNTIME_WASM 0
#define FLOWPLUG_RUNTIME_GRPC 1

/* flowplug_call_options.timeout_ns: no bound of the caller's; the manifest's and the policy's hold. */
#define FLOWPLUG_NO_TIMEOUT UINT64_MAX
/* flowplug_call_options.flags: only the UTF-8 and the envelope of a result are checked: for who parses it anyway. */
#define FLOWPLUG_CALL_TRUST_JSON 1
/* flowplug_completion.flags: done and destroy never wait, and of the library call nothing but what reads and frees a result and an error.
   They may then run on any of its threads, without the detour by one that may wait. */
#define FLOWPLUG_COMPLETION_QUICK 1

/* A flowplug_str of a string literal, in an expression. */
#ifdef __cplusplus
#define FLOWPLUG_STR(literal) (flowplug_str{literal, sizeof(literal) - 1})
#else
#define FLOWPLUG_STR(literal) ((flowplug_str){literal, sizeof(literal) - 1})
#endif

/* The same in a static initialiser. */
#define FLOWPLUG_STR_INIT(literal) {literal, sizeof(literal) - 1}

/* A flowplug_bytes handed on as a flowplug_str: borrowed, so it must outlive the use. */
#ifdef __cplusplus
#define FLOWPLUG_BYTES_STR(bytes) (flowplug_str{reinterpret_cast<const char *>((bytes).ptr), (bytes).len})
#else
#define FLOWPLUG_BYTES_STR(bytes) ((flowplug_str){(const char *)(bytes).ptr, (bytes).len})
#endif

/* Initial values of the structs that may grow: the size, and every member spelled out. */
#define FLOWPLUG_CALL_OPTIONS_INIT {sizeof(flowplug_call_options), 0, 0, 0, 0, 0, {NULL, 0}}
#define FLOWPLUG_COMPLETION_INIT {sizeof(flowplug_completion), NULL, NULL, NULL, 0}
#define FLOWPLUG_HOST_API_INIT \
  {sizeof(flowplug_host_api), NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL}
#define FLOWPLUG_HOST_OPTIONS_INIT {sizeof(flowplug_host_options), {NULL, 0}, NULL}
#define FLOWPLUG_MANIFEST_OPTIONS_INIT {sizeof(flowplug_manifest_options), {NULL, 0}, 0}
#define FLOWPLUG_PLUGIN_OPTIONS_INIT {sizeof(flowplug_plugin_options), NULL, {NULL, 0}}


// What went wrong; owned by whoever got it, ended with flowplug_error_free.
typedef struct flowplug_error flowplug_error;

// A function of a plugin, resolved once; ended with flowplug_function_free. Any number of threads may use it at once.
typedef struct flowplug_function flowplug_function;

// A host of plugins; ended with flowplug_host_close and flowplug_host_free.
typedef struct flowplug_host flowplug_host;

// A manager of plugins; ended with flowplug_manager_free. Any number of threads may use it at once.
typedef struct flowplug_manager flowplug_manager;

// A parsed manifest that can be used; ended with flowplug_manifest_free. Immutable.
typedef struct flowplug_manifest flowplug_manifest;

// A loaded plugin; ended with flowplug_plugin_free. Any number of threads may use it at once.
typedef struct flowplug_plugin flowplug_plugin;

// The result of a call: 0 is success, the others are numbered for ever.
typedef int32_t flowplug_status;

// Text or bytes that are borrowed for a call. No NUL is needed; `{NULL, 0}` is empty.
typedef struct flowplug_str {
  // The first byte; may be NULL if len is 0.
  const char *ptr;
  // Bytes.
  size_t len;
} flowplug_str;

// What a call carries; NULL stands for the defaults. Start from FLOWPLUG_CALL_OPTIONS_INIT.
typedef struct flowplug_call_options {
  // sizeof(flowplug_call_options).
  size_t struct_size;
  // Nanoseconds; 0: the default; FLOWPLUG_NO_TIMEOUT: none of the caller's.
  uint64_t timeout_ns;
  // A cancel token; 0: none.
  uint64_t cancel;
  // A call made on behalf of a host request: that request; 0: none.
  uint64_t parent;
  // The embedder's own mark, handed to host callbacks.
  uint64_t tag;
  // FLOWPLUG_CALL_TRUST_JSON, or 0.
  uint64_t flags;
  // W3C trace context ("00-...-...-01"), handed to a gRPC plugin as metadata and to host callbacks; empty: none.
  struct flowplug_str traceparent;
} flowplug_call_options;

// Bytes that the library hands out; end them with flowplug_bytes_free.
typedef struct flowplug_bytes {
  // The first byte.
  uint8_t *ptr;
  // Bytes.
  size_t len;
  // The library's own; NULL if the bytes are the caller's.
  void *owner;
} flowplug_bytes;

// A host request: a number that is void once it is answered or nobody waits any more.
typedef uint64_t flowplug_request;

// Who asks a host callback, and how long the answer may take. Borrowed for the callback.
typedef struct flowplug_caller {
  // sizeof(flowplug_caller).
  size_t struct_size;
  // The plugin's identity.
  struct flowplug_str plugin;
  // The function that it was called with; empty where that is not known.
  struct flowplug_str function;
  // W3C trace context of that call; empty if none.
  struct flowplug_str traceparent;
  // The tag of that call; 0 where it is not known.
  uint64_t tag;
  // Nanoseconds until nobody waits any more, give or take a few milliseconds; FLOWPLUG_NO_TIMEOUT: no bound.
  uint64_t remaining_ns;
} flowplug_caller;

// A name and a value.
typedef struct flowplug_pair {
  // UTF-8.
  struct flowplug_str name;
  // UTF-8.
  struct flowplug_str value;
} flowplug_pair;

// An HTTP request whose URL the allowlist has passed. Borrowed for the callback.
typedef struct flowplug_http_request {
  // sizeof(flowplug_http_request).
  size_t struct_size;
  // A token: "GET".
  struct flowplug_str method;
  // http or https.
  struct flowplug_str url;
  // headers_len pairs.
  const struct flowplug_pair *headers;
  // How many.
  size_t headers_len;
  // Bytes.
  struct flowplug_str body;
} flowplug_http_request;

// A log record. Borrowed for the callback.
typedef struct flowplug_log_record {
  // sizeof(flowplug_log_record).
  size_t struct_size;
  // The plugin's identity; empty: a record of the library itself.
  struct flowplug_str plugin;
  // The tag of the call that it belongs to; 0 where it is not known.
  uint64_t tag;
  // FLOWPLUG_LOG_DEBUG to FLOWPLUG_LOG_ERROR.
  int32_t level;
  // UTF-8, bounded and cleaned of control characters.
  struct flowplug_str message;
  // fields_len pairs.
  const struct flowplug_pair *fields;
  // How many.
  size_t fields_len;
} flowplug_log_record;

// What plugins may ask of the embedding program. Any function may be NULL: the embedded default serves. The struct is
// copied; user_data must live until destroy. Callbacks come from any thread, several at once; those with a request answer
// it with one flowplug_request_ function, before they return or later, from any thread. Pointers that a callback gets are
// borrowed until it returns. Start from FLOWPLUG_HOST_API_INIT.
//
// Detached (see flowplug_host_options.config), 256 requests at once have a thread of the library each, of one plugin 32 (or
// as many as it may have instances, if that is more); more are refused as busy. Records and events come one after the other; those that would make more than 16 MiB wait are lost, and a record of
// the library says how many. A request of a call that has ended goes on until its callback returns.
typedef struct flowplug_host_api {
  // sizeof(flowplug_host_api).
  size_t struct_size;
  // Handed to every function.
  void *user_data;
  // Runs exactly once, after every other callback: when the host is closed, freed, or could not be made.
  void (*destroy)(void *user_data);
  // A value of the plugin's configuration. Default: from the config that the plugin was started with.
  void (*get_config)(void *user_data,
                     flowplug_request request,
                     const struct flowplug_caller *caller,
                     struct flowplug_str key);
  // The value of a key, `plugin:<identity>:<key>`. Default: a store in memory,
  // or in the file of the config's kv_path.
  void (*kv_get)(void *user_data,
                 flowplug_request request,
                 const struct flowplug_caller *caller,
                 struct flowplug_str key);
  // Stores a value under such a key; ok means that it is stored.
  void (*kv_set)(void *user_data,
                 flowplug_request request,
                 const struct flowplug_caller *caller,
                 struct flowplug_str key,
                 struct flowplug_str value);
  // Removes such a key; one that is missing is removed already.
  void (*kv_delete)(void *user_data,
                    flowplug_request request,
                    const struct flowplug_caller *caller,
                    struct flowplug_str key);
  // Makes an HTTP request. Ask flowplug_request_http_check before following a redirect. Default: a client of
  // the library's own, HTTP/1.1, which checks the allowlist again on each redirect and each address that it resolved, and
  // knows no proxy.
  void (*http_request)(void *user_data,
                       flowplug_request request,
                       const struct flowplug_caller *caller,
                       const struct flowplug_http_request *http);
  // Takes an event of the plugin, a JSON object (DataEvent). Default: the event callback.
  void (*emit_event)(void *user_data,
                     flowplug_request request,
                     const struct flowplug_caller *caller,
                     struct flowplug_str event_json);
  // Takes a log record. Default: standard error.
  void (*log)(void *user_data, const struct flowplug_log_record *record);
  // Takes an event of the library, a JSON object with "type", "time" and "plugin"; what a plugin emitted without an
  // emit_event callback has the type "emitted" and stands under "data". Default: dropped.
  void (*event)(void *user_data, struct flowplug_str event_json);
  // Nobody waits for this request any more: its number is void. Comes once the request's callback was called; where
  // callbacks are detached, perhaps while it still runs.
  void (*request_dropped)(void *user_data, flowplug_request request);
} flowplug_host_api;

// What a host is made from. Start from FLOWPLUG_HOST_OPTIONS_INIT.
typedef struct flowplug_host_options {
  // sizeof(flowplug_host_options).
  size_t struct_size;
  // JSON or YAML: policy, cache_dir, cache_size (1GB), kv_path (a file for what plugins store; made if it is not there, and
  // this host's alone until it is closed; without it they store in memory), runtime_dir, worker_threads, callbacks
  // (inline: on the thread that called the plugin, the default; detached: on threads of the library, so that a call is
  // answered at its deadline whatever a callback does), signals (on, off), http ({ca_file: the certificates, in PEM, that the
  // embedded HTTP client trusts in place of the system's}). Empty: the defaults. Unknown keys are errors.
  struct flowplug_str config;
  // The embedding program's callbacks; NULL: the embedded defaults alone.
  const struct flowplug_host_api *api;
} flowplug_host_options;

// How a manifest is read. Start from FLOWPLUG_MANIFEST_OPTIONS_INIT.
typedef struct flowplug_manifest_options {
  // sizeof(flowplug_manifest_options).
  size_t struct_size;
  // The folder that relative paths start from; empty: the working directory. Ignored where a file is read.
  struct flowplug_str base_dir;
  // Not 0: unknown fields are errors, not warnings.
  int32_t strict;
} flowplug_manifest_options;

// What one plugin gets of its own. Start from FLOWPLUG_PLUGIN_OPTIONS_INIT.
typedef struct flowplug_plugin_options {
  // sizeof(flowplug_plugin_options).
  size_t struct_size;
  // Callbacks instead of the host's; a NULL in it means the host's. NULL: the host's alone.
  const struct flowplug_host_api *api;
  // JSON or YAML: a preset or an entry of policy.plugins, instead of the host's policy. Empty: the host's.
  struct flowplug_str policy;
} flowplug_plugin_options;

// How an asynchronous call ends. Start from FLOWPLUG_COMPLETION_INIT.
typedef struct flowplug_completion {
  // sizeof(flowplug_completion).
  size_t struct_size;
  // Handed to done and destroy.
  void *user_data;
  // Runs exactly once if and only if the function returned ok, on a thread of the library, never on its caller's
  // stack. Takes over the content of result and the error; the result struct itself lasts for the callback.
  void (*done)(void *user_data, flowplug_status status, struct flowplug_bytes *result, struct flowplug_error *error);
  // Runs exactly once, after done; also where the function fails. May be NULL.
  void (*destroy)(void *user_data);
  // FLOWPLUG_COMPLETION_QUICK, or 0.
  uint64_t flags;
} flowplug_completion;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// The version of the ABI; compare it with FLOWPLUG_ABI_VERSION of the header that the program was compiled with.
//
// Thread safety: any thread, any time.
uint32_t flowplug_abi_version(void);

// The library's version, "0.1.0"; static, NUL-terminated, never freed.
//
// Thread safety: any thread, any time.
const char *flowplug_version(void);

// The name of a status, "invalid_argument"; "unknown" for a number that is none. Static, NUL-terminated, never freed.
//
// Thread safety: any thread, any time.
const char *flowplug_status_name(flowplug_status status);

// Makes a cancel token: a number for the whole process, sticky once set, for any number of calls at once.
// Ended with flowplug_cancel_free, also during a call that carries it.
//
// Errors: invalid argument.
// Thread safety: any thread.
//
// Contract:
// `out` is writable; `error` is NULL or writable.
flowplug_status flowplug_cancel_new(uint64_t *out, struct flowplug_error **error);

// Ends every call that carries the token with cancelled, and every later one at once. Again does nothing.
//
// Errors: not found, for a number that is no token.
// Thread safety: any thread, also inside a callback.
flowplug_status flowplug_cancel(uint64_t token);

// Ends a token; calls that carry it go on, and can no longer be cancelled by it. 0 and numbers that are no token do nothing.
//
// Thread safety: any thread, also inside a callback.
void flowplug_cancel_free(uint64_t token);

// The status of an error; FLOWPLUG_INVALID_ARGUMENT for NULL.
//
// Thread safety: any thread, several at once.
//
// Contract:
// `error` is NULL or an error of this library that is not freed.
flowplug_status flowplug_error_status(const struct flowplug_error *error);

// A sentence for people; borrowed from the error, empty for NULL.
//
// Thread safety: any thread, several at once.
//
// Contract:
// `error` is NULL or an error of this library that is not freed while the text is used.
struct flowplug_str flowplug_error_message(const struct flowplug_error *error);

// The identity of the plugin that it concerns, empty if none; borrowed from the error.
//
// Thread safety: any thread, several at once.
//
// Contract:
// `error` is NULL or an error of this library that is not freed while the text is used.
struct flowplug_str flowplug_error_plugin(const struct flowplug_error *error);

// The function that was called, empty if none; borrowed from the error.
//
// Thread safety: any thread, several at once.
//
// Contract:
// `error` is NULL or an error of this library that is not freed while the text is used.
struct flowplug_str flowplug_error_function(const struct flowplug_error *error);

// The plugin's own text, bounded and cleaned of control characters, empty if it gave none; borrowed from the error.
//
// Thread safety: any thread, several at once.
//
// Contract:
// `error` is NULL or an error of this library that is not freed while the text is used.
struct flowplug_str flowplug_error_plugin_message(const struct flowplug_error *error);

// A JSON object with what programs may want to know: "violations", "problems", "backtrace", "exit_status", "stderr",
// "denied"; borrowed from the error, empty for NULL.
//
// Thread safety: any thread, several at once.
//
// Contract:
// `error` is NULL or an error of this library that is not freed while the text is used.
struct flowplug_str flowplug_error_details(const struct flowplug_error *error);

// Ends an error; NULL does nothing.
//
// Thread safety: any thread; each error once.
//
// Contract:
// `error` is NULL or an error of this library that is not used after.
void flowplug_error_free(struct flowplug_error *error);

// Resolves a function of a plugin once. It is valid across reloads, and ended with flowplug_function_free.
//
// Errors: unknown function, not found (the manifest does not provide it), invalid argument.
// Thread safety: any thread.
//
// Contract:
// `plugin` is live, text is readable, `out` is writable, `error` is NULL or writable.
flowplug_status flowplug_function_new(struct flowplug_plugin *plugin,
                                      struct flowplug_str function,
                                      struct flowplug_function **out,
                                      struct flowplug_error **error);

// Calls a resolved function on this thread: the fast way. The result goes into buf if it fits its cap bytes (then
// out->ptr == buf and nothing need be freed), else it is owned and freed with flowplug_bytes_free. buf may be NULL with cap 0
// and must not overlap params.
//
// Errors: as flowplug_plugin_call.
// Thread safety: any thread, several at once, each with a buffer of its own.
//
// Contract:
// `function` is live, text is readable, `options` is NULL or valid, `buf` has `cap` writable bytes, `out` is writable,
// `error` is NULL or writable.
flowplug_status flowplug_function_call(struct flowplug_function *function,
                                       struct flowplug_str params,
                                       const struct flowplug_call_options *options,
                                       uint8_t *buf,
                                       size_t cap,
                                       struct flowplug_bytes *out,
                                       struct flowplug_error **error);

// Which runtime answers the function's calls at this moment: FLOWPLUG_RUNTIME_WASM, on the thread that calls, or
// FLOWPLUG_RUNTIME_GRPC, in a process, which the thread waits for; -1 for NULL. A reload may change it.
//
// Thread safety: any thread.
//
// Contract:
// `function` is NULL or live.
int32_t flowplug_function_runtime(const struct flowplug_function *function);

// Ends a function; NULL does nothing. Calls in progress go on.
//
// Thread safety: any thread, also inside a callback; once.
//
// Contract:
// `function` is NULL or live and not used after.
void flowplug_function_free(struct flowplug_function *function);

// Makes a host: starts its runtime and registers the callbacks. options may be NULL: the strict policy and the embedded
// defaults. The host is ended with flowplug_host_close and flowplug_host_free.
//
// Errors: invalid argument, invalid config, unsupported, io. api.destroy runs on failure too, unless api.struct_size is wrong.
// Thread safety: any thread; any number of hosts.
//
// Contract:
// `options` is NULL or valid, `out` is writable, `error` is NULL or writable.
flowplug_status flowplug_host_new(const struct flowplug_host_options *options,
                                  struct flowplug_host **out,
                                  struct flowplug_error **error);

// Ends everything of the host: plugins are stopped, all at once, with the timeout of options as the drain time (0: 30
// seconds); calls still in flight then end with cancelled. When it returns ok, no callback of this host runs or ever will,
// and destroy has run. Everything of the host then answers invalid state. Again does nothing.
//
// Errors: timeout, if a callback has not returned by then: call it again; invalid state, inside a callback of this host.
// Thread safety: any thread, but not inside a callback of this host.
//
// Contract:
// `host` is a live host, `options` is NULL or valid, `error` is NULL or writable.
flowplug_status flowplug_host_close(struct flowplug_host *host,
                                    const struct flowplug_call_options *options,
                                    struct flowplug_error **error);

// Ends a host's handle; NULL does nothing. A host that was not closed is closed in the background, without a drain.
// Never blocks.
//
// Thread safety: any thread, also inside a callback; once.
//
// Contract:
// `host` is NULL or a live host that is not used after.
void flowplug_host_free(struct flowplug_host *host);

// What operators count of all plugins of the host that have not been freed, by identity, as Prometheus text (version 0.0.4 of
// the format): calls, errors by status, durations, reloads, restarts, memory, instances. Serve it as
// "text/plain; version=0.0.4". Freed with flowplug_bytes_free.
//
// Errors: invalid state, once the host is closed; invalid argument.
// Thread safety: any thread, also inside a callback.
//
// Contract:
// `host` is live, `out` is writable, `error` is NULL or writable.
flowplug_status flowplug_host_metrics(const struct flowplug_host *host,
                                      struct flowplug_bytes *out,
                                      struct flowplug_error **error);

// Makes a manager from flowbot's plugins section, JSON or YAML (or a document that has it under "plugins"): enabled (only
// if it is true are there plugins), sources (type: local, path; git and oci are understood, and unsupported by this version),
// config (of each plugin, by identity; ${env:NAME} is expanded when the plugin is started), hot_reload (true),
// drain_timeout (30s; a text or nanoseconds), max_plugins (50; 0 is no bound). What it does not know in it is a warning of
// the library. The plugins get the host's policy and callbacks. Ended with flowplug_manager_stop and flowplug_manager_free.
//
// Errors: invalid config, with every problem; invalid state, if the host is closed; invalid argument.
// Thread safety: any thread; any number of managers.
//
// Contract:
// `host` is live, text is readable, `out` is writable, `error` is NULL or writable.
flowplug_status flowplug_manager_new(struct flowplug_host *host,
                                     struct flowplug_str config,
                                     struct flowplug_manager **out,
                                     struct flowplug_error **error);

// Discovers, loads and starts every plugin of the sources, in parallel, then follows their changes. A plugin that fails
// stays in the list with the state error and its cause, and stops no other; events tell of each. Ends when all have come
// or failed.
//
// Errors: unsupported or io, where a source cannot be used: what the others have is started all the same, and the manager
// runs; timeout and cancelled, likewise, with what had come by then; invalid state; invalid argument.
// Thread safety: any thread, but not inside a callback of the host.
//
// Contract:
// `manager` is live, `options` is NULL or valid, `error` is NULL or writable.
flowplug_status flowplug_manager_start(struct flowplug_manager *manager,
                                       const struct flowplug_call_options *options,
                                       struct flowplug_error **error);

// Loads and starts the plugin in a folder, whose name is its identity. config is JSON text; empty: that of the manager's
// config. If it fails, nothing of it stays.
//
// Errors: those of flowplug_manifest_read, flowplug_plugin_load and flowplug_plugin_start; invalid state, where a plugin of
// the identity is there already or there are max_plugins of them; invalid argument.
// Thread safety: any thread.
//
// Contract:
// `manager` is live, text is readable, `options` is NULL or valid, `error` is NULL or writable.
flowplug_status flowplug_manager_load(struct flowplug_manager *manager,
                                      struct flowplug_str folder,
                                      struct flowplug_str config,
                                      const struct flowplug_call_options *options,
                                      struct flowplug_error **error);

// Reloads a plugin without refusing a call; one that could not be loaded is loaded. manifest NULL: as on disk; config
// empty: as before. If it fails, what ran goes on, and the list shows why.
//
// Errors: not found; those of flowplug_manifest_read and flowplug_plugin_reload; invalid state; invalid argument.
// Thread safety: any thread, but not inside a callback of the plugin's own call.
//
// Contract:
// Handles are live (`manifest` may be NULL), text is readable, `options` is NULL or valid, `error` is NULL or writable.
flowplug_status flowplug_manager_reload(struct flowplug_manager *manager,
                                        struct flowplug_str identity,
                                        const struct flowplug_manifest *manifest,
                                        struct flowplug_str config,
                                        const struct flowplug_call_options *options,
                                        struct flowplug_error **error);

// Refuses new calls of a plugin, waits for those in flight for the timeout of options (0: the config's drain_timeout), ends
// the rest with cancelled, and forgets the plugin. A folder that is still there is loaded again when it changes.
//
// Errors: not found; timeout, where a callback has not returned: unload it again; invalid state, inside a callback of the
// plugin's own call or while it is loaded; cancelled, while it waits for another operation; invalid argument.
// Thread safety: any thread, but not inside a callback of the plugin's own call.
//
// Contract:
// `manager` is live, text is readable, `options` is NULL or valid, `error` is NULL or writable.
flowplug_status flowplug_manager_unload(struct flowplug_manager *manager,
                                        struct flowplug_str identity,
                                        const struct flowplug_call_options *options,
                                        struct flowplug_error **error);

// Ends what is under way, follows no change any more, and stops all plugins, all at once, with the timeout of options as
// the drain time (0: the config's drain_timeout). Everything of the manager then answers invalid state. Again does nothing.
//
// Errors: timeout, where a callback has not returned: stop it again; invalid state, inside a callback of the host; invalid
// argument.
// Thread safety: any thread, but not inside a callback of the host.
//
// Contract:
// `manager` is live, `options` is NULL or valid, `error` is NULL or writable.
flowplug_status flowplug_manager_stop(struct flowplug_manager *manager,
                                      const struct flowplug_call_options *options,
                                      struct flowplug_error **error);

// Ends a manager's handle; NULL does nothing. One that was not stopped stops its plugins in the background, without a
// drain. Plugins from flowplug_manager_get stay valid, and stop too. Never blocks.
//
// Thread safety: any thread, also inside a callback; once.
//
// Contract:
// `manager` is NULL or live and not used after.
void flowplug_manager_free(struct flowplug_manager *manager);

// All plugins, a JSON list in the order of identities: identity, manifest, state, started_at, last_error, restarts, calls,
// in_flight, source, folder. Freed with flowplug_bytes_free. No plugin is asked for it.
//
// Errors: invalid state, once the manager is stopped; invalid argument.
// Thread safety: any thread, also inside a callback.
//
// Contract:
// `manager` is live, `out` is writable, `error` is NULL or writable.
flowplug_status flowplug_manager_list(const struct flowplug_manager *manager,
                                      struct flowplug_bytes *out,
                                      struct flowplug_error **error);

// A plugin, a new handle, which is ended with flowplug_plugin_free: that ends the handle alone, because the plugin is the
// manager's. It stays valid whatever becomes of the plugin, across reloads, too.
//
// Errors: not found; invalid state, with the cause, where the plugin could not be loaded; invalid argument.
// Thread safety: any thread, also inside a callback.
//
// Contract:
// `manager` is live, text is readable, `out` is writable, `error` is NULL or writable.
flowplug_status flowplug_manager_get(const struct flowplug_manager *manager,
                                     struct flowplug_str identity,
                                     struct flowplug_plugin **out,
                                     struct flowplug_error **error);

// Calls a function of a plugin by its identity, as flowplug_plugin_call does.
//
// Errors: not found, where there is no such plugin; invalid state, with the cause, where it could not be loaded; and those
// of flowplug_plugin_call.
// Thread safety: any thread, several at once, also inside a callback (8 deep).
//
// Contract:
// `manager` is live, text is readable, `options` is NULL or valid, `out` is writable, `error` is NULL or writable.
flowplug_status flowplug_manager_call(struct flowplug_manager *manager,
                                      struct flowplug_str identity,
                                      struct flowplug_str function,
                                      struct flowplug_str params,
                                      const struct flowplug_call_options *options,
                                      struct flowplug_bytes *out,
                                      struct flowplug_error **error);

// How a plugin is, by its identity, as flowplug_plugin_health tells it; one that could not be loaded is in the state error,
// with the cause. Freed with flowplug_bytes_free.
//
// Errors: not found; invalid state, once the manager is stopped; invalid argument.
// Thread safety: any thread, also inside a callback.
//
// Contract:
// `manager` is live, text is readable, `options` is NULL or valid, `out` is writable, `error` is NULL or writable.
flowplug_status flowplug_manager_health(struct flowplug_manager *manager,
                                        struct flowplug_str identity,
                                        const struct flowplug_call_options *options,
                                        struct flowplug_bytes *out,
                                        struct flowplug_error **error);

// What flowplug_host_metrics writes, of the manager's plugins alone, those that failed included. Freed with flowplug_bytes_free.
//
// Errors: invalid state, once the manager is stopped; invalid argument.
// Thread safety: any thread, also inside a callback.
//
// Contract:
// `manager` is live, `out` is writable, `error` is NULL or writable.
flowplug_status flowplug_manager_metrics(const struct flowplug_manager *manager,
                                         struct flowplug_bytes *out,
                                         struct flowplug_error **error);

// Parses a plugin.yaml (or the same as JSON). options may be NULL. The manifest is ended with flowplug_manifest_free.
//
// Errors: invalid manifest, with every problem in the message and in the details; invalid argument.
// Thread safety: any thread.
//
// Contract:
// `yaml` is readable, `options` is NULL or valid, `out` is writable, `error` is NULL or writable.
flowplug_status flowplug_manifest_parse(struct flowplug_str yaml,
                                        const struct flowplug_manifest_options *options,
                                        struct flowplug_manifest **out,
                                        struct flowplug_error **error);

// Reads a manifest: path is the file, or a folder with a plugin.yaml. Its folder is where relative paths start.
//
// Errors: as flowplug_manifest_parse; io, if it cannot be read.
// Thread safety: any thread.
//
// Contract:
// `path` is readable, `options` is NULL or valid, `out` is writable, `error` is NULL or writable.
flowplug_status flowplug_manifest_read(struct flowplug_str path,
                                       const struct flowplug_manifest_options *options,
                                       struct flowplug_manifest **out,
                                       struct flowplug_error **error);

// The manifest as a JSON object under the file's field names, defaults filled in. Freed with flowplug_bytes_free.
//
// Errors: invalid argument.
// Thread safety: any thread, several at once.
//
// Contract:
// `manifest` is live, `out` is writable, `error` is NULL or writable.
flowplug_status flowplug_manifest_json(const struct flowplug_manifest *manifest,
                                       struct flowplug_bytes *out,
                                       struct flowplug_error **error);

// What was odd but no error, unknown fields above all: a JSON list of sentences. Freed with flowplug_bytes_free.
//
// Errors: invalid argument.
// Thread safety: any thread, several at once.
//
// Contract:
// `manifest` is live, `out` is writable, `error` is NULL or writable.
flowplug_status flowplug_manifest_warnings(const struct flowplug_manifest *manifest,
                                           struct flowplug_bytes *out,
                                           struct flowplug_error **error);

// Checks a config, JSON text, against the manifest's config_schema; empty is an absent config.
//
// Errors: invalid config, with every violation in the details; timeout; invalid argument.
// Thread safety: any thread, several at once.
//
// Contract:
// `manifest` is live, `config` is readable, `options` is NULL or valid, `error` is NULL or writable.
flowplug_status flowplug_manifest_validate_config(const struct flowplug_manifest *manifest,
                                                  struct flowplug_str config,
                                                  const struct flowplug_call_options *options,
                                                  struct flowplug_error **error);

// Puts the defaults of the manifest's config_schema into a config, JSON text, where it lacks them, and checks the outcome;
// empty is an absent config, which starts as the schema's own default, or as {} where its type is object. The filled config
// is JSON text, freed with flowplug_bytes_free; what was given keeps its text. Defaults are taken from properties, items,
// prefixItems, additionalProperties, allOf and local $refs, never from anyOf, oneOf, if or patterns.
//
// Errors: invalid config, with every violation in the details, or where the defaults would add more than 1 MiB; timeout;
// busy; invalid argument.
// Thread safety: any thread, several at once.
//
// Contract:
// `manifest` is live, `config` is readable, `options` is NULL or valid, `out` is writable, `error` is NULL or writable.
flowplug_status flowplug_manifest_fill_config(const struct flowplug_manifest *manifest,
                                              struct flowplug_str config,
                                              const struct flowplug_call_options *options,
                                              struct flowplug_bytes *out,
                                              struct flowplug_error **error);

// The JSON Schema (draft 2020-12) of plugin.yaml, for editors and for checks of one's own. Static, NUL-terminated, never
// freed.
//
// Thread safety: any thread, any time.
const char *flowplug_manifest_schema(void);

// Ends a manifest; NULL does nothing. Plugins loaded from it go on.
//
// Thread safety: any thread; once.
//
// Contract:
// `manifest` is NULL or a live manifest that is not used after.
void flowplug_manifest_free(struct flowplug_manifest *manifest);

// Loads a plugin: compiles its module or starts its process, within what the policy grants. plugin_options may be NULL.
// identity is who it is: letters, digits, '.', '_', '-', and '/' between components. The plugin keeps what it needs of the
// host and the manifest; it is ended with flowplug_plugin_free.
//
// Errors: load failed, permission denied, unsupported, timeout, cancelled, invalid state, invalid argument, invalid config.
// api.destroy runs on failure too, unless api.struct_size is wrong.
// Thread safety: any thread.
//
// Contract:
// Handles are live, structs valid, text is readable, `out` is writable, `error` is NULL or writable.
flowplug_status flowplug_plugin_load(struct flowplug_host *host,
                                     const struct flowplug_manifest *manifest,
                                     struct flowplug_str identity,
                                     const struct flowplug_plugin_options *plugin_options,
                                     const struct flowplug_call_options *options,
                                     struct flowplug_plugin **out,
                                     struct flowplug_error **error);

// What the plugin is, what it asked for ("requests") and what it was granted ("granted"), a JSON object. Freed with
// flowplug_bytes_free.
//
// Errors: invalid argument.
// Thread safety: any thread.
//
// Contract:
// `plugin` is live, `out` is writable, `error` is NULL or writable.
flowplug_status flowplug_plugin_info(const struct flowplug_plugin *plugin,
                                     struct flowplug_bytes *out,
                                     struct flowplug_error **error);

// Checks the config (JSON text; empty: absent) and gives it to the plugin; ends when the plugin has answered.
//
// Errors: invalid config, after which it may be started again; start failed, timeout, cancelled, trap and what else the
// plugin does, after which its state is error; invalid state; invalid argument.
// Thread safety: any thread.
//
// Contract:
// `plugin` is live, text is readable, `options` is NULL or valid, `error` is NULL or writable.
flowplug_status flowplug_plugin_start(struct flowplug_plugin *plugin,
                                      struct flowplug_str config,
                                      const struct flowplug_call_options *options,
                                      struct flowplug_error **error);

// Calls a function on this thread. params is JSON text, the result one JSON value in UTF-8, freed with flowplug_bytes_free.
//
// Errors: any status but those of manifests and of loading.
// Thread safety: any thread, several at once, also inside a callback (8 deep).
//
// Contract:
// `plugin` is live, text is readable, `options` is NULL or valid, `out` is writable, `error` is NULL or writable.
flowplug_status flowplug_plugin_call(struct flowplug_plugin *plugin,
                                     struct flowplug_str function,
                                     struct flowplug_str params,
                                     const struct flowplug_call_options *options,
                                     struct flowplug_bytes *out,
                                     struct flowplug_error **error);

// Calls a function without waiting for it. Inputs are copied. If this returns ok, completion.done runs exactly once, on a
// thread of the library; completion.destroy runs always, unless its struct_size is wrong.
//
// Errors: invalid argument, invalid state, not found, unknown function; what the call itself ends with goes to done.
// Thread safety: any thread, also inside a callback.
//
// Contract:
// `plugin` is live, text is readable, `options` is NULL or valid, `completion` is valid, `error` is NULL or writable.
flowplug_status flowplug_plugin_call_async(struct flowplug_plugin *plugin,
                                           struct flowplug_str function,
                                           struct flowplug_str params,
                                           const struct flowplug_call_options *options,
                                           const struct flowplug_completion *completion,
                                           struct flowplug_error **error);

// How the plugin is, a JSON object: ready, last_error, uptime_ns, state, restarts, and of a module pool: max, idle, in_use,
// waiting (this moment), made, discarded {broken, grown, spent, idle}, waits, busy (since it was loaded, over all versions);
// of a process that ever ended unexpectedly, crash: exit_status or signal, stderr. Freed with flowplug_bytes_free.
//
// Errors: invalid argument alone; what is wrong with the plugin is in the answer.
// Thread safety: any thread.
//
// Contract:
// `plugin` is live, `options` is NULL or valid, `out` is writable, `error` is NULL or writable.
flowplug_status flowplug_plugin_health(struct flowplug_plugin *plugin,
                                       const struct flowplug_call_options *options,
                                       struct flowplug_bytes *out,
                                       struct flowplug_error **error);

// The state, FLOWPLUG_STATE_LOADING to FLOWPLUG_STATE_STOPPED; -1 for NULL.
//
// Thread safety: any thread.
//
// Contract:
// `plugin` is NULL or live.
int32_t flowplug_plugin_state(const struct flowplug_plugin *plugin);

// Puts another version in the plugin's place without refusing or losing a call: loads and starts it (config: JSON text;
// empty: as before), waits until it is ready, lets new calls find it, then waits for those of the old one, at most 30
// seconds, and stops it. What is in flight after that ends with cancelled. The handle and its functions stay valid. The
// timeout and the cancel token of options bound what comes before the exchange. Until the old version has ended, there
// are as many instances of it as before, beside those of the new one.
//
// Errors: those of load and start, and timeout if it does not become ready: the plugin then is as it was, and the event
// reload_failed says why; invalid state, unless the plugin is running or in error, and while another call starts or reloads
// it, up to the exchange; busy, while four old versions are waited for; invalid argument.
// Thread safety: any thread, but not inside a callback of the plugin's own call.
//
// Contract:
// Handles are live, text is readable, `options` is NULL or valid, `error` is NULL or writable.
flowplug_status flowplug_plugin_reload(struct flowplug_plugin *plugin,
                                       const struct flowplug_manifest *manifest,
                                       struct flowplug_str config,
                                       const struct flowplug_call_options *options,
                                       struct flowplug_error **error);

// Refuses new calls, waits for those in flight for the timeout of options (the drain time; 0: 30 seconds), ends the rest
// with cancelled. Again waits until it is over.
//
// Errors: timeout, where a callback of a call has not returned some seconds after that: the plugin is stopped, but what the
// callback uses must stay until it returns, for which another stop waits; invalid state, inside a callback of the plugin's
// own call; invalid argument.
// Thread safety: any thread, but not inside a callback of the plugin's own call.
//
// Contract:
// `plugin` is live, `options` is NULL or valid, `error` is NULL or writable.
flowplug_status flowplug_plugin_stop(struct flowplug_plugin *plugin,
                                     const struct flowplug_call_options *options,
                                     struct flowplug_error **error);

// Ends a plugin's handle; NULL does nothing. A plugin that runs is stopped in the background, without a drain, unless the
// handle is a manager's (flowplug_manager_get). Never blocks.
//
// Thread safety: any thread, also inside a callback; once.
//
// Contract:
// `plugin` is NULL or live and not used after.
void flowplug_plugin_free(struct flowplug_plugin *plugin);

// What flowplug_plugin_load would grant to a manifest under this identity, without loading anything: a JSON object,
// {"allowed": bool, "identity", "runtime", "requests": [{"field", "what", "asked", "granted", "allowed", "rule", "grant"?}],
// "granted": {}}, also where something is denied. "grant" is the line of the policy that would grant it. Of plugin_options,
// which may be NULL, the policy alone counts; nothing is registered, and destroy does not run. No audit event is made.
// Freed with flowplug_bytes_free.
//
// Errors: invalid config, in the policy of plugin_options; invalid state; invalid argument.
// Thread safety: any thread.
//
// Contract:
// Handles are live, structs valid, text is readable, `out` is writable, `error` is NULL or writable.
flowplug_status flowplug_host_admit(struct flowplug_host *host,
                                    const struct flowplug_manifest *manifest,
                                    struct flowplug_str identity,
                                    const struct flowplug_plugin_options *plugin_options,
                                    struct flowplug_bytes *out,
                                    struct flowplug_error **error);

// The JSON Schema (draft 2020-12) of a policy, for editors and for checks of one's own. Static, NUL-terminated, never freed.
//
// Thread safety: any thread, any time.
const char *flowplug_policy_schema(void);

// Answers with success. `value` (bytes) is the answer of get_config and kv_get and is ignored for the others; it is copied.
//
// Errors: not found, if the request was answered already or nobody waits for it any more; invalid argument, for http_request,
// or if get_config's value is not UTF-8. After invalid argument the request still waits for an answer.
// Thread safety: any thread, inside the callback or later.
//
// Contract:
// `value` is readable for the call.
flowplug_status flowplug_request_ok(flowplug_request request,
                                    struct flowplug_str value);

// Answers get_config or kv_get: there is no such key. That is not an empty value.
//
// Errors: not found, as for flowplug_request_ok; invalid argument, for requests that ask for no key's value.
// Thread safety: any thread, inside the callback or later.
flowplug_status flowplug_request_missing(flowplug_request request);

// Answers http_request with what came back; everything is copied.
//
// Errors: not found, as for flowplug_request_ok; invalid argument, for other requests, a status outside 100 to 599,
// or header text that is not UTF-8.
// Thread safety: any thread, inside the callback or later.
//
// Contract:
// `headers` points to `headers_len` pairs, and all text is readable for the call.
flowplug_status flowplug_request_http(flowplug_request request,
                                      int32_t status,
                                      const struct flowplug_pair *headers,
                                      size_t headers_len,
                                      struct flowplug_str body);

// Answers with a failure; the plugin sees the message.
//
// Errors: not found, as for flowplug_request_ok; invalid argument, if status is not that of an error or the message is not UTF-8.
// Thread safety: any thread, inside the callback or later.
//
// Contract:
// `message` is readable for the call.
flowplug_status flowplug_request_fail(flowplug_request request,
                                      flowplug_status status,
                                      struct flowplug_str message);

// Answers as if there were no callback: the embedded default serves.
//
// Errors: not found, as for flowplug_request_ok.
// Thread safety: any thread, inside the callback or later.
flowplug_status flowplug_request_default(flowplug_request request);

// Whether this request may go to this URL: to be asked for each redirect that a callback follows.
//
// Errors: permission denied; invalid argument, if it is not a URL or the request is not an http_request; not found, as for flowplug_request_ok.
// Thread safety: any thread, inside the callback or later.
//
// Contract:
// `url` is readable for the call; `error` is NULL or writable.
flowplug_status flowplug_request_http_check(flowplug_request request,
                                            struct flowplug_str url,
                                            struct flowplug_error **error);

// Frees what the library allocated and zeroes the struct. One without an owner (zeroed, or pointing into the caller's
// buffer) is left alone, and so is NULL.
//
// Thread safety: any thread; one struct by one thread at a time.
//
// Contract:
// `bytes` is NULL or points to a struct that the library filled or that is zeroed.
void flowplug_bytes_free(struct flowplug_bytes *bytes);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* FLOWPLUG_H */
