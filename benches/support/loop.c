/* A C loop of calls to a resolved function, for the benchmarks of other languages: the time of one, in nanoseconds. */
#define _POSIX_C_SOURCE 200809L
#include <time.h>

#include "flowplug.h"

typedef flowplug_status call_fn(flowplug_function *, flowplug_str, const flowplug_call_options *, uint8_t *, size_t, flowplug_bytes *,
                                flowplug_error **);

double time_calls(call_fn *call, flowplug_function *function, const char *params, size_t len, int count) {
  static uint8_t buffer[1 << 20];
  flowplug_bytes out;
  struct timespec start, end;
  clock_gettime(CLOCK_MONOTONIC, &start);
  for (int i = 0; i < count; i++) {
    if (call(function, (flowplug_str){params, len}, NULL, buffer, sizeof buffer, &out, NULL) != FLOWPLUG_OK) return -1;
  }
  clock_gettime(CLOCK_MONOTONIC, &end);
  return ((double)(end.tv_sec - start.tv_sec) * 1e9 + (double)(end.tv_nsec - start.tv_nsec)) / count;
}
