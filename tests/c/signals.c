/*
 * What a host may do with its signals and stacks: SIGPIPE as the system has it, handlers of its own for faults, a storm of
 * timer signals, threads with little stack, and calls nested deeper than the library lets them.
 */
#include "plugins.h"

#include <setjmp.h>
#include <signal.h>
#include <sys/time.h>

static const char get[] = "{\"content\":{\"do\":\"host\",\"fn\":\"kv_get\",\"args\":{\"key\":\"k\"}}}";
static const char echo[] = "{\"content\":{\"do\":\"echo\",\"n\":1}}";

/* What the kv_get callback does before it answers. */
typedef void hook(flowplug_request);
static hook *on_ask;
static flowplug_host *host;
static flowplug_plugin *plugin, *second;

static void on_kv_get(void *data, flowplug_request request, const flowplug_caller *caller, flowplug_str key) {
  (void)data, (void)caller, (void)key;
  if (on_ask) on_ask(request);
  CHECK_INT(flowplug_request_ok(request, str("value")), FLOWPLUG_OK);
}

static flowplug_host *host_with(const char *config, hook *what) {
  flowplug_host_api api = FLOWPLUG_HOST_API_INIT;
  api.kv_get = on_kv_get;
  on_ask = what;
  return new_host(config, &api);
}

static flowplug_plugin *pool_of(const char *folder, const char *identity, int instances) {
  flowplug_plugin *p = NULL;
  const char *yaml = strstr(folder, "grpc") ? "" : format("name: x\nruntime: wasm\nwasm: { module: ./plugin.wasm, pool: { max_instances: %d } }\n", instances);
  CHECK_ANSWER(load_with(host, folder, yaml, identity, NULL, NULL, NULL, &p), FLOWPLUG_OK);
  CHECK_ANSWER(start(p, "", NULL), FLOWPLUG_OK);
  return p;
}

/* ---- Faults ---- */

static sigjmp_buf escape;
static volatile sig_atomic_t faults;

static void on_fault(int number, siginfo_t *info, void *context) {
  (void)number, (void)info, (void)context;
  faults++;
  siglongjmp(escape, 1);
}

static void handle_faults(struct sigaction *before) {
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_sigaction = on_fault;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigemptyset(&action.sa_mask);
  CHECK_INT(sigaction(SIGSEGV, &action, before), 0);
}

/* As a program in Go recovers from one: the host's own handler gets the host's own fault. */
static void own_fault_is_handled(void) {
  int before = faults;
  if (sigsetjmp(escape, 1) == 0) {
    raise(SIGSEGV); /* of the kind that a handler may return from */
    CHECK(0);
  }
  if (sigsetjmp(escape, 1) == 0) {
    int *volatile nowhere = NULL;
#if defined(__SANITIZE_ADDRESS__)
    raise(SIGSEGV); /* the sanitizer would report the load itself */
    (void)nowhere;
#else
    *nowhere = 1;
#endif
    CHECK(0);
  }
  CHECK_INT(faults, before + 2);
}

static void fault_inside(flowplug_request request) {
  (void)request;
  own_fault_is_handled();
}

static void guests_fault_too(flowplug_plugin *hostile) {
  int before = faults;
  static const char *const functions[] = {"wild_load", "divide", "recurse", "unreachable"};
  for (size_t i = 0; i < sizeof functions / sizeof functions[0]; i++) {
    CHECK_ANSWER(call(hostile, functions[i], ""), FLOWPLUG_TRAP);
    CHECK_TEXT(call(hostile, "echo", "1").json, "1");
  }
  CHECK_INT(faults, before); /* a guest's fault is none of the host's */
}

static void *faults_on(void *of) {
  guests_fault_too(of);
  own_fault_is_handled(); /* also on a thread that ran wasm */
  return NULL;
}

static void faults_are_told_apart(const char *config) {
  host = host_with(config, fault_inside);
  plugin = pool_of("c-fixture", "p", 2);
  second = running(host, "wat-hostile", "hostile");
  faults_on(second);
  CHECK_TEXT(call(plugin, "command", get).json, "{\"value\":\"value\"}"); /* in a callback, with the guest's frames below */
  guests_fault_too(second);
  pthread_t thread;
  if (pthread_create(&thread, NULL, faults_on, second) != 0) abort();
  pthread_join(thread, NULL);
  done_with(plugin);
  done_with(second);
  close_host(host);
}

static void without_signals_no_handler_is_touched(void) {
  static const int numbers[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGPIPE, SIGURG, SIGCHLD, SIGTRAP};
  enum { NUMBERS = sizeof numbers / sizeof numbers[0] };
  struct sigaction own, before[NUMBERS], after;
  handle_faults(&own);
  for (int i = 0; i < NUMBERS; i++) sigaction(numbers[i], NULL, &before[i]);
  faults_are_told_apart("{\"policy\":\"trusted\",\"signals\":\"off\"}");
  for (int i = 0; i < NUMBERS; i++) {
    sigaction(numbers[i], NULL, &after);
    if (after.sa_sigaction != before[i].sa_sigaction) check_fail(__FILE__, __LINE__, "the handler of signal %d was changed", numbers[i]);
  }
  sigaction(SIGSEGV, &own, NULL);
}

static void handlers_that_were_there_are_handed_what_is_theirs(void) {
  struct sigaction own;
  handle_faults(&own); /* before the first engine with signals: its handlers pass on to this one */
  faults_are_told_apart("{\"policy\":\"trusted\"}");
}

/* ---- SIGPIPE ---- */

static void a_dead_plugin_raises_no_sigpipe(void) {
  struct sigaction usual, before;
  memset(&usual, 0, sizeof usual);
  usual.sa_handler = SIG_DFL;
  sigaction(SIGPIPE, &usual, &before);
  host = host_with(TRUSTED, NULL);
  plugin = pool_of("fixture-grpc-go", "p", 1);
  for (int i = 0; i < 3; i++) {
    answer a = command(plugin, "{\"do\":\"pid\"}");
    const char *digits = strpbrk(a.json, "0123456789");
    pid_t pid = digits ? (pid_t)atoi(digits) : 0;
    if (a.status == FLOWPLUG_OK && pid > 1) CHECK_INT(kill(pid, SIGKILL), 0);
    /* The library may not know yet that it is writing to nobody; it has started it again, or not. */
    for (int n = 0; n < 100; n++) {
      a = call(plugin, "command", echo);
      CHECK(a.status == FLOWPLUG_OK || a.status == FLOWPLUG_UNAVAILABLE);
    }
  }
  flowplug_plugin_free(plugin);
  close_host(host);
  sigaction(SIGPIPE, &before, NULL);
}

/* ---- A storm of signals, as a profiler makes them ---- */

static volatile sig_atomic_t alarms;
static void on_alarm(int number) {
  (void)number;
  alarms++;
}

static void calls_go_on_in_a_storm_of_signals(void) {
  struct sigaction action, before;
  memset(&action, 0, sizeof action);
  action.sa_handler = on_alarm;
  action.sa_flags = SA_RESTART | SA_ONSTACK;
  sigaction(SIGALRM, &action, &before);
  host = host_with(TRUSTED, NULL);
  plugin = pool_of("c-fixture", "p", 2);
  second = pool_of("fixture-grpc-go", "q", 1);
  struct itimerval storm = {{0, 200}, {0, 200}}, calm = {{0, 0}, {0, 0}};
  setitimer(ITIMER_REAL, &storm, NULL);
  uint64_t began = now_ns();
  for (int i = 0; i < 100 || (alarms < 500 && now_ns() - began < BOUND_SECONDS * 1000 * MS); i++) {
    CHECK_TEXT(call(plugin, "command", get).json, "{\"value\":\"value\"}");
    CHECK_ANSWER(call(second, "command", echo), FLOWPLUG_OK);
    keep_nothing();
  }
  flowplug_call_options brief = within(50);
  CHECK_ANSWER(command_with(plugin, "{\"do\":\"spin\"}", &brief), FLOWPLUG_TIMEOUT);
  setitimer(ITIMER_REAL, &calm, NULL);
  CHECK(alarms >= 500);
  done_with(plugin);
  done_with(second);
  close_host(host);
  sigaction(SIGALRM, &before, NULL);
}

/* ---- Stacks ---- */

static void on_small_stack(void *(*body)(void *), void *of) {
  pthread_attr_t attributes;
  pthread_t thread;
  pthread_attr_init(&attributes);
  CHECK_INT(pthread_attr_setstacksize(&attributes, 128 * 1024), 0);
  if (pthread_create(&thread, &attributes, body, of) != 0) abort();
  pthread_join(thread, NULL);
  pthread_attr_destroy(&attributes);
}

static void *a_whole_life(void *of) {
  const char *folder = of;
  flowplug_plugin *p = pool_of(folder, "small", 2);
  CHECK_TEXT(call(p, "command", get).json, "{\"value\":\"value\"}");
  flowplug_function *f = NULL;
  CHECK_INT(flowplug_function_new(p, str("command"), &f, NULL), FLOWPLUG_OK);
  uint8_t buffer[256];
  flowplug_bytes out = {NULL, 0, NULL};
  for (int i = 0; i < 10; i++) {
    CHECK_INT(flowplug_function_call(f, str(echo), NULL, buffer, sizeof buffer, &out, NULL), FLOWPLUG_OK);
    CHECK(out.ptr == buffer);
  }
  flowplug_function_free(f);
  CHECK_ANSWER(health(p), FLOWPLUG_OK);
  done_with(p);
  return NULL;
}

static void *deep_recursion(void *of) {
  CHECK_ANSWER(call(of, "recurse", ""), FLOWPLUG_TRAP);
  CHECK_TEXT(call(of, "echo", "1").json, "1");
  return NULL;
}

static void threads_with_little_stack(const char *folder) {
  host = host_with(TRUSTED, NULL);
  on_small_stack(a_whole_life, (void *)(uintptr_t)folder);
  second = running(host, "wat-hostile", "hostile");
  on_small_stack(deep_recursion, second);
  done_with(second);
  close_host(host);
}

/* ---- Nesting: a plugin whose callback calls another whose callback calls the first, and so on ---- */

enum { LEVELS = 16, DEEP = 8 };
static int level, deepest, refused;
static flowplug_status at_depth[LEVELS + 1];

static void call_the_other(flowplug_request request) {
  (void)request;
  int mine = ++level;
  if (mine > deepest) deepest = mine;
  if (mine < LEVELS) {
    answer a = call(mine % 2 ? second : plugin, "command", get);
    at_depth[mine] = a.status;
    if (a.status == FLOWPLUG_BUSY) refused++;
  }
  level--;
}

/* The same, each level on a thread of its own that knows its parent. */
typedef struct climb {
  flowplug_request parent;
  int level;
} climb;

static void *climb_on(void *of) {
  climb *c = of;
  flowplug_call_options options = FLOWPLUG_CALL_OPTIONS_INIT;
  options.parent = c->parent;
  answer a = call_with(c->level % 2 ? second : plugin, "command", get, &options);
  at_depth[c->level] = a.status;
  if (a.status == FLOWPLUG_BUSY) refused++;
  return NULL;
}

static void call_the_other_elsewhere(flowplug_request request) {
  climb c = {request, ++level};
  if (level > deepest) deepest = level;
  if (c.level < LEVELS) on_small_stack(climb_on, &c);
  level--;
}

static void *climbs(void *of) {
  level = deepest = refused = 0;
  *(answer *)of = call(plugin, "command", get);
  return NULL;
}

static void sixteen_levels(hook *what, int small) {
  answer a;
  host = host_with(TRUSTED, what);
  plugin = pool_of("c-fixture", "p", LEVELS);
  second = pool_of("c-fixture", "q", LEVELS);
  for (int i = 0; i < 3; i++) {
    if (small)
      on_small_stack(climbs, &a);
    else
      climbs(&a);
    CHECK_TEXT(a.json, "{\"value\":\"value\"}");
    CHECK_INT(deepest, DEEP);
    CHECK_INT(refused, 1);
    for (int depth = 1; depth < DEEP; depth++) CHECK_INT(at_depth[depth], FLOWPLUG_OK);
    CHECK_INT(at_depth[DEEP], FLOWPLUG_BUSY);
  }
  done_with(plugin);
  done_with(second);
  close_host(host);
}

static void sixteen_levels_on_one_thread(void) { sixteen_levels(call_the_other, 0); }
static void sixteen_levels_on_a_small_stack(void) { sixteen_levels(call_the_other, 1); }
static void sixteen_levels_on_a_thread_each(void) { sixteen_levels(call_the_other_elsewhere, 1); }

int main(int argc, char **argv) {
  check_begin(argc, argv);
  RUN(without_signals_no_handler_is_touched); /* first: the handlers of an engine stay */
  RUN(handlers_that_were_there_are_handed_what_is_theirs);
  RUN(a_dead_plugin_raises_no_sigpipe);
  RUN(calls_go_on_in_a_storm_of_signals);
  RUN_ON(threads_with_little_stack, "c-fixture");
  RUN_ON(threads_with_little_stack, "fixture-grpc-go");
  RUN(sixteen_levels_on_one_thread);
  RUN(sixteen_levels_on_a_small_stack);
  RUN(sixteen_levels_on_a_thread_each);
  return check_end();
}
