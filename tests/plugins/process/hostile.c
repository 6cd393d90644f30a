/*
 * A plugin's process that does everything wrong, one thing at a time: hostile WHAT [TEXT].
 *
 * Those of `before` never come to a handshake that can be used. The others give one and serve just enough of HTTP/2: what
 * is not a call is answered with an empty message, and so is `Init`; at a call they do what they are for. Those of `aside` answer
 * calls with an empty message, and do it where it is not a call.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { DATA = 0, HEADERS = 1, RST_STREAM = 3, SETTINGS = 4, PUSH_PROMISE = 5, PING = 6, GOAWAY = 7, WINDOW_UPDATE = 8, CONTINUATION = 9 };
enum { END_STREAM = 1, ACK = 1, END_HEADERS = 4 };

static const char *what, *text;
static char path[108];

static int is(const char *name) { return strcmp(what, name) == 0; }

static void rest(void) {
  for (;;) pause();
}

static int put(int fd, const void *bytes, size_t size) {
  for (const char *at = bytes; size > 0;) {
    ssize_t written = write(fd, at, size);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return 0;
    at += written;
    size -= (size_t)written;
  }
  return 1;
}

static int say(int fd, const char *line) { return put(fd, line, strlen(line)); }

/* ---- Before a handshake ---- */

static void forever(int fd, const char *piece) {
  while (say(fd, piece)) continue;
  rest();
}

static void before(void) {
  if (is("silent")) rest();
  if (is("deaf-silent")) {
    signal(SIGTERM, SIG_IGN);
    rest();
  }
  if (is("partial")) {
    say(1, "1|1|unix|");
    rest();
  }
  if (is("partial-exit")) {
    say(1, "1|1|unix|");
    exit(0);
  }
  if (is("endless")) forever(1, "1|1|unix|/tmp/xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx");
  if (is("noise")) forever(1, "no handshake\n");
  if (is("binary")) {
    put(1, "\0\xff\xfe\n\0\n", 6);
    rest();
  }
  if (is("closed")) {
    close(1);
    rest();
  }
  if (is("exit")) {
    say(2, "the last words\n");
    exit(atoi(text));
  }
  if (is("signal")) {
    raise(atoi(text));
    rest();
  }
  if (is("say")) {
    say(1, text);
    say(1, "\n");
    rest();
  }
  if (is("grandchild-silent") && fork() == 0) rest();
  if (is("grandchild-silent")) exit(5);
}

/* ---- Some processes of a row fail, the others are well ---- */

/* FILE:FROM:TO: this process is one more of those that are counted in FILE, by its size; whether it is one that fails. */
static int fails(void) {
  char file[4096];
  long from, to;
  if (sscanf(text, "%4095[^:]:%ld:%ld", file, &from, &to) != 3) exit(1);
  FILE *counted = fopen(file, "a");
  if (!counted || fputc('.', counted) == EOF || fflush(counted) != 0) exit(1);
  long count = ftell(counted);
  fclose(counted);
  return from <= count && count <= to;
}

/* ---- HTTP/2 ---- */

static int frame(int fd, int type, int flags, uint32_t stream, const void *body, uint32_t size) {
  uint8_t head[9] = {(uint8_t)(size >> 16), (uint8_t)(size >> 8), (uint8_t)size, (uint8_t)type, (uint8_t)flags, (uint8_t)(stream >> 24), (uint8_t)(stream >> 16), (uint8_t)(stream >> 8), (uint8_t)stream};
  return put(fd, head, sizeof head) && put(fd, body, size);
}

/* `:status: 200` and `content-type: application/grpc` */
static const char good[] = "\x88\x0f\x10\x10" "application/grpc";
/* `grpc-status: 0` */
static const char done[] = "\x00\x0b" "grpc-status\x01" "0";

static int headers(int fd, uint32_t stream) { return frame(fd, HEADERS, END_HEADERS, stream, good, sizeof good - 1); }
static int trailers(int fd, uint32_t stream) { return frame(fd, HEADERS, END_HEADERS | END_STREAM, stream, done, sizeof done - 1); }

static int answer(int fd, uint32_t stream, const char *message, uint32_t size) {
  char framed[64] = {0, 0, 0, 0, (char)size};
  memcpy(framed + 5, message, size);
  return headers(fd, stream) && frame(fd, DATA, 0, stream, framed, 5 + size) && trailers(fd, stream);
}

/* A status whose details are not base64, where it is all of an answer and where it ends one. */
static const char failed[] = "\x88\x0f\x10\x10" "application/grpc" "\x00\x0b" "grpc-status\x01" "2" "\x00\x0c" "grpc-message\x09" "%6Eo%zz%C"
                             "\x00\x17" "grpc-status-details-bin\x03" "!!!";
static const char failed_late[] = "\x00\x0b" "grpc-status\x01" "2" "\x00\x17" "grpc-status-details-bin\x03" "!!!";

static int fail_oddly(int fd, uint32_t stream) { return frame(fd, HEADERS, END_HEADERS | END_STREAM, stream, failed, sizeof failed - 1); }

/* The same after a message, in which `StreamStdio` reads a line of standard output. */
static int fail_oddly_late(int fd, uint32_t stream) {
  return headers(fd, stream) && frame(fd, DATA, 0, stream, "\0\0\0\0\x09\x08\x01\x12\x05told\n", 14) &&
         frame(fd, HEADERS, END_HEADERS | END_STREAM, stream, failed_late, sizeof failed_late - 1);
}

static char zeros[16384];

static void answer_badly(int fd, uint32_t stream) {
  if (is("garbage-frames")) put(fd, "\xff\xff\xff\x00\x00\x00\x00\x00\x01garbage garbage garbage", 32);
  if (is("bad-headers")) frame(fd, HEADERS, END_HEADERS, stream, "\xff\xff\xff\xff\xff\xff\xff\xff", 8);
  if (is("huge-headers")) {
    frame(fd, HEADERS, 0, stream, good, sizeof good - 1);
    /* `x: ` and 16,000 zeros, again and again */
    static char header[16384] = "\x00\x01x\x7f\x81\x7c";
    while (frame(fd, CONTINUATION, 0, stream, header, 16006)) continue;
  }
  if (is("unknown-frames")) while (frame(fd, 0x7f, 0, 0, zeros, 100)) continue;
  if (is("pings")) while (frame(fd, PING, 0, 0, zeros, 8)) continue;
  if (is("settings")) while (frame(fd, SETTINGS, 0, 0, "", 0)) continue;
  if (is("empty-data")) {
    headers(fd, stream);
    while (frame(fd, DATA, 0, stream, "", 0)) continue;
  }
  if (is("window")) {
    frame(fd, WINDOW_UPDATE, 0, 0, "\x7f\xff\xff\xff", 4);
    frame(fd, WINDOW_UPDATE, 0, 0, "\x7f\xff\xff\xff", 4);
  }
  if (is("push")) frame(fd, PUSH_PROMISE, END_HEADERS, stream, "\0\0\0\x02\x88", 5);
  if (is("reset")) frame(fd, RST_STREAM, 0, stream, "\0\0\0\x02", 4);
  if (is("goaway")) frame(fd, GOAWAY, 0, 0, "\0\0\0\0\0\0\0\x0b", 8);
  if (is("no-message")) {
    headers(fd, stream);
    trailers(fd, stream);
  }
  if (is("no-status")) {
    headers(fd, stream);
    frame(fd, DATA, END_STREAM, stream, "\0\0\0\0", 5);
  }
  if (is("no-proto")) {
    headers(fd, stream);
    frame(fd, DATA, 0, stream, "\0\0\0\0\x04\xff\xff\xff\xff", 9);
    trailers(fd, stream);
  }
  if (is("compressed")) {
    headers(fd, stream);
    frame(fd, DATA, 0, stream, "\1\0\0\0\x04zzzz", 9);
    trailers(fd, stream);
  }
  if (is("huge-message")) { /* 100 MiB are announced, and they come */
    headers(fd, stream);
    frame(fd, DATA, 0, stream, "\0\x06\x40\0", 5);
    while (frame(fd, DATA, 0, stream, zeros, sizeof zeros)) continue;
  }
  if (is("cut-message")) { /* 1 MiB is announced, a little comes, and no more */
    headers(fd, stream);
    frame(fd, DATA, 0, stream, "\0\0\x10\0", 5);
    frame(fd, DATA, 0, stream, zeros, 100);
  }
  if (is("bad-details")) fail_oddly(fd, stream);
  if (is("leaves")) { /* an answer, after which this connection is good for nothing */
    headers(fd, stream);
    frame(fd, DATA, 0, stream, "\0\0\0\0", 5);
    uint8_t last[8] = {(uint8_t)(stream >> 24), (uint8_t)(stream >> 16), (uint8_t)(stream >> 8), (uint8_t)stream};
    frame(fd, GOAWAY, 0, 0, last, 8);
    trailers(fd, stream);
  }
  if (is("hang-up")) {
    headers(fd, stream);
    shutdown(fd, SHUT_RDWR);
  }
  if (is("exit-in-call")) {
    say(2, "panic: it was too much\n\ngoroutine 1 [running]:\nmain.main()\n");
    exit(9);
  }
  if (is("stop")) raise(SIGSTOP);
  /* The rest says nothing at all. */
}

static int get(int fd, void *bytes, size_t size) {
  for (char *at = bytes; size > 0;) {
    ssize_t came = read(fd, at, size);
    if (came < 0 && errno == EINTR) continue;
    if (came <= 0) return 0;
    at += came;
    size -= (size_t)came;
  }
  return 1;
}

/* The end of `:path` in a request's headers after "/flowbot.plugin.PluginService/", as HPACK has it, and the beginning. */
static const char service[] = "\x62\x5a\x0f\xe2\x33\xa5\x7a\xe8\xb6\x63\x54\xbe\xba\x2d\x98\xd5\x6e\x2d\x9d\xcc\x42\xb1";
static const char init[] = "\x92\xa3\x27", is_ready[] = "\x91\x1b\x4a\x39\x3d\x7f";

static int fails_in_init, fails_in_call;

static void fail(int now) {
  if (!now) return;
  say(2, "panic: not yet\n");
  exit(6);
}

/* One more request with these headers. What is not the plugin's own service is answered as if it were there. */
static void respond(int fd, uint32_t stream, const uint8_t *block, size_t size) {
  static pthread_t flood;
  extern void *flooding(void *);
  const uint8_t *at = memmem(block, size, service, sizeof service - 1), *method = at ? at + sizeof service - 1 : NULL;
  size_t left = method ? size - (size_t)(method - block) : 0;
  int initial = left >= sizeof init && memcmp(method, init, sizeof init - 1) == 0;
  int well = strstr(what, "-at-once") || strncmp(what, "fails-in", 8) == 0 || strncmp(what, "flood", 5) == 0 || is("grandchild") || is("stubborn");
  fail(initial && fails_in_init);
  if (!method && is("bad-details-aside")) {
    fail_oddly(fd, stream);
  } else if (!method && is("bad-details-aside-late")) {
    fail_oddly_late(fd, stream);
  } else if (!method || initial || strncmp(what, "bad-details-aside", 17) == 0) {
    answer(fd, stream, "", 0);
  } else if (!well) {
    answer_badly(fd, stream);
  } else if (left >= sizeof is_ready && memcmp(method, is_ready, sizeof is_ready - 1) == 0) {
    answer(fd, stream, "\x08\x01", 2);
  } else {
    fail(fails_in_call);
    if (strncmp(what, "flood", 5) == 0 && !flood) pthread_create(&flood, NULL, flooding, NULL);
    answer(fd, stream, "", 0);
  }
}

void *flooding(void *unused) {
  (void)unused;
  int fd = is("flood-out") || is("flood-out-endless") ? 1 : 2;
  if (is("flood-out") || is("flood-err")) forever(fd, "line after line\n");
  if (is("flood-out-endless") || is("flood-err-endless")) forever(fd, "without an end ");
  if (is("flood-hclog"))
    forever(fd, "{\"@level\":[],\"@message\":{\"a\":null},\"@timestamp\":1e999,\"x\":[[[[]]]]}\n{\"@level\":\"trace\",\"@message\":7}\n{\"@message\"}\n[ERROR]\npanic: no\n");
  if (is("flood-binary"))
    while (put(fd, "\0\xff\x1b[2J\r\n\n\n", 9)) continue;
  return NULL;
}

static void *serve(void *argument) {
  int fd = (int)(intptr_t)argument;
  if (is("mute")) return NULL;
  if (is("garbage")) {
    put(fd, "\x15\x03\x01 this is not HTTP/2, whatever it is\r\n\r\n", 40);
    close(fd);
    return NULL;
  }
  if (is("closes")) {
    close(fd);
    return NULL;
  }
  uint8_t head[24], body[1 << 14];
  if (!get(fd, head, 24) || !frame(fd, SETTINGS, 0, 0, "", 0)) return NULL;
  while (get(fd, head, 9)) {
    uint32_t size = (uint32_t)head[0] << 16 | (uint32_t)head[1] << 8 | head[2];
    uint32_t stream = (uint32_t)(head[5] & 0x7f) << 24 | (uint32_t)head[6] << 16 | (uint32_t)head[7] << 8 | head[8];
    if (size > sizeof body || !get(fd, body, size)) return NULL;
    if (head[3] == SETTINGS && !(head[4] & ACK)) frame(fd, SETTINGS, ACK, 0, "", 0);
    if (head[3] == PING && !(head[4] & ACK)) frame(fd, PING, ACK, 0, body, 8);
    if (head[3] == HEADERS) {
      if (is("unlink")) unlink(path);
      respond(fd, stream, body, size);
    }
  }
  return NULL;
}

int main(int argc, char **argv) {
  what = argc > 1 ? argv[1] : "silent";
  text = argc > 2 ? argv[2] : "";
  signal(SIGPIPE, SIG_IGN);
  before();
  if (is("fails-at-once") && fails()) return 5;
  if (is("hangs-at-once") && fails()) rest();
  fails_in_init = is("fails-in-init") && fails();
  fails_in_call = is("fails-in-call") && fails();
  const char *folder = getenv("PLUGIN_UNIX_SOCKET_DIR");
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (!folder || snprintf(path, sizeof path, "%s/plugin", folder) >= (int)sizeof path) return 1;
  strcpy(address.sun_path, path);
  int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(listener, 16) != 0) return 1;
  if (is("stubborn")) signal(SIGTERM, SIG_IGN);
  if (is("grandchild") && fork() == 0) rest();
  if (is("escaped") && fork() == 0) {
    setsid();
    rest();
  }
  say(1, "noise\n1|1|unix|");
  say(1, path);
  say(1, "|grpc|\n");
  if (is("dies-after")) exit(4);
  if (is("deaf")) rest();
  for (;;) {
    int fd = accept(listener, NULL, NULL);
    pthread_t thread;
    if (fd < 0 || pthread_create(&thread, NULL, serve, (void *)(intptr_t)fd) != 0) return 1;
  }
}
