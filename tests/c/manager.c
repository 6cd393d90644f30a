/*
 * The manager: a folder of plugins that is started, called, edited and stopped; what its callbacks may do; handles freed in
 * any order.
 */
#include "folders.h"

#include <dirent.h>
#include <sched.h>

static const char echo[] = "{\"content\":{\"do\":\"echo\",\"n\":1}}";

/* ---- A host that counts events, and does something inside of one ---- */

static latch loaded_events = LATCH_INIT, reloaded = LATCH_INIT, failed = LATCH_INIT, unloaded = LATCH_INIT, acted = LATCH_INIT;
static flowplug_manager *inside_manager;
static flowplug_status inside_start, inside_stop, inside_list, inside_unload;

static void on_event(void *data, flowplug_str json) {
  (void)data;
  char text[4096];
  snprintf(text, sizeof text, "%.*s", (int)json.len, json.ptr);
  if (strstr(text, "\"type\":\"reloaded\"")) latch_add(&reloaded);
  if (strstr(text, "\"type\":\"reload_failed\"") || strstr(text, "\"type\":\"load_failed\"")) latch_add(&failed);
  if (strstr(text, "\"type\":\"unloaded\"")) latch_add(&unloaded);
  if (!strstr(text, "\"type\":\"started\"")) return;
  if (inside_manager) {
    flowplug_bytes list = {NULL, 0, NULL};
    inside_list = flowplug_manager_list(inside_manager, &list, NULL);
    flowplug_bytes_free(&list);
    inside_start = flowplug_manager_start(inside_manager, NULL, NULL);
    inside_stop = flowplug_manager_stop(inside_manager, NULL, NULL);
    inside_unload = flowplug_manager_unload(inside_manager, FLOWPLUG_STR("a"), NULL, NULL);
    latch_add(&acted);
  }
  latch_add(&loaded_events);
}

/* A host call of plugin a's own call. */
static flowplug_status inside_call, inside_health, inside_own_unload, inside_own_reload, inside_other_unload, inside_other_load;

static void on_kv_get(void *data, flowplug_request request, const flowplug_caller *caller, flowplug_str key) {
  (void)data, (void)caller, (void)key;
  flowplug_manager *m = inside_manager;
  flowplug_str nothing = {NULL, 0};
  flowplug_bytes out = {NULL, 0, NULL};
  inside_call = flowplug_manager_call(m, FLOWPLUG_STR("b"), FLOWPLUG_STR("command"), str(echo), NULL, &out, NULL);
  flowplug_bytes_free(&out);
  inside_health = flowplug_manager_health(m, FLOWPLUG_STR("a"), NULL, &out, NULL);
  flowplug_bytes_free(&out);
  inside_own_unload = flowplug_manager_unload(m, FLOWPLUG_STR("a"), NULL, NULL);
  inside_own_reload = flowplug_manager_reload(m, FLOWPLUG_STR("a"), NULL, nothing, NULL, NULL);
  inside_stop = flowplug_manager_stop(m, NULL, NULL);
  inside_other_unload = flowplug_manager_unload(m, FLOWPLUG_STR("b"), NULL, NULL);
  inside_other_load = flowplug_manager_load(m, str(format("%s/b", root)), nothing, NULL, NULL);
  flowplug_request_ok(request, FLOWPLUG_STR("answered"));
}

/* ---- Tests ---- */

static void a_folder_is_started_called_edited_and_stopped(void) {
  put("a");
  flowplug_manager *manager = manager_with("config: {a: {n: 7}}");
  CHECK_ANSWER(manager_start(manager), FLOWPLUG_OK);
  answer a = manager_call(manager, "a", "{\"content\":{\"do\":\"host\",\"fn\":\"get_config\",\"args\":{\"key\":\"n\"}}}");
  CHECK_ANSWER(a, FLOWPLUG_OK);
  CHECK_HAS(a.json, "{\"value\":\"7\"}");
  latch_reset(&loaded_events);
  put("b");
  CHECK(latch_wait(&loaded_events, 1));
  CHECK_ANSWER(manager_call(manager, "b", echo), FLOWPLUG_OK);
  latch_reset(&reloaded);
  put("a");
  CHECK(latch_wait(&reloaded, 1));
  latch_reset(&failed);
  write_file(format("%s/a/plugin.yaml", root), "name: [", 7);
  CHECK(latch_wait(&failed, 1));
  CHECK_ANSWER(manager_call(manager, "a", echo), FLOWPLUG_OK);
  latch_reset(&unloaded);
  take_away("b");
  CHECK(latch_wait(&unloaded, 1));
  CHECK_ANSWER(manager_call(manager, "b", echo), FLOWPLUG_NOT_FOUND);
  a = manager_list(manager);
  CHECK_HAS(a.json, "\"identity\":\"a\"");
  CHECK_HAS(a.json, "\"state\":\"running\"");
  CHECK(strstr(a.json, "\"identity\":\"b\"") == NULL);
  flowplug_bytes out = {NULL, 0, NULL};
  CHECK_INT(flowplug_manager_health(manager, FLOWPLUG_STR("a"), NULL, &out, NULL), FLOWPLUG_OK);
  CHECK_HAS(keep((const char *)out.ptr, out.len), "\"ready\":true");
  flowplug_bytes_free(&out);
  CHECK_INT(flowplug_manager_metrics(manager, &out, NULL), FLOWPLUG_OK);
  CHECK_HAS(keep((const char *)out.ptr, out.len), "# TYPE flowplug_calls_total counter");
  flowplug_bytes_free(&out);
  CHECK_ANSWER(manager_stop(manager), FLOWPLUG_OK);
  CHECK_ANSWER(manager_stop(manager), FLOWPLUG_OK);
  CHECK_ANSWER(manager_call(manager, "a", echo), FLOWPLUG_INVALID_STATE);
  CHECK_ANSWER(manager_list(manager), FLOWPLUG_INVALID_STATE);
  flowplug_manager_free(manager);
  take_away("a");
}

static void plugins_are_loaded_reloaded_and_unloaded_by_hand(void) {
  flowplug_manager *manager = NULL;
  CHECK_INT(flowplug_manager_new(host, FLOWPLUG_STR(""), &manager, NULL), FLOWPLUG_OK);
  char *folder = format("%s/c-fixture", check_plugins);
  CHECK_INT(flowplug_manager_load(manager, str(folder), FLOWPLUG_STR("{\"n\":1}"), NULL, NULL), FLOWPLUG_OK);
  CHECK_INT(flowplug_manager_load(manager, str(folder), FLOWPLUG_STR(""), NULL, NULL), FLOWPLUG_INVALID_STATE);
  static const char config[] = "{\"content\":{\"do\":\"host\",\"fn\":\"get_config\",\"args\":{\"key\":\"n\"}}}";
  CHECK_HAS(manager_call(manager, "c-fixture", config).json, "{\"value\":\"1\"}");
  CHECK_INT(flowplug_manager_reload(manager, FLOWPLUG_STR("c-fixture"), NULL, FLOWPLUG_STR(""), NULL, NULL), FLOWPLUG_OK);
  CHECK_HAS(manager_call(manager, "c-fixture", config).json, "{\"value\":\"1\"}");
  flowplug_manifest *manifest = NULL;
  CHECK_INT(flowplug_manifest_read(str(folder), NULL, &manifest, NULL), FLOWPLUG_OK);
  CHECK_INT(flowplug_manager_reload(manager, FLOWPLUG_STR("c-fixture"), manifest, FLOWPLUG_STR("{\"n\":2}"), NULL, NULL), FLOWPLUG_OK);
  flowplug_manifest_free(manifest);
  CHECK_HAS(manager_call(manager, "c-fixture", config).json, "{\"value\":\"2\"}");
  flowplug_call_options at_once = within(1);
  CHECK_INT(flowplug_manager_unload(manager, FLOWPLUG_STR("c-fixture"), &at_once, NULL), FLOWPLUG_OK);
  CHECK_INT(flowplug_manager_unload(manager, FLOWPLUG_STR("c-fixture"), NULL, NULL), FLOWPLUG_NOT_FOUND);
  CHECK_ANSWER(manager_stop(manager), FLOWPLUG_OK);
  flowplug_manager_free(manager);
}

static void a_reference_outlives_unloading_and_the_manager(void) {
  flowplug_manager *manager = NULL;
  flowplug_plugin *first = NULL, *second = NULL;
  CHECK_INT(flowplug_manager_new(host, FLOWPLUG_STR(""), &manager, NULL), FLOWPLUG_OK);
  CHECK_INT(flowplug_manager_load(manager, str(format("%s/c-fixture", check_plugins)), FLOWPLUG_STR(""), NULL, NULL), FLOWPLUG_OK);
  CHECK_INT(flowplug_manager_get(manager, FLOWPLUG_STR("c-fixture"), &first, NULL), FLOWPLUG_OK);
  CHECK_INT(flowplug_manager_get(manager, FLOWPLUG_STR("c-fixture"), &second, NULL), FLOWPLUG_OK);
  /* The end of a handle is not the end of the plugin. */
  flowplug_plugin_free(first);
  CHECK_ANSWER(call(second, "command", echo), FLOWPLUG_OK);
  CHECK_ANSWER(manager_call(manager, "c-fixture", echo), FLOWPLUG_OK);
  CHECK_INT(flowplug_manager_unload(manager, FLOWPLUG_STR("c-fixture"), NULL, NULL), FLOWPLUG_OK);
  CHECK_INT(flowplug_plugin_state(second), FLOWPLUG_STATE_STOPPED);
  CHECK_ANSWER(call(second, "command", echo), FLOWPLUG_INVALID_STATE);
  flowplug_manager_free(manager);
  CHECK_ANSWER(call(second, "command", echo), FLOWPLUG_INVALID_STATE);
  flowplug_plugin_free(second);
}

static void a_manager_that_is_freed_stops_its_plugins(void) {
  flowplug_manager *manager = NULL;
  flowplug_plugin *plugin = NULL;
  CHECK_INT(flowplug_manager_new(host, FLOWPLUG_STR(""), &manager, NULL), FLOWPLUG_OK);
  CHECK_INT(flowplug_manager_load(manager, str(format("%s/c-fixture", check_plugins)), FLOWPLUG_STR(""), NULL, NULL), FLOWPLUG_OK);
  CHECK_INT(flowplug_manager_get(manager, FLOWPLUG_STR("c-fixture"), &plugin, NULL), FLOWPLUG_OK);
  flowplug_manager_free(manager);
  CHECK_ANSWER(stop(plugin, NULL), FLOWPLUG_OK);
  CHECK_INT(flowplug_plugin_state(plugin), FLOWPLUG_STATE_STOPPED);
  flowplug_plugin_free(plugin);
}

/* What waits is refused inside of a callback; what does not is answered. */
static void callbacks_of_a_manager_may_ask_it_and_not_wait_for_it(void) {
  put("a");
  flowplug_manager *manager = manager_with("");
  latch_reset(&acted);
  inside_manager = manager;
  CHECK_ANSWER(manager_start(manager), FLOWPLUG_OK);
  CHECK(latch_wait(&acted, 1));
  inside_manager = NULL;
  CHECK_INT(inside_list, FLOWPLUG_OK);
  CHECK_INT(inside_start, FLOWPLUG_INVALID_STATE);
  CHECK_INT(inside_stop, FLOWPLUG_INVALID_STATE);
  CHECK_INT(inside_unload, FLOWPLUG_INVALID_STATE);
  CHECK_ANSWER(manager_call(manager, "a", echo), FLOWPLUG_OK);
  CHECK_ANSWER(manager_stop(manager), FLOWPLUG_OK);
  flowplug_manager_free(manager);
  take_away("a");
}

static void callbacks_of_a_plugins_call_may_do_what_does_not_wait_for_it(void) {
  put("a"), put("b");
  flowplug_manager *manager = manager_with("hot_reload: false");
  CHECK_ANSWER(manager_start(manager), FLOWPLUG_OK);
  inside_manager = manager;
  answer a = manager_call(manager, "a", "{\"content\":{\"do\":\"host\",\"fn\":\"kv_get\",\"args\":{\"key\":\"k\"}}}");
  inside_manager = NULL;
  CHECK_ANSWER(a, FLOWPLUG_OK);
  CHECK_HAS(a.json, "answered");
  CHECK_INT(inside_call, FLOWPLUG_OK);
  CHECK_INT(inside_health, FLOWPLUG_OK);
  CHECK_INT(inside_own_unload, FLOWPLUG_INVALID_STATE);
  CHECK_INT(inside_own_reload, FLOWPLUG_INVALID_STATE);
  CHECK_INT(inside_stop, FLOWPLUG_INVALID_STATE);
  CHECK_INT(inside_other_unload, FLOWPLUG_OK);
  CHECK_INT(inside_other_load, FLOWPLUG_OK);
  CHECK_ANSWER(manager_call(manager, "b", echo), FLOWPLUG_OK);
  CHECK_ANSWER(manager_stop(manager), FLOWPLUG_OK);
  flowplug_manager_free(manager);
  take_away("a"), take_away("b");
}

static void sources_of_a_later_version_say_so(void) {
  put("a");
  flowplug_manager *manager = NULL;
  char *config = format("{\"enabled\":true,\"sources\":[{\"type\":\"git\",\"repos\":[{\"url\":\"u\"}]},{\"type\":\"local\",\"path\":\"%s\"}]}", root);
  CHECK_INT(flowplug_manager_new(host, str(config), &manager, NULL), FLOWPLUG_OK);
  answer a = manager_start(manager);
  CHECK_ANSWER(a, FLOWPLUG_UNSUPPORTED);
  CHECK_HAS(a.message, "git are not supported yet");
  CHECK_ANSWER(manager_call(manager, "a", echo), FLOWPLUG_OK);
  CHECK_ANSWER(manager_stop(manager), FLOWPLUG_OK);
  flowplug_manager_free(manager);
  take_away("a");
}

static void configs_that_are_wrong_say_where(void) {
  static const char *const wrong[] = {"[]", "{", "enabled: 7", "sources: [{type: npm}]", "drain_timeout: soon", "config: []"};
  for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
    flowplug_manager *manager = NULL;
    flowplug_error *error = NULL;
    flowplug_status status = flowplug_manager_new(host, str(wrong[i]), &manager, &error);
    answer a = answered(status, NULL, &error);
    CHECK_ANSWER(a, FLOWPLUG_INVALID_CONFIG);
    CHECK_HAS(a.details, "\"problems\"");
    CHECK(manager == NULL);
  }
}

/* What no function of a live manager falls over. */
static void garbage_is_refused(void) {
  static const flowplug_str wrong[] = {{NULL, SIZE_MAX}, {NULL, 1}, {"\xff\xfe", 2}};
  flowplug_str nothing = {NULL, 0}, name = FLOWPLUG_STR("a");
  flowplug_call_options small = FLOWPLUG_CALL_OPTIONS_INIT;
  small.struct_size = 1;
  flowplug_manager *manager = NULL, *made = NULL;
  flowplug_plugin *got = NULL;
  flowplug_bytes out = {NULL, 0, NULL};
  CHECK_INT(flowplug_manager_new(host, nothing, &manager, NULL), FLOWPLUG_OK);
  for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
    flowplug_str w = wrong[i];
    flowplug_status all[] = {
        flowplug_manager_new(host, w, &made, NULL),
        flowplug_manager_load(manager, w, nothing, NULL, NULL),
        flowplug_manager_load(manager, name, w, NULL, NULL),
        flowplug_manager_reload(manager, w, NULL, nothing, NULL, NULL),
        flowplug_manager_reload(manager, name, NULL, w, NULL, NULL),
        flowplug_manager_unload(manager, w, NULL, NULL),
        flowplug_manager_get(manager, w, &got, NULL),
        flowplug_manager_call(manager, w, name, nothing, NULL, &out, NULL),
        flowplug_manager_call(manager, name, w, nothing, NULL, &out, NULL),
        flowplug_manager_call(manager, name, name, w, NULL, &out, NULL),
        flowplug_manager_health(manager, w, NULL, &out, NULL),
    };
    for (size_t n = 0; n < sizeof all / sizeof all[0]; n++) CHECK_INT(all[n], FLOWPLUG_INVALID_ARGUMENT);
  }
  flowplug_status sizes[] = {
      flowplug_manager_start(manager, &small, NULL),
      flowplug_manager_load(manager, name, nothing, &small, NULL),
      flowplug_manager_reload(manager, name, NULL, nothing, &small, NULL),
      flowplug_manager_unload(manager, name, &small, NULL),
      flowplug_manager_call(manager, name, name, nothing, &small, &out, NULL),
      flowplug_manager_health(manager, name, &small, &out, NULL),
      flowplug_manager_stop(manager, &small, NULL),
      flowplug_manager_new(host, nothing, NULL, NULL),
      flowplug_manager_list(manager, NULL, NULL),
      flowplug_manager_get(manager, name, NULL, NULL),
      flowplug_manager_call(manager, name, name, nothing, NULL, NULL, NULL),
      flowplug_manager_health(manager, name, NULL, NULL, NULL),
      flowplug_manager_metrics(manager, NULL, NULL),
  };
  for (size_t n = 0; n < sizeof sizes / sizeof sizes[0]; n++) CHECK_INT(sizes[n], FLOWPLUG_INVALID_ARGUMENT);
  CHECK(made == NULL && got == NULL && out.ptr == NULL);
  CHECK_ANSWER(manager_list(manager), FLOWPLUG_OK);
  flowplug_manager_free(manager);
}

/* Everything at once, from sixteen threads, while one of them ends it. */
static void *everything(void *of) {
  flowplug_manager *manager = of;
  flowplug_str a = FLOWPLUG_STR("c-fixture"), folder = str(format("%s/c-fixture", check_plugins));
  for (int i = 0; i < 10; i++) {
    flowplug_bytes out = {NULL, 0, NULL};
    flowplug_plugin *got = NULL;
    flowplug_manager_load(manager, folder, FLOWPLUG_STR(""), NULL, NULL);
    if (flowplug_manager_call(manager, a, FLOWPLUG_STR("command"), str(echo), NULL, &out, NULL) == FLOWPLUG_OK) flowplug_bytes_free(&out);
    flowplug_manager_reload(manager, a, NULL, FLOWPLUG_STR(""), NULL, NULL);
    if (flowplug_manager_list(manager, &out, NULL) == FLOWPLUG_OK) flowplug_bytes_free(&out);
    if (flowplug_manager_get(manager, a, &got, NULL) == FLOWPLUG_OK) flowplug_plugin_free(got);
    if (flowplug_manager_health(manager, a, NULL, &out, NULL) == FLOWPLUG_OK) flowplug_bytes_free(&out);
    if (flowplug_manager_metrics(manager, &out, NULL) == FLOWPLUG_OK) flowplug_bytes_free(&out);
    if (i % 3 == 2) flowplug_manager_unload(manager, a, NULL, NULL);
  }
  return NULL;
}

static void everything_at_once(void) {
  pthread_t threads[16];
  flowplug_manager *manager = NULL;
  CHECK_INT(flowplug_manager_new(host, FLOWPLUG_STR(""), &manager, NULL), FLOWPLUG_OK);
  for (int i = 0; i < 16; i++)
    if (pthread_create(&threads[i], NULL, everything, manager) != 0) abort();
  everything(manager);
  CHECK_ANSWER(manager_stop(manager), FLOWPLUG_OK);
  for (int i = 0; i < 16; i++) pthread_join(threads[i], NULL);
  CHECK_ANSWER(manager_list(manager), FLOWPLUG_INVALID_STATE);
  flowplug_manager_free(manager);
}

static int entries_of(const char *folder) {
  int count = 0;
  DIR *open = opendir(folder);
  if (!open) abort();
  while (readdir(open)) count++;
  closedir(open);
  return count;
}

/* Threads end a moment after what they served. */
static int settles_at(const char *folder, int most) {
  uint64_t began = now_ns();
  while (entries_of(folder) > most && now_ns() - began < BOUND_SECONDS * 1000 * MS) sched_yield();
  return entries_of(folder) <= most;
}

static void nothing_is_left_behind(void) {
  int threads = 0, files = 0;
  put("a");
  for (int i = 0; i < 20; i++) {
    flowplug_manager *manager = manager_with("");
    CHECK_ANSWER(manager_start(manager), FLOWPLUG_OK);
    if (i % 2) CHECK_ANSWER(manager_stop(manager), FLOWPLUG_OK);
    flowplug_manager_free(manager);
    /* The first ones bring what stays: threads of the compiler, and the keeper's. */
    if (i == 9) {
      threads = entries_of("/proc/self/task");
      files = entries_of("/proc/self/fd");
    }
  }
  CHECK(settles_at("/proc/self/task", threads));
  CHECK(settles_at("/proc/self/fd", files));
  take_away("a");
}

/* Last: it closes the host. */
static void a_closed_host_ends_its_managers(void) {
  put("a");
  flowplug_manager *manager = manager_with(""), *late = NULL;
  CHECK_ANSWER(manager_start(manager), FLOWPLUG_OK);
  CHECK_INT(flowplug_host_close(host, NULL, NULL), FLOWPLUG_OK);
  CHECK_ANSWER(manager_call(manager, "a", echo), FLOWPLUG_INVALID_STATE);
  CHECK_ANSWER(manager_list(manager), FLOWPLUG_INVALID_STATE);
  CHECK_INT(flowplug_manager_new(host, FLOWPLUG_STR(""), &late, NULL), FLOWPLUG_INVALID_STATE);
  flowplug_manager_free(manager);
  take_away("a");
}

int main(int argc, char **argv) {
  check_begin(argc, argv);
  snprintf(root, sizeof root, "/tmp/flowplug-c-XXXXXX");
  if (!mkdtemp(root)) abort();
  flowplug_host_api api = FLOWPLUG_HOST_API_INIT;
  api.event = on_event;
  api.kv_get = on_kv_get;
  host = new_host(TRUSTED, &api);
  RUN(a_folder_is_started_called_edited_and_stopped);
  RUN(plugins_are_loaded_reloaded_and_unloaded_by_hand);
  RUN(a_reference_outlives_unloading_and_the_manager);
  RUN(a_manager_that_is_freed_stops_its_plugins);
  RUN(callbacks_of_a_manager_may_ask_it_and_not_wait_for_it);
  RUN(callbacks_of_a_plugins_call_may_do_what_does_not_wait_for_it);
  RUN(sources_of_a_later_version_say_so);
  RUN(configs_that_are_wrong_say_where);
  RUN(garbage_is_refused);
  RUN(everything_at_once);
  RUN(nothing_is_left_behind);
  RUN(a_closed_host_ends_its_managers);
  flowplug_host_free(host);
  rmdir(root);
  return check_end();
}
