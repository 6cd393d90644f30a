/*
 * Hosts, plugins and calls for the C tests: each in one line, with every text kept until the test is over.
 */
#ifndef PLUGINS_H
#define PLUGINS_H
#include "check.h"

/* What came of something that can fail. `json` is "" where there is no result; the other texts are "" where it worked. */
typedef struct answer {
  flowplug_status status;
  const char *json, *message, *plugin, *function, *plugin_message, *details;
} answer;

/* Takes over the result and the error. */
static MAYBE_UNUSED answer answered(flowplug_status status, flowplug_bytes *result, flowplug_error **made) {
  flowplug_error *error = *made;
  answer a = {status, "", "", "", "", "", ""};
  if (result) a.json = keep((const char *)result->ptr, result->len);
  if (result) flowplug_bytes_free(result);
  if ((error != NULL) != (status != FLOWPLUG_OK)) check_fail(__FILE__, __LINE__, "status %d with error %p", (int)status, (void *)error);
  if (!error) return a;
  if (flowplug_error_status(error) != status) check_fail(__FILE__, __LINE__, "status %d, the error's own %d", (int)status, (int)flowplug_error_status(error));
  a.message = keep_str(flowplug_error_message(error));
  a.plugin = keep_str(flowplug_error_plugin(error));
  a.function = keep_str(flowplug_error_function(error));
  a.plugin_message = keep_str(flowplug_error_plugin_message(error));
  a.details = keep_str(flowplug_error_details(error));
  if (a.message[0] == '\0' || a.details[0] != '{') check_fail(__FILE__, __LINE__, "an error says what happened, in words and as an object: %s %s", a.message, a.details);
  flowplug_error_free(error);
  return a;
}

static MAYBE_UNUSED void check_answer(const char *file, int line, const char *what, answer got, flowplug_status want) {
  if (got.status != want)
    check_fail(file, line, "%s: %s, expected %s. %.600s | %.300s | %.600s %.300s", what, flowplug_status_name(got.status), flowplug_status_name(want), got.message,
               got.plugin_message, got.details, got.json);
}
#define CHECK_ANSWER(got, want) check_answer(__FILE__, __LINE__, #got, got, want)

static MAYBE_UNUSED flowplug_call_options within(uint64_t ms) {
  flowplug_call_options options = FLOWPLUG_CALL_OPTIONS_INIT;
  options.timeout_ns = ms * MS;
  return options;
}

/* The config of most tests: every plugin gets what its manifest asks. Compiled modules are kept in FLOWPLUG_TEST_CACHE, if
   that is set: a Go plugin takes seconds to compile, and every program here loads it anew. Callbacks run as
   FLOWPLUG_TEST_CALLBACKS says, if that is set. */
static MAYBE_UNUSED const char *trusted_and(const char *more) {
  const char *cache = getenv("FLOWPLUG_TEST_CACHE"), *callbacks = getenv("FLOWPLUG_TEST_CALLBACKS");
  return format("{\"policy\":\"trusted\"%s%s%s%s%s%s%s}", cache ? ",\"cache_dir\":\"" : "", cache ? cache : "", cache ? "\"" : "", callbacks ? ",\"callbacks\":\"" : "",
                callbacks ? callbacks : "", callbacks ? "\"" : "", more);
}

/* A host with this config ("" for the defaults) and these callbacks (NULL for none). Ends the program if it cannot be made:
   nothing else would work. */
static MAYBE_UNUSED flowplug_host *new_host(const char *config, const flowplug_host_api *api) {
  flowplug_host_options options = FLOWPLUG_HOST_OPTIONS_INIT;
  flowplug_host *host = NULL;
  flowplug_error *error = NULL;
  options.config = str(config);
  options.api = api;
  flowplug_status status = flowplug_host_new(&options, &host, &error);
  answer a = answered(status, NULL, &error);
  if (status != FLOWPLUG_OK) {
    printf("no host: %s\n", a.message);
    exit(1);
  }
  return host;
}

#define TRUSTED trusted_and("")

static MAYBE_UNUSED void close_host(flowplug_host *host) {
  flowplug_error *error = NULL;
  flowplug_status status = flowplug_host_close(host, NULL, &error);
  CHECK_ANSWER(answered(status, NULL, &error), FLOWPLUG_OK);
  flowplug_host_free(host);
}

/* Loads with this manifest text against a folder of built plugins ("": the folder's own plugin.yaml); *plugin is NULL if it
   fails. `config` and `policy` may be NULL. */
static MAYBE_UNUSED answer load_with(flowplug_host *host, const char *folder, const char *yaml, const char *identity, const char *policy, const flowplug_host_api *api,
                                     const flowplug_call_options *options, flowplug_plugin **plugin) {
  flowplug_manifest *manifest = NULL;
  flowplug_error *error = NULL;
  char *path = format("%s/%s", check_plugins, folder);
  flowplug_manifest_options from = FLOWPLUG_MANIFEST_OPTIONS_INIT;
  from.base_dir = str(path);
  flowplug_plugin_options with = FLOWPLUG_PLUGIN_OPTIONS_INIT;
  with.policy = str(policy);
  with.api = api;
  *plugin = NULL;
  flowplug_status status = yaml[0] ? flowplug_manifest_parse(str(yaml), &from, &manifest, &error) : flowplug_manifest_read(str(path), NULL, &manifest, &error);
  if (status == FLOWPLUG_OK) status = flowplug_plugin_load(host, manifest, str(identity), &with, options, plugin, &error);
  flowplug_manifest_free(manifest);
  return answered(status, NULL, &error);
}

static MAYBE_UNUSED answer start(flowplug_plugin *plugin, const char *config, const flowplug_call_options *options) {
  flowplug_error *error = NULL;
  flowplug_status status = flowplug_plugin_start(plugin, str(config), options, &error);
  return answered(status, NULL, &error);
}

static MAYBE_UNUSED answer stop(flowplug_plugin *plugin, const flowplug_call_options *options) {
  flowplug_error *error = NULL;
  flowplug_status status = flowplug_plugin_stop(plugin, options, &error);
  return answered(status, NULL, &error);
}

/* Loads a folder of built plugins and starts it without a config; a failed check and NULL if it does not. */
static MAYBE_UNUSED flowplug_plugin *running(flowplug_host *host, const char *folder, const char *identity) {
  flowplug_plugin *plugin = NULL;
  answer a = load_with(host, folder, "", identity, NULL, NULL, NULL, &plugin);
  if (a.status == FLOWPLUG_OK) a = start(plugin, "", NULL);
  CHECK_ANSWER(a, FLOWPLUG_OK);
  if (a.status != FLOWPLUG_OK) {
    flowplug_plugin_free(plugin);
    return NULL;
  }
  return plugin;
}

static MAYBE_UNUSED answer call_with(flowplug_plugin *plugin, const char *function, const char *params, const flowplug_call_options *options) {
  flowplug_bytes result = {NULL, 0, NULL};
  flowplug_error *error = NULL;
  flowplug_status status = flowplug_plugin_call(plugin, str(function), str(params), options, &result, &error);
  return answered(status, &result, &error);
}

static MAYBE_UNUSED answer call(flowplug_plugin *plugin, const char *function, const char *params) { return call_with(plugin, function, params, NULL); }

/* The fixtures' command: `content` is the object that says what to do. */
static MAYBE_UNUSED answer command_with(flowplug_plugin *plugin, const char *content, const flowplug_call_options *options) {
  return call_with(plugin, "command", format("{\"context\":{},\"content\":%s}", content), options);
}

static MAYBE_UNUSED answer command(flowplug_plugin *plugin, const char *content) { return command_with(plugin, content, NULL); }

static MAYBE_UNUSED answer health(flowplug_plugin *plugin) {
  flowplug_bytes result = {NULL, 0, NULL};
  flowplug_error *error = NULL;
  flowplug_status status = flowplug_plugin_health(plugin, NULL, &result, &error);
  return answered(status, &result, &error);
}

/* Stops and frees; NULL is fine. */
static MAYBE_UNUSED void done_with(flowplug_plugin *plugin) {
  if (!plugin) return;
  CHECK_ANSWER(stop(plugin, NULL), FLOWPLUG_OK);
  flowplug_plugin_free(plugin);
}

/* A call made on a thread of its own; join_call waits for it and gives its answer. */
typedef struct background {
  pthread_t thread;
  flowplug_plugin *plugin;
  const char *function, *params;
  flowplug_call_options options;
  answer got;
} background;

static MAYBE_UNUSED void *background_main(void *of) {
  background *b = of;
  b->got = call_with(b->plugin, b->function, b->params, &b->options);
  return NULL;
}

static MAYBE_UNUSED void begin_call(background *b, flowplug_plugin *plugin, const char *function, const char *params, flowplug_call_options options) {
  b->plugin = plugin;
  b->function = function;
  b->params = params;
  b->options = options;
  if (pthread_create(&b->thread, NULL, background_main, b) != 0) abort();
}

static MAYBE_UNUSED answer join_call(background *b) {
  pthread_join(b->thread, NULL);
  return b->got;
}

#endif
