/*
 * Which wasm modules load, which do not, and what the error says; the older forms of exports that run all the same; host
 * calls with pointers that lead nowhere.
 */
#include "plugins.h"

static flowplug_host *host;

static answer load_of(const char *folder) {
  flowplug_plugin *plugin = NULL;
  answer a = load_with(host, folder, "", "module", NULL, NULL, NULL, &plugin);
  flowplug_plugin_free(plugin);
  return a;
}

static void unknown_imports_are_listed(void) {
  answer a = load_of("wat-unknown-import");
  CHECK_ANSWER(a, FLOWPLUG_LOAD_FAILED);
  CHECK_HAS(a.message, "read_minds");
  CHECK_HAS(a.message, "abort");
  CHECK_TEXT(a.plugin, "module");
}

static void a_mistyped_import_is_named(void) {
  answer a = load_of("wat-mistyped-import");
  CHECK_ANSWER(a, FLOWPLUG_LOAD_FAILED);
  CHECK_HAS(a.message, "kv_get");
}

static void reserved_exports_must_be_there_and_of_their_type(void) {
  answer a = load_of("wat-no-memory");
  CHECK_ANSWER(a, FLOWPLUG_LOAD_FAILED);
  CHECK_HAS(a.message, "memory");
  a = load_of("wat-no-alloc");
  CHECK_ANSWER(a, FLOWPLUG_LOAD_FAILED);
  CHECK_HAS(a.message, "alloc");
  a = load_of("wat-mistyped");
  CHECK_ANSWER(a, FLOWPLUG_LOAD_FAILED);
  CHECK_HAS(a.message, "command");
}

static void a_program_is_told_how_to_become_a_reactor(void) {
  answer a = load_of("wat-program");
  CHECK_ANSWER(a, FLOWPLUG_LOAD_FAILED);
  CHECK_HAS(a.message, "reactor");
}

static void a_start_section_that_traps(void) {
  answer a = load_of("wat-trap-start");
  CHECK(a.status == FLOWPLUG_LOAD_FAILED || a.status == FLOWPLUG_TRAP);
  CHECK_HAS(a.message, "");
}

static void artifacts_that_are_not_there_or_no_modules(void) {
  flowplug_plugin *plugin = NULL;
  static const char yaml[] = "name: x\nruntime: wasm\nwasm: { module: ./%s }\n";
  answer a = load_with(host, "wat-dispatch", format(yaml, "missing.wasm"), "x", NULL, NULL, NULL, &plugin);
  CHECK_ANSWER(a, FLOWPLUG_LOAD_FAILED);
  CHECK_HAS(a.message, "missing.wasm");
  a = load_with(host, "wat-dispatch", format(yaml, "plugin.yaml"), "x", NULL, NULL, NULL, &plugin);
  CHECK_ANSWER(a, FLOWPLUG_LOAD_FAILED);
  a = load_with(host, "wat-dispatch", "name: x\nruntime: wasm\nwasm: { module: . }\n", "x", NULL, NULL, NULL, &plugin);
  CHECK_ANSWER(a, FLOWPLUG_LOAD_FAILED);
  a = load_with(host, "wat-dispatch", "name: x\nruntime: wasm\nwasm: { module: ./plugin.wasm, sha256: 0000000000000000000000000000000000000000000000000000000000000000 }\n", "x",
                NULL, NULL, NULL, &plugin);
  CHECK_ANSWER(a, FLOWPLUG_LOAD_FAILED);
  CHECK_HAS(a.message, "sha256");
  a = load_with(host, "wat-dispatch", "name: x\nruntime: grpc\ngrpc: { binary: ./plugin.yaml }\n", "x", NULL, NULL, NULL, &plugin);
  CHECK_ANSWER(a, FLOWPLUG_LOAD_FAILED);
  CHECK_HAS(a.message, "execut");
  a = load_with(host, "wat-dispatch", "name: x\nruntime: grpc\ngrpc: { binary: /bin/true }\n", "x", NULL, NULL, NULL, &plugin);
  CHECK_ANSWER(a, FLOWPLUG_LOAD_FAILED);
  CHECK_HAS(a.details, "\"exit_status\":0");
  CHECK(plugin == NULL);
}

static void older_forms_run(void) {
  flowplug_plugin *plugin = running(host, "wat-old-init", "old");
  /* The one free so far is that of init's config. */
  CHECK_TEXT(call(plugin, "command", "{}").json, "1");
  done_with(plugin);
  plugin = running(host, "wat-start-export", "tinygo");
  CHECK_TEXT(call(plugin, "command", "{}").json, "1");
  CHECK_TEXT(call(plugin, "command", "{}").json, "1");
  done_with(plugin);
}

static void ready_is_exactly_one(void) {
  flowplug_plugin *plugin = running(host, "wat-not-ready", "not-ready");
  CHECK_HAS(health(plugin).json, "\"ready\":false");
  CHECK_ANSWER(call(plugin, "command", "{}"), FLOWPLUG_OK);
  done_with(plugin);
  plugin = running(host, "wat-dispatch", "silent"); /* no is_ready: ready */
  CHECK_HAS(health(plugin).json, "\"ready\":true");
  done_with(plugin);
}

static void one_import_in_several_forms(void) {
  flowplug_plugin *plugin = running(host, "wat-forms", "forms");
  if (!plugin) return;
  CHECK_TEXT(call(plugin, "sum", "").json, "12");
  done_with(plugin);
}

typedef struct expected {
  const char *function, *want;
} expected;

static void check_calls(flowplug_plugin *plugin, const expected *calls, size_t count) {
  for (size_t i = 0; i < count; i++) {
    answer a = call(plugin, calls[i].function, "");
    CHECK_ANSWER(a, FLOWPLUG_OK);
    const char *got = strpbrk(a.json, "-0123456789");
    if (!got || strncmp(got, calls[i].want, strlen(calls[i].want)) != 0) check_fail(__FILE__, __LINE__, "%s: %s, expected %s", calls[i].function, a.json, calls[i].want);
  }
}

/* A pointer outside linear memory fails the host call, and neither the host nor the guest. */
static void wild_pointers_fail_the_host_call(void) {
  static const expected calls[] = {
      {"last_error", "0"},   {"config_key", "0"},    {"config_key_long", "0"}, {"config_bad_utf8", "0"}, {"kv_checked_key", "-2"}, {"kv_set_key", "0"},
      {"kv_set_value", "0"}, {"kv_delete_key", "0"}, {"http_request", "0"},    {"http_not_json", "0"},   {"emit_event", "0"},      {"emit_not_json", "0"},
      {"log", "1"},          {"kv_get_good", "-1"},  {"kv_set_good", "1"},     {"kv_get_good", "20"},    {"kv_get_short", "20"},   {"kv_checked_out", "-2"},
  };
  static const expected others[] = {{"last_error", "0"}, {"config_value_key", "0"}, {"http_value", "0"}, {"kv_flowbot_out", "0"}, {"log_fields", "1"}};
  flowplug_plugin *plugin = running(host, "wat-wild", "wild");
  check_calls(plugin, calls, sizeof calls / sizeof calls[0]);
  answer a = call(plugin, "last_error", "");
  CHECK_ANSWER(a, FLOWPLUG_OK);
  CHECK(strpbrk(a.json, "123456789") != NULL);
  done_with(plugin);
  plugin = running(host, "wat-wild-value", "wild"); /* the same identity, and so the same keys */
  check_calls(plugin, others, sizeof others / sizeof others[0]);
  done_with(plugin);
}

int main(int argc, char **argv) {
  check_begin(argc, argv);
  host = new_host(TRUSTED, NULL);
  RUN(unknown_imports_are_listed);
  RUN(a_mistyped_import_is_named);
  RUN(reserved_exports_must_be_there_and_of_their_type);
  RUN(a_program_is_told_how_to_become_a_reactor);
  RUN(a_start_section_that_traps);
  RUN(artifacts_that_are_not_there_or_no_modules);
  RUN(older_forms_run);
  RUN(ready_is_exactly_one);
  RUN(one_import_in_several_forms);
  RUN(wild_pointers_fail_the_host_call);
  close_host(host);
  return check_end();
}
