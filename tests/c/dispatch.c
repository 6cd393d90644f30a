/*
 * Every function of the dispatch table, on both runtimes: what reaches the plugin, what comes back, what is refused and as
 * what. wat-dispatch answers what it was given, byte for byte; the Go fixture is one source in both builds.
 */
#include "plugins.h"

static flowplug_host *host;

static const char both[] = "{\"context\": {\"platform\":\"test\"} ,\"content\":[1, 2.50,\"\\u00e9\"]}";

static flowplug_plugin *with_provides(const char *provides) {
  flowplug_plugin *plugin = NULL;
  char *yaml = format("name: dispatch\nruntime: wasm\nwasm: { module: ./plugin.wasm }\n%s", provides);
  CHECK_ANSWER(load_with(host, "wat-dispatch", yaml, "gated", NULL, NULL, NULL, &plugin), FLOWPLUG_OK);
  CHECK_ANSWER(start(plugin, "", NULL), FLOWPLUG_OK);
  return plugin;
}

static void check_echo(flowplug_plugin *plugin, const char *function, const char *params) {
  answer a = call(plugin, function, params);
  CHECK_ANSWER(a, FLOWPLUG_OK);
  CHECK_TEXT(a.json, format("{\"fn\":\"%s\",\"params\":%s}", function, params));
}

/* ---- wasm, by name ---- */

static void wasm_functions_get_their_params_byte_for_byte(void) {
  flowplug_plugin *plugin = running(host, "wat-dispatch", "dispatch");
  static const char *const plain[] = {"command", "form", "webhook_convert", "oauth_callback", "oauth_authorize", "input", "webservice", "extra"};
  for (size_t i = 0; i < sizeof plain / sizeof plain[0]; i++) check_echo(plugin, plain[i], both);
  check_echo(plugin, "ability_call", "{ \"operation\":\"list\", \"params\":{\"a\":[]} }");
  done_with(plugin);
}

static void wasm_functions_without_parameters(void) {
  flowplug_plugin *plugin = running(host, "wat-dispatch", "dispatch");
  static const char *const given[] = {"", "{\"ignored\":true}", "null"};
  for (size_t i = 0; i < sizeof given / sizeof given[0]; i++) {
    CHECK_TEXT(call(plugin, "rules", given[i]).json, "{\"fn\":\"rules\",\"params\":null}");
    CHECK_TEXT(call(plugin, "help", given[i]).json, "{\"fn\":\"help\",\"params\":null}");
    CHECK_TEXT(call(plugin, "bootstrap", given[i]).json, "null");
    CHECK_TEXT(call(plugin, "extra_void", given[i]).json, "{\"fn\":\"extra\",\"params\":null}");
  }
  done_with(plugin);
}

static void wasm_names_that_are_no_functions(void) {
  flowplug_plugin *plugin = running(host, "wat-dispatch", "dispatch");
  static const char *const names[] = {"missing",     "",       "alloc",    "free",     "dealloc", "init",    "is_ready", "memory", "_private",
                                      "_initialize", "_start", "mistyped", "constant", "Command", "command "};
  for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
    answer a = call(plugin, names[i], "{}");
    if (a.status != FLOWPLUG_UNKNOWN_FUNCTION) check_fail(__FILE__, __LINE__, "\"%s\": %s", names[i], flowplug_status_name(a.status));
    CHECK_TEXT(a.plugin, "dispatch");
    flowplug_function *function = NULL;
    CHECK_INT(flowplug_function_new(plugin, str(names[i]), &function, NULL), FLOWPLUG_UNKNOWN_FUNCTION);
    CHECK(function == NULL);
  }
  done_with(plugin);
}

static void an_operation_must_be_declared(void) {
  flowplug_plugin *plugin = running(host, "wat-dispatch", "dispatch");
  CHECK_ANSWER(call(plugin, "ability_call", "{\"operation\":\"list\",\"params\":{}}"), FLOWPLUG_OK);
  CHECK_ANSWER(call(plugin, "ability_call", "{\"params\":{},\"operation\":\"g\\u0065t\"}"), FLOWPLUG_OK);
  answer a = call(plugin, "ability_call", "{\"operation\":\"drop\",\"params\":{}}");
  CHECK_ANSWER(a, FLOWPLUG_NOT_FOUND);
  CHECK_HAS(a.message, "drop");
  CHECK_TEXT(a.function, "ability_call");
  static const char *const odd[] = {"", "{}", "[]", "null", "{\"operation\":7}", "{\"operation\":\"list\"", "{\"operation\":\"drop\",\"operation\":\"list\"}"};
  for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) {
    answer refused = call(plugin, "ability_call", odd[i]);
    if (refused.status != FLOWPLUG_INVALID_ARGUMENT && refused.status != FLOWPLUG_NOT_FOUND) check_fail(__FILE__, __LINE__, "%s: %s", odd[i], flowplug_status_name(refused.status));
  }
  done_with(plugin);
}

/* ---- What the manifest provides gates what can be called ---- */

static const char *const module_functions[] = {"command", "form", "rules", "help", "bootstrap", "input", "webservice"};
static const char *const provider_functions[] = {"webhook_convert", "oauth_callback", "oauth_authorize"};

static void check_all(flowplug_plugin *plugin, const char *const *names, size_t count, flowplug_status want) {
  for (size_t i = 0; i < count; i++) {
    answer a = call(plugin, names[i], "{}");
    if (a.status != want) check_fail(__FILE__, __LINE__, "%s: %s, expected %s", names[i], flowplug_status_name(a.status), flowplug_status_name(want));
  }
}

static void check_gates(const char *provides, flowplug_status module, flowplug_status ability, flowplug_status provider) {
  flowplug_plugin *plugin = with_provides(provides);
  check_all(plugin, module_functions, 7, module);
  check_all(plugin, provider_functions, 3, provider);
  CHECK_ANSWER(call(plugin, "ability_call", "{\"operation\":\"list\"}"), ability);
  CHECK_ANSWER(call(plugin, "extra", "{}"), FLOWPLUG_OK);
  done_with(plugin);
}

static void what_is_not_provided_is_not_found(void) {
  const flowplug_status ok = FLOWPLUG_OK, no = FLOWPLUG_NOT_FOUND;
  check_gates("", ok, ok, ok);
  check_gates("provides: {}\n", ok, ok, ok);
  check_gates("provides: { module: false, abilities: [], provider: null }\n", ok, ok, ok);
  check_gates("provides: { module: true }\n", ok, no, no);
  check_gates("provides: { abilities: [{ capability: things, operations: [list] }] }\n", no, ok, no);
  check_gates("provides: { abilities: [{ capability: things, operations: [get] }] }\n", no, no, no);
  check_gates("provides: { provider: { name: p, oauth: true } }\n", no, no, ok);
}

/* ---- Both builds of the Go fixture: one behaviour ---- */

static void fixture_module_functions(const char *folder) {
  flowplug_plugin *plugin = running(host, folder, "fixture");
  if (!plugin) return;
  answer a = command(plugin, "{\"do\":\"echo\",\"n\":1.50,\"s\":\"\\u00e9<\"}");
  CHECK_ANSWER(a, FLOWPLUG_OK);
  CHECK_HAS(a.json, "1.50");
  a = call(plugin, "form", "{\"context\":{\"Platform\":\"slack\"},\"values\":{\"colour\":\"green\"}}");
  CHECK_ANSWER(a, FLOWPLUG_OK);
  CHECK_HAS(a.json, "\"colour\":\"green\"");
  a = call(plugin, "rules", "");
  CHECK_ANSWER(a, FLOWPLUG_OK);
  CHECK_HAS(a.json, "fixture [do]");
  a = call(plugin, "help", "{\"ignored\":1}");
  CHECK_ANSWER(a, FLOWPLUG_OK);
  CHECK_TEXT(a.json, "{\"fixture\":[\"echo\",\"error\"]}");
  CHECK_TEXT(call(plugin, "bootstrap", "").json, "null");
  done_with(plugin);
}

static void fixture_abilities_and_provider(const char *folder) {
  flowplug_plugin *plugin = running(host, folder, "fixture");
  if (!plugin) return;
  answer a = call(plugin, "ability_call", "{\"operation\":\"echo\",\"params\":{\"a\":[1,2]}}");
  CHECK_ANSWER(a, FLOWPLUG_OK);
  CHECK_HAS(a.json, "\"data\":{\"a\":[1,2]}");
  CHECK_ANSWER(call(plugin, "ability_call", "{\"operation\":\"other\",\"params\":{}}"), FLOWPLUG_NOT_FOUND);
  a = call(plugin, "webhook_convert", "{\"payload\":\"aGVsbG8=\"}");
  CHECK_ANSWER(a, FLOWPLUG_OK);
  CHECK_HAS(a.json, "\"payload\":\"hello\"");
  CHECK_ANSWER(call(plugin, "webhook_convert", "{\"payload\":\"\"}"), FLOWPLUG_PLUGIN_ERROR);
  a = call(plugin, "oauth_callback", "{\"state\":\"s1\",\"code\":\"c1\"}");
  CHECK_ANSWER(a, FLOWPLUG_OK);
  CHECK_HAS(a.json, "\"access_token\":\"token-for-c1\"");
  CHECK_HAS(a.json, "\"state\":\"s1\"");
  a = call(plugin, "oauth_callback", "{\"state\":\"s1\"}");
  CHECK_ANSWER(a, FLOWPLUG_PLUGIN_ERROR);
  CHECK_TEXT(a.plugin_message, "no code came back");
  a = call(plugin, "oauth_authorize", "{\"state\":\"s2\"}");
  CHECK_ANSWER(a, FLOWPLUG_OK);
  CHECK_HAS(a.json, "authorize?state=s2");
  done_with(plugin);
}

static void fixture_errors_are_the_plugins_own(const char *folder) {
  flowplug_plugin *plugin = running(host, folder, "org/fixture");
  if (!plugin) return;
  answer a = command(plugin, "{\"do\":\"error\",\"text\":\"no: \\u00e9\\u001b[31m\\u202e\"}");
  CHECK_ANSWER(a, FLOWPLUG_PLUGIN_ERROR);
  CHECK_TEXT(a.plugin_message, "no: \xc3\xa9\xef\xbf\xbd[31m\xef\xbf\xbd");
  CHECK_TEXT(a.plugin, "org/fixture");
  CHECK_TEXT(a.function, "command");
  CHECK(strchr(a.message, '\x1b') == NULL);
  CHECK_ANSWER(command(plugin, "{\"do\":\"echo\"}"), FLOWPLUG_OK);
  done_with(plugin);
}

static void fixture_names_that_are_no_functions(const char *folder) {
  flowplug_plugin *plugin = running(host, folder, "fixture");
  if (!plugin) return;
  static const char *const names[] = {"missing", "", "alloc", "free", "init", "is_ready", "_initialize", "Command", "IsReady", "Shutdown"};
  for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
    answer a = call(plugin, names[i], "{}");
    if (a.status != FLOWPLUG_UNKNOWN_FUNCTION) check_fail(__FILE__, __LINE__, "\"%s\": %s", names[i], flowplug_status_name(a.status));
  }
  done_with(plugin);
}

static void grpc_has_no_input_and_no_webservice(void) {
  flowplug_plugin *plugin = running(host, "fixture-grpc-go", "fixture");
  if (!plugin) return;
  CHECK_ANSWER(call(plugin, "input", "{}"), FLOWPLUG_UNKNOWN_FUNCTION);
  CHECK_ANSWER(call(plugin, "webservice", "{}"), FLOWPLUG_UNKNOWN_FUNCTION);
  done_with(plugin);
}

static void grpc_params_that_cannot_be_taken_apart(void) {
  flowplug_plugin *plugin = running(host, "fixture-grpc-go", "fixture");
  if (!plugin) return;
  static const char *const odd[] = {"{", "[]", "7", "{\"content\":{}} x", "\"text\""};
  for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) {
    answer a = call(plugin, "command", odd[i]);
    if (a.status != FLOWPLUG_INVALID_ARGUMENT) check_fail(__FILE__, __LINE__, "%s: %s", odd[i], flowplug_status_name(a.status));
  }
  CHECK_ANSWER(call(plugin, "webhook_convert", "{\"payload\":\"not base64!\"}"), FLOWPLUG_INVALID_ARGUMENT);
  /* A JSON string goes as it is: this content is the object that the text holds. */
  answer a = call(plugin, "command", "{\"content\":\"{\\\"do\\\":\\\"echo\\\",\\\"n\\\":1}\"}");
  CHECK_ANSWER(a, FLOWPLUG_OK);
  CHECK_HAS(a.json, "\"do\":\"echo\"");
  /* Values that are no strings reach the form as their JSON text. */
  a = call(plugin, "form", "{\"values\":{\"n\":7,\"o\":{\"a\":1}}}");
  CHECK_ANSWER(a, FLOWPLUG_OK);
  CHECK_HAS(a.json, "\"n\":\"7\"");
  done_with(plugin);
}

/* ---- Information and health ---- */

static void info_and_health(const char *folder) {
  flowplug_plugin *plugin = running(host, folder, "fixture");
  if (!plugin) return;
  flowplug_bytes out = {NULL, 0, NULL};
  flowplug_error *error = NULL;
  answer a = answered(flowplug_plugin_info(plugin, &out, &error), &out, &error);
  CHECK_ANSWER(a, FLOWPLUG_OK);
  CHECK_HAS(a.json, "\"name\":\"fixture\"");
  CHECK_HAS(a.json, "\"identity\":\"fixture\"");
  CHECK_HAS(a.json, "\"version\":\"0.1.0\"");
  CHECK_HAS(a.json, strstr(folder, "grpc") ? "\"runtime\":\"grpc\"" : "\"runtime\":\"wasm\"");
  CHECK_HAS(a.json, "\"operations\":[\"echo\"]");
  a = health(plugin);
  CHECK_HAS(a.json, "\"ready\":true");
  CHECK_HAS(a.json, "\"state\":\"running\"");
  CHECK_HAS(a.json, "\"last_error\":\"\"");
  CHECK_HAS(a.json, "\"restarts\":0");
  if (!strstr(folder, "grpc")) {
    CHECK_HAS(a.json, "\"pool\":{\"max\":");
    CHECK_HAS(a.json, "\"idle\":1,\"in_use\":0,\"waiting\":0,\"made\":1,\"discarded\":{\"broken\":0,");
  }
  CHECK_ANSWER(stop(plugin, NULL), FLOWPLUG_OK);
  a = health(plugin);
  CHECK_ANSWER(a, FLOWPLUG_OK);
  CHECK_HAS(a.json, "\"ready\":false");
  flowplug_plugin_free(plugin);
}

int main(int argc, char **argv) {
  check_begin(argc, argv);
  host = new_host(TRUSTED, NULL);
  RUN(wasm_functions_get_their_params_byte_for_byte);
  RUN(wasm_functions_without_parameters);
  RUN(wasm_names_that_are_no_functions);
  RUN(an_operation_must_be_declared);
  RUN(what_is_not_provided_is_not_found);
  static const char *const folders[] = {"fixture-wasm-go", "fixture-grpc-go"};
  for (int i = 0; i < 2; i++) {
    RUN_ON(fixture_module_functions, folders[i]);
    RUN_ON(fixture_abilities_and_provider, folders[i]);
    RUN_ON(fixture_errors_are_the_plugins_own, folders[i]);
    RUN_ON(fixture_names_that_are_no_functions, folders[i]);
    RUN_ON(info_and_health, folders[i]);
  }
  RUN(grpc_has_no_input_and_no_webservice);
  RUN(grpc_params_that_cannot_be_taken_apart);
  close_host(host);
  return check_end();
}
