/* Writing to caches: append with rotary embedding, rotation of queries, compaction, copies of pages. */
#include "support.h"

enum { G = 2, D = 16, N = 5, PAGE = 4, PAGES = 6, B = 2, ENTRIES = 4 };

static const int32_t indptr[] = {0, 2, 4}, indices[] = {3, 1, 5, 0};

static vkattn_cache_tensor paged(vkattn_cache_format format, int64_t channels) {
  vkattn_cache_tensor tensor = VKATTN_INIT(vkattn_cache_tensor);
  tensor.format = format;
  tensor.arrangement = VKATTN_CACHE_PAGED;
  tensor.block_count = PAGES;
  tensor.block_tokens = PAGE;
  tensor.heads = G;
  tensor.channels = channels;
  return tensor;
}

static vkattn_cache cache_of(const vkattn_cache_tensor *key, const vkattn_cache_tensor *value) {
  vkattn_cache cache = VKATTN_INIT(vkattn_cache);
  cache.key = key;
  cache.value = value;
  cache.page_table_sequences = B;
  cache.page_table_entries = ENTRIES;
  return cache;
}

/* Pairs c and c + D / 2 turned by position * 10000^(-2c / D). */
static void rotate(const float *x, double position, double *y) {
  for (int c = 0; c < D / 2; c++) {
    double angle = position * pow(10000, -2.0 * c / D);
    y[c] = x[c] * cos(angle) - x[c + D / 2] * sin(angle);
    y[c + D / 2] = x[c] * sin(angle) + x[c + D / 2] * cos(angle);
  }
}

/* Keys to f32 with rotation, values to int8 with a scale for each token and head. */
static void append_and_rotate(void) {
  float *k = numbers(N * G * D, 91), *v = numbers(N * G * D, 92);
  const int32_t sequences[N] = {0, 0, 1, 1, 7}, positions[N] = {3, 4, 0, 7, 1};
  vkattn_rotary rotary = VKATTN_INIT(vkattn_rotary);
  rotary.channels = D;
  uint64_t table[D / 2];
  OK(vkattn_rotary_frequency_table(&rotary, table, D / 2));
  EXPECT_STATUS(VKATTN_INVALID_ARGUMENT, vkattn_rotary_frequency_table(&rotary, table, D));

  vkattn_cache_tensor key = paged(VKATTN_CACHE_F32, D), value = paged(VKATTN_CACHE_INT8, D);
  value.scale_group = D;
  vkattn_cache cache = cache_of(&key, &value);
  vkattn_append_request request = VKATTN_INIT(vkattn_append_request);
  request.tokens = N;
  request.cache = &cache;
  request.rotary = &rotary;
  vkattn_plan plan = NULL;
  OK(vkattn_append_plan_create(device, &request, &plan));
  size_t scale_bytes = 0;
  OK(vkattn_plan_byte_count(plan, VKATTN_TENSOR_VALUE_SCALES, &scale_bytes));
  EXPECT(scale_bytes == 4 * PAGES * PAGE * G);
  EXPECT_STATUS(VKATTN_INVALID_ARGUMENT,
                vkattn_plan_byte_count(plan, VKATTN_TENSOR_KEY_SCALES, &scale_bytes));
  vkattn_kernel kernel = kernel_of(plan);
  enum { ROWS = PAGES * PAGE * G };
  vkattn_buffer buffers[] = {buffer_of(k, 4 * N * G * D),
                             buffer_of(v, 4 * N * G * D),
                             buffer_of(sequences, sizeof(sequences)),
                             buffer_of(positions, sizeof(positions)),
                             buffer_of(table, sizeof(table)),
                             output_buffer(4 * ROWS * D),
                             output_buffer(ROWS * D),
                             output_buffer(4 * ROWS),
                             buffer_of(indptr, sizeof(indptr)),
                             buffer_of(indices, sizeof(indices))};
  const vkattn_binding bindings[] = {VKATTN_BIND(VKATTN_TENSOR_KEY, buffers[0]),
                                     VKATTN_BIND(VKATTN_TENSOR_VALUE, buffers[1]),
                                     VKATTN_BIND(VKATTN_TENSOR_SEQUENCES, buffers[2]),
                                     VKATTN_BIND(VKATTN_TENSOR_POSITIONS, buffers[3]),
                                     VKATTN_BIND(VKATTN_TENSOR_FREQUENCIES, buffers[4]),
                                     VKATTN_BIND(VKATTN_TENSOR_KEY_CACHE, buffers[5]),
                                     VKATTN_BIND(VKATTN_TENSOR_VALUE_CACHE, buffers[6]),
                                     VKATTN_BIND(VKATTN_TENSOR_VALUE_SCALES, buffers[7]),
                                     VKATTN_BIND(VKATTN_TENSOR_PAGE_INDPTR, buffers[8]),
                                     VKATTN_BIND(VKATTN_TENSOR_PAGE_INDICES, buffers[9])};
  OK(vkattn_kernel_run(kernel, bindings, 10, NULL, NULL));
  float keys[ROWS * D], scales[ROWS];
  int8_t codes[ROWS * D];
  get_floats(buffers[5], keys, ROWS * D);
  OK(vkattn_buffer_download(buffers[6], 0, codes, sizeof(codes)));
  get_floats(buffers[7], scales, ROWS);
  int written = 0;
  for (int n = 0; n < N; n++) {
    if (sequences[n] >= B) continue;
    int place = indices[indptr[sequences[n]] + positions[n] / PAGE] * PAGE + positions[n] % PAGE;
    for (int g = 0; g < G; g++) {
      double turned[D], value_row[D];
      int row = place * G + g;
      float got[D], most = 0;
      rotate(k + (n * G + g) * D, positions[n], turned);
      expect_close("appended keys", keys + row * D, turned, D, 1e-6);
      for (int d = 0; d < D; d++) {
        value_row[d] = v[(n * G + g) * D + d];
        most = fmaxf(most, fabsf((float)value_row[d]));
        got[d] = scales[row] * (float)codes[row * D + d];
      }
      EXPECT(fabsf(scales[row] - most / 127) <= 1e-6f * most);
      for (int d = 0; d < D; d++) EXPECT(fabs(got[d] - value_row[d]) <= 0.501 * scales[row]);
      written++;
    }
  }
  /* Nothing else: the token of sequence 7 least of all. */
  int untouched = 0;
  for (int i = 0; i < ROWS; i++) untouched += isnan(keys[i * D]) ? 1 : 0;
  EXPECT(untouched == ROWS - written);

  EXPECT_STATUS(VKATTN_MISSING_BUFFER, vkattn_kernel_run(kernel, bindings + 5, 5, NULL, NULL));
  OK(vkattn_kernel_free(kernel));

  vkattn_rotate_request turn = VKATTN_INIT(vkattn_rotate_request);
  turn.tokens = N;
  turn.heads = G;
  turn.channels = D;
  turn.rotary = &rotary;
  OK(vkattn_rotate_plan_create(device, &turn, &plan));
  kernel = kernel_of(plan);
  /* In place. */
  const vkattn_binding rotation[] = {VKATTN_BIND(VKATTN_TENSOR_INPUT, buffers[0]),
                                     VKATTN_BIND(VKATTN_TENSOR_OUTPUT, buffers[0]),
                                     VKATTN_BIND(VKATTN_TENSOR_POSITIONS, buffers[3]),
                                     VKATTN_BIND(VKATTN_TENSOR_FREQUENCIES, buffers[4])};
  OK(vkattn_kernel_run(kernel, rotation, 4, NULL, NULL));
  double expected[N * G * D];
  float got[N * G * D];
  for (int n = 0; n < N; n++)
    for (int g = 0; g < G; g++) rotate(k + (n * G + g) * D, positions[n], expected + (n * G + g) * D);
  get_floats(buffers[0], got, N * G * D);
  expect_close("rotated queries", got, expected, N * G * D, 1e-6);
  OK(vkattn_kernel_free(kernel));
  for (size_t i = 0; i < sizeof(buffers) / sizeof(buffers[0]); i++) OK(vkattn_buffer_free(buffers[i]));
  free(k), free(v);
}

/* Whole rows move as they are. */
static void compact_and_copy(void) {
  enum { COUNT = PAGES * PAGE * G * D, NODES = 3 };
  float *before = numbers(COUNT, 95), after[COUNT];
  vkattn_cache_tensor key = paged(VKATTN_CACHE_F32, D);
  vkattn_cache cache = cache_of(&key, NULL);
  const int32_t committed[B] = {2, 4}, paths[B * NODES] = {1, 2, 0, 2, 0, 0}, lengths[B] = {2, 1};
  const int32_t copies[] = {4, 2};
  vkattn_buffer buffers[] = {buffer_of(committed, sizeof(committed)), buffer_of(paths, sizeof(paths)),
                             buffer_of(lengths, sizeof(lengths)),     buffer_of(before, 4 * COUNT),
                             buffer_of(indptr, sizeof(indptr)),       buffer_of(indices, sizeof(indices)),
                             buffer_of(copies, sizeof(copies))};
  vkattn_compact_request compact = VKATTN_INIT(vkattn_compact_request);
  compact.cache = &cache;
  compact.nodes = NODES;
  vkattn_plan plan = NULL;
  OK(vkattn_compact_plan_create(device, &compact, &plan));
  vkattn_kernel kernel = kernel_of(plan);
  const vkattn_binding moving[] = {VKATTN_BIND(VKATTN_TENSOR_COMMITTED, buffers[0]),
                                   VKATTN_BIND(VKATTN_TENSOR_PATHS, buffers[1]),
                                   VKATTN_BIND(VKATTN_TENSOR_PATH_LENGTHS, buffers[2]),
                                   VKATTN_BIND(VKATTN_TENSOR_KEY_CACHE, buffers[3]),
                                   VKATTN_BIND(VKATTN_TENSOR_PAGE_INDPTR, buffers[4]),
                                   VKATTN_BIND(VKATTN_TENSOR_PAGE_INDICES, buffers[5])};
  OK(vkattn_kernel_run(kernel, moving, 6, NULL, NULL));
  OK(vkattn_kernel_free(kernel));
  vkattn_copy_pages_request copy = VKATTN_INIT(vkattn_copy_pages_request);
  copy.cache = &cache;
  copy.copies = 1;
  OK(vkattn_copy_pages_plan_create(device, &copy, &plan));
  kernel = kernel_of(plan);
  const vkattn_binding copying[] = {VKATTN_BIND(VKATTN_TENSOR_COPIES, buffers[6]),
                                    VKATTN_BIND(VKATTN_TENSOR_KEY_CACHE, buffers[3]),
                                    VKATTN_BIND(VKATTN_TENSOR_PAGE_INDPTR, buffers[4]),
                                    VKATTN_BIND(VKATTN_TENSOR_PAGE_INDICES, buffers[5])};
  OK(vkattn_kernel_run(kernel, copying, 4, NULL, NULL));
  OK(vkattn_kernel_free(kernel));
  get_floats(buffers[3], after, COUNT);
  /* In order, as the kernel says it does. */
  const size_t row = G * D;
  for (int b = 0; b < B; b++)
    for (int i = 0; i < lengths[b]; i++) {
      int from = committed[b] + paths[b * NODES + i], to = committed[b] + i;
      memmove(before + (size_t)(indices[indptr[b] + to / PAGE] * PAGE + to % PAGE) * row,
              before + (size_t)(indices[indptr[b] + from / PAGE] * PAGE + from % PAGE) * row,
              row * sizeof(float));
    }
  memcpy(before + 2 * PAGE * row, before + 4 * PAGE * row, PAGE * row * sizeof(float));
  EXPECT(memcmp(before, after, sizeof(after)) == 0);
  for (size_t i = 0; i < sizeof(buffers) / sizeof(buffers[0]); i++) OK(vkattn_buffer_free(buffers[i]));
  free(before);
}

void test_caches(void) {
  append_and_rotate();
  compact_and_copy();
}
