/*
 * What can be known before anything runs: the schemas, a config filled from its defaults, what the policy grants. And that a
 * load tells all of it: in its error, in the plugin's info, and as audit events.
 */
#include "plugins.h"

/* Every event of a host, one below the other. */
static char events[65536];
static size_t events_len;
static pthread_mutex_t events_lock = PTHREAD_MUTEX_INITIALIZER;
static int destroyed;

static void on_event(void *data, flowplug_str event) {
  (void)data;
  pthread_mutex_lock(&events_lock);
  if (events_len + event.len + 2 < sizeof events) {
    memcpy(events + events_len, event.ptr, event.len);
    events_len += event.len;
    events[events_len++] = '\n';
    events[events_len] = '\0';
  }
  pthread_mutex_unlock(&events_lock);
}

static void on_destroy(void *data) {
  (void)data;
  destroyed++;
}

static const char base[] = "name: x\nruntime: wasm\nwasm: { module: ./plugin.wasm, permissions: { %s } }\n";

static flowplug_manifest *parsed(const char *yaml) {
  flowplug_manifest_options from = FLOWPLUG_MANIFEST_OPTIONS_INIT;
  from.base_dir = str(format("%s/wat-dispatch", check_plugins));
  flowplug_manifest *manifest = NULL;
  flowplug_error *error = NULL;
  flowplug_status status = flowplug_manifest_parse(str(yaml), &from, &manifest, &error);
  CHECK_ANSWER(answered(status, NULL, &error), FLOWPLUG_OK);
  return manifest;
}

static void the_schemas_are_there(void) {
  const char *manifest = flowplug_manifest_schema(), *policy = flowplug_policy_schema();
  CHECK_HAS(manifest, "\"https://json-schema.org/draft/2020-12/schema\"");
  CHECK_HAS(manifest, "\"max_instances\"");
  CHECK_HAS(policy, "\"https://json-schema.org/draft/2020-12/schema\"");
  CHECK_HAS(policy, "\"http_private\"");
  CHECK(flowplug_manifest_schema() == manifest && flowplug_policy_schema() == policy); /* static */
}

/* ---- A config filled from its schema's defaults ---- */

static answer fill(const char *schema, const char *config, const flowplug_call_options *options) {
  flowplug_manifest *manifest = parsed(format("name: x\nruntime: wasm\nwasm: { module: ./plugin.wasm }\nconfig_schema: %s\n", schema));
  flowplug_bytes out = {NULL, 0, NULL};
  flowplug_error *error = NULL;
  flowplug_status status = flowplug_manifest_fill_config(manifest, str(config), options, &out, &error);
  flowplug_manifest_free(manifest);
  return answered(status, &out, &error);
}

static void a_config_is_filled_and_checked(void) {
  static const char schema[] = "{ type: object, properties: { host: { default: localhost }, port: { type: integer, default: 80 } }, required: [port] }";
  CHECK_TEXT(fill(schema, "", NULL).json, "{\"host\":\"localhost\",\"port\":80}");
  CHECK_TEXT(fill(schema, "{\"port\": 1.0, \"n\": 1.50}", NULL).json, "{\"port\":1.0,\"n\":1.50,\"host\":\"localhost\"}");
  CHECK_TEXT(fill(schema, " {\"host\": 1, \"port\": 2} ", NULL).json, "{\"host\": 1, \"port\": 2}");
  CHECK_TEXT(fill("null", "", NULL).json, "null");
  answer a = fill(schema, "{\"port\":\"http\"}", NULL);
  CHECK_ANSWER(a, FLOWPLUG_INVALID_CONFIG);
  CHECK_HAS(a.details, "\"instance_path\":\"/port\"");
  CHECK_HAS(a.details, "\"schema_path\":\"/properties/port/type\"");
  CHECK_ANSWER(fill(schema, "{", NULL), FLOWPLUG_INVALID_CONFIG);
  a = fill("{ properties: { next: { $ref: '#', default: {} } } }", "{}", NULL);
  CHECK_ANSWER(a, FLOWPLUG_INVALID_CONFIG);
  CHECK_HAS(a.message, "plugin config cannot be filled");
}

/* Nothing but the deadline ends this check. */
static void filling_ends_with_its_deadline(void) {
  static const char twice[] =
      "{ anyOf: [{ properties: { x: { $ref: '#' }, y: false }, required: [z] }, { properties: { x: { $ref: '#' } }, required: [w] }] }";
  char config[1024] = "";
  for (int i = 0; i < 100; i++) strcat(config, "{\"x\":");
  strcat(config, "{}");
  for (int i = 0; i < 100; i++) strcat(config, "}");
  flowplug_call_options options = within(50);
  CHECK_ANSWER(fill(twice, config, &options), FLOWPLUG_TIMEOUT);
}

/* ---- What would be granted ---- */

static answer admit(flowplug_host *host, const char *yaml, const char *identity, const flowplug_plugin_options *with) {
  flowplug_manifest *manifest = parsed(yaml);
  flowplug_bytes out = {NULL, 0, NULL};
  flowplug_error *error = NULL;
  flowplug_status status = flowplug_host_admit(host, manifest, str(identity), with, &out, &error);
  flowplug_manifest_free(manifest);
  return answered(status, &out, &error);
}

static void a_manifest_is_checked_without_loading_it(void) {
  flowplug_host_api api = FLOWPLUG_HOST_API_INIT;
  api.event = on_event;
  events_len = 0;
  flowplug_host *host = new_host("{\"policy\":{\"plugins\":{\"known\":{\"http\":[\"a.org\"],\"memory\":\"128MB\"}}}}", &api);
  const char *yaml = format(base, "http: [{ host: a.org }], memory: { max: 128MB }");
  answer a = admit(host, yaml, "known", NULL);
  CHECK_ANSWER(a, FLOWPLUG_OK);
  CHECK_HAS(a.json, "{\"allowed\":true,\"identity\":\"known\",\"runtime\":\"wasm\",\"requests\":[");
  CHECK_HAS(a.json, "\"http\":[\"a.org\"]");
  CHECK_HAS(a.json, "\"memory\":134217728");
  a = admit(host, yaml, "other", NULL);
  CHECK_ANSWER(a, FLOWPLUG_OK);
  CHECK_HAS(a.json, "{\"allowed\":false,\"identity\":\"other\"");
  CHECK_HAS(a.json, "\"field\":\"wasm.permissions.memory.max\"");
  CHECK_HAS(a.json, "\"asked\":\"128MB\",\"granted\":\"at most 64MB\",\"allowed\":false,\"rule\":\"memory: 64MB\",\"grant\":\"memory: 128MB\"");
  CHECK_HAS(a.json, "\"grant\":\"http: [\\\"a.org\\\"]\"");
  CHECK_HAS(a.json, "\"http\":[]");
  /* Of the options the policy counts; callbacks are neither taken nor destroyed. */
  flowplug_host_api own = FLOWPLUG_HOST_API_INIT;
  own.destroy = on_destroy;
  flowplug_plugin_options with = FLOWPLUG_PLUGIN_OPTIONS_INIT;
  with.api = &own;
  with.policy = FLOWPLUG_STR("trusted");
  CHECK_HAS(admit(host, yaml, "other", &with).json, "{\"allowed\":true");
  with.policy = FLOWPLUG_STR("truste");
  CHECK_ANSWER(admit(host, yaml, "other", &with), FLOWPLUG_INVALID_CONFIG);
  CHECK_ANSWER(admit(host, yaml, "no identity", NULL), FLOWPLUG_INVALID_ARGUMENT);
  CHECK_INT(destroyed, 0);
  CHECK_INT(events_len, 0);
  CHECK_INT(flowplug_host_close(host, NULL, NULL), FLOWPLUG_OK);
  CHECK_ANSWER(admit(host, yaml, "known", NULL), FLOWPLUG_INVALID_STATE);
  flowplug_host_free(host);
}

static void a_load_is_audited(void) {
  flowplug_host_api api = FLOWPLUG_HOST_API_INIT;
  api.event = on_event;
  events_len = 0;
  flowplug_host *host = new_host("{\"policy\":{\"default\":{\"http\":[\"a.org\"]}}}", &api);
  flowplug_plugin *plugin = NULL;
  CHECK_ANSWER(load_with(host, "wat-dispatch", format(base, "http: [{ host: a.org }, { host: b.org }]"), "p", NULL, NULL, NULL, &plugin), FLOWPLUG_PERMISSION_DENIED);
  CHECK(plugin == NULL);
  CHECK_HAS(events, "{\"type\":\"audit\",\"time\":\"2");
  CHECK_HAS(events, "\"plugin\":\"p\",\"audit\":{\"what\":\"http\",\"target\":\"a.org\",\"allowed\":true,\"rule\":\"http: [\\\"a.org\\\"]\"}}");
  CHECK_HAS(events, "\"plugin\":\"p\",\"audit\":{\"what\":\"http\",\"target\":\"b.org\",\"allowed\":false,\"rule\":\"http: [\\\"a.org\\\"]\"}}");
  CHECK(strstr(events, "\"loaded\"") == NULL);
  events_len = 0;
  CHECK_ANSWER(load_with(host, "wat-dispatch", format(base, "http: [{ host: a.org }]"), "p", NULL, NULL, NULL, &plugin), FLOWPLUG_OK);
  CHECK_HAS(events, "\"audit\":{\"what\":\"runtime\",\"target\":\"wasm\",\"allowed\":true,\"rule\":\"runtimes: [wasm]\"}");
  CHECK(strstr(events, "\"allowed\":false") == NULL);
  CHECK_HAS(events, "\"type\":\"loaded\"");
  flowplug_bytes info = {NULL, 0, NULL};
  flowplug_error *error = NULL;
  answer a = answered(flowplug_plugin_info(plugin, &info, &error), &info, &error);
  CHECK_HAS(a.json, "\"requests\":[{\"field\":\"runtime\",\"what\":\"runtime\",\"asked\":\"wasm\",\"granted\":\"wasm\",\"allowed\":true,\"rule\":\"runtimes: [wasm]\"}");
  CHECK_HAS(a.json, "\"asked\":\"64MB (the default)\",\"granted\":\"64MB\"");
  CHECK_HAS(a.json, "\"granted\":{\"http\":[\"a.org\"]");
  flowplug_plugin_free(plugin);
  close_host(host);
}

int main(int argc, char **argv) {
  check_begin(argc, argv);
  RUN(the_schemas_are_there);
  RUN(a_config_is_filled_and_checked);
  RUN(filling_ends_with_its_deadline);
  RUN(a_manifest_is_checked_without_loading_it);
  RUN(a_load_is_audited);
  return check_end();
}
