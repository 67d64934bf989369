/* Modifications: scores, masks and outputs of one's own, in tiled attention, block maps and decode. */
#include "tensors.h"

enum { B = 1, S = 20, T = 33, H = 4, G = 2, D = 16, W = 7 };

static float *q, *k, *v, *slopes;
static uint8_t kinds[T];

static vkattn_attention_request request_of(void) {
  vkattn_attention_request request = VKATTN_INIT(vkattn_attention_request);
  request.batch_size = B;
  request.query_tokens = S;
  request.key_tokens = T;
  request.query_heads = H;
  request.key_heads = G;
  request.head_size = D;
  return request;
}

/* score - slope_h log(1 + |distance|) where key and position are of one kind and less than `window` apart; the
 * output times 2 and plus its channel. */
static void reference(int queries, int is_output, double *o) {
  for (int i = 0; i < queries; i++)
    for (int h = 0; h < H; h++) {
      double s[T], sum = 0, most = -INFINITY;
      int position = i + T - queries, g = h / (H / G);
      for (int j = 0; j < T; j++) {
        s[j] = -INFINITY;
        if (kinds[j] != kinds[position] || abs(position - j) >= W) continue;
        double dot = 0;
        for (int d = 0; d < D; d++) dot += (double)q[(i * H + h) * D + d] * k[(j * G + g) * D + d];
        s[j] = dot / sqrt(D) - slopes[h] * log(1.0 + abs(position - j));
        if (s[j] > most) most = s[j];
      }
      for (int j = 0; j < T; j++) sum += s[j] > -INFINITY ? exp(s[j] - most) : 0;
      for (int e = 0; e < D; e++) {
        double total = 0;
        for (int j = 0; j < T; j++)
          if (s[j] > -INFINITY) total += exp(s[j] - most) / sum * v[(j * G + g) * D + e];
        o[(i * H + h) * D + e] = is_output ? 2 * total + e : total;
      }
    }
}

/* Buffers: 0 slopes, 1 kinds; the window and the factor are scalars. */
static const vkattn_custom_parameter score_parameters[] = {
    {"slopes", VKATTN_CUSTOM_F32_BUFFER, 0, 0, 0}};
static const vkattn_custom_parameter mask_parameters[] = {
    {"kinds", VKATTN_CUSTOM_UINT8_BUFFER, 0, 0, 0}, {"window", VKATTN_CUSTOM_INT, 0, W, 0}};
static const vkattn_custom_parameter output_parameters[] = {{"factor", VKATTN_CUSTOM_FLOAT, 2, 0, 0}};

static vkattn_modification modification_of(const char *body, const vkattn_custom_parameter *parameters,
                                           size_t count) {
  vkattn_modification made = VKATTN_INIT(vkattn_modification);
  made.body = body;
  made.parameters = parameters;
  made.parameter_count = count;
  return made;
}

static void refusals(const vkattn_attention_request *request) {
  vkattn_modification score = modification_of("return score;", NULL, 0);
  vkattn_modifications modifications = VKATTN_INIT(vkattn_modifications);
#define CUSTOM(status)                                                                             \
  REFUSED(status, vkattn_custom_attention_plan_create(device, request, &modifications, &plan))
  CUSTOM(VKATTN_NULL_POINTER);
  REFUSED(VKATTN_NULL_POINTER, vkattn_custom_attention_plan_create(device, request, NULL, &plan));
  REFUSED(VKATTN_NULL_POINTER, vkattn_custom_attention_plan_create(device, NULL, &modifications, &plan));
  modifications.score = &score;
  modifications.flags = 2;
  CUSTOM(VKATTN_INVALID_ARGUMENT);
  modifications.flags = 0;
  modifications.reserved = 1;
  CUSTOM(VKATTN_INVALID_ARGUMENT);
  modifications.reserved = 0;
  score.struct_size = 1;
  CUSTOM(VKATTN_BAD_STRUCTURE);
  score.struct_size = sizeof(score);
  score.body = NULL;
  CUSTOM(VKATTN_NULL_POINTER);
  /* The message has the line and the column of the mistake. */
  score.body = "float x = 1.0;\nreturn scor * x;";
  CUSTOM(VKATTN_NOT_COMPILED);
  EXPECT(strstr(vkattn_last_error(), "score:2:") != NULL);
  score.body = "return double(score) > 0.0LF ? score : 0.0;";
  CUSTOM(VKATTN_NOT_COMPILED);
  score.body = "#define score 1\nreturn score;";
  CUSTOM(VKATTN_INVALID_ARGUMENT);
  score.body = "return score;";
  score.parameter_count = 1;
  CUSTOM(VKATTN_NULL_POINTER);
  score.parameter_count = SIZE_MAX;
  CUSTOM(VKATTN_INVALID_ARGUMENT);
  score.parameter_count = 1;
  static const vkattn_custom_parameter wrong[] = {
      {NULL, VKATTN_CUSTOM_FLOAT, 0, 0, 0}, {"x", 0, 0, 0, 0},   {"x", VKATTN_CUSTOM_INT, 1, 0, 0},
      {"x", VKATTN_CUSTOM_FLOAT, 0, 1, 0},  {"x", 99, 0, 0, 0},  {"1x", VKATTN_CUSTOM_FLOAT, 0, 0, 0},
      {"", VKATTN_CUSTOM_FLOAT, 0, 0, 0},   {"x", 1, 0, 0, 1}};
  for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
    score.parameters = &wrong[i];
    CUSTOM(i == 0 ? VKATTN_NULL_POINTER : VKATTN_INVALID_ARGUMENT);
  }
  /* One name, two values. */
  const vkattn_custom_parameter one = {"x", VKATTN_CUSTOM_FLOAT, 1, 0, 0};
  const vkattn_custom_parameter two = {"x", VKATTN_CUSTOM_FLOAT, 2, 0, 0};
  vkattn_modification mask = modification_of("return x > 0.0;", &two, 1);
  score.parameters = &one;
  modifications.mask = &mask;
  CUSTOM(VKATTN_INVALID_ARGUMENT);
  /* What a kernel has not. */
  mask.parameters = &one;
  REFUSED(VKATTN_INVALID_ARGUMENT,
          vkattn_custom_block_map_plan_create(device, request, &modifications, &plan));
  modifications.score = NULL;
  REFUSED(VKATTN_INVALID_ARGUMENT,
          vkattn_custom_block_map_plan_create(device, request, &modifications, &plan));
  modifications.mask = NULL;
  REFUSED(VKATTN_NULL_POINTER,
          vkattn_custom_block_map_plan_create(device, request, &modifications, &plan));
  REFUSED(VKATTN_NULL_POINTER, vkattn_custom_decode_plan_create(device, NULL, &modifications, &plan));
#undef CUSTOM
}

static void attention(vkattn_modifications *modifications) {
  vkattn_attention_request request = request_of();
  vkattn_plan plan = NULL;
  double expected[S * H * D];
  float o[S * H * D];
  reference(S, 1, expected);
  OK(vkattn_custom_attention_plan_create(device, &request, modifications, &plan));
  tensor tensors[] = {READ(QUERY, q, 4 * S * H * D), READ(KEY, k, 4 * T * G * D),
                      READ(VALUE, v, 4 * T * G * D), WRITTEN(OUTPUT, o, sizeof(o))};
  for (int i = 0; i < 4; i++) {
    size_t bytes = 0;
    OK(vkattn_plan_byte_count(plan, tensors[i].name, &bytes));
    EXPECT(bytes == tensors[i].byte_count);
  }
  vkattn_kernel kernel = kernel_of(plan);
  vkattn_buffer buffers[] = {buffer_of(q, 4 * S * H * D), buffer_of(k, 4 * T * G * D),
                             buffer_of(v, 4 * T * G * D), output_buffer(sizeof(o)),
                             buffer_of(slopes, 4 * H),    buffer_of(kinds, T)};
  vkattn_binding bindings[] = {VKATTN_BIND(VKATTN_TENSOR_QUERY, buffers[0]),
                               VKATTN_BIND(VKATTN_TENSOR_KEY, buffers[1]),
                               VKATTN_BIND(VKATTN_TENSOR_VALUE, buffers[2]),
                               VKATTN_BIND(VKATTN_TENSOR_OUTPUT, buffers[3]),
                               {VKATTN_TENSOR_CUSTOM_BUFFER, 0, buffers[4], 0, 0},
                               {VKATTN_TENSOR_CUSTOM_BUFFER, 1, buffers[5], 0, 0}};
  OK(vkattn_kernel_run(kernel, bindings, 6, NULL, NULL));
  get_floats(buffers[3], o, S * H * D);
  expect_close("attention with modifications", o, expected, S * H * D, 1e-5);
  EXPECT_STATUS(VKATTN_MISSING_BUFFER, vkattn_kernel_run(kernel, bindings, 5, NULL, NULL));
  EXPECT(strstr(vkattn_last_error(), "kinds") != NULL);
  bindings[5].index = 2;
  EXPECT_STATUS(VKATTN_MISSING_BUFFER, vkattn_kernel_run(kernel, bindings, 6, NULL, NULL));
  bindings[5].index = 1;
  bindings[4].byte_count = 3;
  EXPECT_STATUS(VKATTN_BUFFER_TOO_SMALL, vkattn_kernel_run(kernel, bindings, 6, NULL, NULL));
  bindings[4].byte_count = 4;
  bindings[4].offset = 2;
  EXPECT_STATUS(VKATTN_MISALIGNED, vkattn_kernel_run(kernel, bindings, 6, NULL, NULL));
  bindings[4].buffer = buffers[3];
  bindings[4].offset = bindings[4].byte_count = 0;
  EXPECT_STATUS(VKATTN_OVERLAP, vkattn_kernel_run(kernel, bindings, 6, NULL, NULL));
  for (int i = 0; i < 6; i++) OK(vkattn_buffer_free(buffers[i]));
  OK(vkattn_kernel_free(kernel));
}

/* Blocks of 64 x 64 of 130 queries and keys where a key is seen by its neighbours of less than a window. */
static void block_map(void) {
  enum { N = 130, I = 3, WINDOW = 65 };
  static const vkattn_custom_parameter window[] = {{"window", VKATTN_CUSTOM_INT, 0, WINDOW, 0}};
  vkattn_modification near = modification_of("return abs(queryIndex - keyIndex) < window;", window, 1);
  vkattn_modifications modifications = VKATTN_INIT(vkattn_modifications);
  modifications.mask = &near;
  const vkattn_operand operands[] = {
      {VKATTN_TENSOR_BLOCK_MAP, 0, VKATTN_SHARED_BATCH | VKATTN_SHARED_HEADS, 0, NULL}};
  vkattn_mask mask = VKATTN_INIT(vkattn_mask);
  mask.block_map_rows = mask.block_map_keys = 64;
  vkattn_attention_request request = request_of();
  request.query_tokens = request.key_tokens = N;
  request.mask = &mask;
  request.operands = operands;
  request.operand_count = 1;
  int32_t map[I * I], expected[I * I];
  for (int block = 0; block < I * I; block++) {
    int seen = 0, hidden = 0;
    for (int i = block / I * 64; i < N && i < block / I * 64 + 64; i++)
      for (int j = block % I * 64; j < N && j < block % I * 64 + 64; j++)
        if (abs(i - j) < WINDOW) seen++;
        else hidden++;
    expected[block] = seen == 0 ? 0 : hidden == 0 ? 2 : 1;
  }
  vkattn_plan plan = NULL;
  OK(vkattn_custom_block_map_plan_create(device, &request, &modifications, &plan));
  const tensor tensors[] = {WRITTEN(BLOCK_MAP, map, sizeof(map))};
  run_plan("custom block map", plan, tensors, 1);
  expect_same("custom block map", map, expected, I * I);
}

/* Three tokens of one sequence behind its cache, whose keys and values are f32. */
static void decode(vkattn_modifications *modifications) {
  enum { NEW = 3 };
  vkattn_cache_tensor cache = VKATTN_INIT(vkattn_cache_tensor);
  cache.format = VKATTN_CACHE_F32;
  cache.arrangement = VKATTN_CACHE_CONTIGUOUS;
  cache.block_count = B;
  cache.block_tokens = T;
  cache.heads = G;
  cache.channels = D;
  const vkattn_mask all = VKATTN_INIT(vkattn_mask);
  vkattn_decode_request request = VKATTN_INIT(vkattn_decode_request);
  request.batch_size = B;
  request.query_tokens = NEW;
  request.query_heads = H;
  request.key_cache = request.value_cache = &cache;
  request.element_type = VKATTN_F32;
  request.mask = &all;
  REFUSED(VKATTN_INVALID_ARGUMENT,
          vkattn_custom_decode_plan_create(device, &request, modifications, &plan));
  modifications->output = NULL;
  vkattn_plan plan = NULL, plain = NULL;
  OK(vkattn_custom_decode_plan_create(device, &request, modifications, &plan));
  vkattn_kernel kernel = kernel_of(plan);
  OK(vkattn_decode_plan_create(device, &request, &plain));
  vkattn_kernel without = kernel_of(plain);
  double expected[NEW * H * D];
  float o[NEW * H * D];
  reference(NEW, 0, expected);
  vkattn_buffer buffers[] = {buffer_of(q, 4 * NEW * H * D), buffer_of(k, 4 * T * G * D),
                             buffer_of(v, 4 * T * G * D),   output_buffer(sizeof(o)),
                             buffer_of(slopes, 4 * H),      buffer_of(kinds, T),
                             output_buffer(1 << 20)};
  const vkattn_binding layer[] = {VKATTN_BIND(VKATTN_TENSOR_QUERY, buffers[0]),
                                  VKATTN_BIND(VKATTN_TENSOR_KEY_CACHE, buffers[1]),
                                  VKATTN_BIND(VKATTN_TENSOR_VALUE_CACHE, buffers[2]),
                                  VKATTN_BIND(VKATTN_TENSOR_OUTPUT, buffers[3])};
  const vkattn_binding shared[] = {{VKATTN_TENSOR_CUSTOM_BUFFER, 0, buffers[4], 0, 0},
                                   {VKATTN_TENSOR_CUSTOM_BUFFER, 1, buffers[5], 0, 0},
                                   VKATTN_BIND(VKATTN_TENSOR_WORKSPACE, buffers[6])};
  const int32_t lengths[] = {T};
  vkattn_step_info info = VKATTN_INIT(vkattn_step_info);
  info.lengths = lengths;
  info.length_count = B;
  info.bindings = shared;
  info.binding_count = 2;
  OK(vkattn_decode_run(kernel, &info, layer, 4));
  get_floats(buffers[3], o, NEW * H * D);
  expect_close("decode with modifications", o, expected, NEW * H * D, 1e-5);
  info.binding_count = 1;
  EXPECT_STATUS(VKATTN_MISSING_BUFFER, vkattn_decode_run(kernel, &info, layer, 4));
  info.binding_count = 2;
  EXPECT_STATUS(VKATTN_INVALID_ARGUMENT, vkattn_decode_run(without, &info, layer, 4));
  EXPECT_STATUS(VKATTN_INVALID_ARGUMENT, vkattn_kernel_run(kernel, layer, 4, NULL, NULL));
  /* A step of one kernel with the other. */
  info.binding_count = 3;
  vkattn_recorder recorder = NULL;
  vkattn_step step = NULL;
  OK(vkattn_recorder_create(device, &recorder));
  OK(vkattn_recorder_prepare_step(recorder, kernel, &info, &step));
  EXPECT_STATUS(VKATTN_INVALID_ARGUMENT,
                vkattn_recorder_record_layer(recorder, without, step, layer, 4));
  OK(vkattn_recorder_record_layer(recorder, kernel, step, layer, 4));
  OK(vkattn_step_free(step));
  info.bindings = shared + 2;
  info.binding_count = 1;
  OK(vkattn_recorder_prepare_step(recorder, without, &info, &step));
  EXPECT_STATUS(VKATTN_INVALID_ARGUMENT,
                vkattn_recorder_record_layer(recorder, kernel, step, layer, 4));
  OK(vkattn_step_free(step));
  OK(vkattn_recorder_free(recorder));
  for (int i = 0; i < 7; i++) OK(vkattn_buffer_free(buffers[i]));
  OK(vkattn_kernel_free(kernel)), OK(vkattn_kernel_free(without));
}

void test_custom(void) {
  EXPECT(strcmp(vkattn_status_name(VKATTN_NO_COMPILER), "VKATTN_NO_COMPILER") == 0);
  EXPECT(strcmp(vkattn_status_name(VKATTN_NOT_COMPILED), "VKATTN_NOT_COMPILED") == 0);
  const vkattn_modification score = modification_of(
      "return score - slopes(head) * log(1.0 + float(abs(queryIndex + positionOffset - keyIndex)));",
      score_parameters, 1);
  vkattn_modification mask = modification_of(
      "int position = queryIndex + positionOffset;\n"
      "return kinds(position) == kinds(keyIndex) && isNear(position - keyIndex);",
      mask_parameters, 2);
  mask.declarations = "bool isNear(int distance) { return abs(distance) < window; }";
  const vkattn_modification output =
      modification_of("return factor * value + float(channel);", output_parameters, 1);
  vkattn_modifications modifications = VKATTN_INIT(vkattn_modifications);
  modifications.score = &score;
  modifications.mask = &mask;
  modifications.output = &output;
  const vkattn_attention_request request = request_of();
  vkattn_plan plan = NULL;
  if (vkattn_custom_attention_plan_create(device, &request, &modifications, &plan) ==
      VKATTN_NO_COMPILER) {
    printf("custom: left out: %s\n", vkattn_last_error());
    return;
  }
  OK(vkattn_plan_free(plan));
  q = numbers(S * H * D, 321), k = numbers(T * G * D, 322), v = numbers(T * G * D, 323);
  slopes = numbers(H, 324);
  for (int j = 0; j < T; j++) kinds[j] = (uint8_t)(j % 3 == 1);
  attention(&modifications);
  block_map();
  decode(&modifications);
  refusals(&request);
  free(q), free(k), free(v), free(slopes);
}
