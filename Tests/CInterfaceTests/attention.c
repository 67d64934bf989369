/* Tiled attention, statistics, merges. */
#include "support.h"

enum { B = 2, S = 5, T = 9, H = 4, G = 2, D = 16, E = 8 };

static void options_and_strides(void) {
  float *q = numbers(B * S * H * D, 1), *k = numbers(B * T * G * D, 2);
  float *v = numbers(B * T * G * E, 3), *sinks = numbers(H, 4), *slopes = numbers(B * H, 5);
  float *bias = numbers(B * S * T, 6);
  int32_t lengths[B] = {T, T - 2};
  /* What lies behind a sequence's end may be anything. */
  for (int i = (2 * T - 2) * G * D; i < 2 * T * G * D; i++) k[i] = NAN;
  for (int i = (2 * T - 2) * G * E; i < 2 * T * G * E; i++) v[i] = NAN;
  /* Queries head-major, as [B, H, S, D]. */
  float *turned = zeros(B * S * H * D);
  for (int b = 0; b < B; b++)
    for (int s = 0; s < S; s++)
      for (int h = 0; h < H; h++)
        memcpy(turned + ((b * H + h) * S + s) * D, q + ((b * S + s) * H + h) * D,
               D * sizeof(float));

  vkattn_mask mask = VKATTN_INIT(vkattn_mask);
  mask.flags = VKATTN_MASK_CAUSAL | VKATTN_MASK_WINDOW_LEFT;
  mask.window_left = 3;
  vkattn_scores scores = VKATTN_INIT(vkattn_scores);
  scores.softcap = 2;
  const vkattn_operand operands[] = {
      {VKATTN_TENSOR_SINKS, VKATTN_DEFAULT_TYPE, 0, 0, NULL},
      {VKATTN_TENSOR_ALIBI_SLOPES, VKATTN_DEFAULT_TYPE, 0, 0, NULL},
      {VKATTN_TENSOR_BIAS, VKATTN_F32, VKATTN_SHARED_HEADS, 0, NULL},
      {VKATTN_TENSOR_KEY_LENGTHS, VKATTN_DEFAULT_TYPE, 0, 0, NULL}};
  const vkattn_strides head_major = {H * S * D, D, S * D};
  vkattn_attention_request request = VKATTN_INIT(vkattn_attention_request);
  request.batch_size = B;
  request.query_tokens = S;
  request.key_tokens = T;
  request.query_heads = H;
  request.key_heads = G;
  request.head_size = D;
  request.value_head_size = E;
  request.flags = VKATTN_ATTENTION_RETURNS_LOG_SUM_EXP;
  request.mask = &mask;
  request.scores = &scores;
  request.operands = operands;
  request.operand_count = 4;
  request.query_strides = &head_major;

  attention_problem problem = {B, S, T, H, G, D, E, q, k, v, 1, 3, 2, sinks, slopes, bias, lengths};
  double o[B * S * H * E], lse[B * S * H];
  reference_attention(&problem, o, lse, NULL);

  vkattn_buffer buffers[] = {
      buffer_of(turned, sizeof(float) * B * S * H * D), buffer_of(k, sizeof(float) * B * T * G * D),
      buffer_of(v, sizeof(float) * B * T * G * E),      output_buffer(sizeof(float) * B * S * H * E),
      output_buffer(sizeof(float) * B * S * H),         buffer_of(sinks, sizeof(float) * H),
      buffer_of(slopes, sizeof(float) * B * H),         buffer_of(bias, sizeof(float) * B * S * T),
      buffer_of(lengths, sizeof(lengths))};
  const vkattn_binding bindings[] = {VKATTN_BIND(VKATTN_TENSOR_QUERY, buffers[0]),
                                     VKATTN_BIND(VKATTN_TENSOR_KEY, buffers[1]),
                                     VKATTN_BIND(VKATTN_TENSOR_VALUE, buffers[2]),
                                     VKATTN_BIND(VKATTN_TENSOR_OUTPUT, buffers[3]),
                                     VKATTN_BIND(VKATTN_TENSOR_LOG_SUM_EXP, buffers[4]),
                                     VKATTN_BIND(VKATTN_TENSOR_SINKS, buffers[5]),
                                     VKATTN_BIND(VKATTN_TENSOR_ALIBI_SLOPES, buffers[6]),
                                     VKATTN_BIND(VKATTN_TENSOR_BIAS, buffers[7]),
                                     VKATTN_BIND(VKATTN_TENSOR_KEY_LENGTHS, buffers[8])};
  static const vkattn_path paths[] = {VKATTN_PATH_ROW, VKATTN_PATH_SUBGROUP};
  for (int i = 0; i < 2; i++) {
    request.path = paths[i];
    vkattn_plan plan = NULL;
    OK(vkattn_attention_plan_create(device, &request, &plan));
    vkattn_plan_info info = VKATTN_INIT(vkattn_plan_info);
    OK(vkattn_plan_get_info(plan, &info));
    EXPECT(info.path == paths[i] && info.piece_count == 1 && info.scratch_byte_count > 0);
    size_t bytes = 0;
    OK(vkattn_plan_byte_count(plan, VKATTN_TENSOR_BIAS, &bytes));
    EXPECT(bytes == sizeof(float) * B * S * T);
    vkattn_kernel kernel = kernel_of(plan);
    float got[B * S * H * E], got_lse[B * S * H];
    OK(vkattn_kernel_run(kernel, bindings, 9, NULL, NULL));
    get_floats(buffers[3], got, B * S * H * E);
    get_floats(buffers[4], got_lse, B * S * H);
    expect_close("attention with options", got, o, B * S * H * E, 1e-5);
    expect_close("its log-sum-exp", got_lse, lse, B * S * H, 1e-5);
    OK(vkattn_kernel_free(kernel));
  }
  for (size_t i = 0; i < sizeof(buffers) / sizeof(buffers[0]); i++) OK(vkattn_buffer_free(buffers[i]));
  free(q), free(k), free(v), free(sinks), free(slopes), free(bias), free(turned);
}

/* Keys in two halves: the second goes on from the state that the first leaves. f16 all the way. */
static void states_and_half(void) {
  float *q = numbers(S * H * D, 11), *k = numbers(T * G * D, 12), *v = numbers(T * G * D, 13);
  uint16_t *q16 = halves_of(q, S * H * D), *k16 = halves_of(k, T * G * D);
  uint16_t *v16 = halves_of(v, T * G * D);
  for (int i = 0; i < S * H * D; i++) q[i] = float_of_half(q16[i]);
  for (int i = 0; i < T * G * D; i++) k[i] = float_of_half(k16[i]), v[i] = float_of_half(v16[i]);
  attention_problem problem = {1, S, T, H, G, D, D, q, k, v, 0, -1, 0, NULL, NULL, NULL, NULL};
  double o[S * H * D];
  reference_attention(&problem, o, NULL, NULL);

  vkattn_buffer query = buffer_of(q16, 2 * S * H * D), key = buffer_of(k16, 2 * T * G * D);
  vkattn_buffer value = buffer_of(v16, 2 * T * G * D), output = output_buffer(2 * S * H * D);
  vkattn_buffer most = output_buffer(4 * S * H), sum = output_buffer(4 * S * H);
  vkattn_buffer state = output_buffer(4 * S * H * D);
  const size_t cut = 4, row = 2 * G * D;
  vkattn_recorder recorder = NULL;
  OK(vkattn_recorder_create(device, &recorder));
  vkattn_buffer scratch[2] = {NULL, NULL};
  for (int part = 0; part < 2; part++) {
    vkattn_attention_request request = VKATTN_INIT(vkattn_attention_request);
    request.batch_size = 1;
    request.query_tokens = S;
    request.key_tokens = part == 0 ? (int64_t)cut : (int64_t)(T - cut);
    request.query_heads = H;
    request.key_heads = G;
    request.head_size = D;
    request.element_type = VKATTN_F16;
    request.flags = part == 0 ? VKATTN_ATTENTION_RETURNS_STATE : VKATTN_ATTENTION_RESUMES;
    vkattn_plan plan = NULL;
    OK(vkattn_attention_plan_create(device, &request, &plan));
    size_t bytes = 0;
    OK(vkattn_plan_byte_count(plan, VKATTN_TENSOR_SCRATCH, &bytes));
    OK(vkattn_buffer_create(device, bytes, VKATTN_MEMORY_DEVICE, NULL, &scratch[part]));
    const vkattn_binding bindings[] = {
        VKATTN_BIND(VKATTN_TENSOR_QUERY, query),
        {VKATTN_TENSOR_KEY, 0, key, part == 0 ? 0 : cut * row, part == 0 ? cut * row : 0},
        {VKATTN_TENSOR_VALUE, 0, value, part == 0 ? 0 : cut * row, part == 0 ? cut * row : 0},
        VKATTN_BIND(VKATTN_TENSOR_OUTPUT, output),
        VKATTN_BIND(part == 0 ? VKATTN_TENSOR_FINAL_MAX : VKATTN_TENSOR_INITIAL_MAX, most),
        VKATTN_BIND(part == 0 ? VKATTN_TENSOR_FINAL_SUM : VKATTN_TENSOR_INITIAL_SUM, sum),
        VKATTN_BIND(part == 0 ? VKATTN_TENSOR_FINAL_OUTPUT : VKATTN_TENSOR_INITIAL_OUTPUT, state),
        VKATTN_BIND(VKATTN_TENSOR_SCRATCH, scratch[part])};
    vkattn_kernel kernel = kernel_of(plan);
    OK(vkattn_recorder_record(recorder, kernel, bindings, 8));
    /* What was recorded keeps what it needs. */
    OK(vkattn_kernel_free(kernel));
    OK(vkattn_buffer_free(scratch[part]));
  }
  OK(vkattn_recorder_timestamp(recorder));
  vkattn_submission submission = NULL;
  OK(vkattn_recorder_submit(recorder, &submission));
  EXPECT_STATUS(VKATTN_ALREADY_SUBMITTED, vkattn_recorder_submit(recorder, NULL));
  OK(vkattn_recorder_free(recorder));
  OK(vkattn_submission_wait(submission, 60));
  int32_t is_complete = 0;
  OK(vkattn_submission_is_complete(submission, &is_complete));
  EXPECT(is_complete == 1);
  double times[2] = {-1, -1};
  size_t count = 0;
  OK(vkattn_submission_timestamps(submission, times, 2, &count));
  EXPECT(count == 1 && times[0] == 0 && times[1] == -1);
  OK(vkattn_submission_free(submission));
  uint16_t got16[S * H * D];
  float got[S * H * D];
  OK(vkattn_buffer_download(output, 0, got16, sizeof(got16)));
  for (int i = 0; i < S * H * D; i++) got[i] = float_of_half(got16[i]);
  expect_close("resumed attention", got, o, S * H * D, 2e-3);
  OK(vkattn_buffer_free(query)), OK(vkattn_buffer_free(key)), OK(vkattn_buffer_free(value));
  OK(vkattn_buffer_free(output)), OK(vkattn_buffer_free(most)), OK(vkattn_buffer_free(sum));
  OK(vkattn_buffer_free(state));
  free(q), free(k), free(v), free(q16), free(k16), free(v16);
}

static void packed_sequences(void) {
  enum { FIRST = 3, SECOND = 6, ALL = FIRST + SECOND };
  float *q = numbers(ALL * H * D, 21), *k = numbers(ALL * G * D, 22), *v = numbers(ALL * G * D, 23);
  double o[ALL * H * D];
  attention_problem problem = {1, FIRST, FIRST, H, G, D, D, q, k, v, 1, -1, 0, NULL, NULL, NULL, NULL};
  reference_attention(&problem, o, NULL, NULL);
  problem.queries = problem.keys = SECOND;
  problem.q += FIRST * H * D, problem.k += FIRST * G * D, problem.v += FIRST * G * D;
  reference_attention(&problem, o + FIRST * H * D, NULL, NULL);

  vkattn_mask mask = VKATTN_INIT(vkattn_mask);
  mask.flags = VKATTN_MASK_CAUSAL;
  vkattn_attention_request request = VKATTN_INIT(vkattn_attention_request);
  request.batch_size = 2;
  request.query_tokens = request.key_tokens = SECOND;
  request.packed_query_tokens = request.packed_key_tokens = ALL;
  request.query_heads = H;
  request.key_heads = G;
  request.head_size = D;
  request.mask = &mask;
  request.flags = VKATTN_ATTENTION_PACKED;
  vkattn_plan plan = NULL;
  OK(vkattn_attention_plan_create(device, &request, &plan));
  vkattn_kernel kernel = kernel_of(plan);
  const int32_t starts[] = {0, FIRST, ALL};
  vkattn_buffer buffers[] = {buffer_of(q, 4 * ALL * H * D), buffer_of(k, 4 * ALL * G * D),
                             buffer_of(v, 4 * ALL * G * D), output_buffer(4 * ALL * H * D),
                             buffer_of(starts, sizeof(starts))};
  const vkattn_binding bindings[] = {VKATTN_BIND(VKATTN_TENSOR_QUERY, buffers[0]),
                                     VKATTN_BIND(VKATTN_TENSOR_KEY, buffers[1]),
                                     VKATTN_BIND(VKATTN_TENSOR_VALUE, buffers[2]),
                                     VKATTN_BIND(VKATTN_TENSOR_OUTPUT, buffers[3]),
                                     VKATTN_BIND(VKATTN_TENSOR_QUERY_STARTS, buffers[4]),
                                     VKATTN_BIND(VKATTN_TENSOR_KEY_STARTS, buffers[4])};
  OK(vkattn_kernel_run(kernel, bindings, 6, NULL, NULL));
  float got[ALL * H * D];
  get_floats(buffers[3], got, ALL * H * D);
  expect_close("packed sequences", got, o, ALL * H * D, 1e-5);
  OK(vkattn_kernel_free(kernel));
  for (int i = 0; i < 5; i++) OK(vkattn_buffer_free(buffers[i]));
  free(q), free(k), free(v);
}

/* Each key head in buffers of its own, values that are keys. */
static void key_sources(void) {
  float *q = numbers(S * H * D, 25), *k = numbers(T * G * D, 26);
  float *v = zeros(T * G * E);
  for (int i = 0; i < T * G; i++) memcpy(v + i * E, k + i * D, E * sizeof(float));
  attention_problem problem = {1, S, T, H, G, D, E, q, k, v, 0, -1, 0, NULL, NULL, NULL, NULL};
  double o[S * H * E];
  reference_attention(&problem, o, NULL, NULL);
  vkattn_attention_request request = VKATTN_INIT(vkattn_attention_request);
  request.batch_size = 1;
  request.query_tokens = S;
  request.key_tokens = T;
  request.query_heads = H;
  request.key_heads = G;
  request.head_size = D;
  request.value_head_size = E;
  request.flags = VKATTN_ATTENTION_KEY_SOURCES | VKATTN_ATTENTION_VALUES_ARE_KEYS;
  vkattn_plan plan = NULL;
  OK(vkattn_attention_plan_create(device, &request, &plan));
  vkattn_kernel kernel = kernel_of(plan);
  float *heads[G];
  for (int g = 0; g < G; g++) {
    heads[g] = zeros(T * D);
    for (int j = 0; j < T; j++) memcpy(heads[g] + j * D, k + (j * G + g) * D, D * sizeof(float));
  }
  vkattn_buffer buffers[] = {buffer_of(q, 4 * S * H * D), buffer_of(heads[0], 4 * T * D),
                             buffer_of(heads[1], 4 * T * D), output_buffer(4 * S * H * E)};
  const vkattn_binding bindings[] = {VKATTN_BIND(VKATTN_TENSOR_QUERY, buffers[0]),
                                     {VKATTN_TENSOR_KEY, 0, buffers[1], 0, 0},
                                     {VKATTN_TENSOR_KEY, 1, buffers[2], 0, 0},
                                     VKATTN_BIND(VKATTN_TENSOR_OUTPUT, buffers[3])};
  OK(vkattn_kernel_run(kernel, bindings, 4, NULL, NULL));
  float got[S * H * E];
  get_floats(buffers[3], got, S * H * E);
  expect_close("key sources", got, o, S * H * E, 1e-5);
  OK(vkattn_kernel_free(kernel));
  for (int i = 0; i < 4; i++) OK(vkattn_buffer_free(buffers[i]));
  for (int g = 0; g < G; g++) free(heads[g]);
  free(q), free(k), free(v);
}

static void statistics(void) {
  enum { ROWS = 2, TOP = 3 };
  float *q = numbers(S * H * D, 31), *k = numbers(T * G * D, 32);
  attention_problem problem = {1, S, T, H, G, D, D, q, k, k, 1, -1, 0, NULL, NULL, NULL, NULL};
  double lse[S * H], p[H * S * T];
  reference_attention(&problem, NULL, lse, p);

  vkattn_mask mask = VKATTN_INIT(vkattn_mask);
  mask.flags = VKATTN_MASK_CAUSAL;
  vkattn_attention_request attention = VKATTN_INIT(vkattn_attention_request);
  attention.batch_size = 1;
  attention.query_tokens = S;
  attention.key_tokens = T;
  attention.query_heads = H;
  attention.key_heads = G;
  attention.head_size = D;
  attention.mask = &mask;
  attention.flags = VKATTN_ATTENTION_RETURNS_LOG_SUM_EXP;
  vkattn_statistics_request request = VKATTN_INIT(vkattn_statistics_request);
  request.attention = &attention;
  request.statistics = VKATTN_STATISTIC_KEY_SUMS | VKATTN_STATISTIC_ENTROPY |
                       VKATTN_STATISTIC_PROBABILITIES | VKATTN_STATISTIC_TOP_KEYS;
  request.probability_rows = ROWS;
  request.top_keys = TOP;
  vkattn_plan plan = NULL;
  OK(vkattn_statistics_plan_create(device, &request, &plan));
  size_t bytes = 0;
  OK(vkattn_plan_byte_count(plan, VKATTN_TENSOR_PROBABILITIES, &bytes));
  EXPECT(bytes == 4 * ROWS * H * T);
  vkattn_kernel kernel = kernel_of(plan);
  float lse32[S * H];
  for (int i = 0; i < S * H; i++) lse32[i] = (float)lse[i];
  const int32_t rows[ROWS] = {3, 0};
  vkattn_buffer buffers[] = {
      buffer_of(q, 4 * S * H * D),  buffer_of(k, 4 * T * G * D),     buffer_of(lse32, 4 * S * H),
      output_buffer(4 * H * T),     output_buffer(4 * S * H),        buffer_of(rows, 4 * ROWS),
      output_buffer(4 * ROWS * H * T), output_buffer(4 * S * H * TOP), output_buffer(4 * S * H * TOP)};
  static const vkattn_tensor tensors[] = {
      VKATTN_TENSOR_QUERY,      VKATTN_TENSOR_KEY,        VKATTN_TENSOR_LOG_SUM_EXP,
      VKATTN_TENSOR_KEY_SUMS,   VKATTN_TENSOR_ENTROPY,    VKATTN_TENSOR_QUERY_ROWS,
      VKATTN_TENSOR_PROBABILITIES, VKATTN_TENSOR_TOP_KEY_INDICES, VKATTN_TENSOR_TOP_KEY_PROBABILITIES};
  vkattn_binding bindings[9];
  for (int i = 0; i < 9; i++) {
    const vkattn_binding binding = VKATTN_BIND(tensors[i], buffers[i]);
    bindings[i] = binding;
  }
  OK(vkattn_kernel_run(kernel, bindings, 9, NULL, NULL));

  double sums[H * T] = {0}, entropy[S * H] = {0}, chosen[ROWS * H * T], top[S * H * TOP];
  int32_t indices[S * H * TOP], got_indices[S * H * TOP];
  for (int h = 0; h < H; h++) {
    for (int i = 0; i < S; i++) {
      double row[T];
      for (int j = 0; j < T; j++) {
        row[j] = p[(h * S + i) * T + j];
        sums[h * T + j] += row[j];
        if (row[j] > 0) entropy[i * H + h] -= row[j] * log(row[j]);
      }
      for (int n = 0; n < TOP; n++) {
        int best = 0;
        for (int j = 1; j < T; j++) if (row[j] > row[best]) best = j;
        top[(i * H + h) * TOP + n] = row[best];
        indices[(i * H + h) * TOP + n] = best;
        row[best] = -1;
      }
    }
    for (int r = 0; r < ROWS; r++)
      memcpy(chosen + (r * H + h) * T, p + (h * S + rows[r]) * T, T * sizeof(double));
  }
  float got[S * H * T];
  get_floats(buffers[3], got, H * T);
  expect_close("key sums", got, sums, H * T, 1e-5);
  get_floats(buffers[4], got, S * H);
  expect_close("entropy", got, entropy, S * H, 1e-5);
  get_floats(buffers[6], got, ROWS * H * T);
  expect_close("probabilities", got, chosen, ROWS * H * T, 1e-5);
  get_floats(buffers[8], got, S * H * TOP);
  expect_close("top keys", got, top, S * H * TOP, 1e-5);
  OK(vkattn_buffer_download(buffers[7], 0, got_indices, sizeof(got_indices)));
  EXPECT(memcmp(indices, got_indices, sizeof(indices)) == 0);
  OK(vkattn_kernel_free(kernel));
  for (int i = 0; i < 9; i++) OK(vkattn_buffer_free(buffers[i]));
  free(q), free(k);
}

/* Two states: side by side at strides, and in buffers of their own. */
static void merges(void) {
  enum { ROWS = 6, N = 2 };
  float *o = numbers(N * ROWS * H * E, 41), *l = numbers(N * ROWS * H, 42);
  l[3] = -INFINITY;
  for (int e = 0; e < E; e++) o[3 * E + e] = NAN;
  double merged[ROWS * H * E], lse[ROWS * H];
  for (int r = 0; r < ROWS * H; r++) {
    double first = exp(l[r]), second = exp(l[ROWS * H + r]);
    lse[r] = log(first + second);
    for (int e = 0; e < E; e++)
      merged[r * E + e] = ((first > 0 ? first * o[r * E + e] : 0) +
                           second * o[(ROWS * H + r) * E + e]) / (first + second);
  }
  vkattn_merge_request request = VKATTN_INIT(vkattn_merge_request);
  request.row_count = ROWS;
  request.head_count = H;
  request.partial_count = N;
  request.value_head_size = E;
  request.flags = VKATTN_MERGE_RETURNS_LOG_SUM_EXP;
  vkattn_plan plan = NULL;
  OK(vkattn_merge_plan_create(device, &request, &plan));
  vkattn_kernel kernel = kernel_of(plan);
  vkattn_buffer outputs = buffer_of(o, 4 * N * ROWS * H * E), sums = buffer_of(l, 4 * N * ROWS * H);
  const size_t half = 4 * ROWS * H * E, half_sums = 4 * ROWS * H;
  for (int separate = 0; separate < 2; separate++) {
    vkattn_buffer output = output_buffer(half), log_sum_exp = output_buffer(half_sums);
    const vkattn_binding bindings[] = {
        VKATTN_BIND(VKATTN_TENSOR_OUTPUT, output),
        VKATTN_BIND(VKATTN_TENSOR_LOG_SUM_EXP, log_sum_exp),
        {VKATTN_TENSOR_PARTIAL_OUTPUTS, 0, outputs, 0, separate ? half : 0},
        {VKATTN_TENSOR_PARTIAL_LOG_SUM_EXPS, 0, sums, 0, separate ? half_sums : 0},
        {VKATTN_TENSOR_PARTIAL_OUTPUTS, 1, outputs, half, 0},
        {VKATTN_TENSOR_PARTIAL_LOG_SUM_EXPS, 1, sums, half_sums, 0}};
    OK(vkattn_kernel_run(kernel, bindings, separate ? 6 : 4, NULL, NULL));
    float got[ROWS * H * E], got_lse[ROWS * H];
    get_floats(output, got, ROWS * H * E);
    get_floats(log_sum_exp, got_lse, ROWS * H);
    expect_close("merge", got, merged, ROWS * H * E, 1e-5);
    expect_close("its log-sum-exp", got_lse, lse, ROWS * H, 1e-5);
    OK(vkattn_buffer_free(output)), OK(vkattn_buffer_free(log_sum_exp));
  }
  OK(vkattn_buffer_free(outputs)), OK(vkattn_buffer_free(sums)), OK(vkattn_kernel_free(kernel));
  free(o), free(l);
}

static void t5_table(void) {
  const float weights[] = {1, 10, 2, 20, 3, 30, 4, 40};
  float table[2 * 9];
  for (int i = 0; i < 18; i++) table[i] = NAN;
  OK(vkattn_relative_bias_table(4, 4, 1, weights, 2, table, 18));
  /* Bidirectional: two buckets for each side, the first of distance 0 and exact below 1. */
  const float expected[] = {2, 2, 2, 2, 1, 4, 4, 4, 4};
  for (int i = 0; i < 9; i++) EXPECT(table[i] == expected[i] && table[9 + i] == 10 * expected[i]);
  EXPECT_STATUS(VKATTN_INVALID_ARGUMENT, vkattn_relative_bias_table(4, 4, 1, weights, 2, table, 17));
  EXPECT_STATUS(VKATTN_NULL_POINTER, vkattn_relative_bias_table(4, 4, 1, NULL, 2, table, 18));
  EXPECT_STATUS(VKATTN_INVALID_ARGUMENT,
                vkattn_relative_bias_table(INT64_MAX, 4, 1, weights, 2, table, 18));
}

void test_attention(void) {
  options_and_strides();
  states_and_half();
  packed_sequences();
  key_sources();
  statistics();
  merges();
  t5_table();
}
