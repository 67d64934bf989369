/* Feature maps, each against its formula. */
#include "tensors.h"

enum { B = 2, T = 5, H = 2, D = 8, M = 6, POSITIONS = 40, COUNT = B * T * H * D };

static float *x, *projection;

/* The features of token t of batch entry b, the sequence of tokens [begin, end). */
static int features_of(vkattn_feature_map map, int stabilizer, int b, int t, int h, int begin, int end,
                       int position, double scale, double epsilon, double *y) {
  const double pi = 3.14159265358979323846;
  double u[D], squares = 0, sum = 0, most = -INFINITY;
  for (int c = 0; c < D; c++) {
    u[c] = scale * x[((b * T + t) * H + h) * D + c];
    squares += u[c] * u[c];
    sum += exp(u[c]);
  }
  int n = 0;
  switch (map) {
    case VKATTN_MAP_TAYLOR_2:
    case VKATTN_MAP_TAYLOR_2_SYMMETRIC:
      y[n++] = 1;
      for (int c = 0; c < D; c++) y[n++] = u[c];
      for (int i = 0; i < D; i++)
        for (int j = map == VKATTN_MAP_TAYLOR_2 ? 0 : i; j < D; j++)
          y[n++] = u[i] * u[j] / (map == VKATTN_MAP_TAYLOR_2 || i == j ? sqrt(2) : 1);
      return n;
    case VKATTN_MAP_FAVOR_PLUS:
      for (int s = stabilizer == VKATTN_FAVOR_BY_SEQUENCE ? begin : t;
           s < (stabilizer == VKATTN_FAVOR_BY_SEQUENCE ? end : t + 1); s++)
        for (int m = 0; m < M; m++) {
          double exponent = 0;
          for (int c = 0; c < D; c++) {
            double w = scale * x[((b * T + s) * H + h) * D + c];
            exponent += projection[m * D + c] * w - w * w / 2;
          }
          if (exponent > most) most = exponent;
        }
      if (stabilizer == VKATTN_FAVOR_NOT_STABILIZED) most = 0;
      for (int m = 0; m < M; m++) {
        double exponent = -squares / 2 - most;
        for (int c = 0; c < D; c++) exponent += projection[m * D + c] * u[c];
        y[n++] = (exp(exponent) + epsilon) / sqrt(M);
      }
      return n;
    case VKATTN_MAP_COS_FORMER:
      for (int part = 0; part < 2; part++)
        for (int c = 0; c < D; c++) {
          double angle = pi * position / (2 * POSITIONS);
          y[n++] = fmax(u[c], 0) * (part == 0 ? cos(angle) : sin(angle));
        }
      return n;
    default: break;
  }
  for (int c = 0; c < D; c++) {
    double total = 0;
    for (int s = begin; s < end; s++) total += exp(scale * x[((b * T + s) * H + h) * D + c]);
    switch (map) {
      case VKATTN_MAP_IDENTITY: y[c] = u[c]; break;
      case VKATTN_MAP_RELU: y[c] = fmax(u[c], 0); break;
      case VKATTN_MAP_SQUARED_RELU: y[c] = fmax(u[c], 0) * fmax(u[c], 0); break;
      case VKATTN_MAP_ELU_PLUS_ONE: y[c] = u[c] > 0 ? u[c] + 1 : exp(u[c]); break;
      case VKATTN_MAP_EXPONENTIAL: y[c] = exp(u[c]); break;
      case VKATTN_MAP_SOFTMAX: y[c] = exp(u[c]) / sum; break;
      case VKATTN_MAP_TOKEN_SOFTMAX: y[c] = exp(u[c]) / total; break;
      case VKATTN_MAP_L2_NORM: y[c] = u[c] / sqrt(squares + epsilon); break;
      default: EXPECT(!"a map");
    }
  }
  return D;
}

static vkattn_feature_map_request request_of(vkattn_feature_map map) {
  vkattn_feature_map_request request = VKATTN_INIT(vkattn_feature_map_request);
  request.batch_size = B;
  request.tokens = T;
  request.heads = H;
  request.channels = D;
  request.map = map;
  if (map == VKATTN_MAP_L2_NORM || map == VKATTN_MAP_FAVOR_PLUS) request.epsilon = 0.01f;
  if (map == VKATTN_MAP_FAVOR_PLUS) request.features = M;
  if (map == VKATTN_MAP_COS_FORMER) {
    request.max_position = POSITIONS;
    request.flags = VKATTN_FEATURE_MAP_POSITIONS;
  }
  return request;
}

/* All maps; the first eight keep the channels. */
static void maps(void) {
  const int32_t positions[B * T] = {0, 7, 39, 3, 20, 1, 2, 3, 4, 5};
  for (vkattn_feature_map map = VKATTN_MAP_IDENTITY; map <= VKATTN_MAP_COS_FORMER; map++)
    for (int stabilizer = 0; stabilizer < (map == VKATTN_MAP_FAVOR_PLUS ? 3 : 1); stabilizer++) {
      vkattn_feature_map_request request = request_of(map);
      request.stabilizer = stabilizer;
      const int has_root = map == VKATTN_MAP_TAYLOR_2 || map == VKATTN_MAP_TAYLOR_2_SYMMETRIC ||
                           map == VKATTN_MAP_FAVOR_PLUS;
      double scale = has_root ? pow(D, -0.25) : 1;
      if (map < VKATTN_MAP_TAYLOR_2) {
        request.flags |= VKATTN_FEATURE_MAP_SCALE;
        scale = request.scale = 1.5f;
      }
      double y[1 + D + D * D], *expected = malloc(sizeof(double) * B * T * H * (1 + D + D * D));
      int width = features_of(map, stabilizer, 0, 0, 0, 0, T, 0, scale, request.epsilon, y);
      /* Zeros behind the features of one map. */
      if (map == VKATTN_MAP_TAYLOR_2_SYMMETRIC) request.output_channels = width = 48;
      for (int row = 0; row < B * T * H; row++) {
        int b = row / (T * H), t = row / H % T;
        memset(y, 0, sizeof(y));
        features_of(map, stabilizer, b, t, row % H, 0, T, positions[b * T + t], scale, request.epsilon, y);
        memcpy(expected + row * width, y, sizeof(double) * (size_t)width);
      }
      size_t output_count = (size_t)(B * T * H * width);
      float *output = nans(output_count);
      tensor tensors[4] = {READ(INPUT, x, 4 * COUNT), WRITTEN(OUTPUT, output, 4 * output_count)};
      const tensor projected = READ(PROJECTION, projection, 4 * M * D);
      const tensor placed = READ(POSITIONS, positions, sizeof(positions));
      int count = 2;
      if (map == VKATTN_MAP_FAVOR_PLUS) tensors[count++] = projected;
      if (map == VKATTN_MAP_COS_FORMER) tensors[count++] = placed;
      vkattn_plan plan = NULL;
      OK(vkattn_feature_map_plan_create(device, &request, &plan));
      char name[40];
      snprintf(name, sizeof(name), "feature map %d, %d", map, stabilizer);
      run_plan(name, plan, tensors, count);
      expect_close(name, output, expected, output_count, 1e-5);
      free(output), free(expected);
    }
}

/* Sequences of 2 and 3 tokens; of binary16, from every second head of x. */
static void packed(void) {
  const int32_t starts[] = {0, 2, T};
  vkattn_feature_map_request request = request_of(VKATTN_MAP_TOKEN_SOFTMAX);
  request.batch_size = 1;
  request.flags = VKATTN_FEATURE_MAP_PACKED;
  request.packed_sequences = 2;
  request.longest_sequence = 3;
  request.heads = 1;
  request.output_type = VKATTN_F16;
  const vkattn_strides strides = {T * H * D, H * D, D};
  request.strides = &strides;
  double expected[T * D];
  for (int t = 0; t < T; t++)
    features_of(VKATTN_MAP_TOKEN_SOFTMAX, 0, 0, t, 0, t < 2 ? 0 : 2, t < 2 ? 2 : T, 0, 1, 0,
                expected + t * D);
  uint16_t halves[T * D];
  vkattn_plan plan = NULL;
  OK(vkattn_feature_map_plan_create(device, &request, &plan));
  const tensor tensors[] = {READ(INPUT, x, 4 * ((T - 1) * H * D + D)), WRITTEN(OUTPUT, halves, sizeof(halves)),
                            READ(SEQUENCE_STARTS, starts, sizeof(starts))};
  run_plan("packed feature map", plan, tensors, 3);
  float output[T * D];
  for (int i = 0; i < T * D; i++) output[i] = float_of_half(halves[i]);
  expect_close("packed feature map", output, expected, T * D, 2e-3);
}

static void refusals(void) {
  vkattn_feature_map_request request = request_of(VKATTN_MAP_RELU);
#define BAD(change, kept)                                                                          \
  do {                                                                                             \
    request = request_of(kept);                                                                    \
    change;                                                                                        \
    REFUSED(VKATTN_INVALID_ARGUMENT, vkattn_feature_map_plan_create(device, &request, &plan));     \
  } while (0)
  REFUSED(VKATTN_NULL_POINTER, vkattn_feature_map_plan_create(device, NULL, &plan));
  REFUSED(VKATTN_NULL_POINTER, vkattn_feature_map_plan_create(NULL, &request, &plan));
  request.struct_size = 3;
  REFUSED(VKATTN_BAD_STRUCTURE, vkattn_feature_map_plan_create(device, &request, &plan));
  BAD(request.map = 12, VKATTN_MAP_RELU);
  BAD(request.map = -1, VKATTN_MAP_RELU);
  BAD(request.batch_size = 0, VKATTN_MAP_RELU);
  BAD(request.tokens = INT64_MIN, VKATTN_MAP_RELU);
  BAD(request.heads = INT64_MAX, VKATTN_MAP_RELU);
  BAD(request.channels = 4097, VKATTN_MAP_RELU);
  BAD(request.channels = 65, VKATTN_MAP_TAYLOR_2);
  BAD(request.flags = 8, VKATTN_MAP_RELU);
  BAD(request.reserved = 1, VKATTN_MAP_RELU);
  BAD(request.flags = VKATTN_FEATURE_MAP_POSITIONS, VKATTN_MAP_RELU);
  BAD(request.scale = 2, VKATTN_MAP_RELU);
  BAD((request.flags = VKATTN_FEATURE_MAP_SCALE, request.scale = NAN), VKATTN_MAP_RELU);
  BAD(request.epsilon = 1, VKATTN_MAP_RELU);
  BAD(request.epsilon = NAN, VKATTN_MAP_L2_NORM);
  BAD(request.features = 4, VKATTN_MAP_RELU);
  BAD(request.features = 0, VKATTN_MAP_FAVOR_PLUS);
  BAD(request.stabilizer = 3, VKATTN_MAP_FAVOR_PLUS);
  BAD(request.stabilizer = 1, VKATTN_MAP_RELU);
  BAD(request.max_position = 1, VKATTN_MAP_RELU);
  BAD(request.max_position = 0, VKATTN_MAP_COS_FORMER);
  BAD(request.output_channels = D - 1, VKATTN_MAP_RELU);
  BAD(request.packed_sequences = 1, VKATTN_MAP_RELU);
  BAD(request.element_type = 4, VKATTN_MAP_RELU);
  BAD(request.output_type = -1, VKATTN_MAP_RELU);
  const vkattn_strides strides = {0, 1, 1};
  BAD(request.output_strides = &strides, VKATTN_MAP_RELU);
#undef BAD
}

void test_features(void) {
  x = numbers(COUNT, 211), projection = numbers(M * D, 212);
  maps();
  packed();
  refusals();
  free(x), free(projection);
}
