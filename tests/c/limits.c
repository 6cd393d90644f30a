/*
 * What a plugin may not do, and what happens when it does: configs, traps, deadlines, memory, answers, permissions. After
 * each the next call succeeds, and a sibling of the same module has felt nothing.
 */
#include "plugins.h"

static flowplug_host *host;
static flowplug_plugin *hostile, *sibling;

/* Past every deadline set here, in ms, by far: the bound on how late an answer may be. */
enum { TIMEOUT = 300, LATE = 10 * TIMEOUT };

/* The plugin is whole: it answers, on an instance that nothing bad has run on. */
static void check_whole(void) {
  answer a = call(hostile, "echo", "[1,{\"a\":2}]");
  CHECK_ANSWER(a, FLOWPLUG_OK);
  CHECK_TEXT(a.json, "[1,{\"a\":2}]");
  CHECK_TEXT(call(hostile, "fresh", "").json, "true");
  CHECK_TEXT(call(sibling, "echo", "7").json, "7");
  CHECK_TEXT(call(sibling, "fresh", "").json, "false"); /* still the instance that was marked in the beginning */
}

static answer timed(flowplug_plugin *plugin, const char *function, const char *params) {
  flowplug_call_options options = within(TIMEOUT);
  uint64_t began = now_ns();
  answer a = call_with(plugin, function, params, &options);
  uint64_t took = (now_ns() - began) / MS;
  if (took > LATE) check_fail(__FILE__, __LINE__, "%s took %d ms", function, (int)took);
  return a;
}

/* ---- Config ---- */

static const char schema_manifest[] =
    "name: schema\nruntime: wasm\nwasm: { module: ./plugin.wasm }\n"
    "config_schema: { type: object, required: [key], properties: { key: { type: string, minLength: 2 }, n: { type: integer } } }\n";

static void a_config_that_violates_the_schema(void) {
  flowplug_plugin *plugin = NULL;
  CHECK_ANSWER(load_with(host, "wat-dispatch", schema_manifest, "schema", NULL, NULL, NULL, &plugin), FLOWPLUG_OK);
  answer a = start(plugin, "{\"key\":\"x\",\"n\":\"seven\"}", NULL);
  CHECK_ANSWER(a, FLOWPLUG_INVALID_CONFIG);
  CHECK_HAS(a.message, "plugin config validation failed");
  CHECK_HAS(a.details, "\"violations\":[");
  CHECK_HAS(a.details, "\"instance_path\":\"/key\"");
  CHECK_HAS(a.details, "\"instance_path\":\"/n\"");
  CHECK_HAS(a.details, "\"schema_path\":");
  CHECK_INT(flowplug_plugin_state(plugin), FLOWPLUG_STATE_LOADING);
  CHECK_ANSWER(start(plugin, "", NULL), FLOWPLUG_INVALID_CONFIG); /* absent is {}, and key is missing */
  a = start(plugin, "{\"key\":", NULL);
  CHECK_ANSWER(a, FLOWPLUG_INVALID_CONFIG);
  CHECK_HAS(a.message, "plugin config is not valid JSON");
  CHECK_ANSWER(start(plugin, "{\"key\":\"long\"}", NULL), FLOWPLUG_OK); /* and can be tried again */
  CHECK_ANSWER(call(plugin, "command", "{}"), FLOWPLUG_OK);
  done_with(plugin);
}

static void a_schema_that_is_none(void) {
  flowplug_plugin *plugin = NULL;
  flowplug_manifest *manifest = NULL;
  flowplug_error *error = NULL;
  const char *yaml = "name: x\nruntime: wasm\nwasm: { module: ./plugin.wasm }\nconfig_schema: { type: 7 }\n";
  flowplug_status status = flowplug_manifest_parse(str(yaml), NULL, &manifest, &error);
  if (status == FLOWPLUG_OK) status = flowplug_manifest_validate_config(manifest, str("{}"), NULL, &error);
  answer a = answered(status, NULL, &error);
  CHECK(a.status == FLOWPLUG_INVALID_CONFIG || a.status == FLOWPLUG_INVALID_MANIFEST);
  CHECK_HAS(a.message, "config_schema is invalid");
  flowplug_manifest_free(manifest);
  flowplug_plugin_free(plugin);
}

static void init_can_refuse(const char *folder) {
  flowplug_plugin *plugin = NULL;
  CHECK_ANSWER(load_with(host, folder, "", "refuses", NULL, NULL, NULL, &plugin), FLOWPLUG_OK);
  answer a = start(plugin, "{\"fail\":\"no key given\"}", NULL);
  CHECK_ANSWER(a, FLOWPLUG_START_FAILED);
  CHECK_TEXT(a.plugin_message, "no key given");
  CHECK_INT(flowplug_plugin_state(plugin), FLOWPLUG_STATE_ERROR);
  CHECK_ANSWER(command(plugin, "{\"do\":\"echo\"}"), FLOWPLUG_INVALID_STATE);
  flowplug_plugin_free(plugin);
}

/* ---- Traps ---- */

static void a_trap_says_where(void) {
  answer a = call(hostile, "unreachable", "");
  CHECK_ANSWER(a, FLOWPLUG_TRAP);
  CHECK_HAS(a.details, "\"backtrace\":[");
  CHECK_HAS(a.details, "named_trap");
  CHECK_HAS(a.message, "unreachable");
  CHECK_TEXT(a.plugin, "hostile");
  CHECK_TEXT(a.function, "unreachable");
  check_whole();
}

static void a_trap_in_c(void) {
  flowplug_plugin *plugin = running(host, "c-fixture", "c");
  answer a = command(plugin, "{\"do\":\"panic\"}");
  CHECK_ANSWER(a, FLOWPLUG_TRAP);
  CHECK_HAS(a.details, "fixture_panics_here");
  CHECK_HAS(a.details, "command");
  CHECK_ANSWER(command(plugin, "{\"do\":\"echo\"}"), FLOWPLUG_OK);
  done_with(plugin);
}

static void a_panic_in_go(const char *folder) {
  flowplug_plugin *plugin = running(host, folder, "go");
  if (!plugin) return;
  answer a = command(plugin, "{\"do\":\"panic\",\"text\":\"told to\"}");
  if (a.status != FLOWPLUG_TRAP && a.status != FLOWPLUG_PLUGIN_ERROR && a.status != FLOWPLUG_UNAVAILABLE) CHECK_ANSWER(a, FLOWPLUG_PLUGIN_ERROR);
  done_with(plugin);
}

static void other_traps(void) {
  static const char *const functions[] = {"recurse", "divide", "wild_load", "exit", "exit_zero"};
  for (size_t i = 0; i < sizeof functions / sizeof functions[0]; i++) {
    answer a = call(hostile, functions[i], "");
    CHECK_ANSWER(a, FLOWPLUG_TRAP);
    CHECK_TEXT(a.function, functions[i]);
    check_whole();
  }
}

static void a_trap_in_free_discards_the_instance_and_keeps_the_answer(void) {
  CHECK_TEXT(call(hostile, "free_traps", "").json, "true");
  check_whole();
}

/* ---- Deadlines ---- */

static void endless_loops_and_sleeps_end_at_the_deadline(void) {
  static const char *const functions[] = {"spin", "sleep"};
  for (size_t i = 0; i < sizeof functions / sizeof functions[0]; i++) {
    answer a = timed(hostile, functions[i], "");
    CHECK_ANSWER(a, FLOWPLUG_TIMEOUT);
    CHECK_TEXT(a.plugin, "hostile");
    check_whole();
  }
}

static void the_manifests_own_timeout(void) {
  flowplug_plugin *plugin = NULL;
  const char *yaml = format("name: x\nruntime: wasm\nwasm: { module: ./plugin.wasm, permissions: { execution: { timeout: %dms } } }\n", TIMEOUT);
  CHECK_ANSWER(load_with(host, "wat-hostile", yaml, "short", NULL, NULL, NULL, &plugin), FLOWPLUG_OK);
  CHECK_ANSWER(start(plugin, "", NULL), FLOWPLUG_OK);
  uint64_t began = now_ns();
  CHECK_ANSWER(call(plugin, "spin", ""), FLOWPLUG_TIMEOUT);
  flowplug_call_options longer = FLOWPLUG_CALL_OPTIONS_INIT;
  longer.timeout_ns = FLOWPLUG_NO_TIMEOUT; /* the caller's alone: the manifest's still holds */
  CHECK_ANSWER(call_with(plugin, "sleep", "", &longer), FLOWPLUG_TIMEOUT);
  CHECK((now_ns() - began) / MS < 2 * LATE);
  done_with(plugin);
}

static void endless_instantiation_ends_at_the_deadline(void) {
  static const char *const folders[] = {"wat-start-loop", "wat-initialize-loop"};
  for (int i = 0; i < 2; i++) {
    flowplug_plugin *plugin = NULL;
    flowplug_call_options options = within(TIMEOUT);
    uint64_t began = now_ns();
    answer a = load_with(host, folders[i], "", "endless", NULL, NULL, &options, &plugin);
    CHECK_ANSWER(a, FLOWPLUG_TIMEOUT);
    CHECK((now_ns() - began) / MS < LATE);
    CHECK(plugin == NULL);
    check_whole();
  }
}

static void an_endless_init_ends_at_the_deadline(void) {
  flowplug_plugin *plugin = NULL;
  flowplug_call_options options = within(TIMEOUT);
  CHECK_ANSWER(load_with(host, "wat-init-loop", "", "endless", NULL, NULL, NULL, &plugin), FLOWPLUG_OK);
  uint64_t began = now_ns();
  CHECK_ANSWER(start(plugin, "", &options), FLOWPLUG_TIMEOUT);
  CHECK((now_ns() - began) / MS < LATE);
  CHECK_INT(flowplug_plugin_state(plugin), FLOWPLUG_STATE_ERROR);
  CHECK_ANSWER(call(plugin, "command", "{}"), FLOWPLUG_INVALID_STATE);
  flowplug_plugin_free(plugin);
}

/* Neither init nor the call is late by itself: the timeout is one for both. */
static void a_fresh_instance_takes_its_start_from_the_calls_time(void) {
  flowplug_plugin *plugin = NULL;
  const char *yaml = "name: x\nruntime: wasm\nwasm: { module: ./plugin.wasm, pool: { instance_per_call: true }, permissions: { execution: { timeout: 3s } } }\n";
  CHECK_ANSWER(load_with(host, "c-fixture", yaml, "slow", NULL, NULL, NULL, &plugin), FLOWPLUG_OK);
  CHECK_ANSWER(start(plugin, "{\"ms\":2300}", NULL), FLOWPLUG_OK);
  CHECK_ANSWER(command(plugin, "{\"do\":\"echo\"}"), FLOWPLUG_OK); /* with what instance the start left, if it left one */
  uint64_t began = now_ns();
  CHECK_ANSWER(command(plugin, "{\"do\":\"sleep\",\"ms\":2300}"), FLOWPLUG_TIMEOUT);
  CHECK((now_ns() - began) / MS < 30000);
  done_with(plugin);
}

static void endless_alloc_and_free(void) {
  flowplug_plugin *plugin = running(host, "wat-alloc-loop", "alloc");
  CHECK_ANSWER(timed(plugin, "command", "{}"), FLOWPLUG_TIMEOUT);
  CHECK_ANSWER(call(plugin, "void", ""), FLOWPLUG_OK);
  done_with(plugin);
  plugin = running(host, "wat-free-loop", "free");
  CHECK_ANSWER(timed(plugin, "command", "{}"), FLOWPLUG_TIMEOUT);
  done_with(plugin);
}

static void grpc_deadlines(void) {
  flowplug_plugin *plugin = running(host, "fixture-grpc-go", "grpc");
  if (!plugin) return;
  CHECK_ANSWER(timed(plugin, "command", "{\"content\":{\"do\":\"sleep\",\"ms\":600000}}"), FLOWPLUG_TIMEOUT);
  CHECK_ANSWER(timed(plugin, "command", "{\"content\":{\"do\":\"spin\"}}"), FLOWPLUG_TIMEOUT);
  CHECK_ANSWER(command(plugin, "{\"do\":\"echo\"}"), FLOWPLUG_OK);
  flowplug_call_options drain = within(TIMEOUT);
  CHECK_ANSWER(stop(plugin, &drain), FLOWPLUG_OK);
  flowplug_plugin_free(plugin);
}

/* ---- Memory and answers ---- */

static void memory_past_the_limit(void) {
  CHECK_ANSWER(call(hostile, "grow", ""), FLOWPLUG_OUT_OF_MEMORY);
  check_whole();
  CHECK_TEXT(call(hostile, "grow_polite", "").json, "true"); /* -1 to the guest, which copes */
  check_whole();
  CHECK_ANSWER(call(hostile, "grow_table", ""), FLOWPLUG_OUT_OF_MEMORY);
  check_whole();
  CHECK_TEXT(call(hostile, "alloc_fails_next", "").json, "true");
  CHECK_ANSWER(call(hostile, "echo", "1"), FLOWPLUG_OUT_OF_MEMORY);
  check_whole();
}

static void more_memory_than_allowed_from_the_start(void) {
  flowplug_plugin *plugin = NULL;
  answer a = load_with(host, "wat-big-memory", "", "big", NULL, NULL, NULL, &plugin);
  CHECK(a.status == FLOWPLUG_LOAD_FAILED || a.status == FLOWPLUG_OUT_OF_MEMORY);
  CHECK_HAS(a.message, "memory");
  CHECK(plugin == NULL);
}

static void answers_that_are_none(void) {
  static const char *const functions[] = {"outside", "over_the_end", "huge", "null_pointer_long", "trailing_comma", "bad_utf8", "not_an_object", "trailing"};
  for (size_t i = 0; i < sizeof functions / sizeof functions[0]; i++) {
    answer a = call(hostile, functions[i], "");
    if (a.status != FLOWPLUG_INVALID_RESPONSE) check_fail(__FILE__, __LINE__, "%s: %s %s", functions[i], flowplug_status_name(a.status), a.json);
    CHECK_TEXT(call(hostile, "echo", "1").json, "1");
  }
  call(hostile, "alloc_wild_next", "");
  answer a = call(hostile, "echo", "[1]");
  CHECK(a.status == FLOWPLUG_INVALID_RESPONSE || a.status == FLOWPLUG_TRAP || a.status == FLOWPLUG_OUT_OF_MEMORY);
  check_whole();
}

static void odd_envelopes(void) {
  answer a = call(hostile, "error_only", "");
  CHECK_ANSWER(a, FLOWPLUG_PLUGIN_ERROR);
  CHECK_TEXT(a.plugin_message, "only an error");
  CHECK_ANSWER(call(hostile, "empty_error", ""), FLOWPLUG_PLUGIN_ERROR); /* not null: an error, if an empty one */
  CHECK_ANSWER(call(hostile, "odd_error", ""), FLOWPLUG_PLUGIN_ERROR);   /* no text, but not null either */
  a = call(hostile, "escape_error", "");
  CHECK_ANSWER(a, FLOWPLUG_PLUGIN_ERROR);
  CHECK(strchr(a.plugin_message, '\x1b') == NULL && strchr(a.message, '\x1b') == NULL);
  CHECK_TEXT(call(hostile, "empty_object", "").json, "null");
  CHECK_TEXT(call(hostile, "size_zero", "").json, "null");
  CHECK_TEXT(call(hostile, "same_buffer", "{\"data\":[1]}").json, "[1]");
}

static void an_answer_past_its_limit(void) {
  flowplug_plugin *plugin = NULL;
  CHECK_ANSWER(load_with(host, "c-fixture", "", "small", "{\"preset\":\"trusted\",\"result_size\":\"64KB\"}", NULL, NULL, &plugin), FLOWPLUG_OK);
  CHECK_ANSWER(start(plugin, "", NULL), FLOWPLUG_OK);
  answer a = command(plugin, "{\"do\":\"big\",\"bytes\":60000}");
  CHECK_ANSWER(a, FLOWPLUG_OK);
  CHECK_INT(strlen(a.json), 60000);
  CHECK_ANSWER(command(plugin, "{\"do\":\"big\",\"bytes\":70000}"), FLOWPLUG_INVALID_RESPONSE);
  CHECK_ANSWER(command(plugin, "{\"do\":\"echo\"}"), FLOWPLUG_OK);
  done_with(plugin);
}

/* ---- Permissions ---- */

static answer strict_load(const char *folder, const char *yaml, const char *policy) {
  flowplug_plugin *plugin = NULL;
  answer a = load_with(host, folder, yaml, "asks", policy, NULL, NULL, &plugin);
  flowplug_plugin_free(plugin);
  return a;
}

static void what_the_policy_does_not_grant(void) {
  static const char base[] = "name: x\nruntime: wasm\nwasm: { module: ./plugin.wasm, permissions: { %s } }\n";
  static const struct {
    const char *asked, *field;
  } wishes[] = {
      {"http: [{ host: api.example.com }]", "wasm.permissions.http"},
      {"filesystem: [{ path: /tmp, mode: read }]", "wasm.permissions.filesystem"},
      {"filesystem: [{ path: ., mode: readwrite }]", "wasm.permissions.filesystem"},
      {"memory: { max: 128MB }", "wasm.permissions.memory.max"},
      {"execution: { timeout: 31s }", "wasm.permissions.execution.timeout"},
  };
  for (size_t i = 0; i < sizeof wishes / sizeof wishes[0]; i++) {
    answer a = strict_load("wat-dispatch", format(base, wishes[i].asked), "strict");
    CHECK_ANSWER(a, FLOWPLUG_PERMISSION_DENIED);
    CHECK_HAS(a.message, wishes[i].field);
    CHECK_HAS(a.details, "\"denied\":{");
  }
  CHECK_ANSWER(strict_load("wat-dispatch", "name: x\nruntime: wasm\nwasm: { module: ./plugin.wasm, pool: { max_instances: 5 } }\n", "strict"), FLOWPLUG_PERMISSION_DENIED);
  CHECK_ANSWER(strict_load("wat-dispatch", "name: x\nruntime: grpc\ngrpc: { binary: /bin/true }\n", "strict"), FLOWPLUG_PERMISSION_DENIED);
  CHECK_ANSWER(strict_load("wat-dispatch", format(base, "memory: { max: 64MB }"), "strict"), FLOWPLUG_OK);
  /* A plugin that could write its own manifest would grant itself the rest: under no policy. */
  answer a = strict_load("wat-dispatch", format(base, "filesystem: [{ path: ., mode: readwrite }]"), "trusted");
  CHECK_ANSWER(a, FLOWPLUG_PERMISSION_DENIED);
}

/* ---- The pool ---- */

/* `function` holds the one instance until it is cancelled. */
static void full_while(const char *function) {
  background holding;
  uint64_t token = 0;
  flowplug_cancel_new(&token, NULL);
  flowplug_call_options options = within(BOUND_SECONDS * 1000);
  options.cancel = token;
  begin_call(&holding, hostile, function, "", options);
  /* The instance is taken sooner or later; from then on it stays so, and wait_timeout is 200 ms. */
  uint64_t began = now_ns();
  answer a;
  do {
    a = call(hostile, "echo", "1");
  } while (a.status == FLOWPLUG_OK && now_ns() - began < BOUND_SECONDS * 1000 * MS);
  CHECK_ANSWER(a, FLOWPLUG_BUSY);
  CHECK_HAS(a.message, "wait_timeout");
  flowplug_call_options hurry = within(20); /* shorter than wait_timeout: then it is the deadline */
  CHECK_ANSWER(call_with(hostile, "echo", "1", &hurry), FLOWPLUG_TIMEOUT);
  CHECK_TEXT(call(sibling, "echo", "1").json, "1");
  began = now_ns();
  CHECK_INT(flowplug_cancel(token), FLOWPLUG_OK);
  CHECK_ANSWER(join_call(&holding), FLOWPLUG_CANCELLED);
  CHECK((now_ns() - began) / MS < LATE);
  flowplug_cancel_free(token);
  check_whole();
}

static void a_full_pool_is_busy_until_the_call_is_cancelled(void) {
  full_while("spin");
  full_while("sleep");
}

int main(int argc, char **argv) {
  check_begin(argc, argv);
  host = new_host(TRUSTED, NULL);
  hostile = running(host, "wat-hostile", "hostile");
  sibling = running(host, "wat-hostile", "sibling");
  CHECK_TEXT(call(sibling, "mark", "").json, "null");
  check_whole();
  check_done("ready", NULL);
  RUN(a_config_that_violates_the_schema);
  RUN(a_schema_that_is_none);
  RUN_ON(init_can_refuse, "c-fixture");
  RUN_ON(init_can_refuse, "fixture-grpc-go");
  RUN(a_trap_says_where);
  RUN(a_trap_in_c);
  RUN_ON(a_panic_in_go, "fixture-wasm-go");
  RUN_ON(a_panic_in_go, "fixture-grpc-go");
  RUN(other_traps);
  RUN(a_trap_in_free_discards_the_instance_and_keeps_the_answer);
  RUN(endless_loops_and_sleeps_end_at_the_deadline);
  RUN(the_manifests_own_timeout);
  RUN(endless_instantiation_ends_at_the_deadline);
  RUN(an_endless_init_ends_at_the_deadline);
  RUN(a_fresh_instance_takes_its_start_from_the_calls_time);
  RUN(endless_alloc_and_free);
  RUN(grpc_deadlines);
  RUN(memory_past_the_limit);
  RUN(more_memory_than_allowed_from_the_start);
  RUN(answers_that_are_none);
  RUN(odd_envelopes);
  RUN(an_answer_past_its_limit);
  RUN(what_the_policy_does_not_grant);
  RUN(a_full_pool_is_busy_until_the_call_is_cancelled);
  done_with(hostile);
  done_with(sibling);
  close_host(host);
  check_done("the end", NULL);
  return check_end();
}
