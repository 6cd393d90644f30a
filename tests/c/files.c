/*
 * What a wasm guest can open when it was granted one folder: what is inside, and nothing outside by whatever way; for
 * writing only where the mount is for writing. On folders of this test's own, with the guest's own fopen.
 */
#include "plugins.h"

#include <fcntl.h>
#include <sys/stat.h>

static flowplug_host *host;
static char top[] = "/tmp/flowplug-files-XXXXXX"; /* holds the granted folder and a secret beside it */

static char *at(const char *path) { return format("%s/%s", top, path); }

static void make_file(const char *path, const char *text) {
  FILE *file = fopen(at(path), "w");
  if (!file || fputs(text, file) < 0 || fclose(file) != 0) abort();
}

static char *text_of(const char *path) {
  char text[64];
  FILE *file = fopen(at(path), "r");
  if (!file) return format("(no %s)", path);
  size_t len = fread(text, 1, sizeof text, file);
  fclose(file);
  return keep(text, len);
}

/* granted: inside.txt, sub/, links that stay and links that lead out, and a pipe that nobody writes to. */
static void make_folders(void) {
  if (!mkdtemp(top)) abort();
  if (mkdir(at("granted"), 0755) != 0 || mkdir(at("granted/sub"), 0755) != 0 || mkdir(at("granted-too"), 0755) != 0) abort();
  make_file("secret.txt", "secret");
  make_file("granted-too/secret.txt", "secret");
  make_file("granted/inside.txt", "inside");
  if (symlink("inside.txt", at("granted/stays")) != 0 || symlink("../secret.txt", at("granted/out-relative")) != 0) abort();
  if (symlink(at("secret.txt"), at("granted/out-absolute")) != 0 || symlink("..", at("granted/out-folder")) != 0) abort();
  if (symlink("out-relative", at("granted/out-twice")) != 0 || mkfifo(at("granted/pipe"), 0644) != 0) abort();
}

static void remove_folders(void) {
  static const char *const files[] = {"granted/inside.txt", "granted/new.txt", "granted/stays", "granted/out-relative", "granted/out-absolute", "granted/out-folder",
                                      "granted/out-twice",  "granted/pipe",    "secret.txt",    "granted-too/secret.txt"};
  static const char *const folders[] = {"granted/sub", "granted", "granted-too"};
  for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) unlink(at(files[i]));
  for (size_t i = 0; i < sizeof folders / sizeof folders[0]; i++) rmdir(at(folders[i]));
  CHECK_INT(rmdir(top), 0);
}

/* Asks for the granted folder in `asked`; the policy grants it in `granted`. */
static answer load_mounted(const char *asked, const char *granted, flowplug_plugin **plugin) {
  char *yaml = format("name: x\nruntime: wasm\nwasm: { module: ./plugin.wasm, permissions: { filesystem: [{ path: \"%s\", mode: %s }] } }\n", at("granted"), asked);
  char *policy = format("{\"preset\":\"strict\",\"filesystem\":[{\"root\":\"%s\",\"mode\":\"%s\"}]}", at("granted"), granted);
  return load_with(host, "c-fixture", yaml, "reader", policy, NULL, NULL, plugin);
}

static flowplug_plugin *mounted(const char *mode) {
  flowplug_plugin *plugin = NULL;
  CHECK_ANSWER(load_mounted(mode, mode, &plugin), FLOWPLUG_OK);
  CHECK_ANSWER(start(plugin, "", NULL), FLOWPLUG_OK);
  return plugin;
}

static answer open_file(flowplug_plugin *plugin, const char *path, int writing) {
  return command(plugin, format("{\"do\":\"open\",\"path\":\"%s\",\"write\":%s}", path, writing ? "true" : "false"));
}

static void check_opens(flowplug_plugin *plugin, const char *path, int writing) {
  answer a = open_file(plugin, path, writing);
  if (strcmp(a.json, "{\"opened\":true}") != 0) check_fail(__FILE__, __LINE__, "%s: %s %s", path, a.json, a.message);
}

static void check_refused(flowplug_plugin *plugin, const char *path, int writing) {
  answer a = open_file(plugin, path, writing);
  if (strncmp(a.json, "{\"error\":\"", 10) != 0 || strlen(a.json) < 13) check_fail(__FILE__, __LINE__, "%s: %s %s", path, a.json, a.message);
}

/* The guest's own name of the folder is its path, and `/` too, because it is the only one. */
static void what_is_inside_opens(void) {
  flowplug_plugin *plugin = mounted("read");
  check_opens(plugin, "/inside.txt", 0);
  check_opens(plugin, at("granted/inside.txt"), 0);
  check_opens(plugin, at("granted/sub/../inside.txt"), 0);
  check_opens(plugin, at("granted/stays"), 0);
  check_refused(plugin, at("granted/missing.txt"), 0);
  done_with(plugin);
}

static void nothing_outside_opens(const char *mode) {
  flowplug_plugin *plugin = mounted(mode);
  static const char *const inside[] = {"../secret.txt",     "sub/../../secret.txt",    "out-relative", "out-absolute", "out-folder/secret.txt", "out-twice",
                                       "../granted-too/secret.txt", "out-folder/granted-too/secret.txt", "pipe"};
  for (int writing = 0; writing < 2; writing++) {
    for (size_t i = 0; i < sizeof inside / sizeof inside[0]; i++) {
      check_refused(plugin, format("/%s", inside[i]), writing);
      check_refused(plugin, format("%s/%s", at("granted"), inside[i]), writing);
    }
    check_refused(plugin, at("secret.txt"), writing);
    check_refused(plugin, at("granted-too/secret.txt"), writing);
    check_refused(plugin, "/etc/passwd", writing);
    check_refused(plugin, "/proc/self/environ", writing);
  }
  CHECK_TEXT(text_of("secret.txt"), "secret");
  CHECK_TEXT(text_of("granted-too/secret.txt"), "secret");
  check_opens(plugin, "/inside.txt", 0);
  done_with(plugin);
}

static void a_read_only_mount_is_not_written(void) {
  flowplug_plugin *plugin = mounted("read");
  check_refused(plugin, "/inside.txt", 1);
  check_refused(plugin, at("granted/inside.txt"), 1);
  check_refused(plugin, "/stays", 1);
  check_refused(plugin, "/new.txt", 1);
  check_refused(plugin, "/sub/new.txt", 1);
  CHECK_TEXT(text_of("granted/inside.txt"), "inside");
  CHECK(access(at("granted/new.txt"), F_OK) != 0 && access(at("granted/sub/new.txt"), F_OK) != 0);
  done_with(plugin);
}

static void a_writable_mount_is(void) {
  flowplug_plugin *plugin = mounted("readwrite");
  check_opens(plugin, "/new.txt", 1);
  CHECK_TEXT(text_of("granted/new.txt"), "");
  done_with(plugin);
}

static void writing_is_granted_by_the_policy(void) {
  flowplug_plugin *plugin = NULL;
  answer a = load_mounted("readwrite", "read", &plugin);
  CHECK_ANSWER(a, FLOWPLUG_PERMISSION_DENIED);
  CHECK_HAS(a.message, "wasm.permissions.filesystem");
  CHECK(plugin == NULL);
}

/* A fixture that asked for no folder has none. */
static void without_a_mount_nothing_opens(void) {
  flowplug_plugin *plugin = running(host, "c-fixture", "none");
  check_refused(plugin, "/", 0);
  check_refused(plugin, ".", 0);
  check_refused(plugin, at("granted/inside.txt"), 0);
  check_refused(plugin, "/etc/passwd", 0);
  check_refused(plugin, at("granted/new.txt"), 1);
  done_with(plugin);
}

int main(int argc, char **argv) {
  check_begin(argc, argv);
  make_folders();
  host = new_host(TRUSTED, NULL);
  RUN(what_is_inside_opens);
  RUN_ON(nothing_outside_opens, "read");
  RUN_ON(nothing_outside_opens, "readwrite");
  RUN(a_read_only_mount_is_not_written);
  RUN(a_writable_mount_is);
  RUN(writing_is_granted_by_the_policy);
  RUN(without_a_mount_nothing_opens);
  close_host(host);
  remove_folders();
  check_done("the end", NULL);
  return check_end();
}
