/*
 * Calls of the fixtures in C and in Go that are known to be inside the plugin, so that what then ends them is known to end
 * a call that has begun. The host needs on_kv_get and on_kv_set.
 */
#ifndef INSIDE_H
#define INSIDE_H
#include "plugins.h"

/* The fixture in C tells when it has begun; the one in Go counts its commands. */
static const char nap_long[] = "{\"content\":{\"do\":\"sleep\",\"ms\":600000,\"tell\":\"inside\"}}";
static const char spin[] = "{\"content\":{\"do\":\"spin\",\"tell\":\"inside\"}}";
static const char get[] = "{\"content\":{\"do\":\"host\",\"fn\":\"kv_get\",\"args\":{\"key\":\"k\"}}}";

static latch told = LATCH_INIT, held = LATCH_INIT;
static flowplug_request held_request;

static void on_kv_set(void *data, flowplug_request request, const flowplug_caller *caller, flowplug_str key, flowplug_str value) {
  (void)data, (void)caller, (void)key, (void)value;
  CHECK_INT(flowplug_request_ok(request, (flowplug_str){NULL, 0}), FLOWPLUG_OK);
  latch_add(&told);
}

/* Whoever makes a call of `get` answers it. */
static void on_kv_get(void *data, flowplug_request request, const flowplug_caller *caller, flowplug_str key) {
  (void)data, (void)caller, (void)key;
  held_request = request;
  latch_add(&held);
}

static void begin_held(background *b, flowplug_plugin *plugin) {
  latch_reset(&held);
  begin_call(b, plugin, "command", get, within(BOUND_SECONDS * 1000));
  latch_wait(&held, 1);
}

/* How many commands have reached a gRPC fixture, this one included. */
static int commands_of(flowplug_plugin *plugin) {
  answer a = command(plugin, "{\"do\":\"calls\"}");
  const char *digits = strpbrk(a.json, "0123456789");
  CHECK(digits != NULL);
  return digits ? atoi(digits) : 0;
}

/* Begins `count` calls and returns when the plugin has begun every one. */
static MAYBE_UNUSED void calls_inside(flowplug_plugin *plugin, const char *folder, background *calls, const char *const *params, int count, uint64_t cancel) {
  int grpc = strstr(folder, "grpc") != NULL, before = grpc ? commands_of(plugin) : 0;
  flowplug_call_options options = within(BOUND_SECONDS * 1000);
  options.cancel = cancel;
  latch_reset(&told);
  for (int i = 0; i < count; i++) begin_call(&calls[i], plugin, "command", params[i], options);
  if (!grpc) {
    latch_wait(&told, count);
    return;
  }
  uint64_t began = now_ns();
  for (int asked = 1; commands_of(plugin) < before + asked + count; asked++) {
    if (now_ns() - began < BOUND_SECONDS * 1000 * MS) continue;
    check_fail(__FILE__, __LINE__, "the calls do not reach the plugin");
    return;
  }
}

#endif
