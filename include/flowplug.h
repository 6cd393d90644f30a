#ifndef FLOWPLUG_H
#define FLOWPLUG_H
#include <stddef.h>
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif
#define FLOWPLUG_OK 0
#define FLOWPLUG_INVALID_ARGUMENT 1
#define FLOWPLUG_INVALID_MANIFEST 2
#define FLOWPLUG_INVALID_CONFIG 3
#define FLOWPLUG_INVALID_STATE 4
#define FLOWPLUG_NOT_FOUND 5
#define FLOWPLUG_UNKNOWN_FUNCTION 6
#define FLOWPLUG_LOAD_FAILED 7
#define FLOWPLUG_START_FAILED 8
#define FLOWPLUG_PLUGIN_ERROR 9
#define FLOWPLUG_INVALID_RESPONSE 10
#define FLOWPLUG_TRAP 11
#define FLOWPLUG_OUT_OF_MEMORY 12
#define FLOWPLUG_TIMEOUT 13
#define FLOWPLUG_CANCELLED 14
#define FLOWPLUG_BUSY 15
#define FLOWPLUG_PERMISSION_DENIED 16
#define FLOWPLUG_UNAVAILABLE 17
#define FLOWPLUG_HOST_ERROR 18
#define FLOWPLUG_IO 19
#define FLOWPLUG_INTERNAL 20
#define FLOWPLUG_UNSUPPORTED 21
#define FLOWPLUG_LOG_DEBUG 0
#define FLOWPLUG_LOG_INFO 1
#define FLOWPLUG_LOG_WARN 2
#define FLOWPLUG_LOG_ERROR 3
#define FLOWPLUG_STATE_LOADING 0
#define FLOWPLUG_STATE_RUNNING 1
#define FLOWPLUG_STATE_STOPPING 2
#define FLOWPLUG_STATE_ERROR 3
#define FLOWPLUG_STATE_STOPPED 4
#define FLOWPLUG_CALL_TRUST_JSON 1
#define FLOWPLUG_VERSION_MAJOR 0
#define FLOWPLUG_VERSION_MINOR 1
#define FLOWPLUG_VERSION_PATCH 0
typedef struct flowplug_error flowplug_error;
typedef struct flowplug_host flowplug_host;
typedef struct flowplug_manifest flowplug_manifest;
typedef struct flowplug_plugin flowplug_plugin;
typedef struct flowplug_function flowplug_function;
typedef struct flowplug_manager flowplug_manager;
#define FLOWPLUG_ABI_VERSION 1                     /* also FLOWPLUG_VERSION_{MAJOR,MINOR,PATCH} */
uint32_t    flowplug_abi_version(void);
const char *flowplug_version(void);                /* "0.1.0" */

typedef int32_t flowplug_status;
const char *flowplug_status_name(flowplug_status);
typedef struct flowplug_str   { const char *ptr; size_t len; } flowplug_str;
typedef struct flowplug_bytes { uint8_t *ptr; size_t len; void *owner; } flowplug_bytes;
void flowplug_bytes_free(flowplug_bytes *);

flowplug_status flowplug_error_status(const flowplug_error *);
flowplug_str    flowplug_error_message(const flowplug_error *);
flowplug_str    flowplug_error_plugin(const flowplug_error *);
flowplug_str    flowplug_error_function(const flowplug_error *);
flowplug_str    flowplug_error_plugin_message(const flowplug_error *);   /* the plugin's own text */
flowplug_str    flowplug_error_details(const flowplug_error *);          /* JSON object */
void            flowplug_error_free(flowplug_error *);

#define FLOWPLUG_NO_TIMEOUT UINT64_MAX
typedef struct flowplug_call_options {
  size_t struct_size;
  uint64_t timeout_ns;                             /* 0: the default; FLOWPLUG_NO_TIMEOUT: none of the caller's */
  uint64_t cancel;                                 /* 0: none */
  uint64_t parent;                                 /* a call made on behalf of a host request: that request; 0: none */
  uint64_t tag;                                    /* the embedder's own, handed to host callbacks */
  uint64_t flags;                                  /* FLOWPLUG_CALL_TRUST_JSON 1: see S3 in 7 */
  flowplug_str traceparent;
} flowplug_call_options;

/* host API: any pointer may be NULL, and then the embedded default serves */
typedef uint64_t flowplug_request;
typedef struct flowplug_pair   { flowplug_str name; flowplug_str value; } flowplug_pair;
typedef struct flowplug_caller { size_t struct_size; flowplug_str plugin; flowplug_str function; flowplug_str traceparent; uint64_t tag; uint64_t remaining_ns; } flowplug_caller;
typedef struct flowplug_http_request { size_t struct_size; flowplug_str method; flowplug_str url; const flowplug_pair *headers; size_t headers_len; flowplug_str body; } flowplug_http_request;
typedef struct flowplug_log_record   { size_t struct_size; flowplug_str plugin; uint64_t tag; int32_t level; flowplug_str message; const flowplug_pair *fields; size_t fields_len; } flowplug_log_record;
typedef struct flowplug_host_api {
  size_t struct_size;
  void  *user_data;
  void (*destroy)(void *user_data);
  void (*get_config)(void *user_data, flowplug_request, const flowplug_caller *, flowplug_str key);
  void (*kv_get)(void *user_data, flowplug_request, const flowplug_caller *, flowplug_str key);
  void (*kv_set)(void *user_data, flowplug_request, const flowplug_caller *, flowplug_str key, flowplug_str value);
  void (*kv_delete)(void *user_data, flowplug_request, const flowplug_caller *, flowplug_str key);
  void (*http_request)(void *user_data, flowplug_request, const flowplug_caller *, const flowplug_http_request *);
  void (*emit_event)(void *user_data, flowplug_request, const flowplug_caller *, flowplug_str event_json);
  void (*log)(void *user_data, const flowplug_log_record *);
  void (*event)(void *user_data, flowplug_str event_json);
  void (*request_dropped)(void *user_data, flowplug_request);
} flowplug_host_api;

/* host: one tokio runtime, the callbacks, the policy */
typedef struct flowplug_host_options { size_t struct_size; flowplug_str config; const flowplug_host_api *api; } flowplug_host_options;
flowplug_status flowplug_host_new(const flowplug_host_options *, flowplug_host **, flowplug_error **);   /* NULL: defaults */
flowplug_status flowplug_host_close(flowplug_host *, const flowplug_call_options *, flowplug_error **);  /* the timeout is the drain time; `timeout` if a callback has not returned by then: call it again */
void            flowplug_host_free(flowplug_host *);
flowplug_status flowplug_cancel_new(uint64_t *, flowplug_error **);                                      /* process-wide, sticky, shareable by many calls, freeable during one */
flowplug_status flowplug_cancel(uint64_t);
void            flowplug_cancel_free(uint64_t);

typedef struct flowplug_manifest_options { size_t struct_size; flowplug_str base_dir; int32_t strict; } flowplug_manifest_options;
flowplug_status flowplug_manifest_parse(flowplug_str yaml, const flowplug_manifest_options *, flowplug_manifest **, flowplug_error **);
flowplug_status flowplug_manifest_read(flowplug_str path, const flowplug_manifest_options *, flowplug_manifest **, flowplug_error **); /* a file, or a folder with plugin.yaml */
flowplug_status flowplug_manifest_json(const flowplug_manifest *, flowplug_bytes *, flowplug_error **);      /* seed field names, defaults filled in */
flowplug_status flowplug_manifest_warnings(const flowplug_manifest *, flowplug_bytes *, flowplug_error **);  /* JSON list */
flowplug_status flowplug_manifest_validate_config(const flowplug_manifest *, flowplug_str config, const flowplug_call_options *, flowplug_error **);
void            flowplug_manifest_free(flowplug_manifest *);

typedef struct flowplug_plugin_options { size_t struct_size; const flowplug_host_api *api; flowplug_str policy; } flowplug_plugin_options; /* overrides; a NULL pointer in api means the host's. policy: as in 1, for this plugin */
flowplug_status flowplug_plugin_load(flowplug_host *, const flowplug_manifest *, flowplug_str identity, const flowplug_plugin_options *,
                                     const flowplug_call_options *, flowplug_plugin **, flowplug_error **);
flowplug_status flowplug_plugin_info(const flowplug_plugin *, flowplug_bytes *, flowplug_error **);
flowplug_status flowplug_plugin_start(flowplug_plugin *, flowplug_str config, const flowplug_call_options *, flowplug_error **);
flowplug_status flowplug_plugin_call(flowplug_plugin *, flowplug_str function, flowplug_str params,
                                     const flowplug_call_options *, flowplug_bytes *, flowplug_error **);
typedef struct flowplug_completion {               /* inputs are copied; done runs exactly once if and only if the function returned ok, never on its caller's stack; destroy always */
  size_t struct_size; void *user_data;
  void (*done)(void *user_data, flowplug_status, flowplug_bytes *result, flowplug_error *);              /* takes over the content of result and the error; the result struct itself lasts for the callback */
  void (*destroy)(void *user_data);
} flowplug_completion;
flowplug_status flowplug_plugin_call_async(flowplug_plugin *, flowplug_str function, flowplug_str params,
                                     const flowplug_call_options *, const flowplug_completion *, flowplug_error **);
/* the fast way: resolved once, valid across reloads; the result goes into buf if it fits (then out->ptr == buf), else it is owned */
flowplug_status flowplug_function_new(flowplug_plugin *, flowplug_str function, flowplug_function **, flowplug_error **);
flowplug_status flowplug_function_call(flowplug_function *, flowplug_str params, const flowplug_call_options *,
                                     uint8_t *buf, size_t cap, flowplug_bytes *out, flowplug_error **);
void            flowplug_function_free(flowplug_function *);
flowplug_status flowplug_plugin_health(flowplug_plugin *, const flowplug_call_options *, flowplug_bytes *, flowplug_error **);
int32_t         flowplug_plugin_state(const flowplug_plugin *);                                          /* FLOWPLUG_STATE_{LOADING 0,RUNNING,STOPPING,ERROR,STOPPED}; -1 for NULL */
flowplug_status flowplug_plugin_reload(flowplug_plugin *, const flowplug_manifest *, flowplug_str config, const flowplug_call_options *, flowplug_error **);
flowplug_status flowplug_plugin_stop(flowplug_plugin *, const flowplug_call_options *, flowplug_error **); /* the timeout is the drain time, 0: 30 s */
void            flowplug_plugin_free(flowplug_plugin *);

flowplug_status flowplug_manager_new(flowplug_host *, flowplug_str config, flowplug_manager **, flowplug_error **);
flowplug_status flowplug_manager_start(flowplug_manager *, const flowplug_call_options *, flowplug_error **);   /* discover, load, start, watch */
flowplug_status flowplug_manager_load(flowplug_manager *, flowplug_str folder, flowplug_str config, const flowplug_call_options *, flowplug_error **);
flowplug_status flowplug_manager_reload(flowplug_manager *, flowplug_str identity, const flowplug_manifest *, flowplug_str config,
                                        const flowplug_call_options *, flowplug_error **);                      /* NULL and empty: as on disk, as before */
flowplug_status flowplug_manager_unload(flowplug_manager *, flowplug_str identity, const flowplug_call_options *, flowplug_error **);
flowplug_status flowplug_manager_list(const flowplug_manager *, flowplug_bytes *, flowplug_error **);
flowplug_status flowplug_manager_get(const flowplug_manager *, flowplug_str identity, flowplug_plugin **, flowplug_error **); /* a new reference */
flowplug_status flowplug_manager_call(flowplug_manager *, flowplug_str identity, flowplug_str function, flowplug_str params,
                                      const flowplug_call_options *, flowplug_bytes *, flowplug_error **);
flowplug_status flowplug_manager_health(flowplug_manager *, flowplug_str identity, const flowplug_call_options *, flowplug_bytes *, flowplug_error **);
flowplug_status flowplug_manager_metrics(const flowplug_manager *, flowplug_bytes *, flowplug_error **);        /* Prometheus text */
flowplug_status flowplug_manager_stop(flowplug_manager *, const flowplug_call_options *, flowplug_error **);
void            flowplug_manager_free(flowplug_manager *);

flowplug_status flowplug_request_ok(flowplug_request, flowplug_str value);                                /* value: get_config, kv_get; else ignored */
flowplug_status flowplug_request_missing(flowplug_request);                                               /* kv_get, get_config */
flowplug_status flowplug_request_http(flowplug_request, int32_t status, const flowplug_pair *headers, size_t headers_len, flowplug_str body);
flowplug_status flowplug_request_fail(flowplug_request, flowplug_status, flowplug_str message);
flowplug_status flowplug_request_default(flowplug_request);                                               /* answer as if there were no callback */
flowplug_status flowplug_request_http_check(flowplug_request, flowplug_str url, flowplug_error **);       /* may this request go to this URL: for each redirect */

#ifdef __cplusplus
#define FLOWPLUG_STR(s) (flowplug_str{s, sizeof(s) - 1})
#else
#define FLOWPLUG_STR(s) ((flowplug_str){s, sizeof(s) - 1})
#endif
#define FLOWPLUG_STR_INIT(s) {s, sizeof(s) - 1}
#define FLOWPLUG_CALL_OPTIONS_INIT {sizeof(flowplug_call_options), 0, 0, 0, 0, 0, {NULL, 0}}
#define FLOWPLUG_HOST_OPTIONS_INIT {sizeof(flowplug_host_options), {NULL, 0}, NULL}
#define FLOWPLUG_MANIFEST_OPTIONS_INIT {sizeof(flowplug_manifest_options), {NULL, 0}, 0}
#define FLOWPLUG_PLUGIN_OPTIONS_INIT {sizeof(flowplug_plugin_options), NULL, {NULL, 0}}
#define FLOWPLUG_COMPLETION_INIT {sizeof(flowplug_completion), NULL, NULL, NULL}
#define FLOWPLUG_HOST_API_INIT {sizeof(flowplug_host_api), NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL}
#ifdef __cplusplus
#define FLOWPLUG_BYTES_STR(b) (flowplug_str{(const char *)(b).ptr, (b).len})
#else
#define FLOWPLUG_BYTES_STR(b) ((flowplug_str){(const char *)(b).ptr, (b).len})
#endif
#ifdef __cplusplus
}
#endif
#endif
