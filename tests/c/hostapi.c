/*
 * What a plugin asks and how the host answers: every host function with success, missing and failure, at once and later;
 * defaults; requests that nobody waits for any more; the end of a registration. On a plugin in C, and on both Go builds.
 */
#include "answering.h"

static app the_app;
static flowplug_host *host;      /* with all callbacks */
static flowplug_host *bare_host; /* with none but event and log */
static flowplug_plugin *plugin, *bare;
static int is_grpc;

static answer ask(flowplug_plugin *p, const char *fn, const char *args) { return command(p, format("{\"do\":\"host\",\"fn\":\"%s\",\"args\":%s}", fn, args)); }

static const char http_args[] = "{\"method\":\"POST\",\"url\":\"http://127.0.0.1:8080/a?b=c\",\"headers\":{\"X-Asked\":\"yes\"},\"body\":\"sent body\"}";
static const char event_args[] = "{\"event_type\":\"thing.happened\",\"source\":\"fixture\",\"data\":{\"n\":7}}";

static const struct host_call {
  const char *fn, *args, *seen, *good;
} host_calls[] = {
    {"get_config", "{\"key\":\"colour\"}", "get_config colour", "{\"value\":\"a \\\"value\\\" \xc3\xa9\"}"},
    {"kv_get", "{\"key\":\"k/1\"}", "kv_get plugin:org/p:k/1", "{\"value\":\"a \\\"value\\\" \xc3\xa9\"}"},
    {"kv_set", "{\"key\":\"k/1\",\"value\":\"new\"}", "kv_set plugin:org/p:k/1 = new", "{\"done\":true}"},
    {"kv_delete", "{\"key\":\"k/1\"}", "kv_delete plugin:org/p:k/1", "{\"done\":true}"},
    {"http_request", http_args, "http POST http://127.0.0.1:8080/a?b=c", "\"status\":201"},
    {"emit_event", event_args, "emit_event ", "{\"done\":true}"},
};
enum { HOST_CALLS = sizeof host_calls / sizeof host_calls[0] };

static void each_host_function_succeeds(int later) {
  for (int i = 0; i < HOST_CALLS; i++) {
    const struct host_call *c = &host_calls[i];
    answer_by(&the_app, SUCCESS, later);
    answer a = ask(plugin, c->fn, c->args);
    CHECK_ANSWER(a, FLOWPLUG_OK);
    CHECK_HAS(a.json, c->good);
    CHECK_HAS(the_app.seen, c->seen);
    CHECK_TEXT(the_app.caller, "org/p");
  }
}

static void success_at_once(void) { each_host_function_succeeds(0); }
static void success_later_from_another_thread(void) { each_host_function_succeeds(1); }

static void failures(int later) {
  for (int i = 0; i < HOST_CALLS; i++) {
    answer_by(&the_app, FAILURE, later);
    answer a = ask(plugin, host_calls[i].fn, host_calls[i].args);
    CHECK_ANSWER(a, FLOWPLUG_OK);
    CHECK_HAS(a.json, "{\"error\":");
    CHECK_HAS(a.json, the_failure);
  }
}

static void failure_at_once(void) { failures(0); }
static void failure_later_from_another_thread(void) { failures(1); }

static void a_missing_key_is_not_an_empty_value(void) {
  for (int later = 0; later < 2; later++) {
    answer_by(&the_app, MISSING, later);
    CHECK_TEXT(ask(plugin, "kv_get", "{\"key\":\"k\"}").json, "{\"missing\":true}");
    answer a = ask(plugin, "get_config", "{\"key\":\"k\"}");
    CHECK_ANSWER(a, FLOWPLUG_OK);
    CHECK(strstr(a.json, "a \\\"value\\\"") == NULL);
    answer_by(&the_app, EMPTY, later);
    CHECK_TEXT(ask(plugin, "kv_get", "{\"key\":\"k\"}").json, "{\"value\":\"\"}");
    CHECK_TEXT(ask(plugin, "get_config", "{\"key\":\"k\"}").json, "{\"value\":\"\"}");
  }
}

static void http_goes_both_ways_whole(void) {
  answer_by(&the_app, SUCCESS, 0);
  answer a = ask(plugin, "http_request", http_args);
  CHECK_HAS(the_app.seen, "X-Asked=yes");
  CHECK_HAS(the_app.seen, "[sent body]");
  CHECK_HAS(a.json, "\"X-One\":\"1\"");
  CHECK_HAS(a.json, "\"body\":\"hello body\"");
}

/* The callback is not even asked. */
static void a_host_that_is_not_on_the_list_is_denied(void) {
  static const char *const urls[] = {
      "http://denied.example.com/", "http://127.0.0.1@denied.example.com/", "http://127.0.0.1.denied.example.com/", "ftp://127.0.0.1/", "file:///etc/passwd", "no url", ""};
  answer_by(&the_app, SUCCESS, 0);
  int before = latch_count(&the_app.asked_count);
  for (size_t i = 0; i < sizeof urls / sizeof urls[0]; i++) {
    answer a = ask(plugin, "http_request", format("{\"method\":\"GET\",\"url\":\"%s\"}", urls[i]));
    CHECK_ANSWER(a, FLOWPLUG_OK);
    CHECK_HAS(a.json, "{\"error\":");
    if (i == 0) CHECK_HAS(a.json, "permissions.http");
  }
  CHECK_INT(latch_count(&the_app.asked_count), before);
}

static void an_event_arrives_whole(void) {
  answer_by(&the_app, SUCCESS, 0);
  ask(plugin, "emit_event", event_args);
  CHECK_HAS(the_app.seen, "\"event_type\":\"thing.happened\"");
  CHECK_HAS(the_app.seen, "\"source\":\"fixture\"");
  CHECK_HAS(the_app.seen, "\"data\":{\"n\":7}");
}

static void log_records_arrive_with_level_and_fields(void) {
  static const char *const lines[] = {"debug line logged", "info line logged", "warn line logged", "error line logged"};
  for (int level = 0; level < 4; level++) {
    latch_reset(&the_app.logs);
    answer a = ask(plugin, "log", format("{\"level\":%d,\"message\":\"%s\",\"fields\":{\"colour\":\"red\\n\"}}", level, lines[level]));
    CHECK_ANSWER(a, FLOWPLUG_OK);
    if (!latch_wait(&the_app.logs, 1)) continue;
    CHECK_HAS(the_app.log, format("org/p %d %s", level, lines[level]));
    CHECK_HAS(the_app.log, "colour=red");
  }
}

static void the_callback_knows_for_whom_it_works(void) {
  flowplug_call_options options = within(60000);
  options.tag = 4711;
  answer_by(&the_app, SUCCESS, 0);
  CHECK_ANSWER(command_with(plugin, "{\"do\":\"host\",\"fn\":\"kv_get\",\"args\":{\"key\":\"k\"}}", &options), FLOWPLUG_OK);
  CHECK_TEXT(the_app.function, "command");
  CHECK_INT(the_app.tag, 4711);
  CHECK(the_app.remaining_ns > 0 && the_app.remaining_ns <= 60000 * MS);
}

static void wrong_kinds_of_answers_change_nothing(void) {
  for (int later = 0; later < 2; later++)
    for (int i = 0; i < HOST_CALLS; i++) {
      answer_by(&the_app, WRONG_KIND_FIRST, later);
      CHECK_HAS(ask(plugin, host_calls[i].fn, host_calls[i].args).json, host_calls[i].good);
    }
}

static void answering_twice_is_an_error_code(void) {
  for (int later = 0; later < 2; later++)
    for (int i = 0; i < HOST_CALLS; i++) {
      latch_reset(&the_app.answered);
      answer_by(&the_app, TWICE, later);
      CHECK_HAS(ask(plugin, host_calls[i].fn, host_calls[i].args).json, host_calls[i].good);
      latch_wait(&the_app.answered, 1);
    }
}

static void nobody_waits_past_the_deadline(void) {
  for (int i = 0; i < HOST_CALLS; i++) {
    latch_reset(&the_app.dropped);
    answer_by(&the_app, NEVER, 0);
    flowplug_call_options options = within(300);
    uint64_t began = now_ns();
    answer a = command_with(plugin, format("{\"do\":\"host\",\"fn\":\"%s\",\"args\":%s}", host_calls[i].fn, host_calls[i].args), &options);
    CHECK_ANSWER(a, FLOWPLUG_TIMEOUT);
    CHECK(now_ns() - began < 10 * 300 * MS);
    if (!latch_wait(&the_app.dropped, 1)) continue;
    CHECK(the_app.dropped_request == the_app.last_request);
    CHECK_INT(flowplug_request_ok(the_app.last_request, str("too late")), FLOWPLUG_NOT_FOUND);
    CHECK_INT(flowplug_request_http_check(the_app.last_request, str("http://127.0.0.1/"), NULL), FLOWPLUG_NOT_FOUND);
  }
  answer_by(&the_app, SUCCESS, 0);
  CHECK_ANSWER(ask(plugin, "kv_get", "{\"key\":\"k\"}"), FLOWPLUG_OK);
}

/* ---- The embedded defaults, with no callbacks or by flowplug_request_default ---- */

static void check_defaults(flowplug_plugin *p) {
  CHECK_TEXT(ask(p, "kv_get", "{\"key\":\"d\"}").json, "{\"missing\":true}");
  CHECK_TEXT(ask(p, "kv_set", "{\"key\":\"d\",\"value\":\"kept\"}").json, "{\"done\":true}");
  CHECK_TEXT(ask(p, "kv_get", "{\"key\":\"d\"}").json, "{\"value\":\"kept\"}");
  CHECK_TEXT(ask(p, "kv_set", "{\"key\":\"d\",\"value\":\"\"}").json, "{\"done\":true}");
  CHECK_TEXT(ask(p, "kv_get", "{\"key\":\"d\"}").json, "{\"value\":\"\"}");
  CHECK_TEXT(ask(p, "kv_delete", "{\"key\":\"d\"}").json, "{\"done\":true}");
  CHECK_TEXT(ask(p, "kv_delete", "{\"key\":\"d\"}").json, "{\"done\":true}");
  CHECK_TEXT(ask(p, "kv_get", "{\"key\":\"d\"}").json, "{\"missing\":true}");
  CHECK_TEXT(ask(p, "get_config", "{\"key\":\"colour\"}").json, "{\"value\":\"blue\"}");
  CHECK_TEXT(ask(p, "get_config", "{\"key\":\"sizes\"}").json, "{\"value\":\"[1,2]\"}");
  /* Allowed, and not public: no preset of the policy grants that. */
  CHECK_HAS(ask(p, "http_request", "{\"method\":\"GET\",\"url\":\"http://127.0.0.1:1/\"}").json, "http_private");
}

static void without_callbacks_the_defaults_serve(void) {
  check_defaults(bare);
  latch_reset(&the_app.events);
  CHECK_TEXT(ask(bare, "emit_event", event_args).json, "{\"done\":true}");
  if (!latch_wait(&the_app.events, 1)) return;
  CHECK_HAS(the_app.event, "\"type\":\"emitted\"");
  CHECK_HAS(the_app.event, "\"plugin\":\"org/p\"");
  CHECK_HAS(the_app.event, "\"n\":7");
}

static void a_callback_can_ask_for_the_default(void) {
  for (int later = 0; later < 2; later++) {
    answer_by(&the_app, DEFAULT, later);
    check_defaults(plugin);
    latch_reset(&the_app.events);
    CHECK_TEXT(ask(plugin, "emit_event", event_args).json, "{\"done\":true}");
    latch_wait(&the_app.events, 1);
  }
}

static void a_key_can_be_refused(void) {
  CHECK_HAS(ask(bare, "kv_set", "{\"key\":\"\",\"value\":\"x\"}").json, "{\"error\":");
  char key[700];
  memset(key, 'k', sizeof key - 1);
  key[sizeof key - 1] = '\0';
  CHECK_HAS(ask(bare, "kv_set", format("{\"key\":\"%s\",\"value\":\"x\"}", key)).json, "{\"error\":");
}

/* ---- A plugin's own callbacks over the host's; the end of registrations ---- */

static void a_plugin_can_have_callbacks_of_its_own(const char *folder) {
  static app own;
  app_begin(&own);
  flowplug_host_api api = FLOWPLUG_HOST_API_INIT;
  api.user_data = &own;
  api.destroy = on_destroy;
  api.kv_get = on_kv_get;
  flowplug_plugin *p = NULL;
  CHECK_ANSWER(load_with(host, folder, "", "org/own", NULL, &api, NULL, &p), FLOWPLUG_OK);
  CHECK_ANSWER(start(p, "", NULL), FLOWPLUG_OK);
  answer_by(&own, SUCCESS, 0);
  answer_by(&the_app, SUCCESS, 0);
  CHECK_HAS(ask(p, "kv_get", "{\"key\":\"mine\"}").json, "value");
  CHECK_TEXT(own.seen, "kv_get plugin:org/own:mine");
  CHECK_TEXT(the_app.seen, "");
  CHECK_TEXT(ask(p, "kv_set", "{\"key\":\"mine\",\"value\":\"v\"}").json, "{\"done\":true}");
  CHECK_TEXT(the_app.seen, "kv_set plugin:org/own:mine = v");
  answer_by(&own, DEFAULT, 0); /* the default of an override is the host's own callback */
  CHECK_HAS(ask(p, "kv_get", "{\"key\":\"mine\"}").json, "value");
  CHECK_TEXT(the_app.seen, "kv_get plugin:org/own:mine");
  CHECK_INT(latch_count(&own.destroyed), 0);
  done_with(p);
  latch_wait(&own.destroyed, 1);
  CHECK_INT(latch_count(&own.destroyed), 1);
  app_end(&own);
}

static void destroy_runs_once_also_where_making_fails(void) {
  static app own;
  app_begin(&own);
  flowplug_host_api api = app_api(&own);
  flowplug_host_options options = FLOWPLUG_HOST_OPTIONS_INIT;
  flowplug_host *h = NULL;
  options.api = &api;
  options.config = str("{\"policy\":\"lenient\"}");
  CHECK(flowplug_host_new(&options, &h, NULL) != FLOWPLUG_OK);
  CHECK_INT(latch_count(&own.destroyed), 1);
  options.config = (flowplug_str){NULL, 0};
  CHECK_INT(flowplug_host_new(&options, NULL, NULL), FLOWPLUG_INVALID_ARGUMENT);
  CHECK_INT(latch_count(&own.destroyed), 2);
  flowplug_plugin *p = NULL;
  CHECK_ANSWER(load_with(host, "wat-no-memory", "", "x", NULL, &api, NULL, &p), FLOWPLUG_LOAD_FAILED);
  latch_wait(&own.destroyed, 3);
  CHECK_ANSWER(load_with(host, "wat-dispatch", "", "not an identity", NULL, &api, NULL, &p), FLOWPLUG_INVALID_ARGUMENT);
  latch_wait(&own.destroyed, 4);
  CHECK_INT(latch_count(&own.destroyed), 4);
  api.struct_size = 5; /* nothing in this struct can be trusted: not even destroy */
  CHECK_INT(flowplug_host_new(&options, &h, NULL), FLOWPLUG_INVALID_ARGUMENT);
  CHECK_INT(latch_count(&own.destroyed), 4);
  api.struct_size = sizeof api;
  options.struct_size = 5;
  CHECK_INT(flowplug_host_new(&options, &h, NULL), FLOWPLUG_INVALID_ARGUMENT);
  CHECK_INT(latch_count(&own.destroyed), 4);
  app_end(&own);
}

static void close_ends_the_registration(void) {
  close_host(host);
  latch_wait(&the_app.destroyed, 1);
  CHECK_INT(latch_count(&the_app.destroyed), 1);
}

/* The same host functions by value and in flowbot's own form, where a failure is a missing value. */
static void other_forms(const char *folder) {
  flowplug_host_api api = app_api(&the_app);
  app_begin(&the_app);
  host = new_host(TRUSTED, &api);
  flowplug_plugin *p = running(host, folder, "org/p");
  static const manner nothing_comes[] = {MISSING, FAILURE};
  for (int later = 0; later < 2; later++) {
    answer_by(&the_app, SUCCESS, later);
    CHECK_TEXT(ask(p, "kv_get", "{\"key\":\"k\"}").json, host_calls[1].good);
    CHECK_TEXT(ask(p, "get_config", "{\"key\":\"k\"}").json, host_calls[0].good);
    CHECK_HAS(ask(p, "http_request", http_args).json, "\"body\":\"hello body\"");
    for (int i = 0; i < 2; i++) {
      answer_by(&the_app, nothing_comes[i], later);
      CHECK_TEXT(ask(p, "kv_get", "{\"key\":\"k\"}").json, "{\"missing\":true}");
      CHECK_TEXT(ask(p, "get_config", "{\"key\":\"k\"}").json, "{\"missing\":true}");
    }
    CHECK_HAS(ask(p, "http_request", http_args).json, the_failure);
    answer_by(&the_app, EMPTY, later);
    CHECK_TEXT(ask(p, "kv_get", "{\"key\":\"k\"}").json, strstr(folder, "value") ? "{\"value\":\"\"}" : "{\"missing\":true}");
  }
  latch_reset(&the_app.logs);
  CHECK_TEXT(ask(p, "log", "{\"level\":2,\"message\":\"line logged\",\"fields\":{}}").json, "{\"done\":true}");
  latch_wait(&the_app.logs, 1);
  CHECK_TEXT(the_app.log, "org/p 2 line logged");
  done_with(p);
  close_host(host);
  app_end(&the_app);
}

/* One host has it at a time, and it is free when flowplug_host_close has returned. */
static void a_store_in_a_file_outlives_its_host(const char *folder) {
  char place[] = "/tmp/flowplug-test-kv-XXXXXX", config[256];
  if (!mkdtemp(place)) abort();
  snprintf(config, sizeof config, "{\"policy\":\"trusted\",\"kv_path\":\"%s/kv\"}", place);
  for (int round = 0; round < 2; round++) {
    flowplug_host *h = new_host(config, NULL), *second = NULL;
    flowplug_host_options options = FLOWPLUG_HOST_OPTIONS_INIT;
    options.config = str(config);
    flowplug_error *error = NULL;
    answer refused = answered(flowplug_host_new(&options, &second, &error), NULL, &error);
    CHECK_ANSWER(refused, FLOWPLUG_IO);
    CHECK_HAS(refused.message, "in use");
    flowplug_plugin *p = running(h, folder, "org/p");
    CHECK_TEXT(ask(p, "kv_get", "{\"key\":\"d\"}").json, round ? "{\"value\":\"kept\"}" : "{\"missing\":true}");
    CHECK_TEXT(ask(p, "kv_set", "{\"key\":\"d\",\"value\":\"kept\"}").json, "{\"done\":true}");
    CHECK_TEXT(ask(p, "kv_set", "{\"key\":\"e\",\"value\":\"x\"}").json, "{\"done\":true}");
    CHECK_TEXT(ask(p, "kv_delete", "{\"key\":\"e\"}").json, "{\"done\":true}");
    done_with(p);
    close_host(h);
  }
  char file[64];
  snprintf(file, sizeof file, "%s/kv", place);
  CHECK_INT(unlink(file), 0);
  CHECK_INT(rmdir(place), 0);
}

static void run_on(const char *folder) {
  flowplug_host_api api = app_api(&the_app), some = FLOWPLUG_HOST_API_INIT;
  some.user_data = &the_app;
  some.event = on_event;
  some.log = on_log;
  is_grpc = strstr(folder, "grpc") != NULL;
  app_begin(&the_app);
  host = new_host(TRUSTED, &api);
  bare_host = new_host(TRUSTED, &some);
  printf("# %s\n", folder);
  CHECK_ANSWER(load_with(host, folder, "", "org/p", NULL, NULL, NULL, &plugin), FLOWPLUG_OK);
  CHECK_ANSWER(start(plugin, "{\"colour\":\"blue\",\"sizes\":[1,2]}", NULL), FLOWPLUG_OK);
  CHECK_ANSWER(load_with(bare_host, folder, "", "org/p", NULL, NULL, NULL, &bare), FLOWPLUG_OK);
  CHECK_ANSWER(start(bare, "{\"colour\":\"blue\",\"sizes\":[1,2]}", NULL), FLOWPLUG_OK);
  RUN(success_at_once);
  RUN(success_later_from_another_thread);
  RUN(failure_at_once);
  RUN(failure_later_from_another_thread);
  RUN(a_missing_key_is_not_an_empty_value);
  RUN(http_goes_both_ways_whole);
  RUN(a_host_that_is_not_on_the_list_is_denied);
  RUN(an_event_arrives_whole);
  RUN(log_records_arrive_with_level_and_fields);
  RUN(the_callback_knows_for_whom_it_works);
  RUN(wrong_kinds_of_answers_change_nothing);
  RUN(answering_twice_is_an_error_code);
  RUN(nobody_waits_past_the_deadline);
  RUN(without_callbacks_the_defaults_serve);
  RUN(a_callback_can_ask_for_the_default);
  RUN(a_key_can_be_refused);
  RUN_ON(a_plugin_can_have_callbacks_of_its_own, folder);
  if (!is_grpc) RUN(destroy_runs_once_also_where_making_fails);
  done_with(plugin);
  done_with(bare);
  RUN(close_ends_the_registration);
  close_host(bare_host);
  latch_wait(&the_app.destroyed, 1);
  app_end(&the_app);
  check_done("freed", folder);
}

int main(int argc, char **argv) {
  check_begin(argc, argv);
  static const char *const folders[] = {"c-fixture", "fixture-wasm-go", "fixture-grpc-go"};
  RUN_ON(other_forms, "c-fixture-value");
  RUN_ON(other_forms, "c-fixture-flowbot");
  RUN_ON(a_store_in_a_file_outlives_its_host, "c-fixture");
  for (int i = 0; i < 3; i++) run_on(folders[i]);
  return check_end();
}
