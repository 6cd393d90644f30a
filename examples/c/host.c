/*
 * A program with plugins: loads each folder given, starts it, calls it, and tells what happened and what the plugin asked.
 *
 *   cc -std=c11 -Iinclude -o host examples/c/host.c -Ltarget/debug -lflowplug -Wl,-rpath,$PWD/target/debug -lcurl -lpthread
 *   ./host http://127.0.0.1:8000 target/plugins/bookmark-wasm-c target/plugins/bookmark-grpc-go
 *
 * Everything that a plugin may ask for is answered by this program: its config, a key-value store, HTTP, a log and events.
 * The exit code is 0 only if everything came back as expected.
 */
#define _POSIX_C_SOURCE 200809L
#include "account.h"
#include "services.h"

/* Calls a function and tells what came back: the member `show` of the answer, or all of it; `want` is what must stand in
   it. Returns the whole answer, owned, "" if there is none. */
static char *call(app *a, flowplug_plugin *plugin, const char *step, const char *function, const char *params, const char *show, const char *want) {
  flowplug_bytes result = {0};
  flowplug_error *error = NULL;
  double since = now();
  if (flowplug_plugin_call(plugin, c_str(function), c_str(params), NULL, &result, &error) != FLOWPLUG_OK) {
    tell_error(a, step, since, error, 0);
    return c_string(nothing);
  }
  char *json = c_string(FLOWPLUG_BYTES_STR(result));
  char *line = show ? json_text(json, show) : c_string(FLOWPLUG_BYTES_STR(result));
  tell(a, step, since, line);
  if (!strstr(line, want)) surprise(a, want);
  free(line);
  flowplug_bytes_free(&result);
  return json;
}

static void create(app *a, flowplug_plugin *plugin, const char *site, const char *page, const char *want) {
  char params[512];
  int events = a->events;
  snprintf(params, sizeof params, "{\"operation\":\"create\",\"params\":{\"url\":\"%s%s\"}}", site, page);
  free(call(a, plugin, "create", "ability_call", params, "text", want));
  if (a->events != events + 1) surprise(a, "no event bookmark.created came");
}

/* A bookmark that does not exist: the error is the plugin's own, and is shown as what it is. */
static void get_missing(app *a, flowplug_plugin *plugin) {
  flowplug_bytes result = {0};
  flowplug_error *error = NULL;
  flowplug_str params = FLOWPLUG_STR("{\"operation\":\"get\",\"params\":{\"id\":\"00000000\"}}");
  double since = now();
  flowplug_status status = flowplug_plugin_call(plugin, FLOWPLUG_STR("ability_call"), params, NULL, &result, &error);
  if (status == FLOWPLUG_OK) {
    surprise(a, "get of a missing id worked");
    flowplug_bytes_free(&result);
    return;
  }
  if (status != FLOWPLUG_PLUGIN_ERROR) surprise(a, "plugin_error");
  tell_error(a, "get", since, error, 1);
}

static void health(app *a, flowplug_plugin *plugin) {
  flowplug_bytes report = {0};
  double since = now();
  if (flowplug_plugin_health(plugin, NULL, &report, NULL) != FLOWPLUG_OK) {
    surprise(a, "health never fails");
    return;
  }
  char *json = c_string(FLOWPLUG_BYTES_STR(report));
  const char *ready = json_member(json, "ready"), *uptime = json_member(json, "uptime_ns");
  int is_ready = ready && strncmp(ready, "true", 4) == 0;
  char up[32], line[64];
  duration(uptime ? strtod(uptime, NULL) * 1e-9 : 0, up);
  snprintf(line, sizeof line, "%s, up %s", is_ready ? "ready" : "not ready", up);
  tell(a, "health", since, line);
  if (!is_ready) surprise(a, "ready");
  free(json);
  flowplug_bytes_free(&report);
}

/* Lists the bookmarks, and gets the first one by the id that stands there. */
static void list_and_get(app *a, flowplug_plugin *plugin) {
  char params[128];
  char *all = call(a, plugin, "list", "ability_call", "{\"operation\":\"list\",\"params\":{}}", "text", "2 bookmark(s)");
  char *id = json_text(all, "id");
  snprintf(params, sizeof params, "{\"operation\":\"get\",\"params\":{\"id\":\"%.32s\"}}", id);
  free(call(a, plugin, "get", "ability_call", params, "title", "Flow, and how to find it"));
  free(id);
  free(all);
}

/* Everything that is done with a plugin once it runs. */
static void use(app *a, flowplug_plugin *plugin, const char *site) {
  create(a, plugin, site, "/flow", "Saved \"Flow, and how to find it\" as ");
  create(a, plugin, site, "/wasm", "Saved \"WebAssembly &amp; friends\" as ");
  list_and_get(a, plugin);
  free(call(a, plugin, "command", "command", "{\"context\":{},\"content\":{\"text\":\"hello\"}}", "text", "2 bookmark(s) saved."));
  free(call(a, plugin, "help", "help", "", NULL, "create "));
  get_missing(a, plugin);
  health(a, plugin);
}

/* What the plugin says it is: `name bookmarks 1.10, provides bookmark: list, get, create`. */
static void tell_loaded(app *a, flowplug_plugin *plugin, double since) {
  flowplug_bytes info = {0};
  if (flowplug_plugin_info(plugin, &info, NULL) != FLOWPLUG_OK) {
    surprise(a, "info");
    return;
  }
  char *json = c_string(FLOWPLUG_BYTES_STR(info)), *name = json_text(json, "name"), *version = json_text(json, "version");
  char *capability = json_text(json, "capability"), line[256];
  snprintf(line, sizeof line, "name %s %s, provides %s: ", name, version, capability);
  text shown = {NULL, 0};
  append(&shown, line, strlen(line));
  const char *operations = json_member(json, "operations");
  for (const char *p = operations ? operations : "]"; *p && *p != ']'; p++)
    if (*p != '[' && *p != '"') append(&shown, *p == ',' ? ", " : p, *p == ',' ? 2 : 1);
  tell(a, "load", since, shown.ptr);
  if (strcmp(version, "1.10") != 0) surprise(a, "version 1.10");
  clear(&shown);
  free(capability);
  free(version);
  free(name);
  free(json);
  flowplug_bytes_free(&info);
}

/* One plugin from its manifest to its end. */
static void run(app *a, flowplug_host *host, const char *folder, const char *identity, const char *site) {
  flowplug_manifest *manifest = NULL;
  flowplug_plugin *plugin = NULL;
  flowplug_error *error = NULL;
  flowplug_bytes json = {0};
  double since = now();
  if (flowplug_manifest_read(c_str(folder), NULL, &manifest, &error) != FLOWPLUG_OK || flowplug_manifest_json(manifest, &json, &error) != FLOWPLUG_OK) {
    printf("== %s\n", identity);
    tell_error(a, "read", since, error, 0);
    flowplug_manifest_free(manifest);
    return;
  }
  char *manifest_text = c_string(FLOWPLUG_BYTES_STR(json)), *runtime = json_text(manifest_text, "runtime");
  printf("== %s (%s) with the C host\n", identity, runtime);
  free(runtime);
  free(manifest_text);
  flowplug_bytes_free(&json);

  since = now();
  flowplug_status status = flowplug_plugin_load(host, manifest, c_str(identity), NULL, NULL, &plugin, &error);
  flowplug_manifest_free(manifest);
  if (status != FLOWPLUG_OK) {
    tell_error(a, "load", since, error, 0);
    return;
  }
  tell_loaded(a, plugin, since);

  since = now();
  if (flowplug_plugin_start(plugin, FLOWPLUG_STR("{\"user_agent\":\"flowplug-demo\"}"), NULL, &error) != FLOWPLUG_OK) {
    tell_error(a, "start", since, error, 0);
  } else {
    tell(a, "start", since, "");
    use(a, plugin, site);
  }
  since = now();
  if (flowplug_plugin_stop(plugin, NULL, &error) != FLOWPLUG_OK)
    tell_error(a, "stop", since, error, 0);
  else
    tell(a, "stop", since, "");
  flowplug_plugin_free(plugin);
  puts("");
}

/* A plugin's identity is the name of its folder: where it came from, never what its manifest says. */
static char *identity_of(const char *folder) {
  size_t len = strlen(folder);
  while (len > 1 && folder[len - 1] == '/') len--;
  size_t start = len;
  while (start > 0 && folder[start - 1] != '/') start--;
  return c_string((flowplug_str){folder + start, len - start});
}

/* The operator's part: strict for all, and for each plugin named on the command line its runtime and the loopback site. */
static text policy_for(char **identities, int count) {
  text config = {NULL, 0};
  append(&config, "{\"policy\":{\"default\":\"strict\",\"plugins\":{", strlen("{\"policy\":{\"default\":\"strict\",\"plugins\":{"));
  for (int i = 0; i < count; i++) {
    static const char grant[] = "\":{\"preset\":\"strict\",\"runtimes\":[\"wasm\",\"grpc\"],\"http\":[\"127.0.0.1\"]}";
    append(&config, i ? ",\"" : "\"", i ? 2 : 1);
    append(&config, identities[i], strlen(identities[i]));
    append(&config, grant, strlen(grant));
  }
  append(&config, "}}}", 3);
  return config;
}

/* Makes the host, runs every plugin and closes it. After flowplug_host_close no callback comes any more, so what they use
   may go. */
static void run_all(app *a, const char *site, char **folders, char **identities, int count) {
  flowplug_host_api api = FLOWPLUG_HOST_API_INIT;
  api.user_data = a;
  api.get_config = get_config;
  api.kv_get = kv_get;
  api.kv_set = kv_set;
  api.kv_delete = kv_delete;
  api.http_request = http_request;
  api.emit_event = emit_event;
  api.log = log_record;
  text config = policy_for(identities, count);
  flowplug_host_options options = FLOWPLUG_HOST_OPTIONS_INIT;
  options.config = (flowplug_str){config.ptr, config.len};
  options.api = &api;
  flowplug_host *host = NULL;
  flowplug_error *error = NULL;
  flowplug_status status = flowplug_host_new(&options, &host, &error);
  clear(&config);
  if (status != FLOWPLUG_OK) {
    tell_error(a, "host", now(), error, 0);
    return;
  }
  for (int i = 0; i < count; i++) run(a, host, folders[i], identities[i], site);
  double since = now();
  if (flowplug_host_close(host, NULL, &error) != FLOWPLUG_OK) tell_error(a, "close", since, error, 0);
  flowplug_host_free(host);
}

int main(int argc, char **argv) {
  if (argc < 3) {
    fprintf(stderr, "usage: %s <site-url> <plugin-folder>...\n", argv[0]);
    return 2;
  }
  app a = {.lock = PTHREAD_MUTEX_INITIALIZER};
  int count = argc - 2;
  char **identities = need(calloc((size_t)count, sizeof *identities));
  for (int i = 0; i < count; i++) identities[i] = identity_of(argv[i + 2]);
  curl_global_init(CURL_GLOBAL_DEFAULT);
  run_all(&a, argv[1], argv + 2, identities, count);
  curl_global_cleanup();
  for (int i = 0; i < count; i++) free(identities[i]);
  free(identities);
  while (a.kv) kv_remove(&a.kv);
  clear(&a.trace);
  pthread_mutex_destroy(&a.lock);
  return a.surprises ? 1 : 0;
}
