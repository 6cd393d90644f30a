/*
 * The example host's services: what its plugins may ask it for, over a list of keys and libcurl.
 */
#ifndef SERVICES_H
#define SERVICES_H

#include <pthread.h>
#include <stdarg.h>

#include "support.h"

/* What the host keeps. Callbacks come from any thread, so one lock guards all of it. */
typedef struct app {
  pthread_mutex_t lock;
  entry *kv;
  text trace;    /* what the plugin asked during the call in progress, for people */
  int events;    /* bookmark.created events seen */
  int surprises; /* what came back otherwise than expected: the exit code */
} app;

/* Notes what the plugin asked, one item. */
static void trace(app *a, const char *format, ...) {
  char line[512];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(line, sizeof line, format, arguments);
  va_end(arguments);
  pthread_mutex_lock(&a->lock);
  if (a->trace.len) append(&a->trace, " · ", strlen(" · "));
  append(&a->trace, line, strlen(line));
  pthread_mutex_unlock(&a->lock);
}

/* ---- The host functions: each answers its request before it returns, which it may do later and from any thread too ---- */

static const flowplug_str nothing = {NULL, 0};

static void get_config(void *user_data, flowplug_request request, const flowplug_caller *caller, flowplug_str key) {
  (void)caller;
  trace(user_data, "get_config %.*s", (int)key.len, key.ptr);
  flowplug_request_default(request); /* the library knows the config that the plugin was started with */
}

/* Keys arrive as plugin:<identity>:<key>; people want to see the last part. */
static flowplug_str short_key(const flowplug_caller *caller, flowplug_str key) {
  size_t prefix = strlen("plugin:") + caller->plugin.len + 1;
  return prefix <= key.len ? (flowplug_str){key.ptr + prefix, key.len - prefix} : key;
}

static void kv_get(void *user_data, flowplug_request request, const flowplug_caller *caller, flowplug_str key) {
  app *a = user_data;
  flowplug_str shown = short_key(caller, key);
  pthread_mutex_lock(&a->lock);
  entry *found = *kv_find(&a->kv, key);
  if (found)
    flowplug_request_ok(request, found->value);
  else
    flowplug_request_missing(request);
  pthread_mutex_unlock(&a->lock);
  trace(a, "kv_get %.*s%s", (int)shown.len, shown.ptr, found ? "" : " (missing)");
}

static void kv_set(void *user_data, flowplug_request request, const flowplug_caller *caller, flowplug_str key, flowplug_str value) {
  app *a = user_data;
  flowplug_str shown = short_key(caller, key);
  pthread_mutex_lock(&a->lock);
  kv_put(&a->kv, key, value);
  pthread_mutex_unlock(&a->lock);
  trace(a, "kv_set %.*s", (int)shown.len, shown.ptr);
  flowplug_request_ok(request, nothing);
}

static void kv_delete(void *user_data, flowplug_request request, const flowplug_caller *caller, flowplug_str key) {
  app *a = user_data;
  flowplug_str shown = short_key(caller, key);
  pthread_mutex_lock(&a->lock);
  kv_remove(kv_find(&a->kv, key));
  pthread_mutex_unlock(&a->lock);
  trace(a, "kv_delete %.*s", (int)shown.len, shown.ptr);
  flowplug_request_ok(request, nothing);
}

static void http_request(void *user_data, flowplug_request request, const flowplug_caller *caller, const flowplug_http_request *what) {
  response got = {0};
  CURLcode code = fetch(what, caller, &got);
  flowplug_str body = {got.body.ptr, got.body.len};
  trace(user_data, "http %.*s %.*s %ld", (int)what->method.len, what->method.ptr, (int)what->url.len, what->url.ptr, got.status);
  if (code == CURLE_OK)
    flowplug_request_http(request, (int32_t)got.status, got.headers, got.headers_len, body);
  else
    flowplug_request_fail(request, FLOWPLUG_IO, c_str(curl_easy_strerror(code)));
  response_clear(&got);
}

static void emit_event(void *user_data, flowplug_request request, const flowplug_caller *caller, flowplug_str event_json) {
  (void)caller;
  app *a = user_data;
  char *json = c_string(event_json), *type = json_text(json, "event_type");
  trace(a, "event %s", type);
  pthread_mutex_lock(&a->lock);
  if (strcmp(type, "bookmark.created") == 0) a->events++;
  pthread_mutex_unlock(&a->lock);
  free(type);
  free(json);
  flowplug_request_ok(request, nothing);
}

static void log_record(void *user_data, const flowplug_log_record *record) {
  static const char *const levels[] = {"debug", "info", "warn", "error"};
  if (record->plugin.len == 0 || record->level < FLOWPLUG_LOG_INFO) return; /* the library's own, and small talk */
  trace(user_data, "log %s %.*s", levels[record->level & 3], (int)record->message.len, record->message.ptr);
}

#endif
