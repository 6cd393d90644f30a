/*
 * What may be done inside a callback, and what happens to calls that wait for one: nested calls, close and stop from
 * inside, handles freed there, a plugin killed while the host works for it, cancel, and flowplug_host_close with calls in
 * flight.
 */
#include "plugins.h"

#include <signal.h>

/* What the kv_get callback does; it has to see to an answer. */
typedef void hook(flowplug_request request, const flowplug_caller *caller);
static hook *on_ask;
static latch asked = LATCH_INIT, dropped = LATCH_INIT, released = LATCH_INIT;
static _Atomic int closed, running_callbacks;
static flowplug_host *host;
static flowplug_plugin *plugin, *second;
static answer inner, other;
static flowplug_request open_request;

/* In ns: what takes milliseconds is far from it, and so is what waits out wait_timeout. */
#define AT_ONCE (20000 * MS)

static const char get[] = "{\"content\":{\"do\":\"host\",\"fn\":\"kv_get\",\"args\":{\"key\":\"k\"}}}";
static const char echo[] = "{\"content\":{\"do\":\"echo\",\"n\":1}}";

static void on_kv_get(void *data, flowplug_request request, const flowplug_caller *caller, flowplug_str key) {
  (void)data, (void)key;
  running_callbacks++;
  CHECK(!closed);
  on_ask(request, caller);
  CHECK(!closed);
  running_callbacks--;
}

/* Where events and logs shall do what they may not: to the plugin that they are about, and to the host. */
static _Atomic int meddling;
static latch logs_met = LATCH_INIT, events_met = LATCH_INIT;

static void meddle(void) {
  CHECK_INT(flowplug_plugin_stop(plugin, NULL, NULL), FLOWPLUG_INVALID_STATE);
  CHECK_INT(flowplug_host_close(host, NULL, NULL), FLOWPLUG_INVALID_STATE);
}

static void on_log(void *data, const flowplug_log_record *record) {
  (void)data;
  CHECK(!closed);
  if (!meddling || record->plugin.len == 0) return;
  meddle();
  if (memmem(record->message.ptr, record->message.len, "out 0", 5)) latch_add(&logs_met);
}

static void on_event(void *data, flowplug_str event) {
  (void)data, (void)event;
  CHECK(!closed);
  if (!meddling) return;
  meddle();
  latch_add(&events_met);
}

static void on_dropped(void *data, flowplug_request request) {
  (void)data, (void)request;
  CHECK(!closed);
  latch_add(&dropped);
}

static flowplug_host *host_with_hook(hook *what) {
  flowplug_host_api api = FLOWPLUG_HOST_API_INIT;
  api.kv_get = on_kv_get;
  api.log = on_log;
  api.event = on_event;
  api.request_dropped = on_dropped;
  on_ask = what;
  closed = 0;
  latch_reset(&asked);
  latch_reset(&dropped);
  latch_reset(&released);
  return new_host(TRUSTED, &api);
}

static flowplug_plugin *pool_of(const char *folder, int instances) {
  flowplug_plugin *p = NULL;
  const char *yaml = strstr(folder, "grpc") ? "" : format("name: x\nruntime: wasm\nwasm: { module: ./plugin.wasm, pool: { max_instances: %d, wait_timeout: 60s }, "
                                                           "permissions: { execution: { timeout: 60s } } }\n",
                                                           instances);
  CHECK_ANSWER(load_with(host, folder, yaml, "p", NULL, NULL, NULL, &p), FLOWPLUG_OK);
  CHECK_ANSWER(start(p, "", NULL), FLOWPLUG_OK);
  return p;
}

static void say(flowplug_request request, const char *value) { CHECK_INT(flowplug_request_ok(request, str(value)), FLOWPLUG_OK); }

/* ---- Nested calls ---- */

static void call_again(flowplug_request request, const flowplug_caller *caller) {
  (void)caller;
  inner = call(plugin, "command", echo);
  say(request, "outer");
}

static void a_callback_can_call_the_plugin_again(const char *folder) {
  host = host_with_hook(call_again);
  plugin = pool_of(folder, 2);
  CHECK_TEXT(call(plugin, "command", get).json, "{\"value\":\"outer\"}");
  CHECK_TEXT(inner.json, "{\"do\":\"echo\",\"n\":1}");
  done_with(plugin);
  close_host(host);
}

/* Its only instance waits for this very callback: waiting for it would be for ever, so it is busy at once. */
static void the_only_instance_is_busy_at_once(void) {
  host = host_with_hook(call_again);
  plugin = pool_of("c-fixture", 1);
  uint64_t began = now_ns();
  CHECK_TEXT(call(plugin, "command", get).json, "{\"value\":\"outer\"}");
  CHECK_ANSWER(inner, FLOWPLUG_BUSY);
  CHECK(now_ns() - began < AT_ONCE); /* not the 60 s of wait_timeout */
  done_with(plugin);
  close_host(host);
}

static void *call_elsewhere(void *of) {
  flowplug_call_options options = FLOWPLUG_CALL_OPTIONS_INIT;
  options.parent = *(flowplug_request *)of;
  inner = call_with(plugin, "command", echo, &options);
  other = call_with(second, "command", echo, &options);
  say(*(flowplug_request *)of, "from elsewhere");
  return NULL;
}

static pthread_t elsewhere;
static void answer_elsewhere(flowplug_request request, const flowplug_caller *caller) {
  (void)caller;
  open_request = request;
  pthread_create(&elsewhere, NULL, call_elsewhere, &open_request);
}

static void the_chain_is_known_across_threads_by_parent(void) {
  host = host_with_hook(answer_elsewhere);
  plugin = pool_of("c-fixture", 1);
  second = pool_of("c-fixture", 1);
  uint64_t began = now_ns();
  CHECK_TEXT(call(plugin, "command", get).json, "{\"value\":\"from elsewhere\"}");
  pthread_join(elsewhere, NULL);
  CHECK_ANSWER(inner, FLOWPLUG_BUSY);
  CHECK_ANSWER(other, FLOWPLUG_OK);
  CHECK(now_ns() - began < AT_ONCE);
  flowplug_call_options options = FLOWPLUG_CALL_OPTIONS_INIT;
  options.parent = open_request; /* answered: no such request */
  CHECK_ANSWER(call_with(plugin, "command", echo, &options), FLOWPLUG_NOT_FOUND);
  done_with(plugin);
  done_with(second);
  close_host(host);
}

static int depth, deepest;
static answer too_deep;
static void call_deeper(flowplug_request request, const flowplug_caller *caller) {
  (void)caller;
  depth++;
  if (depth > deepest) deepest = depth;
  if (depth < 32) {
    answer a = call(plugin, "command", get);
    if (a.status != FLOWPLUG_OK) too_deep = a;
  }
  depth--;
  say(request, "deep");
}

static void calls_nest_eight_deep(void) {
  host = host_with_hook(call_deeper);
  plugin = pool_of("c-fixture", 16);
  depth = deepest = 0;
  CHECK_TEXT(call(plugin, "command", get).json, "{\"value\":\"deep\"}");
  CHECK_ANSWER(too_deep, FLOWPLUG_BUSY);
  CHECK(deepest >= 7 && deepest <= 9);
  CHECK_TEXT(call(plugin, "command", get).json, "{\"value\":\"deep\"}");
  done_with(plugin);
  close_host(host);
}

/* ---- What would wait for itself is refused ---- */

static flowplug_status inside_close, inside_stop;
static void close_from_inside(flowplug_request request, const flowplug_caller *caller) {
  (void)caller;
  inside_stop = flowplug_plugin_stop(plugin, NULL, NULL);
  inside_close = flowplug_host_close(host, NULL, NULL);
  say(request, "still here");
}

static void close_and_stop_from_inside_are_refused(const char *folder) {
  host = host_with_hook(close_from_inside);
  plugin = pool_of(folder, 2);
  CHECK_TEXT(call(plugin, "command", get).json, "{\"value\":\"still here\"}");
  CHECK_INT(inside_close, FLOWPLUG_INVALID_STATE);
  CHECK_INT(inside_stop, FLOWPLUG_INVALID_STATE);
  CHECK_ANSWER(call(plugin, "command", echo), FLOWPLUG_OK);
  done_with(plugin);
  close_host(host);
}

/* Also where no call is under way: from the thread that starts or stops the plugin, or that reads its output. */
static void events_and_logs_cannot_stop_what_they_are_about(const char *folder) {
  host = host_with_hook(call_again);
  latch_reset(&logs_met);
  latch_reset(&events_met);
  CHECK_ANSWER(load_with(host, folder, "", "p", NULL, NULL, NULL, &plugin), FLOWPLUG_OK);
  meddling = 1;
  CHECK_ANSWER(start(plugin, "", NULL), FLOWPLUG_OK);
  latch_wait(&events_met, 1);
  CHECK_ANSWER(command(plugin, "{\"do\":\"host\",\"fn\":\"emit_event\",\"args\":{\"event_type\":\"t\",\"source\":\"s\",\"data\":{}}}"), FLOWPLUG_OK);
  latch_wait(&events_met, 2);
  CHECK_ANSWER(command(plugin, "{\"do\":\"host\",\"fn\":\"log\",\"args\":{\"level\":1,\"message\":\"out 0\",\"fields\":{}}}"), FLOWPLUG_OK);
  latch_wait(&logs_met, 1);
  CHECK_ANSWER(command(plugin, "{\"do\":\"output\",\"text\":\"out 0\",\"lines\":1}"), FLOWPLUG_OK);
  latch_wait(&logs_met, 2);
  CHECK_ANSWER(call(plugin, "command", echo), FLOWPLUG_OK);
  CHECK_ANSWER(stop(plugin, NULL), FLOWPLUG_OK);
  latch_wait(&events_met, 4); /* stopping and stopped */
  CHECK_INT(flowplug_host_close(host, NULL, NULL), FLOWPLUG_OK);
  meddling = 0;
  flowplug_plugin_free(plugin); /* only now: a late log would have used the handle */
  flowplug_host_free(host);
}

/* Legal: what is running stops in the background. */
static void free_from_inside(flowplug_request request, const flowplug_caller *caller) {
  (void)caller;
  flowplug_plugin_free(second);
  flowplug_request_ok(request, str("freed")); /* or not found: the free has ended the call already */
  latch_add(&released);
}

static void a_handle_can_be_freed_inside(const char *folder) {
  host = host_with_hook(free_from_inside);
  second = pool_of(folder, 2);
  /* The call borrows the handle that its own callback frees. */
  answer a = call(second, "command", get);
  CHECK(a.status == FLOWPLUG_OK || a.status == FLOWPLUG_CANCELLED || a.status == FLOWPLUG_INVALID_STATE || a.status == FLOWPLUG_UNAVAILABLE);
  latch_wait(&released, 1);
  close_host(host);
}

/* ---- Calls that wait for the host ---- */

static void never(flowplug_request request, const flowplug_caller *caller) {
  (void)caller;
  open_request = request;
  latch_add(&asked);
}

static void cancelled_while_the_host_works(const char *folder) {
  host = host_with_hook(never);
  plugin = pool_of(folder, 1);
  uint64_t token = 0;
  background b;
  flowplug_call_options options = within(BOUND_SECONDS * 1000);
  flowplug_cancel_new(&token, NULL);
  options.cancel = token;
  begin_call(&b, plugin, "command", get, options);
  latch_wait(&asked, 1);
  CHECK_INT(flowplug_cancel(token), FLOWPLUG_OK);
  CHECK_ANSWER(join_call(&b), FLOWPLUG_CANCELLED);
  latch_wait(&dropped, 1);
  CHECK_INT(flowplug_request_ok(open_request, str("late")), FLOWPLUG_NOT_FOUND);
  flowplug_cancel_free(token);
  CHECK_ANSWER(call(plugin, "command", echo), FLOWPLUG_OK);
  done_with(plugin);
  close_host(host);
}

static void a_plugin_killed_in_mid_call(void) {
  host = host_with_hook(never);
  plugin = pool_of("fixture-grpc-go", 1);
  second = pool_of("fixture-grpc-go", 1);
  answer a = command(plugin, "{\"do\":\"pid\"}");
  const char *digits = strpbrk(a.json, "0123456789");
  pid_t pid = digits ? (pid_t)atoi(digits) : 0;
  CHECK(pid > 1);
  background b;
  begin_call(&b, plugin, "command", get, within(BOUND_SECONDS * 1000));
  latch_wait(&asked, 1);
  if (pid > 1) CHECK_INT(kill(pid, SIGKILL), 0);
  a = join_call(&b);
  CHECK_ANSWER(a, FLOWPLUG_UNAVAILABLE);
  CHECK_HAS(a.details, "\"signal\":9");
  CHECK_TEXT(a.plugin, "p");
  CHECK_ANSWER(call(plugin, "command", echo), FLOWPLUG_UNAVAILABLE);
  CHECK_ANSWER(call(second, "command", echo), FLOWPLUG_OK); /* a process of its own */
  done_with(plugin);
  done_with(second);
  close_host(host);
}

/* ---- Close with calls in flight ---- */

enum { IN_FLIGHT = 4 };

static void close_ends_calls_in_flight(const char *folder) {
  host = host_with_hook(never);
  plugin = pool_of(folder, IN_FLIGHT);
  background calls[IN_FLIGHT];
  flowplug_call_options drain = within(200);
  for (int i = 0; i < IN_FLIGHT; i++) begin_call(&calls[i], plugin, "command", get, within(BOUND_SECONDS * 1000));
  latch_wait(&asked, IN_FLIGHT);
  uint64_t began = now_ns();
  flowplug_error *error = NULL;
  CHECK_ANSWER(answered(flowplug_host_close(host, &drain, &error), NULL, &error), FLOWPLUG_OK);
  closed = 1;
  CHECK_INT(running_callbacks, 0);
  for (int i = 0; i < IN_FLIGHT; i++) CHECK_ANSWER(join_call(&calls[i]), FLOWPLUG_CANCELLED);
  CHECK(now_ns() - began < 30000 * MS);
  CHECK_ANSWER(call(plugin, "command", echo), FLOWPLUG_INVALID_STATE);
  CHECK_ANSWER(start(plugin, "", NULL), FLOWPLUG_INVALID_STATE);
  CHECK_INT(flowplug_host_close(host, NULL, NULL), FLOWPLUG_OK); /* again: nothing left to do */
  flowplug_plugin *p = NULL;
  CHECK_ANSWER(load_with(host, folder, "", "p", NULL, NULL, NULL, &p), FLOWPLUG_INVALID_STATE);
  flowplug_plugin_free(plugin);
  flowplug_host_free(host);
}

static void hold(flowplug_request request, const flowplug_caller *caller) {
  (void)caller;
  latch_add(&asked);
  latch_wait(&released, 1);
  flowplug_request_ok(request, str("released"));
}

/* A callback that has not returned cannot be ended: close says timeout, and can be called again. */
static void close_waits_for_a_callback_that_blocks(const char *folder) {
  host = host_with_hook(hold);
  plugin = pool_of(folder, 1);
  background b;
  flowplug_call_options drain = within(100);
  begin_call(&b, plugin, "command", get, within(BOUND_SECONDS * 1000));
  latch_wait(&asked, 1);
  CHECK_INT(flowplug_host_close(host, &drain, NULL), FLOWPLUG_TIMEOUT);
  latch_add(&released);
  CHECK_INT(flowplug_host_close(host, NULL, NULL), FLOWPLUG_OK);
  closed = 1;
  CHECK_INT(running_callbacks, 0);
  answer a = join_call(&b);
  CHECK(a.status == FLOWPLUG_OK || a.status == FLOWPLUG_CANCELLED || a.status == FLOWPLUG_INVALID_STATE);
  flowplug_plugin_free(plugin);
  flowplug_host_free(host);
}

/* Freed without a close, with calls in flight: they end, and nothing blocks. */
static void free_without_close(const char *folder) {
  host = host_with_hook(never);
  plugin = pool_of(folder, 1);
  background b;
  begin_call(&b, plugin, "command", get, within(BOUND_SECONDS * 1000));
  latch_wait(&asked, 1);
  flowplug_host_free(host);
  answer a = join_call(&b);
  CHECK(a.status == FLOWPLUG_CANCELLED || a.status == FLOWPLUG_INVALID_STATE || a.status == FLOWPLUG_UNAVAILABLE);
  flowplug_plugin_free(plugin);
}

int main(int argc, char **argv) {
  check_begin(argc, argv);
  RUN(the_only_instance_is_busy_at_once);
  RUN(the_chain_is_known_across_threads_by_parent);
  RUN(calls_nest_eight_deep);
  static const char *const folders[] = {"c-fixture", "fixture-grpc-go"};
  for (int i = 0; i < 2; i++) {
    RUN_ON(a_callback_can_call_the_plugin_again, folders[i]);
    RUN_ON(close_and_stop_from_inside_are_refused, folders[i]);
    RUN_ON(events_and_logs_cannot_stop_what_they_are_about, folders[i]);
    RUN_ON(a_handle_can_be_freed_inside, folders[i]);
    RUN_ON(cancelled_while_the_host_works, folders[i]);
    RUN_ON(close_ends_calls_in_flight, folders[i]);
    RUN_ON(close_waits_for_a_callback_that_blocks, folders[i]);
    RUN_ON(free_without_close, folders[i]);
  }
  RUN(a_plugin_killed_in_mid_call);
  return check_end();
}
