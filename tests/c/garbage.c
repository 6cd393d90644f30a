/*
 * Every function with NULL, with structs of a wrong size, with text that is none and with numbers made up: always a status,
 * never a crash. Each is also called with error NULL.
 */
#include "plugins.h"

static flowplug_host *host;
static flowplug_manifest *manifest;
static flowplug_plugin *plugin;
static flowplug_function *function;

static const flowplug_str nothing = {NULL, 0};
static const flowplug_str huge = {NULL, SIZE_MAX};
static const flowplug_str long_null = {NULL, 1};
static const flowplug_str not_utf8 = {"a\xff\xfe", 3};

static void expect(int line, const char *what, flowplug_status got, flowplug_status want, flowplug_error *error) {
  if (got != want) check_fail(__FILE__, line, "%s: %s, expected %s", what, flowplug_status_name(got), flowplug_status_name(want));
  if (!error || flowplug_error_status(error) != got || flowplug_error_message(error).len == 0) check_fail(__FILE__, line, "%s: no proper error", what);
  flowplug_error_free(error);
}

/* The function fails like this, and in the same way if nobody wants the error. */
#define FAILS(want, what, ...)                                           \
  do {                                                                   \
    flowplug_error *error_ = NULL;                                       \
    flowplug_status status_ = what(__VA_ARGS__, &error_);                \
    expect(__LINE__, #what "(" #__VA_ARGS__ ")", status_, want, error_); \
    CHECK_INT(what(__VA_ARGS__, NULL), want);                            \
  } while (0)
#define BAD(...) FAILS(FLOWPLUG_INVALID_ARGUMENT, __VA_ARGS__)

static void free_of_null_does_nothing(void) {
  flowplug_bytes empty = {NULL, 0, NULL};
  flowplug_bytes_free(NULL);
  flowplug_bytes_free(&empty);
  flowplug_bytes_free(&empty);
  flowplug_error_free(NULL);
  flowplug_host_free(NULL);
  flowplug_manifest_free(NULL);
  flowplug_plugin_free(NULL);
  flowplug_function_free(NULL);
  flowplug_manager_free(NULL);
  flowplug_cancel_free(0);
}

static void a_null_error_is_empty(void) {
  CHECK_INT(flowplug_error_status(NULL), FLOWPLUG_INVALID_ARGUMENT);
  CHECK_INT(flowplug_error_message(NULL).len, 0);
  CHECK_INT(flowplug_error_plugin(NULL).len, 0);
  CHECK_INT(flowplug_error_function(NULL).len, 0);
  CHECK_INT(flowplug_error_plugin_message(NULL).len, 0);
  CHECK_INT(flowplug_error_details(NULL).len, 0);
  CHECK_INT(flowplug_plugin_state(NULL), -1);
}

static void null_handles(void) {
  flowplug_bytes out = {NULL, 0, NULL};
  flowplug_plugin *made = NULL;
  flowplug_function *resolved = NULL;
  uint8_t room[8];
  flowplug_completion completion = FLOWPLUG_COMPLETION_INIT;
  flowplug_str f = FLOWPLUG_STR("command");
  BAD(flowplug_host_close, NULL, NULL);
  BAD(flowplug_manifest_json, NULL, &out);
  BAD(flowplug_manifest_warnings, NULL, &out);
  BAD(flowplug_manifest_validate_config, NULL, nothing, NULL);
  BAD(flowplug_manifest_fill_config, NULL, nothing, NULL, &out);
  BAD(flowplug_host_metrics, NULL, &out);
  BAD(flowplug_host_admit, NULL, manifest, FLOWPLUG_STR("x"), NULL, &out);
  BAD(flowplug_host_admit, host, NULL, FLOWPLUG_STR("x"), NULL, &out);
  BAD(flowplug_plugin_load, NULL, manifest, FLOWPLUG_STR("x"), NULL, NULL, &made);
  BAD(flowplug_plugin_load, host, NULL, FLOWPLUG_STR("x"), NULL, NULL, &made);
  BAD(flowplug_plugin_info, NULL, &out);
  BAD(flowplug_plugin_start, NULL, nothing, NULL);
  BAD(flowplug_plugin_call, NULL, f, nothing, NULL, &out);
  BAD(flowplug_plugin_call_async, NULL, f, nothing, NULL, &completion);
  BAD(flowplug_plugin_call_async, plugin, f, nothing, NULL, NULL);
  BAD(flowplug_plugin_call_async, plugin, f, nothing, NULL, &completion); /* without done */
  BAD(flowplug_function_new, NULL, f, &resolved);
  BAD(flowplug_function_call, NULL, nothing, NULL, room, sizeof room, &out);
  CHECK_INT(flowplug_function_runtime(NULL), -1);
  BAD(flowplug_plugin_health, NULL, NULL, &out);
  BAD(flowplug_plugin_stop, NULL, NULL);
  CHECK(out.ptr == NULL && out.len == 0 && out.owner == NULL && made == NULL && resolved == NULL);
}

static void null_outputs(void) {
  flowplug_str f = FLOWPLUG_STR("command"), yaml = FLOWPLUG_STR("{}");
  uint8_t room[8];
  BAD(flowplug_host_new, NULL, NULL);
  BAD(flowplug_cancel_new, NULL);
  BAD(flowplug_manifest_parse, yaml, NULL, NULL);
  BAD(flowplug_manifest_read, yaml, NULL, NULL);
  BAD(flowplug_manifest_json, manifest, NULL);
  BAD(flowplug_manifest_warnings, manifest, NULL);
  BAD(flowplug_manifest_fill_config, manifest, nothing, NULL, NULL);
  BAD(flowplug_host_admit, host, manifest, FLOWPLUG_STR("x"), NULL, NULL);
  BAD(flowplug_plugin_load, host, manifest, FLOWPLUG_STR("x"), NULL, NULL, NULL);
  BAD(flowplug_plugin_info, plugin, NULL);
  BAD(flowplug_host_metrics, host, NULL);
  BAD(flowplug_plugin_call, plugin, f, nothing, NULL, NULL);
  BAD(flowplug_function_new, plugin, f, NULL);
  BAD(flowplug_function_call, function, nothing, NULL, room, sizeof room, NULL);
  BAD(flowplug_plugin_health, plugin, NULL, NULL);
}

/* A buffer that is not there cannot have room. */
static void a_null_buffer_with_room(void) {
  flowplug_bytes out = {NULL, 0, NULL};
  flowplug_str params = FLOWPLUG_STR("{\"content\":{\"do\":\"echo\"}}");
  BAD(flowplug_function_call, function, params, NULL, NULL, 100, &out);
  CHECK(out.ptr == NULL);
}

static void no_text(void) {
  static const flowplug_str wrong[] = {{NULL, SIZE_MAX}, {NULL, 1}};
  flowplug_bytes out = {NULL, 0, NULL};
  flowplug_manifest *parsed = NULL;
  flowplug_plugin *made = NULL;
  flowplug_function *resolved = NULL;
  flowplug_str f = FLOWPLUG_STR("command");
  for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
    BAD(flowplug_manifest_parse, wrong[i], NULL, &parsed);
    BAD(flowplug_manifest_read, wrong[i], NULL, &parsed);
    BAD(flowplug_manifest_validate_config, manifest, wrong[i], NULL);
    BAD(flowplug_manifest_fill_config, manifest, wrong[i], NULL, &out);
    BAD(flowplug_host_admit, host, manifest, wrong[i], NULL, &out);
    BAD(flowplug_plugin_load, host, manifest, wrong[i], NULL, NULL, &made);
    BAD(flowplug_plugin_call, plugin, wrong[i], nothing, NULL, &out);
    BAD(flowplug_plugin_call, plugin, f, wrong[i], NULL, &out);
    BAD(flowplug_function_new, plugin, wrong[i], &resolved);
    BAD(flowplug_function_call, function, wrong[i], NULL, NULL, 0, &out);
  }
  CHECK(parsed == NULL && made == NULL && resolved == NULL && out.ptr == NULL);
}

static void bad_utf8(void) {
  flowplug_bytes out = {NULL, 0, NULL};
  flowplug_manifest *parsed = NULL;
  flowplug_plugin *made = NULL, *fresh = NULL;
  flowplug_function *resolved = NULL;
  BAD(flowplug_manifest_read, not_utf8, NULL, &parsed);
  BAD(flowplug_plugin_load, host, manifest, not_utf8, NULL, NULL, &made);
  BAD(flowplug_plugin_call, plugin, not_utf8, nothing, NULL, &out);
  BAD(flowplug_plugin_call, plugin, FLOWPLUG_STR("command"), not_utf8, NULL, &out);
  BAD(flowplug_function_new, plugin, not_utf8, &resolved);
  BAD(flowplug_function_call, function, not_utf8, NULL, NULL, 0, &out);
  BAD(flowplug_manifest_parse, not_utf8, NULL, &parsed);
  BAD(flowplug_manifest_validate_config, manifest, not_utf8, NULL);
  BAD(flowplug_manifest_fill_config, manifest, not_utf8, NULL, &out);
  BAD(flowplug_host_admit, host, manifest, not_utf8, NULL, &out);
  CHECK_ANSWER(load_with(host, "c-fixture", "", "fresh", NULL, NULL, NULL, &fresh), FLOWPLUG_OK);
  BAD(flowplug_plugin_start, fresh, not_utf8, NULL);
  CHECK_INT(flowplug_plugin_state(fresh), FLOWPLUG_STATE_LOADING);
  CHECK(parsed == NULL && made == NULL && resolved == NULL && out.ptr == NULL);
  flowplug_plugin_free(fresh);
}

/* An identity is a path of plain names: it becomes part of keys, and of folders. */
static void bad_identities(void) {
  static const char *const wrong[] = {"", "/a", "a/", "a//b", ".", "..", "a/../b", "a b", "a:b", "a\nb", "caf\xc3\xa9"};
  flowplug_plugin *made = NULL;
  for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) BAD(flowplug_plugin_load, host, manifest, str(wrong[i]), NULL, NULL, &made);
  CHECK(made == NULL);
}

/* Room for a struct of a later version, with what is unknown behind it. */
typedef struct grown {
  flowplug_call_options options;
  uint64_t tail[2];
} grown;

static void wrong_struct_sizes(void) {
  flowplug_bytes out = {NULL, 0, NULL};
  flowplug_str f = FLOWPLUG_STR("command"), params = FLOWPLUG_STR("{\"content\":{\"do\":\"echo\"}}");
  grown g = {FLOWPLUG_CALL_OPTIONS_INIT, {0, 0}};
  g.options.struct_size = 0;
  BAD(flowplug_plugin_call, plugin, f, params, &g.options, &out);
  g.options.struct_size = 1;
  BAD(flowplug_plugin_call, plugin, f, params, &g.options, &out);
  g.options.struct_size = SIZE_MAX;
  BAD(flowplug_plugin_call, plugin, f, params, &g.options, &out);
  g.options.struct_size = sizeof g;
  g.tail[1] = 1;
  BAD(flowplug_plugin_call, plugin, f, params, &g.options, &out);
  BAD(flowplug_host_close, host, &g.options);
  BAD(flowplug_plugin_stop, plugin, &g.options);
  BAD(flowplug_plugin_health, plugin, &g.options, &out);
  BAD(flowplug_plugin_start, plugin, nothing, &g.options);
  CHECK(out.ptr == NULL);
  g.tail[1] = 0;
  flowplug_error *error = NULL;
  CHECK_ANSWER(answered(flowplug_plugin_call(plugin, f, params, &g.options, &out, &error), &out, &error), FLOWPLUG_OK);
}

static void wrong_struct_sizes_of_the_others(void) {
  flowplug_host *h = NULL;
  flowplug_manifest *m = NULL;
  flowplug_plugin *p = NULL;
  flowplug_bytes out = {NULL, 0, NULL};
  flowplug_host_options ho = FLOWPLUG_HOST_OPTIONS_INIT;
  flowplug_manifest_options mo = FLOWPLUG_MANIFEST_OPTIONS_INIT;
  flowplug_plugin_options po = FLOWPLUG_PLUGIN_OPTIONS_INIT;
  flowplug_host_api api = FLOWPLUG_HOST_API_INIT;
  flowplug_completion completion = FLOWPLUG_COMPLETION_INIT;
  static const size_t wrong[] = {0, 3, SIZE_MAX, SIZE_MAX / 2, (size_t)1 << 40};
  for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
    ho.struct_size = mo.struct_size = po.struct_size = api.struct_size = completion.struct_size = wrong[i];
    BAD(flowplug_host_new, &ho, &h);
    BAD(flowplug_manifest_parse, FLOWPLUG_STR("name: x"), &mo, &m);
    BAD(flowplug_plugin_load, host, manifest, FLOWPLUG_STR("x"), &po, NULL, &p);
    BAD(flowplug_host_admit, host, manifest, FLOWPLUG_STR("x"), &po, &out);
    BAD(flowplug_plugin_call_async, plugin, FLOWPLUG_STR("command"), nothing, NULL, &completion);
    flowplug_host_options with_api = FLOWPLUG_HOST_OPTIONS_INIT;
    with_api.api = &api;
    BAD(flowplug_host_new, &with_api, &h);
  }
  CHECK(h == NULL && m == NULL && p == NULL && out.ptr == NULL);
}

static void options_out_of_range(void) {
  flowplug_bytes out = {NULL, 0, NULL};
  flowplug_str f = FLOWPLUG_STR("command"), params = FLOWPLUG_STR("{\"content\":{\"do\":\"echo\"}}");
  flowplug_call_options options = FLOWPLUG_CALL_OPTIONS_INIT;
  options.flags = UINT64_MAX;
  BAD(flowplug_plugin_call, plugin, f, params, &options, &out);
  options = (flowplug_call_options)FLOWPLUG_CALL_OPTIONS_INIT;
  options.traceparent = not_utf8;
  BAD(flowplug_plugin_call, plugin, f, params, &options, &out);
  options.traceparent = huge;
  BAD(flowplug_plugin_call, plugin, f, params, &options, &out);
  options.traceparent = long_null;
  BAD(flowplug_plugin_call, plugin, f, params, &options, &out);
  options.traceparent = str("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331");
  BAD(flowplug_plugin_call, plugin, f, params, &options, &out);
  options = (flowplug_call_options)FLOWPLUG_CALL_OPTIONS_INIT;
  options.cancel = 0x123456789abcdefu;
  FAILS(FLOWPLUG_NOT_FOUND, flowplug_plugin_call, plugin, f, params, &options, &out);
  options.cancel = 0;
  options.parent = 0xfedcba9876543210u;
  FAILS(FLOWPLUG_NOT_FOUND, flowplug_plugin_call, plugin, f, params, &options, &out);
  options = (flowplug_call_options)FLOWPLUG_CALL_OPTIONS_INIT;
  options.timeout_ns = UINT64_MAX - 1; /* 584 years: no bound anybody sees */
  flowplug_error *error = NULL;
  CHECK_ANSWER(answered(flowplug_plugin_call(plugin, f, params, &options, &out, &error), &out, &error), FLOWPLUG_OK);
}

static void made_up_numbers(void) {
  static const uint64_t wrong[] = {0, 1, 31, 32, UINT32_MAX, (uint64_t)1 << 32, UINT64_MAX, 0x8000000000000000u};
  for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
    uint64_t n = wrong[i];
    CHECK_INT(flowplug_cancel(n), FLOWPLUG_NOT_FOUND);
    flowplug_cancel_free(n);
    CHECK_INT(flowplug_request_ok(n, nothing), FLOWPLUG_NOT_FOUND);
    CHECK_INT(flowplug_request_missing(n), FLOWPLUG_NOT_FOUND);
    CHECK_INT(flowplug_request_http(n, 200, NULL, 0, nothing), FLOWPLUG_NOT_FOUND);
    CHECK_INT(flowplug_request_fail(n, FLOWPLUG_IO, nothing), FLOWPLUG_NOT_FOUND);
    CHECK_INT(flowplug_request_default(n), FLOWPLUG_NOT_FOUND);
    FAILS(FLOWPLUG_NOT_FOUND, flowplug_request_http_check, n, FLOWPLUG_STR("http://127.0.0.1/"));
    CHECK_INT(flowplug_request_ok(n, long_null), FLOWPLUG_INVALID_ARGUMENT);
    CHECK_INT(flowplug_request_fail(n, FLOWPLUG_OK, nothing), FLOWPLUG_INVALID_ARGUMENT);
    CHECK_INT(flowplug_request_fail(n, 99, nothing), FLOWPLUG_INVALID_ARGUMENT);
    CHECK_INT(flowplug_request_fail(n, FLOWPLUG_IO, not_utf8), FLOWPLUG_INVALID_ARGUMENT);
    CHECK_INT(flowplug_request_http(n, -5, NULL, 0, nothing), FLOWPLUG_INVALID_ARGUMENT);
    CHECK_INT(flowplug_request_http(n, 200, NULL, 7, nothing), FLOWPLUG_INVALID_ARGUMENT);
  }
}

static void a_freed_cancel_token_is_void(void) {
  uint64_t first = 0, second = 0;
  CHECK_INT(flowplug_cancel_new(&first, NULL), FLOWPLUG_OK);
  CHECK_INT(flowplug_cancel(first), FLOWPLUG_OK);
  CHECK_INT(flowplug_cancel(first), FLOWPLUG_OK);
  flowplug_cancel_free(first);
  CHECK_INT(flowplug_cancel(first), FLOWPLUG_NOT_FOUND);
  CHECK_INT(flowplug_cancel_new(&second, NULL), FLOWPLUG_OK);
  CHECK(second != first && second != 0);
  flowplug_cancel_free(first); /* stale: the new one in its place lives on */
  CHECK_INT(flowplug_cancel(second), FLOWPLUG_OK);
  flowplug_cancel_free(second);
}

static void bad_configs_of_a_host(void) {
  static const char *const wrong[] = {"{",
                                      "[]",
                                      "[\"trusted\"]",
                                      "7",
                                      "\"text\"",
                                      "{\"unknown_key\":1}",
                                      "{\"policy\":\"lenient\"}",
                                      "{\"policy\":7}",
                                      "{\"policy\":{\"default\":[]}}",
                                      "{\"policy\":{\"plugins\":{\"a\":{\"memory\":\"much\"}}}}",
                                      "{\"policy\":{\"plugins\":{\"a\":{\"runtimes\":[\"jvm\"]}}}}",
                                      "{\"policy\":{\"plugins\":{\"a\":{\"timout\":\"1s\"}}}}",
                                      "{\"worker_threads\":-1}",
                                      "{\"signals\":\"maybe\"}",
                                      "{\"callbacks\":\"sometimes\"}"};
  for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
    flowplug_host *h = NULL;
    flowplug_error *error = NULL;
    flowplug_host_options options = FLOWPLUG_HOST_OPTIONS_INIT;
    options.config = str(wrong[i]);
    flowplug_status status = flowplug_host_new(&options, &h, &error);
    if (status != FLOWPLUG_INVALID_CONFIG && status != FLOWPLUG_INVALID_ARGUMENT) check_fail(__FILE__, __LINE__, "%s: %s", wrong[i], flowplug_status_name(status));
    if (status != FLOWPLUG_OK) CHECK(h == NULL);
    answered(status, NULL, &error);
    flowplug_host_free(h);
  }
}

/* Handles come first: also what this version does not support says so only of a handle that is one. */
static void a_null_manager(void) {
  flowplug_bytes out = {NULL, 0, NULL};
  flowplug_manager *made = NULL;
  flowplug_plugin *got = NULL;
  flowplug_status all[] = {
      flowplug_manager_new(NULL, nothing, &made, NULL),
      flowplug_manager_new(host, nothing, NULL, NULL),
      flowplug_manager_start(NULL, NULL, NULL),
      flowplug_manager_load(NULL, huge, nothing, NULL, NULL),
      flowplug_manager_reload(NULL, nothing, NULL, nothing, NULL, NULL),
      flowplug_manager_unload(NULL, nothing, NULL, NULL),
      flowplug_manager_list(NULL, &out, NULL),
      flowplug_manager_get(NULL, nothing, &got, NULL),
      flowplug_manager_call(NULL, nothing, nothing, nothing, NULL, &out, NULL),
      flowplug_manager_health(NULL, nothing, NULL, &out, NULL),
      flowplug_manager_metrics(NULL, &out, NULL),
      flowplug_manager_stop(NULL, NULL, NULL),
      flowplug_plugin_reload(NULL, manifest, nothing, NULL, NULL),
  };
  for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
    if (all[i] != FLOWPLUG_INVALID_ARGUMENT) check_fail(__FILE__, __LINE__, "number %d: %s", (int)i, flowplug_status_name(all[i]));
  CHECK(made == NULL && got == NULL && out.ptr == NULL);
}

static void the_plugin_still_works(void) { CHECK_TEXT(command(plugin, "{\"do\":\"echo\",\"n\":1}").json, "{\"do\":\"echo\",\"n\":1}"); }

int main(int argc, char **argv) {
  check_begin(argc, argv);
  host = new_host(TRUSTED, NULL);
  plugin = running(host, "c-fixture", "garbage");
  CHECK_INT(flowplug_manifest_read(str(format("%s/c-fixture", check_plugins)), NULL, &manifest, NULL), FLOWPLUG_OK);
  CHECK_INT(flowplug_function_new(plugin, FLOWPLUG_STR("command"), &function, NULL), FLOWPLUG_OK);
  RUN(free_of_null_does_nothing);
  RUN(a_null_error_is_empty);
  RUN(null_handles);
  RUN(null_outputs);
  RUN(a_null_buffer_with_room);
  RUN(no_text);
  RUN(bad_utf8);
  RUN(bad_identities);
  RUN(wrong_struct_sizes);
  RUN(wrong_struct_sizes_of_the_others);
  RUN(options_out_of_range);
  RUN(made_up_numbers);
  RUN(a_freed_cancel_token_is_void);
  RUN(bad_configs_of_a_host);
  RUN(a_null_manager);
  RUN(the_plugin_still_works);
  flowplug_function_free(function);
  flowplug_manifest_free(manifest);
  done_with(plugin);
  close_host(host);
  check_done("the end", NULL);
  return check_end();
}
