/*
 * Host callbacks that answer as a test tells them: at once or from another thread, with success, missing, failure, the
 * default, or never. They note what they were asked.
 */
#ifndef ANSWERING_H
#define ANSWERING_H
#include "plugins.h"

typedef enum manner { SUCCESS, EMPTY, MISSING, FAILURE, DEFAULT, TWICE, WRONG_KIND_FIRST, NEVER } manner;
typedef enum asked { VALUE, DONE, HTTP } asked;

static const char the_value[] = "a \"value\" \xc3\xa9";
static const char the_failure[] = "the host was told to fail";

typedef struct job {
  struct job *next;
  flowplug_request request;
  asked what;
  manner how;
} job;

/* One for each host; guarded by its lock. */
typedef struct app {
  pthread_mutex_t lock;
  manner how;
  int later;
  char seen[4096];                /* what was asked last: "kv_get plugin:x:key" */
  char caller[256], function[64]; /* on whose behalf */
  uint64_t tag, remaining_ns;
  flowplug_request last_request, dropped_request;
  latch asked_count, dropped, answered, destroyed, events, logs;
  char event[4096], log[4096];
  job *jobs;
  int quit;
  pthread_cond_t work;
  pthread_t worker;
} app;

static void note(app *a, const flowplug_caller *caller, flowplug_request request, const char *what) {
  pthread_mutex_lock(&a->lock);
  snprintf(a->seen, sizeof a->seen, "%s", what);
  snprintf(a->caller, sizeof a->caller, "%.*s", (int)caller->plugin.len, caller->plugin.ptr);
  snprintf(a->function, sizeof a->function, "%.*s", (int)caller->function.len, caller->function.ptr);
  a->tag = caller->tag;
  a->remaining_ns = caller->remaining_ns;
  a->last_request = request;
  pthread_mutex_unlock(&a->lock);
  CHECK(caller->struct_size == sizeof *caller);
}

static flowplug_status succeed(flowplug_request request, asked what, const char *value) {
  if (what == HTTP) {
    flowplug_pair headers[] = {{FLOWPLUG_STR("X-One"), FLOWPLUG_STR("1")}, {FLOWPLUG_STR("Content-Type"), FLOWPLUG_STR("text/plain")}};
    return flowplug_request_http(request, 201, headers, 2, str("hello body"));
  }
  return flowplug_request_ok(request, what == VALUE ? str(value) : (flowplug_str){NULL, 0});
}

static void respond(app *a, flowplug_request request, asked what, manner how) {
  flowplug_str nothing = {NULL, 0};
  if (how == MISSING) CHECK_INT(what == VALUE ? flowplug_request_missing(request) : succeed(request, what, ""), FLOWPLUG_OK);
  if (how == FAILURE) CHECK_INT(flowplug_request_fail(request, FLOWPLUG_IO, str(the_failure)), FLOWPLUG_OK);
  if (how == DEFAULT) CHECK_INT(flowplug_request_default(request), FLOWPLUG_OK);
  if (how == EMPTY) CHECK_INT(succeed(request, what, ""), FLOWPLUG_OK);
  if (how == WRONG_KIND_FIRST) { /* a refused answer changes nothing */
    if (what == HTTP)
      CHECK_INT(flowplug_request_ok(request, nothing), FLOWPLUG_INVALID_ARGUMENT);
    else
      CHECK_INT(flowplug_request_http(request, 200, NULL, 0, nothing), FLOWPLUG_INVALID_ARGUMENT);
    if (what != VALUE) CHECK_INT(flowplug_request_missing(request), FLOWPLUG_INVALID_ARGUMENT);
    CHECK_INT(flowplug_request_fail(request, FLOWPLUG_OK, nothing), FLOWPLUG_INVALID_ARGUMENT);
  }
  if (how == SUCCESS || how == TWICE || how == WRONG_KIND_FIRST) CHECK_INT(succeed(request, what, the_value), FLOWPLUG_OK);
  if (how == TWICE) {
    CHECK_INT(succeed(request, what, "again"), FLOWPLUG_NOT_FOUND);
    CHECK_INT(flowplug_request_fail(request, FLOWPLUG_IO, nothing), FLOWPLUG_NOT_FOUND);
    CHECK_INT(flowplug_request_default(request), FLOWPLUG_NOT_FOUND);
  }
  if (how != NEVER) latch_add(&a->answered);
}

static MAYBE_UNUSED void *worker_main(void *of) {
  app *a = of;
  pthread_mutex_lock(&a->lock);
  for (;;) {
    while (!a->jobs && !a->quit) pthread_cond_wait(&a->work, &a->lock);
    job *j = a->jobs;
    if (!j) break;
    a->jobs = j->next;
    pthread_mutex_unlock(&a->lock);
    respond(a, j->request, j->what, j->how);
    free(j);
    pthread_mutex_lock(&a->lock);
  }
  pthread_mutex_unlock(&a->lock);
  return NULL;
}

static void hand_in(app *a, flowplug_request request, asked what) {
  latch_add(&a->asked_count);
  pthread_mutex_lock(&a->lock);
  manner how = a->how;
  int later = a->later;
  if (later) {
    job *j = malloc(sizeof *j);
    if (!j) abort();
    *j = (job){a->jobs, request, what, how};
    a->jobs = j;
    pthread_cond_signal(&a->work);
  }
  pthread_mutex_unlock(&a->lock);
  if (!later) respond(a, request, what, how);
}

static void on_get_config(void *data, flowplug_request request, const flowplug_caller *caller, flowplug_str key) {
  note(data, caller, request, format("get_config %.*s", (int)key.len, key.ptr));
  hand_in(data, request, VALUE);
}
static void on_kv_get(void *data, flowplug_request request, const flowplug_caller *caller, flowplug_str key) {
  note(data, caller, request, format("kv_get %.*s", (int)key.len, key.ptr));
  hand_in(data, request, VALUE);
}
static void on_kv_set(void *data, flowplug_request request, const flowplug_caller *caller, flowplug_str key, flowplug_str value) {
  note(data, caller, request, format("kv_set %.*s = %.*s", (int)key.len, key.ptr, (int)value.len, value.ptr));
  hand_in(data, request, DONE);
}
static void on_kv_delete(void *data, flowplug_request request, const flowplug_caller *caller, flowplug_str key) {
  note(data, caller, request, format("kv_delete %.*s", (int)key.len, key.ptr));
  hand_in(data, request, DONE);
}
static void on_emit_event(void *data, flowplug_request request, const flowplug_caller *caller, flowplug_str event) {
  note(data, caller, request, format("emit_event %.*s", (int)event.len, event.ptr));
  hand_in(data, request, DONE);
}

/* While it is asked, a redirect's target may be checked. */
static void check_redirects(flowplug_request request) {
  flowplug_error *error = NULL;
  CHECK_INT(flowplug_request_http_check(request, str("http://127.0.0.1:9/elsewhere"), NULL), FLOWPLUG_OK);
  CHECK_ANSWER(answered(flowplug_request_http_check(request, str("http://denied.example.com/"), &error), NULL, &error), FLOWPLUG_PERMISSION_DENIED);
  CHECK_INT(flowplug_request_http_check(request, str("http://127.0.0.1@denied.example.com/"), NULL), FLOWPLUG_PERMISSION_DENIED);
  flowplug_status odd = flowplug_request_http_check(request, str("file:///etc/passwd"), NULL);
  CHECK(odd == FLOWPLUG_PERMISSION_DENIED || odd == FLOWPLUG_INVALID_ARGUMENT);
  CHECK_INT(flowplug_request_http_check(request, str("no url"), NULL), FLOWPLUG_INVALID_ARGUMENT);
}

static void on_http_request(void *data, flowplug_request request, const flowplug_caller *caller, const flowplug_http_request *what) {
  char headers[512] = "";
  for (size_t i = 0; i < what->headers_len; i++) {
    size_t at = strlen(headers);
    snprintf(headers + at, sizeof headers - at, " %.*s=%.*s", (int)what->headers[i].name.len, what->headers[i].name.ptr, (int)what->headers[i].value.len,
             what->headers[i].value.ptr);
  }
  CHECK(what->struct_size == sizeof *what);
  check_redirects(request);
  note(data, caller, request,
       format("http %.*s %.*s%s [%.*s]", (int)what->method.len, what->method.ptr, (int)what->url.len, what->url.ptr, headers, (int)what->body.len,
              what->body.ptr ? what->body.ptr : ""));
  hand_in(data, request, HTTP);
}

/* Only what a plugin says; the library's own records come with an empty plugin. */
static void on_log(void *data, const flowplug_log_record *record) {
  app *a = data;
  CHECK(record->struct_size == sizeof *record);
  if (record->plugin.len == 0 || !memmem(record->message.ptr, record->message.len, "logged", 6)) return;
  pthread_mutex_lock(&a->lock);
  int at = snprintf(a->log, sizeof a->log, "%.*s %d %.*s", (int)record->plugin.len, record->plugin.ptr, record->level, (int)record->message.len, record->message.ptr);
  for (size_t i = 0; i < record->fields_len && at < (int)sizeof a->log; i++)
    at += snprintf(a->log + at, sizeof a->log - (size_t)at, " %.*s=%.*s", (int)record->fields[i].name.len, record->fields[i].name.ptr, (int)record->fields[i].value.len,
                   record->fields[i].value.ptr);
  pthread_mutex_unlock(&a->lock);
  latch_add(&a->logs);
}

static void on_event(void *data, flowplug_str event) {
  app *a = data;
  if (!memmem(event.ptr, event.len, "thing.happened", 14)) return;
  pthread_mutex_lock(&a->lock);
  snprintf(a->event, sizeof a->event, "%.*s", (int)event.len, event.ptr);
  pthread_mutex_unlock(&a->lock);
  latch_add(&a->events);
}

static void on_dropped(void *data, flowplug_request request) {
  app *a = data;
  pthread_mutex_lock(&a->lock);
  a->dropped_request = request;
  pthread_mutex_unlock(&a->lock);
  latch_add(&a->dropped);
}

static void on_destroy(void *data) { latch_add(&((app *)data)->destroyed); }

static MAYBE_UNUSED void app_begin(app *a) {
  *a = (app){.lock = PTHREAD_MUTEX_INITIALIZER,
             .work = PTHREAD_COND_INITIALIZER,
             .asked_count = LATCH_INIT,
             .dropped = LATCH_INIT,
             .answered = LATCH_INIT,
             .destroyed = LATCH_INIT,
             .events = LATCH_INIT,
             .logs = LATCH_INIT};
  if (pthread_create(&a->worker, NULL, worker_main, a) != 0) abort();
}

static MAYBE_UNUSED void app_end(app *a) {
  pthread_mutex_lock(&a->lock);
  a->quit = 1;
  pthread_cond_signal(&a->work);
  pthread_mutex_unlock(&a->lock);
  pthread_join(a->worker, NULL);
}

static MAYBE_UNUSED void answer_by(app *a, manner how, int later) {
  pthread_mutex_lock(&a->lock);
  a->how = how;
  a->later = later;
  a->seen[0] = '\0';
  pthread_mutex_unlock(&a->lock);
}

static MAYBE_UNUSED flowplug_host_api app_api(app *a) {
  flowplug_host_api api = FLOWPLUG_HOST_API_INIT;
  api.user_data = a;
  api.destroy = on_destroy;
  api.get_config = on_get_config;
  api.kv_get = on_kv_get;
  api.kv_set = on_kv_set;
  api.kv_delete = on_kv_delete;
  api.http_request = on_http_request;
  api.emit_event = on_emit_event;
  api.log = on_log;
  api.event = on_event;
  api.request_dropped = on_dropped;
  return api;
}

#endif
