/* Output norms with gates, short convolutions with state, xPos. */
#include "tensors.h"

enum { B = 2, T = 4, H = 4, D = 8, COUNT = B * T * H * D };

static double silu(double z) { return z / (1 + exp(-z)); }

/* Two heads to a group; RMS with a gate behind, or layer norm with a gate before, and biases. */
static void output_norms(void) {
  float *x = numbers(COUNT, 221), *z = numbers(COUNT, 222), *y = nans(COUNT);
  float *weight = numbers(H * D, 223), *bias = numbers(D, 224);
  const double epsilon = 0.01f;
  for (int is_layer = 0; is_layer < 2; is_layer++) {
    vkattn_output_norm_request request = VKATTN_INIT(vkattn_output_norm_request);
    request.batch_size = B;
    request.tokens = T;
    request.heads = H;
    request.channels = D;
    request.heads_per_group = 2;
    request.epsilon = 0.01f;
    request.norm = is_layer ? VKATTN_NORM_LAYER : VKATTN_NORM_RMS;
    request.gate = is_layer ? VKATTN_NORM_SIGMOID : VKATTN_NORM_SILU;
    request.flags = is_layer ? VKATTN_OUTPUT_NORM_GATES_BEFORE : 0;
    request.weight = VKATTN_NORM_PER_HEAD;
    request.bias = is_layer ? VKATTN_NORM_PER_CHANNEL : VKATTN_NORM_NO_WEIGHTS;
    double expected[COUNT];
    for (int first = 0; first < COUNT; first += 2 * D) {
      double values[2 * D], mean = 0, squares = 0;
      for (int i = 0; i < 2 * D; i++) {
        values[i] = x[first + i] / (is_layer ? 1 + exp(-z[first + i]) : 1);
        mean += is_layer ? values[i] / (2 * D) : 0;
      }
      for (int i = 0; i < 2 * D; i++) squares += (values[i] - mean) * (values[i] - mean) / (2 * D);
      for (int i = 0; i < 2 * D; i++) {
        expected[first + i] =
            (values[i] - mean) / sqrt(squares + epsilon) * weight[(first + i) % (H * D)];
        if (is_layer) expected[first + i] += bias[i % D];
        else expected[first + i] *= silu(z[first + i]);
      }
    }
    vkattn_plan plan = NULL;
    OK(vkattn_output_norm_plan_create(device, &request, &plan));
    const tensor tensors[] = {READ(INPUT, x, 4 * COUNT), WRITTEN(OUTPUT, y, 4 * COUNT),
                              READ(OUTPUT_GATE, z, 4 * COUNT), READ(WEIGHT, weight, 4 * H * D),
                              READ(BIAS, bias, 4 * D)};
    run_plan("output norm", plan, tensors, is_layer ? 5 : 4);
    expect_close(is_layer ? "layer norm of groups" : "RMS norm of groups", y, expected, COUNT, 1e-5);

#define BAD(change)                                                                                \
  do {                                                                                             \
    const vkattn_output_norm_request kept = request;                                               \
    change;                                                                                        \
    REFUSED(VKATTN_INVALID_ARGUMENT, vkattn_output_norm_plan_create(device, &request, &plan));     \
    request = kept;                                                                                \
  } while (0)
    BAD(request.tokens = -1);
    BAD(request.channels = 4097);
    BAD(request.heads_per_group = 3);
    BAD(request.epsilon = -1);
    BAD(request.norm = 2);
    BAD(request.weight = 3);
    BAD(request.bias = -1);
    BAD(request.gate = 3);
    BAD(request.flags = 2);
    BAD((request.gate = VKATTN_NORM_NOT_GATED, request.flags = VKATTN_OUTPUT_NORM_GATES_BEFORE));
    BAD(request.gate_type = 9);
    BAD(request.weight_type = 9);
#undef BAD
  }
  REFUSED(VKATTN_NULL_POINTER, vkattn_output_norm_plan_create(device, NULL, &plan));
  free(x), free(z), free(y), free(weight), free(bias);
}

/* A prefill and steps from its state, in slots, are one long convolution. */
static void convolutions(void) {
  enum { N = 2, L = 7, C = 6, W = 3, FIRST = 5, SLOTS = 3, STATE = C * (W - 1) };
  float *x = numbers(N * L * C, 231), *weight = numbers(C * W, 232), *bias = numbers(C, 233);
  float *before = numbers(SLOTS * STATE, 234);
  const int32_t slots[N] = {2, -1};
  double expected[N * L * C];
  for (int n = 0; n < N; n++)
    for (int t = 0; t < L; t++)
      for (int c = 0; c < C; c++) {
        double sum = bias[c];
        for (int w = 0; w < W; w++) {
          int s = t - W + 1 + w;
          if (s >= 0) sum += (double)weight[c * W + w] * x[(n * L + s) * C + c];
          else if (slots[n] >= 0)
            sum += (double)weight[c * W + w] * before[slots[n] * STATE + c * (W - 1) + s + W - 1];
        }
        expected[(n * L + t) * C + c] = silu(sum);
      }
  float state[SLOTS * STATE], y[N * FIRST * C];
  vkattn_short_convolution_request request = VKATTN_INIT(vkattn_short_convolution_request);
  request.batch_size = N;
  request.tokens = FIRST;
  request.channels = C;
  request.width = W;
  request.flags = VKATTN_CONVOLUTION_BIAS | VKATTN_CONVOLUTION_SILU |
                  VKATTN_CONVOLUTION_INITIAL_STATE | VKATTN_CONVOLUTION_FINAL_STATE |
                  VKATTN_CONVOLUTION_STATE_SLOTS;
  request.state_count = SLOTS;
  const vkattn_strides strides = {L * C, C, 0};
  request.strides = &strides;
  const size_t x_bytes = 4 * (L * C + FIRST * C);
  tensor tensors[] = {READ(INPUT, x, x_bytes),
                      READ(WEIGHT, weight, 4 * C * W),
                      READ(BIAS, bias, 4 * C),
                      READ(INITIAL_STATE, before, 4 * SLOTS * STATE),
                      READ(STATE_SLOTS, slots, sizeof(slots)),
                      WRITTEN(FINAL_STATE, state, sizeof(state)),
                      WRITTEN(OUTPUT, y, sizeof(y))};
  vkattn_plan plan = NULL;
  OK(vkattn_short_convolution_plan_create(device, &request, &plan));
  run_plan("short convolution", plan, tensors, 7);
  for (int n = 0; n < N; n++)
    expect_close("short convolution", y + n * FIRST * C, expected + n * L * C, FIRST * C, 1e-5);
  /* Slot 2 has the last tokens of sequence 0; no other was written. */
  EXPECT(isnan(state[0]) && isnan(state[STATE]));
  for (int c = 0; c < C; c++)
    for (int w = 0; w < W - 1; w++)
      EXPECT(state[2 * STATE + c * (W - 1) + w] == x[(FIRST - W + 1 + w) * C + c]);

  /* The rest of sequence 0 from that state, packed as one. */
  request.batch_size = 1;
  request.tokens = L - FIRST;
  request.flags = VKATTN_CONVOLUTION_BIAS | VKATTN_CONVOLUTION_SILU | VKATTN_CONVOLUTION_INITIAL_STATE |
                  VKATTN_CONVOLUTION_PACKED;
  request.state_count = 0;
  request.packed_sequences = 1;
  request.strides = NULL;
  const int32_t starts[] = {0, L - FIRST};
  const tensor rest[] = {READ(INPUT, x + FIRST * C, 4 * (L - FIRST) * C),
                         READ(WEIGHT, weight, 4 * C * W),
                         READ(BIAS, bias, 4 * C),
                         READ(INITIAL_STATE, state + 2 * STATE, 4 * STATE),
                         READ(SEQUENCE_STARTS, starts, sizeof(starts)),
                         WRITTEN(OUTPUT, y, 4 * (L - FIRST) * C)};
  OK(vkattn_short_convolution_plan_create(device, &request, &plan));
  run_plan("continued convolution", plan, rest, 6);
  expect_close("continued convolution", y, expected + FIRST * C, (L - FIRST) * C, 1e-5);

#define BAD(change)                                                                                \
  do {                                                                                             \
    const vkattn_short_convolution_request kept = request;                                         \
    change;                                                                                        \
    REFUSED(VKATTN_INVALID_ARGUMENT, vkattn_short_convolution_plan_create(device, &request, &plan)); \
    request = kept;                                                                                \
  } while (0)
  BAD(request.tokens = 0);
  BAD(request.channels = INT64_MAX);
  BAD(request.width = 9);
  BAD(request.flags = 64);
  BAD(request.flags = VKATTN_CONVOLUTION_BIAS); /* packed_sequences is set */
  BAD(request.state_count = 5);
  BAD((request.flags = VKATTN_CONVOLUTION_STATE_SLOTS, request.packed_sequences = 0));
  BAD(request.weight_type = 7);
#undef BAD
  REFUSED(VKATTN_NULL_POINTER, vkattn_short_convolution_plan_create(device, NULL, &plan));
  free(x), free(weight), free(bias), free(before);
}

/* Four pairs of neighbours with RetNet's frequencies, and two channels that stay. */
static void x_pos(void) {
  enum { N = 5, HEADS = 2, PAIRS = 4, CHANNELS = 2 * PAIRS + 2, ORIGIN = 10 };
  const int32_t positions[N] = {0, 3, 10, 200, 777};
  float *x = numbers(N * HEADS * CHANNELS, 241), y[N * HEADS * CHANNELS], rates[PAIRS];
  double frequencies[PAIRS], expected[N * HEADS * CHANNELS];
  for (int i = 0; i < PAIRS; i++) frequencies[i] = pow(10000, -i / (PAIRS - 1.0));
  vkattn_rotary rotary = VKATTN_INIT(vkattn_rotary);
  rotary.channels = 2 * PAIRS;
  rotary.pairing = VKATTN_ROTARY_INTERLEAVED;
  rotary.frequencies = frequencies;
  uint64_t table[PAIRS];
  OK(vkattn_rotary_frequency_table(&rotary, table, PAIRS));
  vkattn_xpos xpos = VKATTN_INIT(vkattn_xpos);
  xpos.rotary = &rotary;
  xpos.origin = ORIGIN;
  for (int is_key = 0; is_key < 2; is_key++) {
    if (is_key) {
      xpos.gamma = 0.5;
      xpos.scale_base = 300;
    }
    OK(vkattn_xpos_rate_table(&xpos, is_key, rates, PAIRS));
    for (int row = 0; row < N * HEADS; row++) {
      const float *from = x + row * CHANNELS;
      double *to = expected + row * CHANNELS;
      int position = positions[row / HEADS];
      for (int i = 0; i < PAIRS; i++) {
        double gamma = is_key ? 0.5 : 0.4, zeta = (i / (double)PAIRS + gamma) / (1 + gamma);
        double grown = pow(zeta, (is_key ? -1 : 1) * (position - ORIGIN) / (is_key ? 300.0 : 512.0));
        double angle = position * frequencies[i];
        to[2 * i] = grown * (from[2 * i] * cos(angle) - from[2 * i + 1] * sin(angle));
        to[2 * i + 1] = grown * (from[2 * i] * sin(angle) + from[2 * i + 1] * cos(angle));
      }
      for (int c = 2 * PAIRS; c < CHANNELS; c++) to[c] = from[c];
    }
    vkattn_xpos_request request = VKATTN_INIT(vkattn_xpos_request);
    request.tokens = N;
    request.heads = HEADS;
    request.channels = CHANNELS;
    request.xpos = &xpos;
    vkattn_plan plan = NULL;
    OK(vkattn_xpos_plan_create(device, &request, &plan));
    const tensor tensors[] = {READ(INPUT, x, sizeof(y)), READ(POSITIONS, positions, sizeof(positions)),
                              READ(FREQUENCIES, table, sizeof(table)),
                              READ(XPOS_RATES, rates, sizeof(rates)), WRITTEN(OUTPUT, y, sizeof(y))};
    run_plan("xpos", plan, tensors, 5);
    expect_close(is_key ? "xpos of keys" : "xpos of queries", y, expected, N * HEADS * CHANNELS, 1e-5);

    request.channels = 2 * PAIRS - 1;
    REFUSED(VKATTN_INVALID_ARGUMENT, vkattn_xpos_plan_create(device, &request, &plan));
    request.channels = CHANNELS;
    request.element_type = 5;
    REFUSED(VKATTN_INVALID_ARGUMENT, vkattn_xpos_plan_create(device, &request, &plan));
    request.xpos = NULL;
    REFUSED(VKATTN_NULL_POINTER, vkattn_xpos_plan_create(device, &request, &plan));
  }
  REFUSED(VKATTN_NULL_POINTER, vkattn_xpos_plan_create(device, NULL, &plan));
  EXPECT_STATUS(VKATTN_INVALID_ARGUMENT, vkattn_xpos_rate_table(&xpos, 0, rates, PAIRS + 1));
  EXPECT_STATUS(VKATTN_NULL_POINTER, vkattn_xpos_rate_table(&xpos, 0, NULL, PAIRS));
  EXPECT_STATUS(VKATTN_NULL_POINTER, vkattn_xpos_rate_table(NULL, 0, rates, PAIRS));
  xpos.gamma = -1;
  EXPECT_STATUS(VKATTN_INVALID_ARGUMENT, vkattn_xpos_rate_table(&xpos, 0, rates, PAIRS));
  xpos.gamma = 0;
  xpos.reserved = 1;
  EXPECT_STATUS(VKATTN_INVALID_ARGUMENT, vkattn_xpos_rate_table(&xpos, 0, rates, PAIRS));
  xpos.reserved = 0;
  xpos.rotary = NULL;
  EXPECT_STATUS(VKATTN_NULL_POINTER, vkattn_xpos_rate_table(&xpos, 0, rates, PAIRS));
  free(x);
}

void test_around(void) {
  output_norms();
  convolutions();
  x_pos();
}
