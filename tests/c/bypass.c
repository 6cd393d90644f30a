/*
 * Ways around what a plugin was granted, where the host's own code takes part: the hops of a redirect, identities, and the
 * bound on instances. Every row must be refused; those beside them must not.
 */
#include "plugins.h"

/* ---- Redirects: the callback asks for each hop ---- */

static const struct {
  const char *hop;
  int allowed;
} hops[] = {
    {"https://api.example.com/next", 1},
    {"http://API.example.com.:8080/next", 1},
    {"https://a.b.example.org:8443/", 1},
    {"https://evil.example.com/", 0},
    {"https://api.example.com@evil.example.com/", 0},
    {"https://api.example.com:443@evil.example.com/", 0},
    {"https://user:password@api.example.com/", 0},
    {"https://api.example.com.evil.example/", 0},
    {"https://example.org:8443/", 0},
    {"https://a.example.org/", 0},
    {"https://api.example.com\\@evil.example.com/", 0},
    {"https://evil.example.com\\.api.example.com/", 0},
    {"https://api.example.com\t.evil.example/", 0},
    {"https://api.example.com\n.evil.example/", 0},
    {"https://api.example.com%2eevil.example/", 0},
    {"https://api.example.com%00.evil.example/", 0},
    {"https://ap\xd1\x96.example.com/", 0},
    {"http://2130706433/", 0},
    {"http://0x7f000001/", 0},
    {"http://0177.0.0.1/", 0},
    {"http://127.1/", 0},
    {"http://[::1]/", 0},
    {"http://[::ffff:127.0.0.1]/", 0},
    {"http://169.254.169.254/latest/meta-data/", 0},
    {"file:///etc/passwd", 0},
    {"ftp://api.example.com/", 0},
    {"gopher://api.example.com/", 0},
    {"//api.example.com/", 0}, /* relative: the host's client makes it whole first */
    {"/next", 0},
    {"", 0},
};
enum { HOPS = sizeof hops / sizeof hops[0] };

static int asked;

static void on_http(void *data, flowplug_request request, const flowplug_caller *caller, const flowplug_http_request *http) {
  (void)data, (void)caller, (void)http;
  asked++;
  for (int i = 0; i < HOPS; i++) {
    flowplug_error *error = NULL;
    flowplug_status status = flowplug_request_http_check(request, str(hops[i].hop), &error);
    answer a = answered(status, NULL, &error);
    if (hops[i].allowed ? a.status != FLOWPLUG_OK : a.status != FLOWPLUG_PERMISSION_DENIED && a.status != FLOWPLUG_INVALID_ARGUMENT)
      check_fail(__FILE__, __LINE__, "%s: %s %s", hops[i].hop, flowplug_status_name(a.status), a.message);
  }
  CHECK_INT(flowplug_request_http(request, 200, NULL, 0, str("done")), FLOWPLUG_OK);
}

static void no_redirect_leads_past_the_allowlist(void) {
  flowplug_host_api api = FLOWPLUG_HOST_API_INIT;
  flowplug_plugin *plugin = NULL;
  api.http_request = on_http;
  flowplug_host *host = new_host(TRUSTED, &api);
  const char *yaml = "name: x\nruntime: wasm\nwasm: { module: ./plugin.wasm, permissions: { http: [{ host: api.example.com }, { host: \"*.example.org:8443\" }] } }\n";
  CHECK_ANSWER(load_with(host, "c-fixture", yaml, "p", NULL, NULL, NULL, &plugin), FLOWPLUG_OK);
  CHECK_ANSWER(start(plugin, "", NULL), FLOWPLUG_OK);
  answer a = command(plugin, "{\"do\":\"host\",\"fn\":\"http_request\",\"args\":{\"method\":\"GET\",\"url\":\"https://api.example.com/\"}}");
  CHECK_HAS(a.json, "\"body\":\"done\"");
  CHECK_INT(asked, 1);
  done_with(plugin);
  close_host(host);
}

/* ---- Identities: they prefix keys and name folders ---- */

static void no_identity_is_another_plugins(void) {
  flowplug_host *host = new_host(TRUSTED, NULL);
  char longest[257];
  memset(longest, 'x', 256);
  longest[256] = '\0';
  const char *const bad[] = {"",    "a:b",  "a:",   ":a",    "plugin:a", "..",       ".",      "a/..",  "../a", "a/../b", "./a",  "/a", "a/", "a//b",  "a\\b",
                             "a b", "a\tb", "a\nb", "a\x7f", "\xc3\xa4", "\xd0\xb0", "%2e%2e", "a%2fb", "a;b",  "a\x01",  "\xff", "~",  "*",  "$HOME", longest};
  for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
    flowplug_plugin *plugin = NULL;
    answer a = load_with(host, "wat-dispatch", "", bad[i], NULL, NULL, NULL, &plugin);
    if (a.status != FLOWPLUG_INVALID_ARGUMENT || plugin) check_fail(__FILE__, __LINE__, "\"%s\": %s", bad[i], flowplug_status_name(a.status));
    flowplug_plugin_free(plugin);
  }
  static const char *const good[] = {"a", "A-b_c.d", "org/repo", "a/b/c", "...", "..a", "0", "a.", "-"};
  for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) done_with(running(host, "wat-dispatch", good[i]));
  /* With a NUL inside: no C string, but a text. */
  flowplug_manifest *manifest = NULL;
  flowplug_plugin *plugin = NULL;
  CHECK_INT(flowplug_manifest_read(str(format("%s/wat-dispatch", check_plugins)), NULL, &manifest, NULL), FLOWPLUG_OK);
  CHECK_INT(flowplug_plugin_load(host, manifest, (flowplug_str){"a\0b", 3}, NULL, NULL, &plugin, NULL), FLOWPLUG_INVALID_ARGUMENT);
  flowplug_manifest_free(manifest);
  close_host(host);
}

/* ---- Instances of the whole process ---- */

enum { MANY = 1100 };

static void instances_of_the_process_are_bounded(void) {
  static flowplug_plugin *plugins[MANY];
  flowplug_host *host = new_host(TRUSTED, NULL);
  int loaded = 0;
  answer a = {FLOWPLUG_OK, "", "", "", "", "", ""};
  while (loaded < MANY && a.status == FLOWPLUG_OK) {
    a = load_with(host, "wat-not-ready", "", "many", NULL, NULL, NULL, &plugins[loaded]);
    loaded += a.status == FLOWPLUG_OK;
  }
  CHECK(loaded >= 100 && loaded < MANY);
  CHECK_ANSWER(a, FLOWPLUG_BUSY);
  CHECK_HAS(a.message, "Stop plugins");
  CHECK_HAS(a.details, "\"limit\":\"instances\"");
  CHECK_ANSWER(start(plugins[0], "", NULL), FLOWPLUG_OK); /* those that are there go on */
  done_with(plugins[1]);                                  /* and one that ends makes room */
  CHECK_ANSWER(load_with(host, "wat-not-ready", "", "many", NULL, NULL, NULL, &plugins[1]), FLOWPLUG_OK);
  for (int i = 0; i < loaded; i++) flowplug_plugin_free(plugins[i]);
  close_host(host);
}

int main(int argc, char **argv) {
  check_begin(argc, argv);
  RUN(no_redirect_leads_past_the_allowlist);
  RUN(no_identity_is_another_plugins);
  RUN(instances_of_the_process_are_bounded);
  return check_end();
}
