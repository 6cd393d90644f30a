/*
 * The life of a plugin and of its calls: states, stop and drain, cancelling, asynchronous calls, resolved functions, calls
 * from many threads, a process that ends, a child made by fork, and handles freed in any order.
 */
#include "inside.h"

#include <sched.h>
#include <sys/wait.h>

static flowplug_host *host;

static const char echo[] = "{\"content\":{\"do\":\"echo\",\"n\":1}}";

static flowplug_plugin *loaded(const char *folder) {
  flowplug_plugin *plugin = NULL;
  CHECK_ANSWER(load_with(host, folder, "", "life", NULL, NULL, NULL, &plugin), FLOWPLUG_OK);
  return plugin;
}

/* ---- States ---- */

static void a_config_arrives_as_it_was_given(const char *folder) {
  flowplug_plugin *plugin = loaded(folder);
  if (!plugin) return;
  CHECK_ANSWER(start(plugin, "{\"n\": 123456789012345678901234567890.10}", NULL), FLOWPLUG_OK);
  answer a = call(plugin, "command", "{\"content\":{\"do\":\"config\"}}");
  CHECK_ANSWER(a, FLOWPLUG_OK);
  CHECK_HAS(a.json, "123456789012345678901234567890.10");
  done_with(plugin);
}

static void states(const char *folder) {
  flowplug_plugin *plugin = loaded(folder);
  if (!plugin) return;
  CHECK_INT(flowplug_plugin_state(plugin), FLOWPLUG_STATE_LOADING);
  answer a = call(plugin, "command", echo);
  CHECK_ANSWER(a, FLOWPLUG_INVALID_STATE);
  CHECK_HAS(a.message, "loading");
  CHECK_HAS(health(plugin).json, "\"state\":\"loading\"");
  CHECK_ANSWER(start(plugin, "", NULL), FLOWPLUG_OK);
  CHECK_INT(flowplug_plugin_state(plugin), FLOWPLUG_STATE_RUNNING);
  a = start(plugin, "", NULL);
  CHECK_ANSWER(a, FLOWPLUG_INVALID_STATE);
  CHECK_HAS(a.message, "running");
  CHECK_ANSWER(call(plugin, "command", echo), FLOWPLUG_OK);
  CHECK_ANSWER(stop(plugin, NULL), FLOWPLUG_OK);
  CHECK_INT(flowplug_plugin_state(plugin), FLOWPLUG_STATE_STOPPED);
  a = call(plugin, "command", echo);
  CHECK_ANSWER(a, FLOWPLUG_INVALID_STATE);
  CHECK_HAS(a.message, "stopped");
  CHECK_ANSWER(start(plugin, "", NULL), FLOWPLUG_INVALID_STATE);
  CHECK_ANSWER(stop(plugin, NULL), FLOWPLUG_OK);
  flowplug_plugin_free(plugin);
}

static void stopped_before_it_was_started(const char *folder) {
  flowplug_plugin *plugin = loaded(folder);
  CHECK_ANSWER(stop(plugin, NULL), FLOWPLUG_OK);
  CHECK_ANSWER(start(plugin, "", NULL), FLOWPLUG_INVALID_STATE);
  flowplug_plugin_free(plugin);
}

static void wait_until_stopping(flowplug_plugin *plugin) {
  uint64_t began = now_ns();
  while (flowplug_plugin_state(plugin) == FLOWPLUG_STATE_RUNNING && now_ns() - began < BOUND_SECONDS * 1000 * MS) sched_yield();
}

typedef struct stopper {
  pthread_t thread;
  flowplug_plugin *plugin;
  flowplug_call_options options;
  answer got;
} stopper;

static void *stopper_main(void *of) {
  stopper *s = of;
  s->got = stop(s->plugin, &s->options);
  return NULL;
}

static void stop_waits_for_calls_in_flight(const char *folder) {
  flowplug_plugin *plugin = running(host, folder, "life");
  if (!plugin) return;
  background b;
  stopper s = {.plugin = plugin, .options = within(BOUND_SECONDS * 1000)};
  begin_held(&b, plugin);
  pthread_create(&s.thread, NULL, stopper_main, &s);
  wait_until_stopping(plugin);
  CHECK_INT(flowplug_plugin_state(plugin), FLOWPLUG_STATE_STOPPING);
  CHECK_ANSWER(call(plugin, "command", echo), FLOWPLUG_INVALID_STATE);
  CHECK_INT(flowplug_request_ok(held_request, str("drained")), FLOWPLUG_OK);
  CHECK_TEXT(join_call(&b).json, "{\"value\":\"drained\"}");
  pthread_join(s.thread, NULL);
  CHECK_ANSWER(s.got, FLOWPLUG_OK);
  CHECK_INT(flowplug_plugin_state(plugin), FLOWPLUG_STATE_STOPPED);
  flowplug_plugin_free(plugin);
}

static void stop_ends_what_does_not_end(const char *folder) {
  flowplug_plugin *plugin = running(host, folder, "life");
  if (!plugin) return;
  background calls[2];
  static const char *const params[2] = {nap_long, spin};
  flowplug_call_options drain = within(200);
  calls_inside(plugin, folder, calls, params, 2, 0);
  uint64_t began = now_ns();
  CHECK_ANSWER(stop(plugin, &drain), FLOWPLUG_OK);
  for (int i = 0; i < 2; i++) CHECK_ANSWER(join_call(&calls[i]), FLOWPLUG_CANCELLED);
  CHECK(now_ns() - began < 30000 * MS);
  flowplug_plugin_free(plugin);
}

/* ---- Cancelling ---- */

static void a_token_set_before_the_call(const char *folder) {
  flowplug_plugin *plugin = running(host, folder, "life");
  if (!plugin) return;
  uint64_t token = 0;
  flowplug_call_options options = FLOWPLUG_CALL_OPTIONS_INIT;
  CHECK_INT(flowplug_cancel_new(&token, NULL), FLOWPLUG_OK);
  options.cancel = token;
  CHECK_ANSWER(call_with(plugin, "command", echo, &options), FLOWPLUG_OK);
  CHECK_INT(flowplug_cancel(token), FLOWPLUG_OK);
  CHECK_ANSWER(call_with(plugin, "command", echo, &options), FLOWPLUG_CANCELLED);
  CHECK_ANSWER(call_with(plugin, "command", spin, &options), FLOWPLUG_CANCELLED);
  CHECK_ANSWER(call(plugin, "command", echo), FLOWPLUG_OK);
  flowplug_cancel_free(token);
  done_with(plugin);
}

static void cancelled_from_another_thread(const char *folder) {
  flowplug_plugin *plugin = running(host, folder, "life"), *other = running(host, folder, "other");
  if (!plugin || !other) return;
  static const char *const what[] = {spin, nap_long};
  for (int i = 0; i < 2; i++) {
    uint64_t token = 0;
    background ours, theirs;
    CHECK_INT(flowplug_cancel_new(&token, NULL), FLOWPLUG_OK);
    begin_held(&theirs, other); /* the sibling's call lives on */
    calls_inside(plugin, folder, &ours, &what[i], 1, token);
    uint64_t began = now_ns();
    CHECK_INT(flowplug_cancel(token), FLOWPLUG_OK);
    flowplug_cancel_free(token); /* also during the call */
    CHECK_ANSWER(join_call(&ours), FLOWPLUG_CANCELLED);
    CHECK(now_ns() - began < 10000 * MS);
    CHECK_INT(flowplug_request_ok(held_request, str("theirs")), FLOWPLUG_OK);
    CHECK_TEXT(join_call(&theirs).json, "{\"value\":\"theirs\"}");
    CHECK_ANSWER(call(plugin, "command", echo), FLOWPLUG_OK);
  }
  done_with(plugin);
  done_with(other);
}

/* ---- Asynchronous calls ---- */

typedef struct async {
  latch done, destroyed;
  pthread_t caller;
  int on_caller, old;
  uint64_t flags;
  answer got;
} async;

static void on_done(void *data, flowplug_status status, flowplug_bytes *result, flowplug_error *error) {
  async *a = data;
  a->on_caller = pthread_equal(pthread_self(), a->caller);
  CHECK_INT(latch_count(&a->destroyed), 0);
  a->got = answered(status, result, &error);
  latch_add(&a->done);
}

static void on_destroyed(void *data) { latch_add(&((async *)data)->destroyed); }

static answer call_async(flowplug_plugin *plugin, const char *function, const char *params, const flowplug_call_options *options, async *a) {
  *a = (async){.done = LATCH_INIT, .destroyed = LATCH_INIT, .caller = pthread_self(), .flags = a->flags, .old = a->old};
  flowplug_completion completion = FLOWPLUG_COMPLETION_INIT;
  flowplug_error *error = NULL;
  completion.user_data = a;
  completion.done = on_done;
  completion.destroy = on_destroyed;
  completion.flags = a->flags;
  if (a->old) completion.struct_size = offsetof(flowplug_completion, flags), completion.flags = UINT64_MAX;
  char *lent = strdup(params); /* inputs are copied: gone before the call is over */
  flowplug_status status = flowplug_plugin_call_async(plugin, str(function), str(lent), options, &completion, &error);
  memset(lent, 'x', strlen(lent));
  free(lent);
  answer returned = answered(status, NULL, &error);
  latch_wait(&a->destroyed, 1);
  CHECK_INT(latch_count(&a->done), status == FLOWPLUG_OK);
  return status == FLOWPLUG_OK ? a->got : returned;
}

static void asynchronous_calls_with(const char *folder, uint64_t flags) {
  flowplug_plugin *plugin = running(host, folder, "life");
  if (!plugin) return;
  async a = {.flags = flags};
  CHECK_TEXT(call_async(plugin, "command", echo, NULL, &a).json, "{\"do\":\"echo\",\"n\":1}");
  CHECK(!a.on_caller);
  CHECK_ANSWER(call_async(plugin, "command", "{\"content\":{\"do\":\"error\",\"text\":\"no\"}}", NULL, &a), FLOWPLUG_PLUGIN_ERROR);
  CHECK_ANSWER(call_async(plugin, "nothing_like_it", "{}", NULL, &a), FLOWPLUG_UNKNOWN_FUNCTION);
  a.old = 1; /* the struct of a program that was compiled before it had flags: what stands behind it is not read */
  CHECK_TEXT(call_async(plugin, "command", echo, NULL, &a).json, "{\"do\":\"echo\",\"n\":1}");
  a.old = 0;
  a.flags = 2; /* unknown */
  CHECK_ANSWER(call_async(plugin, "command", echo, NULL, &a), FLOWPLUG_INVALID_ARGUMENT);
  a.flags = flags;
  flowplug_call_options options = within(200);
  CHECK_ANSWER(call_async(plugin, "command", nap_long, &options, &a), FLOWPLUG_TIMEOUT);
  CHECK_ANSWER(stop(plugin, NULL), FLOWPLUG_OK);
  CHECK_ANSWER(call_async(plugin, "command", echo, NULL, &a), FLOWPLUG_INVALID_STATE);
  flowplug_plugin_free(plugin);
  flowplug_completion completion = FLOWPLUG_COMPLETION_INIT;
  a = (async){.done = LATCH_INIT, .destroyed = LATCH_INIT};
  completion.user_data = &a;
  completion.done = on_done;
  completion.destroy = on_destroyed;
  CHECK_INT(flowplug_plugin_call_async(NULL, str("command"), str(echo), NULL, &completion, NULL), FLOWPLUG_INVALID_ARGUMENT);
  CHECK_INT(latch_count(&a.destroyed), 1);
  CHECK_INT(latch_count(&a.done), 0);
}

static void asynchronous_calls(const char *folder) { asynchronous_calls_with(folder, 0); }
static void quick_completions(const char *folder) { asynchronous_calls_with(folder, FLOWPLUG_COMPLETION_QUICK); }

/* ---- Resolved functions ---- */

static void a_buffer_that_fits_and_one_that_does_not(const char *folder) {
  flowplug_plugin *plugin = running(host, folder, "life");
  if (!plugin) return;
  flowplug_function *function = NULL;
  uint8_t room[64];
  static const char want[] = "{\"do\":\"echo\",\"n\":1}";
  const size_t len = sizeof want - 1, caps[] = {sizeof room, len, len - 1, 1, 0};
  CHECK_INT(flowplug_function_new(plugin, FLOWPLUG_STR("command"), &function, NULL), FLOWPLUG_OK);
  for (size_t i = 0; i < sizeof caps / sizeof caps[0]; i++) {
    flowplug_bytes out = {NULL, 0, NULL};
    memset(room, '#', sizeof room);
    CHECK_INT(flowplug_function_call(function, str(echo), NULL, caps[i] ? room : NULL, caps[i], &out, NULL), FLOWPLUG_OK);
    CHECK(out.len == len && memcmp(out.ptr, want, len) == 0);
    CHECK_INT(out.ptr == room, caps[i] >= len);
    CHECK_INT(out.owner == NULL, caps[i] >= len);
    for (size_t past = caps[i]; past < sizeof room; past++) CHECK(room[past] == '#');
    flowplug_bytes_free(&out);
  }
  flowplug_bytes out = {NULL, 0, NULL};
  flowplug_error *error = NULL;
  flowplug_status status = flowplug_function_call(function, str("{\"content\":{\"do\":\"error\",\"text\":\"no\"}}"), NULL, room, sizeof room, &out, &error);
  CHECK_ANSWER(answered(status, NULL, &error), FLOWPLUG_PLUGIN_ERROR);
  CHECK(out.ptr == NULL && out.len == 0);
  CHECK_ANSWER(stop(plugin, NULL), FLOWPLUG_OK);
  CHECK_INT(flowplug_function_call(function, str(echo), NULL, room, sizeof room, &out, NULL), FLOWPLUG_INVALID_STATE);
  flowplug_plugin_free(plugin);
  CHECK_INT(flowplug_function_call(function, str(echo), NULL, room, sizeof room, &out, NULL), FLOWPLUG_INVALID_STATE);
  flowplug_function_free(function);
}

/* ---- Many threads ---- */

enum { THREADS = 16, CALLS = 50 };
static flowplug_plugin *shared;

static void *caller_main(void *of) {
  for (int i = 0; i < CALLS; i++) {
    char want[64], params[128];
    snprintf(want, sizeof want, "{\"do\":\"echo\",\"who\":%d,\"n\":%d}", *(int *)of, i);
    snprintf(params, sizeof params, "{\"content\":%s}", want);
    flowplug_bytes out = {NULL, 0, NULL};
    flowplug_status status = flowplug_plugin_call(shared, FLOWPLUG_STR("command"), str(params), NULL, &out, NULL);
    if (status != FLOWPLUG_OK || out.len != strlen(want) || memcmp(out.ptr, want, out.len) != 0) check_fail(__FILE__, __LINE__, "%s", flowplug_status_name(status));
    flowplug_bytes_free(&out);
  }
  return NULL;
}

static void calls_from_many_threads(const char *folder) {
  pthread_t threads[THREADS];
  int numbers[THREADS];
  shared = running(host, folder, "life");
  if (!shared) return;
  for (int i = 0; i < THREADS; i++) {
    numbers[i] = i;
    pthread_create(&threads[i], NULL, caller_main, &numbers[i]);
  }
  for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
  done_with(shared);
}

/* ---- A process that ends; a child of ours ---- */

static void a_plugin_that_ends_by_itself_is_back(void) {
  flowplug_plugin *plugin = running(host, "fixture-grpc-go", "crashes");
  if (!plugin) return;
  answer a = command(plugin, "{\"do\":\"crash\"}");
  CHECK_ANSWER(a, FLOWPLUG_UNAVAILABLE);
  CHECK_HAS(a.details, "\"exit_status\":3");
  CHECK_HAS(a.details, "\"stderr\":["); /* what a Go plugin printed last may still be in go-plugin's own pipe */
  /* Until it is there again, that it is not is no mistake of the caller's. */
  uint64_t began = now_ns();
  do {
    a = command(plugin, "{\"do\":\"echo\"}");
  } while (a.status == FLOWPLUG_UNAVAILABLE && now_ns() - began < BOUND_SECONDS * 1000 * MS);
  CHECK_ANSWER(a, FLOWPLUG_OK);
  a = health(plugin);
  CHECK_HAS(a.json, "\"restarts\":1");
  CHECK_HAS(a.json, "\"crash\":{");
  CHECK_ANSWER(stop(plugin, NULL), FLOWPLUG_OK);
  flowplug_plugin_free(plugin);
}

static int child_is_refused(flowplug_plugin *plugin) {
  flowplug_bytes out = {NULL, 0, NULL};
  flowplug_host *fresh = NULL;
  uint64_t token = 0;
  int good = flowplug_plugin_call(plugin, str("command"), str(echo), NULL, &out, NULL) == FLOWPLUG_INVALID_STATE;
  good &= flowplug_plugin_stop(plugin, NULL, NULL) == FLOWPLUG_INVALID_STATE;
  good &= flowplug_host_new(NULL, &fresh, NULL) == FLOWPLUG_INVALID_STATE && fresh == NULL;
  good &= flowplug_cancel_new(&token, NULL) == FLOWPLUG_INVALID_STATE;
  good &= flowplug_host_close(host, NULL, NULL) == FLOWPLUG_INVALID_STATE;
  flowplug_plugin_free(plugin); /* leaks rather than joins */
  flowplug_host_free(host);
  return good;
}

static void a_child_of_fork_is_refused(void) {
  flowplug_plugin *plugin = running(host, "c-fixture", "parent");
  pid_t child = fork();
  if (child == 0) _exit(child_is_refused(plugin) ? 0 : 1);
  int status = -1;
  CHECK_INT(waitpid(child, &status, 0), child);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  CHECK_ANSWER(call(plugin, "command", echo), FLOWPLUG_OK);
  done_with(plugin);
}

/* ---- Handles in any order ---- */

static void frees_in_any_order(const char *folder) {
  for (int order = 0; order < 6; order++) {
    flowplug_host *h = new_host(TRUSTED, NULL);
    flowplug_plugin *plugin = running(h, folder, "order");
    flowplug_function *function = NULL;
    flowplug_bytes out = {NULL, 0, NULL};
    CHECK_INT(flowplug_function_new(plugin, FLOWPLUG_STR("command"), &function, NULL), FLOWPLUG_OK);
    static const char orders[6][4] = {"hpf", "hfp", "phf", "pfh", "fhp", "fph"};
    for (const char *what = orders[order]; *what; what++) {
      if (*what == 'h') flowplug_host_free(h);
      if (*what == 'p') flowplug_plugin_free(plugin);
      if (*what == 'f') flowplug_function_free(function);
      if (*what == 'h' && what[1] != '\0' && strchr(what, 'p')) {
        flowplug_status status = flowplug_plugin_call(plugin, str("command"), str(echo), NULL, &out, NULL);
        CHECK(status == FLOWPLUG_INVALID_STATE || status == FLOWPLUG_CANCELLED || status == FLOWPLUG_OK);
        flowplug_bytes_free(&out);
      }
    }
  }
}

int main(int argc, char **argv) {
  check_begin(argc, argv);
  flowplug_host_api api = FLOWPLUG_HOST_API_INIT;
  api.kv_get = on_kv_get;
  api.kv_set = on_kv_set;
  host = new_host(TRUSTED, &api);
  static const char *const folders[] = {"c-fixture", "fixture-grpc-go"};
  for (int i = 0; i < 2; i++) {
    RUN_ON(states, folders[i]);
    RUN_ON(stopped_before_it_was_started, folders[i]);
    RUN_ON(stop_waits_for_calls_in_flight, folders[i]);
    RUN_ON(stop_ends_what_does_not_end, folders[i]);
    RUN_ON(a_token_set_before_the_call, folders[i]);
    RUN_ON(cancelled_from_another_thread, folders[i]);
    RUN_ON(asynchronous_calls, folders[i]);
    RUN_ON(quick_completions, folders[i]);
    RUN_ON(a_buffer_that_fits_and_one_that_does_not, folders[i]);
    RUN_ON(calls_from_many_threads, folders[i]);
    RUN_ON(frees_in_any_order, folders[i]);
  }
  RUN_ON(a_config_arrives_as_it_was_given, "fixture-wasm-go");
  RUN_ON(a_config_arrives_as_it_was_given, "fixture-grpc-go");
  RUN(a_plugin_that_ends_by_itself_is_back);
  RUN(a_child_of_fork_is_refused);
  close_host(host);
  check_done("the end", NULL);
  return check_end();
}
