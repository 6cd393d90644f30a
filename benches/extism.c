/* S4: an echo through flowplug_plugin_call beside one through libextism's extism_plugin_call, both from C, the same
 * payload, interleaved rounds, medians. Usage: extism FLOWPLUG_ECHO_FOLDER EXTISM_ECHO_WASM */
#define _POSIX_C_SOURCE 200809L
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "flowplug.h"

/* Of libextism's C API, what is used here. */
typedef struct ExtismPlugin ExtismPlugin;
ExtismPlugin *extism_plugin_new(const uint8_t *wasm, uint64_t size, const void **functions, uint64_t count, bool wasi, char **error);
int32_t extism_plugin_call(ExtismPlugin *plugin, const char *function, const uint8_t *data, uint64_t size);
uint64_t extism_plugin_output_length(ExtismPlugin *plugin);
const uint8_t *extism_plugin_output_data(ExtismPlugin *plugin);

enum { ROUNDS = 31, MAX = 1 << 20 };

static flowplug_plugin *plugin;
static ExtismPlugin *extism;
static char payload[MAX + 128];
static size_t payload_len;
static unsigned char copy[MAX + 128];

static void fail(const char *what) {
  fprintf(stderr, "extism: %s\n", what);
  exit(1);
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static void by_flowplug(void) {
  flowplug_bytes out;
  flowplug_str params = {payload, payload_len};
  if (flowplug_plugin_call(plugin, FLOWPLUG_STR("echo"), params, NULL, &out, NULL) != FLOWPLUG_OK || out.len != payload_len)
    fail("flowplug_plugin_call failed");
  flowplug_bytes_free(&out);
}

/* libextism lends its output until the next call; a program that keeps it copies it. */
static void by_extism(void) {
  uint64_t len;
  if (extism_plugin_call(extism, "echo", (const uint8_t *)payload, payload_len) != 0) fail("extism_plugin_call failed");
  len = extism_plugin_output_length(extism);
  if (len != payload_len) fail("libextism answered something else");
  memcpy(copy, extism_plugin_output_data(extism), len);
}

static double timed(void (*run)(void), int count) {
  double start = now();
  for (int i = 0; i < count; i++) run();
  return (now() - start) / count;
}

static int by_value(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static void measure(size_t size, int flowplug_count, int extism_count) {
  static const char object[] = "{\"id\":12345,\"name\":\"flow\",\"tags\":[\"a\",\"b\"],\"ok\":true}";
  double ours[ROUNDS], theirs[ROUNDS];
  payload_len = 0;
  payload[payload_len++] = '[';
  while (payload_len < size) {
    if (payload_len > 1) payload[payload_len++] = ',';
    memcpy(payload + payload_len, object, sizeof object - 1);
    payload_len += sizeof object - 1;
  }
  payload[payload_len++] = ']';
  timed(by_flowplug, flowplug_count);
  timed(by_extism, extism_count);
  for (int i = 0; i < ROUNDS; i++) {
    ours[i] = timed(by_flowplug, flowplug_count);
    theirs[i] = timed(by_extism, extism_count);
  }
  qsort(ours, ROUNDS, sizeof *ours, by_value);
  qsort(theirs, ROUNDS, sizeof *theirs, by_value);
  printf("%8zu B   flowplug %9.0f ns   libextism %9.0f ns   %.1f x faster\n", payload_len, ours[ROUNDS / 2], theirs[ROUNDS / 2],
         theirs[ROUNDS / 2] / ours[ROUNDS / 2]);
}

int main(int argc, char **argv) {
  flowplug_host *host;
  flowplug_manifest *manifest;
  flowplug_error *error = NULL;
  static uint8_t wasm[1 << 16];
  char *message = NULL;
  size_t size;
  FILE *file;
  if (argc != 3) fail("usage: extism FLOWPLUG_ECHO_FOLDER EXTISM_ECHO_WASM");
  if (flowplug_host_new(NULL, &host, &error) != FLOWPLUG_OK ||
      flowplug_manifest_read((flowplug_str){argv[1], strlen(argv[1])}, NULL, &manifest, &error) != FLOWPLUG_OK ||
      flowplug_plugin_load(host, manifest, FLOWPLUG_STR("echo"), NULL, NULL, &plugin, &error) != FLOWPLUG_OK ||
      flowplug_plugin_start(plugin, FLOWPLUG_STR(""), NULL, &error) != FLOWPLUG_OK)
    fail(flowplug_error_message(error).ptr);
  file = fopen(argv[2], "rb");
  if (!file) fail("the module for libextism cannot be read");
  size = fread(wasm, 1, sizeof wasm, file);
  fclose(file);
  extism = extism_plugin_new(wasm, size, NULL, 0, false, &message);
  if (!extism) fail(message);
  measure(100, 20000, 500);
  measure(1 << 10, 10000, 300);
  measure(64 << 10, 200, 20);
  flowplug_plugin_free(plugin);
  flowplug_manifest_free(manifest);
  flowplug_host_close(host, NULL, NULL);
  flowplug_host_free(host);
  return 0;
}
