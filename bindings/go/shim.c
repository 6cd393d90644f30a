//go:build cgo && linux

#include "shim.h"
#include "_cgo_export.h"

#include <stdatomic.h>
#include <sys/eventfd.h>

static flowplug_str str(const char *ptr, size_t len) {
  flowplug_str s = {ptr, len};
  return s;
}

fp_call *fp_call_new(void) {
  fp_call *c = calloc(1, sizeof *c);
  if (c != NULL) c->options.struct_size = sizeof c->options;
  return c;
}

/* The callbacks of the library. */

static void request(void *user, int32_t kind, flowplug_request number, const flowplug_caller *caller, flowplug_str first, flowplug_str second,
                    const flowplug_http_request *http) {
  fp_request r = {kind, number, caller, first, second, http};
  flowplugGoRequest((uintptr_t)user, &r);
}

static void get_config(void *user, flowplug_request number, const flowplug_caller *caller, flowplug_str key) {
  request(user, FP_GET_CONFIG, number, caller, key, str(NULL, 0), NULL);
}

static void kv_get(void *user, flowplug_request number, const flowplug_caller *caller, flowplug_str key) {
  request(user, FP_KV_GET, number, caller, key, str(NULL, 0), NULL);
}

static void kv_set(void *user, flowplug_request number, const flowplug_caller *caller, flowplug_str key, flowplug_str value) {
  request(user, FP_KV_SET, number, caller, key, value, NULL);
}

static void kv_delete(void *user, flowplug_request number, const flowplug_caller *caller, flowplug_str key) {
  request(user, FP_KV_DELETE, number, caller, key, str(NULL, 0), NULL);
}

static void http_request(void *user, flowplug_request number, const flowplug_caller *caller, const flowplug_http_request *http) {
  request(user, FP_HTTP_REQUEST, number, caller, str(NULL, 0), str(NULL, 0), http);
}

static void emit_event(void *user, flowplug_request number, const flowplug_caller *caller, flowplug_str event) {
  request(user, FP_EMIT_EVENT, number, caller, event, str(NULL, 0), NULL);
}

static void log_record(void *user, const flowplug_log_record *record) { flowplugGoLog((uintptr_t)user, (flowplug_log_record *)record); }
static void event(void *user, flowplug_str json) { flowplugGoEvent((uintptr_t)user, (char *)json.ptr, json.len); }
static void dropped(void *user, flowplug_request number) { flowplugGoDropped((uintptr_t)user, number); }
static void destroy(void *user) { flowplugGoDestroy((uintptr_t)user); }

static flowplug_host_api callbacks(uintptr_t user, uint32_t api) {
  flowplug_host_api a = FLOWPLUG_HOST_API_INIT;
  a.user_data = (void *)user;
  a.destroy = destroy;
  if (api & FP_API_REQUESTS) {
    a.get_config = get_config;
    a.kv_get = kv_get;
    a.kv_set = kv_set;
    a.kv_delete = kv_delete;
    a.http_request = http_request;
    a.emit_event = emit_event;
    a.request_dropped = dropped;
  }
  if (api & FP_API_LOG) a.log = log_record;
  if (api & FP_API_EVENT) a.event = event;
  return a;
}

/* Host and manifest. */

flowplug_status fp_host_new(const char *config, size_t config_len, uintptr_t user, uint32_t api, fp_call *c) {
  flowplug_host_options o = FLOWPLUG_HOST_OPTIONS_INIT;
  flowplug_host_api a = callbacks(user, api);
  flowplug_host *made = NULL;
  o.config = str(config, config_len);
  if (api != 0) o.api = &a;
  flowplug_status status = flowplug_host_new(&o, &made, &c->error);
  c->handle = made;
  return status;
}

flowplug_status fp_host_close(void *host, fp_call *c) { return flowplug_host_close(host, &c->options, &c->error); }
void fp_host_free(void *host) { flowplug_host_free(host); }

flowplug_status fp_host_metrics(void *host, fp_call *c) { return flowplug_host_metrics(host, &c->out, &c->error); }

flowplug_status fp_host_admit(void *host, void *manifest, const char *identity, size_t identity_len, const char *policy, size_t policy_len, fp_call *c) {
  flowplug_plugin_options o = FLOWPLUG_PLUGIN_OPTIONS_INIT;
  o.policy = str(policy, policy_len);
  return flowplug_host_admit(host, manifest, str(identity, identity_len), &o, &c->out, &c->error);
}

flowplug_status fp_manifest_parse(const char *text, size_t len, const char *dir, size_t dir_len, int32_t strict, fp_call *c) {
  flowplug_manifest_options o = FLOWPLUG_MANIFEST_OPTIONS_INIT;
  flowplug_manifest *made = NULL;
  o.base_dir = str(dir, dir_len);
  o.strict = strict;
  flowplug_status status = flowplug_manifest_parse(str(text, len), &o, &made, &c->error);
  c->handle = made;
  return status;
}

flowplug_status fp_manifest_read(const char *path, size_t len, const char *dir, size_t dir_len, int32_t strict, fp_call *c) {
  flowplug_manifest_options o = FLOWPLUG_MANIFEST_OPTIONS_INIT;
  flowplug_manifest *made = NULL;
  o.base_dir = str(dir, dir_len);
  o.strict = strict;
  flowplug_status status = flowplug_manifest_read(str(path, len), &o, &made, &c->error);
  c->handle = made;
  return status;
}

flowplug_status fp_manifest_json(void *manifest, fp_call *c) { return flowplug_manifest_json(manifest, &c->out, &c->error); }
flowplug_status fp_manifest_warnings(void *manifest, fp_call *c) { return flowplug_manifest_warnings(manifest, &c->out, &c->error); }

flowplug_status fp_manifest_validate(void *manifest, const char *config, size_t len, fp_call *c) {
  return flowplug_manifest_validate_config(manifest, str(config, len), &c->options, &c->error);
}

flowplug_status fp_manifest_fill(void *manifest, const char *config, size_t len, fp_call *c) {
  return flowplug_manifest_fill_config(manifest, str(config, len), &c->options, &c->out, &c->error);
}

void fp_manifest_free(void *manifest) { flowplug_manifest_free(manifest); }

/* Plugin and function. */

flowplug_status fp_plugin_load(void *host, void *manifest, const char *identity, size_t identity_len, const char *policy, size_t policy_len,
                               uintptr_t user, uint32_t api, fp_call *c) {
  flowplug_plugin_options o = FLOWPLUG_PLUGIN_OPTIONS_INIT;
  flowplug_host_api a = callbacks(user, api);
  flowplug_plugin *made = NULL;
  if (api != 0) o.api = &a;
  o.policy = str(policy, policy_len);
  flowplug_status status = flowplug_plugin_load(host, manifest, str(identity, identity_len), &o, &c->options, &made, &c->error);
  c->handle = made;
  return status;
}

flowplug_status fp_plugin_info(void *plugin, fp_call *c) { return flowplug_plugin_info(plugin, &c->out, &c->error); }

flowplug_status fp_plugin_start(void *plugin, const char *config, size_t len, fp_call *c) {
  return flowplug_plugin_start(plugin, str(config, len), &c->options, &c->error);
}

/* Calls of processes that are under way, of all hosts. While they are few, each holds the thread that makes it, which is the quick way. Goroutines
   beyond wait without one: Go's scheduler is late to notice a thread that waits in C, and its runtime ends a program that has 10,000. */
#define MAX_WAITING 4
static atomic_int under_way;

/* Calls that ended, and the descriptor that tells of the first of them. */
static _Atomic(fp_call *) ended;
static int ended_fd = -1;

int fp_ended_fd(void) { return ended_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK); }
fp_call *fp_ended(void) { return atomic_exchange(&ended, NULL); }

static void done(void *user, flowplug_status status, flowplug_bytes *result, flowplug_error *error) {
  fp_call *c = user, *before = atomic_load(&ended);
  atomic_fetch_sub(&under_way, 1);
  c->status = status;
  c->out = *result;
  c->error = error;
  do c->next = before;
  while (!atomic_compare_exchange_weak(&ended, &before, c));
  /* It counts, and cannot be full. */
  if (before == NULL) (void)eventfd_write(ended_fd, 1);
}

flowplug_status fp_plugin_call_async(void *plugin, const char *name, size_t name_len, const char *params, size_t len, fp_call *c) {
  flowplug_completion completion = FLOWPLUG_COMPLETION_INIT;
  completion.user_data = c;
  completion.done = done;
  completion.flags = FLOWPLUG_COMPLETION_QUICK;
  atomic_fetch_add(&under_way, 1);
  flowplug_status status = flowplug_plugin_call_async(plugin, str(name, name_len), str(params, len), &c->options, &completion, &c->error);
  if (status != FLOWPLUG_OK) atomic_fetch_sub(&under_way, 1);
  return status;
}

flowplug_status fp_plugin_health(void *plugin, fp_call *c) { return flowplug_plugin_health(plugin, &c->options, &c->out, &c->error); }
int32_t fp_plugin_state(void *plugin) { return flowplug_plugin_state(plugin); }

flowplug_status fp_plugin_reload(void *plugin, void *manifest, const char *config, size_t len, fp_call *c) {
  return flowplug_plugin_reload(plugin, manifest, str(config, len), &c->options, &c->error);
}

flowplug_status fp_plugin_stop(void *plugin, fp_call *c) { return flowplug_plugin_stop(plugin, &c->options, &c->error); }
void fp_plugin_free(void *plugin) { flowplug_plugin_free(plugin); }

flowplug_status fp_function_new(void *plugin, const char *name, size_t len, fp_call *c) {
  flowplug_function *made = NULL;
  flowplug_status status = flowplug_function_new(plugin, str(name, len), &made, &c->error);
  c->handle = made;
  return status;
}

flowplug_status fp_function_call(uintptr_t function, const char *params, size_t len, uintptr_t call) {
  fp_call *c = (fp_call *)call;
  flowplug_function *f = (flowplug_function *)function;
  int waits = flowplug_function_runtime(f) == FLOWPLUG_RUNTIME_GRPC;
  if (waits && atomic_fetch_add(&under_way, 1) >= MAX_WAITING) {
    atomic_fetch_sub(&under_way, 1);
    return FP_NO_THREAD;
  }
  flowplug_status status = flowplug_function_call(f, str(params, len), &c->options, c->buf, c->cap, &c->out, &c->error);
  if (waits) atomic_fetch_sub(&under_way, 1);
  return status;
}

void fp_function_free(void *function) { flowplug_function_free(function); }

flowplug_status fp_manager_new(void *host, const char *config, size_t len, fp_call *c) {
  flowplug_manager *made = NULL;
  flowplug_status status = flowplug_manager_new(host, str(config, len), &made, &c->error);
  c->handle = made;
  return status;
}

flowplug_status fp_manager_start(void *manager, fp_call *c) { return flowplug_manager_start(manager, &c->options, &c->error); }

flowplug_status fp_manager_load(void *manager, const char *folder, size_t folder_len, const char *config, size_t len, fp_call *c) {
  return flowplug_manager_load(manager, str(folder, folder_len), str(config, len), &c->options, &c->error);
}

flowplug_status fp_manager_reload(void *manager, const char *identity, size_t identity_len, void *manifest, const char *config, size_t len, fp_call *c) {
  return flowplug_manager_reload(manager, str(identity, identity_len), manifest, str(config, len), &c->options, &c->error);
}

flowplug_status fp_manager_unload(void *manager, const char *identity, size_t len, fp_call *c) {
  return flowplug_manager_unload(manager, str(identity, len), &c->options, &c->error);
}

flowplug_status fp_manager_list(void *manager, fp_call *c) { return flowplug_manager_list(manager, &c->out, &c->error); }

flowplug_status fp_manager_get(void *manager, const char *identity, size_t len, fp_call *c) {
  flowplug_plugin *got = NULL;
  flowplug_status status = flowplug_manager_get(manager, str(identity, len), &got, &c->error);
  c->handle = got;
  return status;
}

flowplug_status fp_manager_metrics(void *manager, fp_call *c) { return flowplug_manager_metrics(manager, &c->out, &c->error); }
flowplug_status fp_manager_stop(void *manager, fp_call *c) { return flowplug_manager_stop(manager, &c->options, &c->error); }
void fp_manager_free(void *manager) { flowplug_manager_free(manager); }

flowplug_status fp_cancel_new(fp_call *c) { return flowplug_cancel_new(&c->number, &c->error); }

void fp_error_read(const flowplug_error *e, fp_error_view *v) {
  v->status = flowplug_error_status(e);
  v->message = flowplug_error_message(e);
  v->plugin = flowplug_error_plugin(e);
  v->function = flowplug_error_function(e);
  v->plugin_message = flowplug_error_plugin_message(e);
  v->details = flowplug_error_details(e);
}

/* Answers. */

flowplug_status fp_request_ok(uint64_t r, const char *value, size_t len) { return flowplug_request_ok(r, str(value, len)); }

flowplug_status fp_request_fail(uint64_t r, int32_t status, const char *message, size_t len) {
  return flowplug_request_fail(r, status, str(message, len));
}

flowplug_status fp_request_http(uint64_t r, int32_t status, const char *text, const size_t *lens, size_t pairs, const char *body, size_t len) {
  flowplug_pair *headers = pairs == 0 ? NULL : calloc(pairs, sizeof *headers);
  if (pairs != 0 && headers == NULL) return fp_request_fail(r, FLOWPLUG_OUT_OF_MEMORY, NULL, 0);
  for (size_t i = 0; i < pairs; i++) {
    headers[i].name = str(text, lens[2 * i]);
    text += lens[2 * i];
    headers[i].value = str(text, lens[2 * i + 1]);
    text += lens[2 * i + 1];
  }
  flowplug_status answered = flowplug_request_http(r, status, headers, pairs, str(body, len));
  free(headers);
  return answered;
}

flowplug_status fp_request_http_check(uint64_t r, const char *url, size_t len, fp_call *c) {
  return flowplug_request_http_check(r, str(url, len), &c->error);
}
