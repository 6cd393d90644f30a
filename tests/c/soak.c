/*
 * A host that lives long: many calls (some of which trap), then many loads and frees. What it holds of memory, descriptors
 * and threads is sampled all along and must not grow.
 *
 * FLOWPLUG_SOAK_CALLS and FLOWPLUG_SOAK_LOADS say how many; a minute's worth by default. `make soak` asks for all.
 */
#include "plugins.h"

#include <dirent.h>
#include <sched.h>

enum {
  CALLS = 200000,
  LOADS = 500,
  SAMPLES = 60,      /* of each phase; the first quarter warms up */
  ROOM = 2048,       /* KiB by which the resident set may differ between the first and the last third after it */
  TRAP_EVERY = 1000, /* calls */
  OWNED_EVERY = 10
};

#if defined(__SANITIZE_ADDRESS__)
static const int sanitized = 1; /* what is freed stays for a while: only descriptors and threads are compared, of a short run */
#else
static const int sanitized = 0;
#endif

static flowplug_host *host;

static long count_of(const char *variable, long usual) {
  const char *text = getenv(variable);
  long count = text ? atol(text) : sanitized ? usual / 10 : usual;
  return count < SAMPLES ? SAMPLES : count;
}

/* ---- What the process holds ---- */

typedef struct sample {
  long resident_kb, descriptors, threads;
} sample;

static long entries_of(const char *folder) {
  DIR *dir = opendir(folder);
  if (!dir) abort();
  long count = -3; /* `.`, `..` and, of descriptors, the folder's own */
  while (readdir(dir)) count++;
  closedir(dir);
  return count;
}

static sample take_sample(void) {
  long pages = 0, resident = 0;
  FILE *file = fopen("/proc/self/statm", "r");
  if (!file || fscanf(file, "%ld %ld", &pages, &resident) != 2) abort();
  fclose(file);
  return (sample){resident * (sysconf(_SC_PAGESIZE) / 1024), entries_of("/proc/self/fd"), entries_of("/proc/self/task") + 1};
}

static int by_value(const void *a, const void *b) {
  long x = *(const long *)a, y = *(const long *)b;
  return x < y ? -1 : x > y;
}

static long median(const sample *of, int count) {
  long values[SAMPLES];
  for (int i = 0; i < count; i++) values[i] = of[i].resident_kb;
  qsort(values, (size_t)count, sizeof values[0], by_value);
  return values[count / 2];
}

/* What is freed as it runs is stopped in the background: the least of some samples is what is held when that is done. */
static sample least(const sample *of, int count) {
  sample low = of[0];
  for (int i = 1; i < count; i++) {
    if (of[i].descriptors < low.descriptors) low.descriptors = of[i].descriptors;
    if (of[i].threads < low.threads) low.threads = of[i].threads;
  }
  return low;
}

/* What is held in the end, once it is no more than `held`, or when the bound has passed: a leak stays. */
static sample settled(sample held) {
  uint64_t began = now_ns();
  sample now = take_sample();
  while ((now.descriptors > held.descriptors || now.threads > held.threads) && now_ns() - began < BOUND_SECONDS * 1000 * MS) {
    sched_yield();
    now = take_sample();
  }
  return now;
}

/* Does `once` so many times, and compares what the process holds after it has warmed up with what it holds in the end. */
static void flat(const char *what, long count, void (*once)(long)) {
  sample samples[SAMPLES];
  int taken = 0;
  uint64_t began = now_ns();
  for (long i = 0; i < count; i++) {
    once(i);
    if (taken < SAMPLES && i + 1 >= count * (taken + 1) / SAMPLES) samples[taken++] = take_sample();
  }
  double seconds = (double)(now_ns() - began) / 1e9;
  const int warm = SAMPLES / 4, third = (SAMPLES - warm) / 3;
  const sample *first = samples + warm, *last = samples + SAMPLES - third;
  CHECK_INT(taken, SAMPLES);
  long before = median(first, third), after = median(last, third);
  sample held = least(first, third), holds = settled(held);
  printf("%ld %s in %.1f s: resident %ld KiB, then %ld KiB; descriptors %ld, then %ld; threads %ld, then %ld\n", count, what, seconds, before, after, held.descriptors,
         holds.descriptors, held.threads, holds.threads);
  if (!sanitized && after - before > ROOM) check_fail(__FILE__, __LINE__, "%s: the resident set grew by %d KiB", what, (int)(after - before));
  if (holds.descriptors > held.descriptors) check_fail(__FILE__, __LINE__, "%s: descriptors grew", what);
  if (holds.threads > held.threads) check_fail(__FILE__, __LINE__, "%s: threads grew", what);
}

/* ---- Calls ---- */

static flowplug_plugin *plugin;
static flowplug_function *echo;
static const char params[] = "{\"a\":[1,2,3],\"b\":\"some text\",\"c\":{\"d\":null}}";

static void call_once(long i) {
  if (i % TRAP_EVERY == 0) {
    answer a = call(plugin, "unreachable", "");
    CHECK_ANSWER(a, FLOWPLUG_TRAP);
    keep_nothing();
  } else if (i % OWNED_EVERY == 0) {
    answer a = call(plugin, "echo", params);
    CHECK_TEXT(a.json, params);
    keep_nothing();
  } else {
    uint8_t buffer[256];
    flowplug_bytes out = {NULL, 0, NULL};
    CHECK_INT(flowplug_function_call(echo, str(params), NULL, buffer, sizeof buffer, &out, NULL), FLOWPLUG_OK);
    CHECK(out.ptr == buffer && out.len == sizeof params - 1 && memcmp(buffer, params, out.len) == 0);
  }
}

static void many_calls(void) {
  plugin = running(host, "wat-hostile", "soaked");
  CHECK_INT(flowplug_function_new(plugin, str("echo"), &echo, NULL), FLOWPLUG_OK);
  flat("calls", count_of("FLOWPLUG_SOAK_CALLS", CALLS), call_once);
  flowplug_function_free(echo);
  done_with(plugin);
}

/* ---- Loads ---- */

static void load_once(long i) {
  flowplug_plugin *loaded = running(host, "wat-hostile", "loaded");
  CHECK_TEXT(call(loaded, "echo", "[1]").json, "[1]");
  /* Freed as it runs, or stopped before: both must give back everything. */
  if (i % 2)
    flowplug_plugin_free(loaded);
  else
    done_with(loaded);
  keep_nothing();
}

static void many_loads(void) { flat("loads", count_of("FLOWPLUG_SOAK_LOADS", LOADS), load_once); }

int main(int argc, char **argv) {
  check_begin(argc, argv);
  host = new_host(TRUSTED, NULL);
  RUN(many_calls);
  RUN(many_loads);
  close_host(host);
  check_done("the end", NULL);
  return check_end();
}
