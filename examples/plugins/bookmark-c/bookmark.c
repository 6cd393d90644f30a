/*
 * A bookmark service: create fetches a page's title and keeps it in the host's KV, list and get read it back.
 *
 *   clang --target=wasm32-wasi --sysroot=/usr -mexec-model=reactor -O2 -s -Wall -Wextra -Isdk/c \
 *     -o plugin.wasm examples/plugins/bookmark-c/bookmark.c
 *
 * Keys: "bookmark/<id>" holds one bookmark, "index" the ids in order of creation. The plugin itself keeps nothing.
 */
#include "flowplug_plugin.h"

enum { LOG_INFO = 1 };

/* A bookmark's id: FNV-1a of its URL as 8 hex digits, so that the same page saved twice is one bookmark. */
static void bookmark_id(fp_str url, char id[8]) {
  uint32_t hash = 2166136261u;
  for (size_t i = 0; i < url.len; i++) hash = (hash ^ (unsigned char)url.ptr[i]) * 16777619u;
  for (int i = 7; i >= 0; i--, hash >>= 4) id[i] = "0123456789abcdef"[hash & 15];
}

static fp_str find(fp_str text, fp_str what) {
  for (size_t at = 0; at + what.len <= text.len; at++)
    if (memcmp(text.ptr + at, what.ptr, what.len) == 0) return (fp_str){text.ptr + at, text.len - at};
  return (fp_str){0};
}

static int is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

/* What stands between <title> and </title>, trimmed and otherwise as the page has it; absent if there is nothing. */
static fp_str page_title(fp_str page) {
  fp_str open = find(page, FP_STR("<title>"));
  if (!open.ptr) return open;
  fp_str title = {open.ptr + 7, open.len - 7};
  fp_str close = find(title, FP_STR("</title>"));
  if (!close.ptr) return close;
  title.len = (size_t)(close.ptr - title.ptr);
  while (title.len && is_space(title.ptr[0])) title.ptr++, title.len--;
  while (title.len && is_space(title.ptr[title.len - 1])) title.len--;
  return title.len ? title : (fp_str){0};
}

/* Appends `"name":"text"`, with a comma in front where it is not the first. */
static void member(fp_buf *json, const char *name, fp_str text) {
  if (json->len && json->ptr[json->len - 1] != '{') fp_puts(json, ",");
  fp_put_json(json, fp_cstr(name));
  fp_puts(json, ":");
  fp_put_json(json, text);
}

/* The list of ids, "[]" if there is none yet, owned; absent if the host failed. */
static fp_str read_index(void) {
  int failed;
  fp_str index = fp_kv_get(FP_STR("index"), &failed);
  if (index.ptr || failed) return index;
  char *empty = malloc(2);
  if (!empty) __builtin_trap();
  return (fp_str){memcpy(empty, "[]", 2), 2};
}

static void bookmark_key(fp_buf *key, fp_str id) {
  fp_puts(key, "bookmark/");
  fp_put(key, id);
}

/* Appends an id to the index unless it is there already. */
static int index_add(fp_str id) {
  fp_str index = read_index(), rest = index, item;
  if (!index.ptr) return 0;
  fp_buf grown = {0};
  fp_puts(&grown, "[");
  int there = 0;
  while (fp_json_next(&rest, &item)) {
    fp_str known = fp_json_text(item);
    there |= fp_equal(known, id);
    fp_free(known);
    fp_put(&grown, item);
    fp_puts(&grown, ",");
  }
  fp_put_json(&grown, id);
  fp_puts(&grown, "]");
  int ok = there || fp_kv_set(FP_STR("index"), fp_view(&grown));
  fp_buf_free(&grown);
  fp_free(index);
  return ok;
}

/* Fetches a page. 0 if the host could not; otherwise the page's status, and its body, owned, in `body`. */
static int32_t fetch(fp_str url, fp_str user_agent, fp_str *body) {
  fp_buf request = {0};
  fp_puts(&request, "{\"method\":\"GET\",\"url\":");
  fp_put_json(&request, url);
  fp_puts(&request, ",\"headers\":{");
  member(&request, "User-Agent", user_agent);
  fp_puts(&request, "}}");
  fp_str response = fp_owned(fp_import_http_request(request.ptr, request.len));
  fp_buf_free(&request);
  if (!response.ptr) return 0;
  int32_t status = fp_json_int(fp_json_get(response, "status"));
  fp_str encoded = fp_json_text(fp_json_get(response, "body"));
  *body = encoded.ptr ? fp_base64_decode(encoded) : (fp_str){0};
  fp_free(encoded);
  fp_free(response);
  return status;
}

/* The end of create: everything is stored; tell the log and whoever listens for events, and answer. */
static uint64_t created(fp_str id, fp_str url, fp_str title, fp_str bookmark) {
  fp_buf fields = {0}, event = {0}, answer = {0}, text = {0};
  fp_puts(&fields, "{");
  member(&fields, "id", id);
  member(&fields, "url", url);
  fp_puts(&fields, "}");
  fp_str message = FP_STR("bookmark created");
  fp_import_log_fields(LOG_INFO, message.ptr, message.len, fields.ptr, fields.len);
  fp_buf_free(&fields);

  fp_puts(&event, "{\"event_type\":\"bookmark.created\",\"source\":\"bookmarks\",\"capability\":\"bookmark\",\"operation\":\"create\"");
  member(&event, "entity_id", id);
  fp_puts(&event, ",\"data\":{");
  member(&event, "url", url);
  member(&event, "title", title);
  fp_puts(&event, "}}");
  int emitted = fp_import_emit_event(event.ptr, event.len);
  fp_buf_free(&event);
  if (!emitted) return fp_error_host("cannot emit bookmark.created");

  fp_puts(&text, "Saved \"");
  fp_put(&text, title);
  fp_puts(&text, "\" as ");
  fp_put(&text, id);
  fp_puts(&text, ".");
  fp_puts(&answer, "{\"capability\":\"bookmark\",\"operation\":\"create\",\"data\":");
  fp_put(&answer, bookmark);
  member(&answer, "text", fp_view(&text));
  fp_puts(&answer, ",\"events\":[{\"event_id\":\"");
  fp_put(&answer, id);
  fp_puts(&answer, "-created\",\"event_type\":\"bookmark.created\"");
  member(&answer, "entity_id", id);
  fp_puts(&answer, "}]}");
  fp_buf_free(&text);
  return fp_data(&answer);
}

static uint64_t save(fp_str url, fp_str title) {
  char digits[8];
  bookmark_id(url, digits);
  fp_str id = {digits, sizeof digits};
  fp_buf bookmark = {0}, key = {0};
  fp_puts(&bookmark, "{");
  member(&bookmark, "id", id);
  member(&bookmark, "url", url);
  member(&bookmark, "title", title);
  fp_puts(&bookmark, "}");
  bookmark_key(&key, id);
  int stored = fp_kv_set(fp_view(&key), fp_view(&bookmark)) && index_add(id);
  uint64_t answer = stored ? created(id, url, title, fp_view(&bookmark)) : fp_error_host("cannot store the bookmark");
  fp_buf_free(&key);
  fp_buf_free(&bookmark);
  return answer;
}

static uint64_t create(fp_str url) {
  fp_str agent_key = FP_STR("user_agent");
  fp_str agent = fp_owned(fp_import_get_config(agent_key.ptr, agent_key.len));
  if (!agent.ptr) return fp_error_host("cannot read user_agent");
  fp_str page = {0};
  int32_t status = fetch(url, agent, &page);
  fp_free(agent);
  uint64_t answer;
  if (status == 200) {
    fp_str title = page_title(page);
    answer = save(url, title.ptr ? title : url);
  } else {
    fp_buf text = {0};
    fp_puts(&text, "GET ");
    fp_put(&text, url);
    fp_puts(&text, " answered ");
    fp_put_u32(&text, (uint32_t)status);
    answer = status ? fp_error(fp_view(&text)) : fp_error_host("cannot fetch the page");
    fp_buf_free(&text);
  }
  fp_free(page);
  return answer;
}

static uint64_t get(fp_str id) {
  fp_buf key = {0}, text = {0};
  int failed;
  bookmark_key(&key, id);
  fp_str bookmark = fp_kv_get(fp_view(&key), &failed);
  fp_buf_free(&key);
  if (failed) return fp_error_host("cannot read the bookmark");
  if (!bookmark.ptr) {
    fp_puts(&text, "no bookmark with id ");
    fp_put(&text, id);
    uint64_t answer = fp_error(fp_view(&text));
    fp_buf_free(&text);
    return answer;
  }
  fp_puts(&text, "{\"capability\":\"bookmark\",\"operation\":\"get\",\"data\":");
  fp_put(&text, bookmark);
  fp_puts(&text, "}");
  fp_free(bookmark);
  return fp_data(&text);
}

/* Appends the stored bookmarks, comma separated, and counts them; an id without a bookmark is passed over. -1 if the host failed. */
static int32_t put_bookmarks(fp_buf *out, fp_str index) {
  fp_str item;
  int32_t count = 0;
  int failed = 0;
  while (!failed && fp_json_next(&index, &item)) {
    fp_str id = fp_json_text(item);
    fp_buf key = {0};
    bookmark_key(&key, id);
    fp_str bookmark = fp_kv_get(fp_view(&key), &failed);
    if (bookmark.ptr) {
      if (count++) fp_puts(out, ",");
      fp_put(out, bookmark);
    }
    fp_free(bookmark);
    fp_buf_free(&key);
    fp_free(id);
  }
  return failed ? -1 : count;
}

static uint64_t list(void) {
  fp_str index = read_index();
  if (!index.ptr) return fp_error_host("cannot read the index");
  fp_buf answer = {0};
  fp_puts(&answer, "{\"capability\":\"bookmark\",\"operation\":\"list\",\"data\":[");
  int32_t count = put_bookmarks(&answer, index);
  fp_free(index);
  if (count < 0) {
    fp_buf_free(&answer);
    return fp_error_host("cannot read the bookmarks");
  }
  fp_puts(&answer, "],\"text\":\"");
  fp_put_u32(&answer, (uint32_t)count);
  fp_puts(&answer, " bookmark(s)\"}");
  return fp_data(&answer);
}

FP_EXPORT("init") uint64_t init(const char *config, size_t len) {
  fp_str agent = fp_json_text(fp_json_get((fp_str){config, len}, "user_agent"));
  uint64_t answer = agent.len ? 0 : fp_error(FP_STR("user_agent is empty"));
  fp_free(agent);
  return answer;
}

FP_EXPORT("ability_call") uint64_t ability_call(const char *params, size_t len) {
  fp_str call = {params, len}, arguments = fp_json_get(call, "params");
  fp_str operation = fp_json_text(fp_json_get(call, "operation"));
  fp_str url = fp_json_text(fp_json_get(arguments, "url"));
  fp_str id = fp_json_text(fp_json_get(arguments, "id"));
  uint64_t answer;
  if (fp_equal(operation, FP_STR("create"))) {
    answer = url.len ? create(url) : fp_error(FP_STR("create needs a url"));
  } else if (fp_equal(operation, FP_STR("get"))) {
    answer = id.len ? get(id) : fp_error(FP_STR("get needs an id"));
  } else if (fp_equal(operation, FP_STR("list"))) {
    answer = list();
  } else {
    answer = fp_error(FP_STR("the operations are list, get and create"));
  }
  fp_free(operation);
  fp_free(url);
  fp_free(id);
  return answer;
}

FP_EXPORT("command") uint64_t command(const char *params, size_t len) {
  (void)params, (void)len;
  fp_str index = read_index(), rest = index, item;
  if (!index.ptr) return fp_error_host("cannot read the index");
  fp_buf answer = {0};
  uint32_t count = 0;
  while (fp_json_next(&rest, &item)) count++;
  fp_free(index);
  fp_puts(&answer, "{\"_type\":\"TextMsg\",\"text\":\"");
  fp_put_u32(&answer, count);
  fp_puts(&answer, " bookmark(s) saved. Try: list, get <id>, create <url>.\"}");
  return fp_data(&answer);
}

FP_EXPORT("help") uint64_t help(void) {
  fp_buf answer = {0};
  fp_puts(&answer, "{\"bookmark\":[\"list: all bookmarks\",\"get <id>: one bookmark\",\"create <url>: fetch the page's title and save it\"]}");
  return fp_data(&answer);
}

FP_EXPORT("rules") uint64_t rules(void) {
  fp_buf answer = {0};
  fp_puts(&answer, "[]");
  return fp_data(&answer);
}

FP_EXPORT("form") uint64_t form(const char *params, size_t len) {
  (void)params, (void)len;
  return fp_error(FP_STR("no form here"));
}

FP_EXPORT("bootstrap") uint64_t bootstrap(void) { return 0; }
