/* Decode steps on every kind of cache. */
#include "support.h"

enum { B = 2, H = 4, G = 2, D = 16, CAPACITY = 40 };

static vkattn_cache_tensor tensor_of(vkattn_cache_format format, vkattn_cache_arrangement arrangement,
                                     int64_t blocks, int64_t tokens) {
  vkattn_cache_tensor tensor = VKATTN_INIT(vkattn_cache_tensor);
  tensor.format = format;
  tensor.arrangement = arrangement;
  tensor.block_count = blocks;
  tensor.block_tokens = tokens;
  tensor.heads = G;
  tensor.channels = D;
  return tensor;
}

static vkattn_plan plan_of(const vkattn_cache_tensor *keys, const vkattn_cache_tensor *values,
                           int64_t queries, int64_t most_keys, int64_t value_size) {
  vkattn_decode_request request = VKATTN_INIT(vkattn_decode_request);
  request.batch_size = B;
  request.query_tokens = queries;
  request.query_heads = H;
  request.key_cache = keys;
  request.value_cache = values;
  request.value_head_size = value_size;
  request.max_key_tokens = most_keys;
  request.element_type = VKATTN_F32;
  request.flags = VKATTN_DECODE_RETURNS_LOG_SUM_EXP;
  vkattn_plan plan = NULL;
  OK(vkattn_decode_plan_create(device, &request, &plan));
  return plan;
}

/* Three layers of one step, ragged lengths, drafts of two tokens. */
static void contiguous(void) {
  enum { S = 2, LAYERS = 3 };
  const int32_t lengths[B] = {CAPACITY - 3, 5};
  vkattn_cache_tensor cache = tensor_of(VKATTN_CACHE_F32, VKATTN_CACHE_CONTIGUOUS, B, CAPACITY);
  vkattn_plan plan = plan_of(&cache, &cache, S, 0, 0);
  vkattn_step_info info = VKATTN_INIT(vkattn_step_info);
  info.lengths = lengths;
  info.length_count = B;
  size_t bytes = 0, most = 0;
  OK(vkattn_decode_workspace_byte_count(plan, &info, &bytes));
  OK(vkattn_plan_byte_count(plan, VKATTN_TENSOR_WORKSPACE, &most));
  EXPECT(bytes > 0 && bytes <= most);
  char text[16];
  size_t length = 0;
  OK(vkattn_plan_describe(plan, NULL, 0, &length));
  EXPECT(length > 100);
  OK(vkattn_plan_describe(plan, text, sizeof(text), NULL));
  EXPECT(strcmp(text, "family: decode\n") == 0);
  vkattn_kernel kernel = kernel_of(plan);
  vkattn_buffer workspace = NULL;
  OK(vkattn_buffer_create(device, bytes, VKATTN_MEMORY_DEVICE, "workspace", &workspace));
  const vkattn_binding shared[] = {VKATTN_BIND(VKATTN_TENSOR_WORKSPACE, workspace)};
  info.bindings = shared;
  info.binding_count = 1;

  vkattn_recorder recorder = NULL;
  vkattn_step step = NULL;
  OK(vkattn_recorder_create(device, &recorder));
  OK(vkattn_recorder_prepare_step(recorder, kernel, &info, &step));
  float *q[LAYERS], *k[LAYERS], *v[LAYERS];
  vkattn_buffer buffers[LAYERS][5];
  for (int layer = 0; layer < LAYERS; layer++) {
    uint64_t seed = 50 + 3 * (uint64_t)layer;
    q[layer] = numbers(B * S * H * D, seed);
    k[layer] = numbers(B * CAPACITY * G * D, seed + 1);
    v[layer] = numbers(B * CAPACITY * G * D, seed + 2);
    for (int b = 0; b < B; b++)
      for (int i = (b * CAPACITY + lengths[b]) * G * D; i < (b + 1) * CAPACITY * G * D; i++)
        k[layer][i] = v[layer][i] = NAN;
    buffers[layer][0] = buffer_of(q[layer], 4 * B * S * H * D);
    buffers[layer][1] = buffer_of(k[layer], 4 * B * CAPACITY * G * D);
    buffers[layer][2] = buffer_of(v[layer], 4 * B * CAPACITY * G * D);
    buffers[layer][3] = output_buffer(4 * B * S * H * D);
    buffers[layer][4] = output_buffer(4 * B * S * H);
    const vkattn_binding bindings[] = {VKATTN_BIND(VKATTN_TENSOR_QUERY, buffers[layer][0]),
                                       VKATTN_BIND(VKATTN_TENSOR_KEY_CACHE, buffers[layer][1]),
                                       VKATTN_BIND(VKATTN_TENSOR_VALUE_CACHE, buffers[layer][2]),
                                       VKATTN_BIND(VKATTN_TENSOR_OUTPUT, buffers[layer][3]),
                                       VKATTN_BIND(VKATTN_TENSOR_LOG_SUM_EXP, buffers[layer][4])};
    OK(vkattn_recorder_record_layer(recorder, kernel, step, bindings, 5));
  }
  vkattn_submission submission = NULL;
  OK(vkattn_recorder_submit(recorder, &submission));
  OK(vkattn_submission_wait(submission, -1));
  for (int layer = 0; layer < LAYERS; layer++) {
    attention_problem problem = {B, S, CAPACITY, H, G, D, D, q[layer], k[layer], v[layer], 1, -1, 0,
                                 NULL, NULL, NULL, lengths};
    double o[B * S * H * D], lse[B * S * H];
    float got[B * S * H * D], got_lse[B * S * H];
    reference_attention(&problem, o, lse, NULL);
    get_floats(buffers[layer][3], got, B * S * H * D);
    get_floats(buffers[layer][4], got_lse, B * S * H);
    expect_close("decode", got, o, B * S * H * D, 1e-5);
    expect_close("its log-sum-exp", got_lse, lse, B * S * H, 1e-5);
    for (int i = 0; i < 5; i++) OK(vkattn_buffer_free(buffers[layer][i]));
    free(q[layer]), free(k[layer]), free(v[layer]);
  }
  OK(vkattn_submission_free(submission)), OK(vkattn_recorder_free(recorder));
  OK(vkattn_step_free(step)), OK(vkattn_buffer_free(workspace)), OK(vkattn_kernel_free(kernel));
}

/* Layers recorded once and run with other lengths each time; everything that is refused. */
static void replayed(void) {
  static const int32_t all_lengths[][B] = {{1, 0}, {CAPACITY, 5}, {7, CAPACITY - 1}, {0, 0}};
  vkattn_cache_tensor cache = tensor_of(VKATTN_CACHE_F32, VKATTN_CACHE_CONTIGUOUS, B, CAPACITY);
  vkattn_plan plan = plan_of(&cache, &cache, 1, 0, 0);
  size_t most = 0;
  OK(vkattn_plan_byte_count(plan, VKATTN_TENSOR_WORKSPACE, &most));
  vkattn_kernel kernel = kernel_of(plan);
  vkattn_buffer workspace = NULL;
  OK(vkattn_buffer_create(device, most, VKATTN_MEMORY_DEVICE, "workspace", &workspace));
  const vkattn_binding shared[] = {VKATTN_BIND(VKATTN_TENSOR_WORKSPACE, workspace)};
  vkattn_step_info info = VKATTN_INIT(vkattn_step_info);
  info.lengths = all_lengths[0];
  info.length_count = B;
  info.bindings = shared;
  info.binding_count = 1;
  vkattn_recorder first = NULL, layers = NULL;
  vkattn_step step = NULL, once = NULL;
  OK(vkattn_recorder_create(device, &first));
  OK(vkattn_recorder_prepare_step(first, kernel, &info, &once));
  OK(vkattn_recorder_prepare_replay_step(first, kernel, &info, &step));
  OK(vkattn_recorder_submit(first, NULL));
  float *q = numbers(B * H * D, 91), *k = numbers(B * CAPACITY * G * D, 92);
  float *v = numbers(B * CAPACITY * G * D, 93);
  vkattn_buffer buffers[] = {buffer_of(q, 4 * B * H * D), buffer_of(k, 4 * B * CAPACITY * G * D),
                             buffer_of(v, 4 * B * CAPACITY * G * D), output_buffer(4 * B * H * D),
                             output_buffer(4 * B * H)};
  const vkattn_binding bindings[] = {VKATTN_BIND(VKATTN_TENSOR_QUERY, buffers[0]),
                                     VKATTN_BIND(VKATTN_TENSOR_KEY_CACHE, buffers[1]),
                                     VKATTN_BIND(VKATTN_TENSOR_VALUE_CACHE, buffers[2]),
                                     VKATTN_BIND(VKATTN_TENSOR_OUTPUT, buffers[3]),
                                     VKATTN_BIND(VKATTN_TENSOR_LOG_SUM_EXP, buffers[4])};
  OK(vkattn_recorder_create_for_replay(device, &layers));
  OK(vkattn_recorder_record_layer(layers, kernel, step, bindings, 5));
  vkattn_command_list list = NULL;
  OK(vkattn_command_list_create(layers, &list));
  EXPECT_STATUS(VKATTN_ALREADY_SUBMITTED, vkattn_command_list_create(layers, &list));
  for (size_t run = 0; run < sizeof(all_lengths) / sizeof(all_lengths[0]); run++) {
    const int32_t *lengths = all_lengths[run];
    vkattn_recorder upload = NULL;
    OK(vkattn_recorder_create(device, &upload));
    info.lengths = lengths;
    info.binding_count = 1;
    EXPECT_STATUS(VKATTN_INVALID_ARGUMENT, vkattn_recorder_update_step(upload, kernel, step, &info));
    info.binding_count = 0;
    EXPECT_STATUS(VKATTN_INVALID_ARGUMENT, vkattn_recorder_update_step(upload, kernel, once, &info));
    OK(vkattn_recorder_update_step(upload, kernel, step, &info));
    EXPECT_STATUS(VKATTN_INVALID_ARGUMENT, vkattn_command_list_create(upload, &list));
    OK(vkattn_recorder_submit(upload, NULL)), OK(vkattn_recorder_free(upload));
    vkattn_submission submission = NULL;
    OK(vkattn_command_list_submit(list, run % 2 == 0 ? NULL : &submission));
    if (submission == NULL) OK(vkattn_command_list_submit(list, &submission));
    OK(vkattn_submission_wait(submission, -1)), OK(vkattn_submission_free(submission));
    attention_problem problem = {B, 1, CAPACITY, H, G, D, D, q, k, v, 1, -1, 0, NULL, NULL, NULL, lengths};
    double o[B * H * D];
    float got[B * H * D];
    reference_attention(&problem, o, NULL, NULL);
    get_floats(buffers[3], got, B * H * D);
    expect_close("replayed decode", got, o, B * H * D, 1e-5);
  }
  OK(vkattn_command_list_free(list));
  EXPECT_STATUS(VKATTN_INVALID_HANDLE, vkattn_command_list_submit(list, NULL));
  for (int i = 0; i < 5; i++) OK(vkattn_buffer_free(buffers[i]));
  OK(vkattn_recorder_free(first)), OK(vkattn_recorder_free(layers)), OK(vkattn_step_free(step));
  OK(vkattn_step_free(once)), OK(vkattn_buffer_free(workspace)), OK(vkattn_kernel_free(kernel));
  free(q), free(k), free(v);
}

/* The same keys in a ring, in pages with lists on the host, in pages with lists on the device, in f16. */
static void arrangements(void) {
  enum { S = 1, PAGE = 8, PAGES = 12, KEYS = 21 };
  const int32_t lengths[B] = {KEYS, 11};
  const int32_t indptr[] = {0, 3, 5}, indices[] = {7, 2, 11, 0, 5};
  float *q = numbers(B * S * H * D, 71), *k = numbers(B * KEYS * G * D, 72);
  float *v = numbers(B * KEYS * G * D, 73);
  uint16_t *k16 = halves_of(k, B * KEYS * G * D), *v16 = halves_of(v, B * KEYS * G * D);
  for (int i = 0; i < B * KEYS * G * D; i++) k[i] = float_of_half(k16[i]), v[i] = float_of_half(v16[i]);
  for (int kind = 0; kind < 3; kind++) {
    const int is_ring = kind == 0, capacity = 16;
    const int places = is_ring ? B * capacity : PAGES * PAGE;
    uint16_t *keys = malloc(2 * (size_t)places * G * D), *values = malloc(2 * (size_t)places * G * D);
    for (int i = 0; i < places * G * D; i++) keys[i] = values[i] = 0x7E00; /* NaN */
    for (int b = 0; b < B; b++) {
      for (int j = 0; j < lengths[b]; j++) {
        int place = is_ring ? b * capacity + j % capacity
                            : indices[indptr[b] + j / PAGE] * PAGE + j % PAGE;
        memcpy(keys + place * G * D, k16 + (b * KEYS + j) * G * D, 2 * G * D);
        memcpy(values + place * G * D, v16 + (b * KEYS + j) * G * D, 2 * G * D);
      }
    }
    vkattn_cache_tensor cache =
        is_ring ? tensor_of(VKATTN_CACHE_F16, VKATTN_CACHE_RING, B, capacity)
                : tensor_of(VKATTN_CACHE_F16, VKATTN_CACHE_PAGED, PAGES, PAGE);
    vkattn_plan plan = plan_of(&cache, &cache, S, KEYS, 0);
    vkattn_kernel kernel = kernel_of(plan);
    vkattn_buffer buffers[] = {buffer_of(q, 4 * B * S * H * D),
                               buffer_of(keys, 2 * (size_t)places * G * D),
                               buffer_of(values, 2 * (size_t)places * G * D),
                               output_buffer(4 * B * S * H * D), output_buffer(4 * B * S * H),
                               buffer_of(indptr, sizeof(indptr)), buffer_of(indices, sizeof(indices))};
    const vkattn_binding bindings[] = {VKATTN_BIND(VKATTN_TENSOR_QUERY, buffers[0]),
                                       VKATTN_BIND(VKATTN_TENSOR_KEY_CACHE, buffers[1]),
                                       VKATTN_BIND(VKATTN_TENSOR_VALUE_CACHE, buffers[2]),
                                       VKATTN_BIND(VKATTN_TENSOR_OUTPUT, buffers[3]),
                                       VKATTN_BIND(VKATTN_TENSOR_LOG_SUM_EXP, buffers[4])};
    const vkattn_binding lists[] = {VKATTN_BIND(VKATTN_TENSOR_PAGE_INDPTR, buffers[5]),
                                    VKATTN_BIND(VKATTN_TENSOR_PAGE_INDICES, buffers[6])};
    vkattn_step_info info = VKATTN_INIT(vkattn_step_info);
    info.lengths = lengths;
    info.length_count = B;
    if (kind == 1) {
      info.page_indptr = indptr;
      info.page_indices = indices;
      info.page_index_count = 5;
    }
    if (kind == 2) {
      info.bindings = lists;
      info.binding_count = 2;
    }
    OK(vkattn_decode_run(kernel, &info, bindings, 5));
    attention_problem problem = {B, S, KEYS, H, G, D, D, q, k, v, 1, is_ring ? capacity - 1 : -1, 0,
                                 NULL, NULL, NULL, lengths};
    double o[B * S * H * D];
    float got[B * S * H * D];
    reference_attention(&problem, o, NULL, NULL);
    get_floats(buffers[3], got, B * S * H * D);
    expect_close(is_ring ? "ring" : kind == 1 ? "pages" : "pages on the device", got, o,
                 B * S * H * D, 1e-5);
    for (size_t i = 0; i < sizeof(buffers) / sizeof(buffers[0]); i++)
      OK(vkattn_buffer_free(buffers[i]));
    OK(vkattn_kernel_free(kernel));
    free(keys), free(values);
  }
  free(q), free(k), free(v), free(k16), free(v16);
}

/* Values are the first channels of keys. */
static void latent(void) {
  enum { KEYS = 13, V = 8 };
  const int32_t lengths[B] = {KEYS, 6};
  float *q = numbers(B * H * D, 81), *k = numbers(B * KEYS * G * D, 82), *v = zeros(B * KEYS * G * V);
  for (int i = 0; i < B * KEYS * G; i++) memcpy(v + i * V, k + i * D, V * sizeof(float));
  vkattn_cache_tensor cache = tensor_of(VKATTN_CACHE_F32, VKATTN_CACHE_CONTIGUOUS, B, KEYS);
  vkattn_kernel kernel = kernel_of(plan_of(&cache, NULL, 1, 0, V));
  vkattn_buffer buffers[] = {buffer_of(q, 4 * B * H * D), buffer_of(k, 4 * B * KEYS * G * D),
                             output_buffer(4 * B * H * V), output_buffer(4 * B * H)};
  const vkattn_binding bindings[] = {VKATTN_BIND(VKATTN_TENSOR_QUERY, buffers[0]),
                                     VKATTN_BIND(VKATTN_TENSOR_KEY_CACHE, buffers[1]),
                                     VKATTN_BIND(VKATTN_TENSOR_OUTPUT, buffers[2]),
                                     VKATTN_BIND(VKATTN_TENSOR_LOG_SUM_EXP, buffers[3])};
  vkattn_step_info info = VKATTN_INIT(vkattn_step_info);
  info.lengths = lengths;
  info.length_count = B;
  OK(vkattn_decode_run(kernel, &info, bindings, 4));
  attention_problem problem = {B, 1, KEYS, H, G, D, V, q, k, v, 1, -1, 0, NULL, NULL, NULL, lengths};
  double o[B * H * V];
  float got[B * H * V];
  reference_attention(&problem, o, NULL, NULL);
  get_floats(buffers[2], got, B * H * V);
  expect_close("latent decode", got, o, B * H * V, 1e-5);

  /* What does not fit is refused, and nothing is written. */
  info.length_count = 1;
  EXPECT_STATUS(VKATTN_INVALID_ARGUMENT, vkattn_decode_run(kernel, &info, bindings, 4));
  info.length_count = B;
  const int32_t long_lengths[B] = {KEYS, KEYS + 1}, negative[B] = {KEYS, -1};
  info.lengths = long_lengths;
  EXPECT_STATUS(VKATTN_INVALID_ARGUMENT, vkattn_decode_run(kernel, &info, bindings, 4));
  EXPECT(strstr(vkattn_last_error(), "lengths[1]") != NULL);
  info.lengths = negative;
  EXPECT_STATUS(VKATTN_INVALID_ARGUMENT, vkattn_decode_run(kernel, &info, bindings, 4));
  info.lengths = NULL;
  EXPECT_STATUS(VKATTN_NULL_POINTER, vkattn_decode_run(kernel, &info, bindings, 4));
  info.lengths = lengths;
  info.page_indptr = lengths;
  EXPECT_STATUS(VKATTN_INVALID_ARGUMENT, vkattn_decode_run(kernel, &info, bindings, 4));
  info.page_indptr = NULL;
  EXPECT_STATUS(VKATTN_INVALID_ARGUMENT, vkattn_kernel_run(kernel, bindings, 4, NULL, NULL));
  for (int i = 0; i < 4; i++) OK(vkattn_buffer_free(buffers[i]));
  OK(vkattn_kernel_free(kernel));
  free(q), free(k), free(v);
}

void test_decode(void) {
  contiguous();
  replayed();
  arrangements();
  latent();
}
