/*
 * What a C program sees of the ABI before it does anything: versions, names, macros, sizes. Also compiled as C++, and
 * without any plugin.
 */
#include <flowplug.h>
#include <stdio.h>
#include <string.h>

static int passed, failed;

static void report(const char *name, int good) {
  printf("%s %s\n", good ? "ok" : "FAILED", name);
  if (good)
    passed++;
  else
    failed++;
}

static int versions(void) {
  char text[32];
  snprintf(text, sizeof text, "%d.%d.%d", FLOWPLUG_VERSION_MAJOR, FLOWPLUG_VERSION_MINOR, FLOWPLUG_VERSION_PATCH);
  return flowplug_abi_version() == FLOWPLUG_ABI_VERSION && FLOWPLUG_ABI_VERSION == 1 && strcmp(flowplug_version(), text) == 0;
}

/* The numbers are fixed for ever, and so are the names. */
static int status_names(void) {
  static const struct {
    flowplug_status status, number;
    const char *name;
  } table[] = {
      {FLOWPLUG_OK, 0, "ok"},
      {FLOWPLUG_INVALID_ARGUMENT, 1, "invalid_argument"},
      {FLOWPLUG_INVALID_MANIFEST, 2, "invalid_manifest"},
      {FLOWPLUG_INVALID_CONFIG, 3, "invalid_config"},
      {FLOWPLUG_INVALID_STATE, 4, "invalid_state"},
      {FLOWPLUG_NOT_FOUND, 5, "not_found"},
      {FLOWPLUG_UNKNOWN_FUNCTION, 6, "unknown_function"},
      {FLOWPLUG_LOAD_FAILED, 7, "load_failed"},
      {FLOWPLUG_START_FAILED, 8, "start_failed"},
      {FLOWPLUG_PLUGIN_ERROR, 9, "plugin_error"},
      {FLOWPLUG_INVALID_RESPONSE, 10, "invalid_response"},
      {FLOWPLUG_TRAP, 11, "trap"},
      {FLOWPLUG_OUT_OF_MEMORY, 12, "out_of_memory"},
      {FLOWPLUG_TIMEOUT, 13, "timeout"},
      {FLOWPLUG_CANCELLED, 14, "cancelled"},
      {FLOWPLUG_BUSY, 15, "busy"},
      {FLOWPLUG_PERMISSION_DENIED, 16, "permission_denied"},
      {FLOWPLUG_UNAVAILABLE, 17, "unavailable"},
      {FLOWPLUG_HOST_ERROR, 18, "host_error"},
      {FLOWPLUG_IO, 19, "io"},
      {FLOWPLUG_INTERNAL, 20, "internal"},
      {FLOWPLUG_UNSUPPORTED, 21, "unsupported"},
  };
  int good = 1;
  for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) good &= table[i].status == table[i].number && strcmp(flowplug_status_name(table[i].status), table[i].name) == 0;
  return good && sizeof table / sizeof table[0] == 22;
}

/* A number that is no status has a name too: nobody has to check before printing one. */
static int unknown_status_names(void) {
  static const flowplug_status numbers[] = {22, -1, INT32_MAX, INT32_MIN};
  int good = 1;
  for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
    const char *name = flowplug_status_name(numbers[i]);
    good &= name != NULL && name[0] != '\0' && strcmp(name, "ok") != 0;
  }
  return good;
}

static int constants(void) {
  return FLOWPLUG_LOG_DEBUG == 0 && FLOWPLUG_LOG_INFO == 1 && FLOWPLUG_LOG_WARN == 2 && FLOWPLUG_LOG_ERROR == 3 && FLOWPLUG_STATE_LOADING == 0 && FLOWPLUG_STATE_RUNNING == 1 &&
         FLOWPLUG_STATE_STOPPING == 2 && FLOWPLUG_STATE_ERROR == 3 && FLOWPLUG_STATE_STOPPED == 4 && FLOWPLUG_RUNTIME_WASM == 0 && FLOWPLUG_RUNTIME_GRPC == 1 && FLOWPLUG_CALL_TRUST_JSON == 1 && FLOWPLUG_COMPLETION_QUICK == 1 && FLOWPLUG_NO_TIMEOUT == UINT64_MAX;
}

/* Everything behind struct_size starts as zero, NULL or empty. */
static int all_zero_but_size(const void *what, size_t size) {
  const unsigned char *bytes = (const unsigned char *)what;
  size_t said;
  memcpy(&said, bytes, sizeof said);
  int good = said == size;
  for (size_t i = sizeof said; i < size; i++) good &= bytes[i] == 0;
  return good;
}

static int init_macros(void) {
  static const flowplug_call_options call = FLOWPLUG_CALL_OPTIONS_INIT;
  static const flowplug_host_options host = FLOWPLUG_HOST_OPTIONS_INIT;
  static const flowplug_manifest_options manifest = FLOWPLUG_MANIFEST_OPTIONS_INIT;
  static const flowplug_plugin_options plugin = FLOWPLUG_PLUGIN_OPTIONS_INIT;
  static const flowplug_completion completion = FLOWPLUG_COMPLETION_INIT;
  static const flowplug_host_api api = FLOWPLUG_HOST_API_INIT;
  /* Member by member where padding may follow, whose bytes nobody promises. */
  int manifest_good = manifest.struct_size == sizeof manifest && manifest.base_dir.ptr == NULL && manifest.base_dir.len == 0 && manifest.strict == 0;
  return all_zero_but_size(&call, sizeof call) && all_zero_but_size(&host, sizeof host) && manifest_good && all_zero_but_size(&plugin, sizeof plugin) &&
         all_zero_but_size(&completion, sizeof completion) && all_zero_but_size(&api, sizeof api);
}

/* The layout on a 64-bit target: what other languages' bindings write down. */
static int layout(void) {
  if (sizeof(void *) != 8) return 1;
  return sizeof(flowplug_status) == 4 && sizeof(flowplug_str) == 16 && sizeof(flowplug_bytes) == 24 && sizeof(flowplug_pair) == 32 && sizeof(flowplug_call_options) == 64 &&
         sizeof(flowplug_host_options) == 32 && sizeof(flowplug_manifest_options) == 32 && sizeof(flowplug_plugin_options) == 32 && sizeof(flowplug_completion) == 40 &&
         sizeof(flowplug_host_api) == 96 && sizeof(flowplug_caller) == 72 && sizeof(flowplug_http_request) == 72 && sizeof(flowplug_log_record) == 72 &&
         offsetof(flowplug_call_options, traceparent) == 48 && offsetof(flowplug_host_api, request_dropped) == 88;
}

static int text_macros(void) {
  static const flowplug_str fixed = FLOWPLUG_STR_INIT("static");
  flowplug_str literal = FLOWPLUG_STR("literal"), empty = FLOWPLUG_STR("");
  flowplug_bytes bytes = {(uint8_t *)literal.ptr, literal.len, NULL};
  flowplug_str again = FLOWPLUG_BYTES_STR(bytes);
  int good = fixed.len == 6 && memcmp(fixed.ptr, "static", 6) == 0 && literal.len == 7 && memcmp(literal.ptr, "literal", 7) == 0 && empty.len == 0;
  flowplug_bytes_free(&bytes); /* without an owner: left alone */
  return good && again.ptr == literal.ptr && again.len == 7 && literal.ptr[0] == 'l';
}

int main(void) {
  report("versions", versions());
  report("status_names", status_names());
  report("unknown_status_names", unknown_status_names());
  report("constants", constants());
  report("init_macros", init_macros());
  report("layout", layout());
  report("text_macros", text_macros());
  printf("%d passed, %d failed\n", passed, failed);
  return failed ? 1 : 0;
}
