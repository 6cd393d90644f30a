/*
 * Callbacks on threads of the library: whoever called is answered in time whatever a callback does, and what a callback was
 * given lasts for as long as it runs. What holds for both kinds of callbacks stands in the other tests, which run with these
 * too.
 */
#include "plugins.h"

#include <dirent.h>
#include <signal.h>

static flowplug_host *host;
static latch begun = LATCH_INIT, gone_on = LATCH_INIT, dropped = LATCH_INIT, released = LATCH_INIT, destroyed = LATCH_INIT;
static char seen[1024];
static _Atomic int holding; /* callbacks wait for `released` */
static flowplug_status late; /* what becomes of an answer that comes when nobody waits any more */
static pthread_t ran_on;

static const char get[] = "{\"do\":\"host\",\"fn\":\"kv_get\",\"args\":{\"key\":\"k\"}}";
static const char echo[] = "{\"do\":\"echo\",\"n\":1}";

static void hold(void) {
  latch_add(&begun);
  if (holding) latch_wait(&released, 1);
}

/* Reads everything that it was given, but only once its caller is gone. */
static void seen_late(flowplug_request request, const flowplug_caller *caller, const char *what) {
  snprintf(seen, sizeof seen, "%.*s %.*s %d: %s", (int)caller->plugin.len, caller->plugin.ptr, (int)caller->function.len, caller->function.ptr, (int)caller->tag, what);
  CHECK_INT(flowplug_request_ok(request, (flowplug_str){NULL, 0}), holding ? late : FLOWPLUG_OK);
  latch_add(&gone_on);
}

static void on_kv_get(void *data, flowplug_request request, const flowplug_caller *caller, flowplug_str key) {
  (void)data;
  ran_on = pthread_self();
  hold();
  seen_late(request, caller, format("get %.*s", (int)key.len, key.ptr));
}

static void on_kv_set(void *data, flowplug_request request, const flowplug_caller *caller, flowplug_str key, flowplug_str value) {
  (void)data;
  hold();
  seen_late(request, caller, format("set %.*s = %.*s", (int)key.len, key.ptr, (int)value.len, value.ptr));
}

static void on_http_request(void *data, flowplug_request request, const flowplug_caller *caller, const flowplug_http_request *http) {
  (void)data;
  hold();
  const flowplug_pair *h = http->headers_len ? &http->headers[0] : NULL;
  seen_late(request, caller, format("%.*s %.*s %.*s: %.*s [%.*s]", (int)http->method.len, http->method.ptr, (int)http->url.len, http->url.ptr, h ? (int)h->name.len : 0,
                                    h ? h->name.ptr : "", h ? (int)h->value.len : 0, h ? h->value.ptr : "", (int)http->body.len, http->body.ptr));
}

static void on_dropped(void *data, flowplug_request request) {
  (void)data, (void)request;
  latch_add(&dropped);
}

static void on_destroy(void *data) {
  (void)data;
  latch_add(&destroyed);
}

static flowplug_host_api callbacks(void) {
  flowplug_host_api api = FLOWPLUG_HOST_API_INIT;
  api.kv_get = on_kv_get;
  api.kv_set = on_kv_set;
  api.http_request = on_http_request;
  api.request_dropped = on_dropped;
  api.destroy = on_destroy;
  return api;
}

static void begin_host(int hold, const flowplug_host_api *api) {
  latch *all[] = {&begun, &gone_on, &dropped, &released, &destroyed};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) latch_reset(all[i]);
  holding = hold;
  late = FLOWPLUG_NOT_FOUND;
  host = new_host(trusted_and(getenv("FLOWPLUG_TEST_CALLBACKS") ? "" : ",\"callbacks\":\"detached\""), api);
}

/* Threads of this process by the start of their name. */
static int threads_named(const char *start) {
  DIR *tasks = opendir("/proc/self/task");
  int count = 0;
  for (struct dirent *d; tasks && (d = readdir(tasks));) {
    char name[64] = "";
    FILE *f = fopen(format("/proc/self/task/%s/comm", d->d_name), "r");
    if (f && fgets(name, sizeof name, f)) count += strncmp(name, start, strlen(start)) == 0;
    if (f) fclose(f);
  }
  if (tasks) closedir(tasks);
  return count;
}

/* ---- A callback that blocks ---- */

static void asks(const char *folder, const char *content, const char *want, uint64_t cancel) {
  flowplug_host_api api = callbacks();
  begin_host(1, &api);
  flowplug_plugin *plugin = running(host, folder, "p");
  flowplug_call_options options = within(cancel ? BOUND_SECONDS * 1000 : 300);
  options.tag = 7;
  options.cancel = cancel;
  background b;
  begin_call(&b, plugin, "command", format("{\"context\":{},\"content\":%s}", content), options);
  latch_wait(&begun, 1);
  if (cancel) CHECK_INT(flowplug_cancel(cancel), FLOWPLUG_OK);
  CHECK_ANSWER(join_call(&b), cancel ? FLOWPLUG_CANCELLED : FLOWPLUG_TIMEOUT);
  latch_wait(&dropped, 1);
  CHECK_INT(latch_count(&gone_on), 0); /* it blocks still */
  CHECK_ANSWER(command(plugin, echo), FLOWPLUG_OK);
  flowplug_call_options drain = within(50);
  CHECK_INT(flowplug_host_close(host, &drain, NULL), FLOWPLUG_TIMEOUT);
  flowplug_plugin_free(plugin);
  CHECK_INT(latch_count(&destroyed), 0);
  latch_add(&released);
  CHECK_INT(flowplug_host_close(host, NULL, NULL), FLOWPLUG_OK);
  CHECK_INT(latch_count(&gone_on), 1);
  CHECK_INT(latch_count(&destroyed), 1);
  CHECK_INT(latch_count(&dropped), 1);
  CHECK_TEXT(seen, want);
  flowplug_host_free(host);
}

/* A gRPC plugin's SDK in Go hands the call's id back, so that function and tag are known there too. */
static void a_call_ends_while_its_callback_blocks(const char *folder) {
  asks(folder, get, "p command 7: get plugin:p:k", 0);
  asks(folder, "{\"do\":\"host\",\"fn\":\"kv_set\",\"args\":{\"key\":\"k\",\"value\":\"v\"}}", "p command 7: set plugin:p:k = v", 0);
}

static void a_cancel_does_too(const char *folder) {
  uint64_t token = 0;
  CHECK_INT(flowplug_cancel_new(&token, NULL), FLOWPLUG_OK);
  asks(folder, get, "p command 7: get plugin:p:k", token);
  flowplug_cancel_free(token);
}

static void a_request_is_a_copy_too(const char *folder) {
  asks(folder, "{\"do\":\"host\",\"fn\":\"http_request\",\"args\":{\"method\":\"PUT\",\"url\":\"http://127.0.0.1:9/x\",\"headers\":{\"a\":\"b\"},\"body\":\"hi\"}}",
       "p command 7: PUT http://127.0.0.1:9/x a: b [hi]", 0);
}

/* A gRPC plugin's callbacks are on threads of the library in any case. */
static void inline_callbacks_of_a_process_do_not_hold_its_caller(void) {
  flowplug_host_api api = callbacks();
  begin_host(1, &api);
  close_host(host);
  host = new_host("{\"policy\":\"trusted\",\"callbacks\":\"inline\"}", &api);
  flowplug_plugin *plugin = running(host, "fixture-grpc-go", "p");
  flowplug_call_options options = within(300);
  CHECK_ANSWER(command_with(plugin, get, &options), FLOWPLUG_TIMEOUT);
  CHECK_ANSWER(command(plugin, echo), FLOWPLUG_OK);
  latch_wait(&begun, 1);
  late = FLOWPLUG_OK; /* the wait for the answer begins when the callback returns, and then ends */
  CHECK_INT(latch_count(&gone_on), 0);
  latch_add(&released);
  done_with(plugin);
  close_host(host);
  CHECK_INT(latch_count(&gone_on), 1);
}

/* Callbacks of a plugin's own end with the plugin, not before the last has returned. */
static void a_plugin_freed_while_its_callback_blocks(void) {
  begin_host(1, NULL);
  flowplug_host_api api = callbacks();
  flowplug_plugin *plugin = NULL;
  CHECK_ANSWER(load_with(host, "c-fixture", "", "p", NULL, &api, NULL, &plugin), FLOWPLUG_OK);
  CHECK_ANSWER(start(plugin, "", NULL), FLOWPLUG_OK);
  flowplug_call_options options = within(100);
  CHECK_ANSWER(command_with(plugin, get, &options), FLOWPLUG_TIMEOUT);
  done_with(plugin);
  CHECK_INT(latch_count(&destroyed), 0);
  latch_add(&released);
  latch_wait(&destroyed, 1);
  CHECK_INT(latch_count(&gone_on), 1);
  close_host(host);
  CHECK_INT(latch_count(&destroyed), 1);
}

/* ---- Bounds ---- */

enum { AT_ONCE = 32, CALLERS = 8 }; /* of one plugin */
static flowplug_plugin *hung;

static void *hang_some(void *arg) {
  flowplug_call_options options = within(20);
  for (int i = 0; i < AT_ONCE / CALLERS; i++) CHECK_ANSWER(command_with(hung, get, &options), FLOWPLUG_TIMEOUT);
  return arg;
}

static void callbacks_that_hang_are_bounded_for_their_plugin(void) {
  flowplug_host_api api = callbacks();
  begin_host(1, &api);
  const char *yaml = format("name: x\nruntime: wasm\nwasm: { module: ./plugin.wasm, pool: { max_instances: %d } }\n", CALLERS);
  CHECK_ANSWER(load_with(host, "c-fixture", yaml, "p", NULL, NULL, NULL, &hung), FLOWPLUG_OK);
  CHECK_ANSWER(start(hung, "", NULL), FLOWPLUG_OK);
  pthread_t callers[CALLERS];
  for (int i = 0; i < CALLERS; i++) pthread_create(&callers[i], NULL, hang_some, NULL);
  for (int i = 0; i < CALLERS; i++) pthread_join(callers[i], NULL);
  /* Those of which the system was too late to give a thread its turn before the deadline never began. */
  while (latch_count(&begun) < AT_ONCE && !check_bad) {
    flowplug_call_options options = within(200);
    if (command_with(hung, get, &options).status != FLOWPLUG_TIMEOUT) break;
  }
  latch_wait(&begun, AT_ONCE);
  answer a = command(hung, get);
  CHECK_HAS(a.json, "32 callbacks that this plugin asked for");
  CHECK(threads_named("flowplug-host") <= AT_ONCE + 2);
  CHECK_ANSWER(command(hung, echo), FLOWPLUG_OK);
  latch_wait(&dropped, AT_ONCE);
  flowplug_plugin *sibling = running(host, "c-fixture", "sibling");
  while (latch_count(&begun) == AT_ONCE && !check_bad) {
    flowplug_call_options options = within(200);
    if (command_with(sibling, get, &options).status != FLOWPLUG_TIMEOUT) break;
  }
  latch_wait(&begun, AT_ONCE + 1); /* it is not refused what another plugin has taken */
  latch_add(&released);
  latch_wait(&gone_on, AT_ONCE + 1);
  holding = 0;
  done_with(sibling);
  uint64_t began = now_ns();
  do { /* a thread is free again a moment after its callback has returned */
    a = command(hung, get);
  } while (a.status != FLOWPLUG_OK && now_ns() - began < BOUND_SECONDS * 1000 * MS);
  CHECK_ANSWER(a, FLOWPLUG_OK);
  done_with(hung);
  close_host(host);
  while (threads_named("flowplug-host") && now_ns() - began < BOUND_SECONDS * 1000 * MS) sched_yield();
  CHECK_INT(threads_named("flowplug-host"), 0);
}

/* ---- Records and events ---- */

static char lines[4096];
static void on_log(void *data, const flowplug_log_record *record) {
  (void)data;
  if (record->message.len < 4 || memcmp(record->message.ptr, "line", 4) != 0) return;
  hold();
  strncat(lines, format("%.*s;", (int)record->message.len, record->message.ptr), sizeof lines - strlen(lines) - 1);
  latch_add(&gone_on);
}

static void records_wait_in_order_and_hold_nobody(const char *folder) {
  flowplug_host_api api = FLOWPLUG_HOST_API_INIT;
  api.log = on_log;
  lines[0] = '\0';
  begin_host(1, &api);
  flowplug_plugin *plugin = running(host, folder, "p");
  for (int i = 0; i < 5; i++)
    CHECK_ANSWER(command(plugin, format("{\"do\":\"host\",\"fn\":\"log\",\"args\":{\"level\":1,\"message\":\"line %d\",\"fields\":{}}}", i)), FLOWPLUG_OK);
  latch_wait(&begun, 1);
  CHECK_INT(latch_count(&gone_on), 0);
  latch_add(&released);
  done_with(plugin);
  close_host(host); /* waits for those that wait */
  CHECK_INT(latch_count(&gone_on), 5);
  CHECK_TEXT(lines, "line 0;line 1;line 2;line 3;line 4;");
}

/* ---- Whose thread ---- */

static sigset_t blocked;
static void look_around(void *data, flowplug_request request, const flowplug_caller *caller, flowplug_str key) {
  (void)data, (void)caller, (void)key;
  ran_on = pthread_self();
  pthread_sigmask(SIG_SETMASK, NULL, &blocked);
  CHECK_INT(flowplug_request_ok(request, str("v")), FLOWPLUG_OK);
}

static void inline_runs_on_the_callers_thread_and_detached_does_not(void) {
  flowplug_host_api api = FLOWPLUG_HOST_API_INIT;
  api.kv_get = look_around;
  begin_host(0, &api);
  flowplug_plugin *plugin = running(host, "c-fixture", "p");
  CHECK_ANSWER(command(plugin, get), FLOWPLUG_OK);
  CHECK(!pthread_equal(ran_on, pthread_self()));
  CHECK(threads_named("flowplug-host") > 0);
  CHECK(sigismember(&blocked, SIGTERM) && sigismember(&blocked, SIGPROF) && !sigismember(&blocked, SIGSEGV));
  done_with(plugin);
  close_host(host);
  host = new_host("{\"policy\":\"trusted\"}", &api);
  plugin = running(host, "c-fixture", "p");
  CHECK_ANSWER(command(plugin, get), FLOWPLUG_OK);
  CHECK(pthread_equal(ran_on, pthread_self()));
  done_with(plugin);
  close_host(host);
}

int main(int argc, char **argv) {
  check_begin(argc, argv);
  RUN(inline_runs_on_the_callers_thread_and_detached_does_not);
  RUN(inline_callbacks_of_a_process_do_not_hold_its_caller);
  RUN(a_plugin_freed_while_its_callback_blocks);
  RUN(callbacks_that_hang_are_bounded_for_their_plugin);
  static const char *const folders[] = {"c-fixture", "fixture-grpc-go"};
  for (int i = 0; i < 2; i++) {
    RUN_ON(a_call_ends_while_its_callback_blocks, folders[i]);
    RUN_ON(a_cancel_does_too, folders[i]);
    RUN_ON(records_wait_in_order_and_hold_nobody, folders[i]);
  }
  RUN_ON(a_request_is_a_copy_too, "c-fixture");
  return check_end();
}
