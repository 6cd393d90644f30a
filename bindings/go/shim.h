/* What stands between Go and flowplug.h: flat arguments, so that one crossing makes one call, and no Go pointer inside of a struct. */
#ifndef FLOWPLUG_GO_SHIM_H
#define FLOWPLUG_GO_SHIM_H

#include <flowplug.h>
#include <stdint.h>
#include <stdlib.h>

/* What a call takes and leaves beside its arguments. In C memory, because the library writes pointers into it. */
typedef struct fp_call {
  flowplug_call_options options;
  flowplug_bytes out;    /* a result: in buf, or with an owner */
  flowplug_error *error; /* owned, if the status is not ok */
  void *handle;          /* what was made */
  uint64_t number;
  uint8_t *buf;
  size_t cap;
  uint32_t id;            /* the frame's */
  flowplug_status status; /* how a call ended that no thread waited for */
  struct fp_call *next;   /* ended before it, and not looked at either */
} fp_call;

/* Which callbacks the library is given. */
#define FP_API_REQUESTS 1
#define FP_API_LOG 2
#define FP_API_EVENT 4

/* What a plugin asks; the numbers are Go's too. */
#define FP_GET_CONFIG 0
#define FP_KV_GET 1
#define FP_KV_SET 2
#define FP_KV_DELETE 3
#define FP_HTTP_REQUEST 4
#define FP_EMIT_EVENT 5

typedef struct fp_request {
  int32_t kind;
  flowplug_request number;
  const flowplug_caller *caller;
  flowplug_str first; /* key or event */
  flowplug_str second;
  const flowplug_http_request *http;
} fp_request;

typedef struct fp_error_view {
  flowplug_status status;
  flowplug_str message, plugin, function, plugin_message, details;
} fp_error_view;

fp_call *fp_call_new(void);

flowplug_status fp_host_new(const char *config, size_t config_len, uintptr_t user, uint32_t api, fp_call *);
flowplug_status fp_host_close(void *host, fp_call *);
void fp_host_free(void *host);
flowplug_status fp_host_metrics(void *host, fp_call *);
flowplug_status fp_host_admit(void *host, void *manifest, const char *identity, size_t identity_len, const char *policy, size_t policy_len, fp_call *);

flowplug_status fp_manifest_parse(const char *text, size_t len, const char *dir, size_t dir_len, int32_t strict, fp_call *);
flowplug_status fp_manifest_read(const char *path, size_t len, const char *dir, size_t dir_len, int32_t strict, fp_call *);
flowplug_status fp_manifest_json(void *manifest, fp_call *);
flowplug_status fp_manifest_warnings(void *manifest, fp_call *);
flowplug_status fp_manifest_validate(void *manifest, const char *config, size_t len, fp_call *);
flowplug_status fp_manifest_fill(void *manifest, const char *config, size_t len, fp_call *);
void fp_manifest_free(void *manifest);

flowplug_status fp_plugin_load(void *host, void *manifest, const char *identity, size_t identity_len, const char *policy, size_t policy_len,
                               uintptr_t user, uint32_t api, fp_call *);
flowplug_status fp_plugin_info(void *plugin, fp_call *);
flowplug_status fp_plugin_start(void *plugin, const char *config, size_t len, fp_call *);
/* Ends in fp_ended, if it is accepted: status, out and error are the call's from then on. */
flowplug_status fp_plugin_call_async(void *plugin, const char *name, size_t name_len, const char *params, size_t len, fp_call *);
/* A descriptor that can be read when calls have ended; -1 if there is none to be had. */
int fp_ended_fd(void);
/* All calls that have ended since, the last one first, by next. */
fp_call *fp_ended(void);
flowplug_status fp_plugin_health(void *plugin, fp_call *);
int32_t fp_plugin_state(void *plugin);
flowplug_status fp_plugin_reload(void *plugin, void *manifest, const char *config, size_t len, fp_call *);
flowplug_status fp_plugin_stop(void *plugin, fp_call *);
void fp_plugin_free(void *plugin);

flowplug_status fp_function_new(void *plugin, const char *name, size_t len, fp_call *);
/* No status of the library: the call was not made, since no more threads are to wait for processes. */
#define FP_NO_THREAD -1
/* The hot path: the pointers come as numbers, which spares Go's check of what they point to. */
flowplug_status fp_function_call(uintptr_t function, const char *params, size_t len, uintptr_t call);
void fp_function_free(void *function);

flowplug_status fp_manager_new(void *host, const char *config, size_t len, fp_call *);
flowplug_status fp_manager_start(void *manager, fp_call *);
flowplug_status fp_manager_load(void *manager, const char *folder, size_t folder_len, const char *config, size_t len, fp_call *);
flowplug_status fp_manager_reload(void *manager, const char *identity, size_t identity_len, void *manifest, const char *config, size_t len, fp_call *);
flowplug_status fp_manager_unload(void *manager, const char *identity, size_t len, fp_call *);
flowplug_status fp_manager_list(void *manager, fp_call *);
flowplug_status fp_manager_get(void *manager, const char *identity, size_t len, fp_call *);
flowplug_status fp_manager_metrics(void *manager, fp_call *);
flowplug_status fp_manager_stop(void *manager, fp_call *);
void fp_manager_free(void *manager);

flowplug_status fp_cancel_new(fp_call *);
void fp_error_read(const flowplug_error *, fp_error_view *);

flowplug_status fp_request_ok(uint64_t request, const char *value, size_t len);
flowplug_status fp_request_fail(uint64_t request, int32_t status, const char *message, size_t len);
/* text holds names and values in turn, one after the other; lens their 2 * pairs lengths. */
flowplug_status fp_request_http(uint64_t request, int32_t status, const char *text, const size_t *lens, size_t pairs, const char *body, size_t len);
flowplug_status fp_request_http_check(uint64_t request, const char *url, size_t len, fp_call *);

#endif
