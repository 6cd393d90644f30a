/*
 * The JSON and base64 of flowplug_plugin.h, compiled for this machine, where the sanitizers see every byte that it reads:
 * on good text, on the same text cut off at every place, and on garbage.
 */
#include "check.h"
#include "flowplug_plugin.h"

/* The imports that the header calls; no test here asks a host. */
uint64_t fp_import_last_error(void) { return 0; }
int32_t fp_import_kv_get_checked(const char *key, size_t key_len, char *out, size_t cap) { return key && key_len && out && cap ? -1 : -2; }
int32_t fp_import_kv_set(const char *key, size_t key_len, const char *value, size_t value_len) { return key && key_len && value && value_len; }

static const char document[] =
    "{ \"text\" : \"a\\\"b\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\u20ac\\ud83d\\ude00\\ud800x\" , \"n\":-42,\"list\":[1,[2,\"]\"],{\"}\":3} , \"four\"], \"empty\":{},\"none\":[ ],"
    "\"esc\\u0061ped\":true,\"nested\":{\"a\":{\"b\":{\"c\":\"deep\"}}},\"last\":null}";

static fp_str view(const char *text) { return (fp_str){text, strlen(text)}; }

static void check_text(fp_str value, const char *want) {
  fp_str text = fp_json_text(value);
  CHECK(text.ptr != NULL);
  if (text.ptr) CHECK_TEXT(text.ptr, want);
  fp_free(text);
}

static void check_raw(fp_str value, const char *want) {
  CHECK(value.ptr != NULL);
  if (value.ptr) CHECK_TEXT(keep(value.ptr, value.len), want);
}

static void members_are_found(void) {
  fp_str doc = view(document);
  check_text(fp_json_get(doc, "text"), "a\"b\\/\b\f\n\r\t\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\xef\xbf\xbdx");
  CHECK_INT(fp_json_int(fp_json_get(doc, "n")), -42);
  check_raw(fp_json_get(doc, "list"), "[1,[2,\"]\"],{\"}\":3} , \"four\"]");
  check_raw(fp_json_get(doc, "empty"), "{}");
  check_raw(fp_json_get(doc, "escaped"), "true");
  check_text(fp_json_get(fp_json_get(fp_json_get(fp_json_get(doc, "nested"), "a"), "b"), "c"), "deep");
  check_raw(fp_json_get(doc, "last"), "null");
  CHECK(fp_json_get(doc, "missing").ptr == NULL);
  CHECK(fp_json_get(doc, "}").ptr == NULL);
  CHECK(fp_json_get(view("[\"text\",1]"), "text").ptr == NULL);
  CHECK(fp_json_get((fp_str){0}, "text").ptr == NULL);
  CHECK(fp_json_text(fp_json_get(doc, "n")).ptr == NULL);
  CHECK_INT(fp_json_int(view("-2147483648")), INT32_MIN);
}

static void elements_come_in_order(void) {
  static const char *const want[] = {"1", "[2,\"]\"]", "{\"}\":3}", "\"four\""};
  fp_str rest = fp_json_get(view(document), "list"), item;
  size_t count = 0;
  while (fp_json_next(&rest, &item)) {
    if (count < 4) check_raw(item, want[count]);
    count++;
  }
  CHECK_INT(count, 4);
  rest = fp_json_get(view(document), "none");
  CHECK(!fp_json_next(&rest, &item));
}

/* Everything that the reader has, on a block of exactly this size. */
static void read_all(const char *bytes, size_t len) {
  char *block = malloc(len ? len : 1);
  if (!block) abort();
  memcpy(block, bytes, len);
  fp_str doc = {block, len}, rest = doc, item;
  static const char *const names[] = {"text", "n", "list", "escaped", "nested", "last", "missing"};
  for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
    fp_str value = fp_json_get(doc, names[i]);
    fp_free(fp_json_text(value));
    (void)fp_json_int(value);
  }
  size_t steps = 0;
  while (fp_json_next(&rest, &item) && steps <= len) {
    fp_free(fp_json_text(item));
    steps++;
  }
  CHECK(steps <= len);
  fp_free(fp_json_text(doc));
  fp_free(fp_base64_decode(doc));
  fp_buf out = {0};
  fp_put_json(&out, doc);
  fp_put_base64(&out, doc);
  fp_buf_free(&out);
  free(block);
}

static void text_that_is_cut_off(void) {
  for (size_t len = 0; len < sizeof document; len++) read_all(document, len);
  for (size_t start = 0; start < sizeof document; start++) read_all(document + start, sizeof document - 1 - start);
}

static void garbage(void) {
  static const char alphabet[] = "{}[]:,\"\\u0dtrue \xc3\xa9\xff=A-1";
  uint32_t state = 12345;
  for (int round = 0; round < 20000; round++) {
    char bytes[48];
    size_t len = state % sizeof bytes;
    for (size_t i = 0; i < len; i++) {
      state = state * 1664525u + 1013904223u;
      bytes[i] = alphabet[(state >> 16) % (sizeof alphabet - 1)];
    }
    state = state * 1664525u + 1013904223u;
    read_all(bytes, len);
  }
}

static void written_text_reads_back(void) {
  char every[127];
  for (size_t i = 0; i < sizeof every; i++) every[i] = (char)(i + 1);
  fp_buf json = {0};
  fp_put_json(&json, (fp_str){every, sizeof every});
  fp_str text = fp_json_text(fp_view(&json));
  CHECK(fp_equal(text, (fp_str){every, sizeof every}));
  fp_free(text);
  fp_buf_free(&json);
  fp_put_json(&json, view("ok \xc3\xa9 \xff \xc0\x80 \xed\xa0\x80 \xf4\x90\x80\x80 \xe2\x82"));
  CHECK_TEXT(keep(json.ptr, json.len),
             "\"ok \xc3\xa9 \xef\xbf\xbd \xef\xbf\xbd\xef\xbf\xbd \xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd "
             "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd \xef\xbf\xbd\xef\xbf\xbd\"");
  fp_buf_free(&json);
  fp_put_u32(&json, 0);
  fp_put_u32(&json, UINT32_MAX);
  CHECK_TEXT(keep(json.ptr, json.len), "04294967295");
  fp_buf_free(&json);
}

static void base64_goes_both_ways(void) {
  static const char *const pairs[][2] = {{"", "\"\""}, {"f", "\"Zg==\""}, {"fo", "\"Zm8=\""}, {"foo", "\"Zm9v\""}, {"foob", "\"Zm9vYg==\""}, {"\xff\xfe\xfd", "\"//79\""}};
  for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
    fp_buf json = {0};
    fp_put_base64(&json, view(pairs[i][0]));
    CHECK_TEXT(keep(json.ptr, json.len), pairs[i][1]);
    fp_str back = fp_base64_decode((fp_str){json.ptr + 1, json.len - 2});
    CHECK(fp_equal(back, view(pairs[i][0])));
    fp_free(back);
    fp_buf_free(&json);
  }
  CHECK(fp_base64_decode(view("Zm9v!")).ptr == NULL);
}

int main(void) {
  RUN(members_are_found);
  RUN(elements_come_in_order);
  RUN(text_that_is_cut_off);
  RUN(garbage);
  RUN(written_text_reads_back);
  RUN(base64_goes_both_ways);
  return check_end();
}
