/*
 * Another version in the place of the one that runs: over C, across the runtimes, with calls in flight, and refused where it
 * would wait for itself. The handle and its functions are the same throughout.
 */
#include "inside.h"

static flowplug_host *host;
static latch reloaded = LATCH_INIT, failed_events = LATCH_INIT;
static flowplug_plugin *inside;
static flowplug_status inside_status;

static const char echo[] = "{\"content\":{\"do\":\"echo\",\"n\":1}}";
static const char of_config[] = "{\"content\":{\"do\":\"config\"}}";

static void on_event(void *data, flowplug_str event) {
  (void)data;
  const char *text = keep_str(event);
  if (strstr(text, "\"type\":\"reloaded\"")) latch_add(&reloaded);
  if (strstr(text, "\"type\":\"reload_failed\"")) latch_add(&failed_events);
}

static flowplug_manifest *manifest_of(const char *folder) {
  flowplug_manifest *manifest = NULL;
  CHECK_INT(flowplug_manifest_read(str(format("%s/%s", check_plugins, folder)), NULL, &manifest, NULL), FLOWPLUG_OK);
  return manifest;
}

static answer reload(flowplug_plugin *plugin, const char *folder, const char *config, const flowplug_call_options *options) {
  flowplug_error *error = NULL;
  flowplug_manifest *manifest = manifest_of(folder);
  flowplug_status status = flowplug_plugin_reload(plugin, manifest, str(config), options, &error);
  flowplug_manifest_free(manifest);
  return answered(status, NULL, &error);
}

static answer ask(flowplug_function *function, const char *params) {
  char buffer[256];
  flowplug_bytes out = {NULL, 0, NULL};
  flowplug_error *error = NULL;
  flowplug_status status = flowplug_function_call(function, str(params), NULL, (uint8_t *)buffer, sizeof buffer, &out, &error);
  return answered(status, &out, &error);
}

static void across_the_runtimes(const char *first, const char *second) {
  const int32_t at_first = strcmp(first, "fixture-grpc-go") == 0 ? FLOWPLUG_RUNTIME_GRPC : FLOWPLUG_RUNTIME_WASM;
  flowplug_plugin *plugin = NULL;
  flowplug_function *command = NULL;
  CHECK_ANSWER(load_with(host, first, "", "org/lives", NULL, NULL, NULL, &plugin), FLOWPLUG_OK);
  if (!plugin) return;
  CHECK_ANSWER(reload(plugin, second, "", NULL), FLOWPLUG_INVALID_STATE); /* it has not been started */
  CHECK_ANSWER(start(plugin, "{\"n\":1}", NULL), FLOWPLUG_OK);
  CHECK_INT(flowplug_function_new(plugin, str("command"), &command, NULL), FLOWPLUG_OK);
  latch_reset(&reloaded);
  CHECK_INT(flowplug_function_runtime(command), at_first);
  CHECK_TEXT(ask(command, of_config).json, "{\"n\":1}");
  CHECK_ANSWER(reload(plugin, second, "{\"n\":2}", NULL), FLOWPLUG_OK);
  latch_wait(&reloaded, 1);
  CHECK_INT(flowplug_function_runtime(command), at_first == FLOWPLUG_RUNTIME_GRPC ? FLOWPLUG_RUNTIME_WASM : FLOWPLUG_RUNTIME_GRPC);
  CHECK_TEXT(ask(command, of_config).json, "{\"n\":2}");
  CHECK_TEXT(call(plugin, "command", of_config).json, "{\"n\":2}");
  CHECK_HAS(health(plugin).json, "\"ready\":true");
  CHECK_ANSWER(reload(plugin, first, "", NULL), FLOWPLUG_OK); /* the config of before */
  CHECK_TEXT(ask(command, of_config).json, "{\"n\":2}");
  CHECK_INT(flowplug_plugin_state(plugin), FLOWPLUG_STATE_RUNNING);
  CHECK_ANSWER(stop(plugin, NULL), FLOWPLUG_OK);
  CHECK_ANSWER(reload(plugin, first, "", NULL), FLOWPLUG_INVALID_STATE);
  flowplug_plugin_free(plugin);
  CHECK_ANSWER(ask(command, echo), FLOWPLUG_INVALID_STATE);
  flowplug_function_free(command);
}

static void wasm_to_grpc(void) { across_the_runtimes("fixture-wasm-go", "fixture-grpc-go"); }
static void grpc_to_wasm(void) { across_the_runtimes("fixture-grpc-go", "fixture-wasm-go"); }

typedef struct reloader {
  pthread_t thread;
  flowplug_plugin *plugin;
  const char *folder;
  answer got;
} reloader;

static void *reloader_main(void *of) {
  reloader *r = of;
  r->got = reload(r->plugin, r->folder, "", NULL);
  return NULL;
}

static void a_call_in_flight_is_waited_for(const char *folder) {
  flowplug_plugin *plugin = running(host, folder, "life");
  if (!plugin) return;
  background b;
  reloader r = {.plugin = plugin, .folder = folder};
  latch_reset(&reloaded);
  begin_held(&b, plugin);
  flowplug_request first = held_request;
  CHECK_INT(pthread_create(&r.thread, NULL, reloader_main, &r), 0);
  latch_wait(&reloaded, 1);
  CHECK_ANSWER(call(plugin, "command", echo), FLOWPLUG_OK); /* by the new one */
  CHECK_INT(flowplug_request_ok(first, str("by the old")), FLOWPLUG_OK);
  CHECK_TEXT(join_call(&b).json, "{\"value\":\"by the old\"}");
  pthread_join(r.thread, NULL);
  CHECK_ANSWER(r.got, FLOWPLUG_OK);
  done_with(plugin);
}

static void what_fails_leaves_it_as_it_was(const char *folder) {
  flowplug_plugin *plugin = running(host, folder, "life");
  if (!plugin) return;
  latch_reset(&failed_events);
  answer a = reload(plugin, folder, "{\"fail\":\"I will not\"}", NULL);
  CHECK_ANSWER(a, FLOWPLUG_START_FAILED);
  CHECK_TEXT(a.plugin_message, "I will not");
  CHECK_HAS(a.message, "was not reloaded");
  latch_wait(&failed_events, 1);
  CHECK_ANSWER(reload(plugin, folder, "{", NULL), FLOWPLUG_INVALID_CONFIG);
  latch_wait(&failed_events, 2);
  CHECK_INT(flowplug_plugin_state(plugin), FLOWPLUG_STATE_RUNNING);
  CHECK_ANSWER(call(plugin, "command", echo), FLOWPLUG_OK);
  CHECK_INT(flowplug_plugin_reload(plugin, NULL, str(""), NULL, NULL), FLOWPLUG_INVALID_ARGUMENT);
  done_with(plugin);
}

static void on_get_reload(void *data, flowplug_request request, const flowplug_caller *caller, flowplug_str key) {
  (void)data, (void)caller, (void)key;
  flowplug_manifest *manifest = manifest_of("c-fixture");
  flowplug_call_options options = FLOWPLUG_CALL_OPTIONS_INIT;
  options.parent = request;
  inside_status = flowplug_plugin_reload(inside, manifest, str(""), &options, NULL);
  flowplug_manifest_free(manifest);
  CHECK_INT(flowplug_request_ok(request, str("v")), FLOWPLUG_OK);
}

static void not_from_inside_of_it(const char *folder) {
  flowplug_host_api api = FLOWPLUG_HOST_API_INIT;
  api.kv_get = on_get_reload;
  CHECK_ANSWER(load_with(host, folder, "", "life", NULL, &api, NULL, &inside), FLOWPLUG_OK);
  if (!inside) return;
  CHECK_ANSWER(start(inside, "", NULL), FLOWPLUG_OK);
  inside_status = FLOWPLUG_OK;
  CHECK_ANSWER(call(inside, "command", get), FLOWPLUG_OK);
  CHECK_INT(inside_status, FLOWPLUG_INVALID_STATE);
  done_with(inside);
}

static void freed_while_it_is_reloaded(const char *folder) {
  flowplug_plugin *plugin = running(host, folder, "life");
  if (!plugin) return;
  background b;
  reloader r = {.plugin = plugin, .folder = folder};
  latch_reset(&reloaded);
  begin_held(&b, plugin);
  CHECK_INT(pthread_create(&r.thread, NULL, reloader_main, &r), 0);
  latch_wait(&reloaded, 1);
  flowplug_plugin_free(plugin); /* the call of the old version and the reload end with it */
  CHECK_ANSWER(join_call(&b), FLOWPLUG_CANCELLED);
  pthread_join(r.thread, NULL);
  CHECK_ANSWER(r.got, FLOWPLUG_OK);
}

int main(int argc, char **argv) {
  check_begin(argc, argv);
  flowplug_host_api api = FLOWPLUG_HOST_API_INIT;
  api.kv_get = on_kv_get;
  api.kv_set = on_kv_set;
  api.event = on_event;
  host = new_host(TRUSTED, &api);
  RUN(wasm_to_grpc);
  RUN(grpc_to_wasm);
  static const char *const folders[] = {"c-fixture", "fixture-grpc-go"};
  for (int i = 0; i < 2; i++) {
    RUN_ON(a_call_in_flight_is_waited_for, folders[i]);
    RUN_ON(what_fails_leaves_it_as_it_was, folders[i]);
    RUN_ON(not_from_inside_of_it, folders[i]);
    RUN_ON(freed_while_it_is_reloaded, folders[i]);
  }
  close_host(host);
  check_done("the end", NULL);
  return check_end();
}
