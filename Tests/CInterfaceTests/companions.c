/* Norms, linear layers, activations, softmax, embeddings, sampling. */
#include "tensors.h"

static double activated(vkattn_activation activation, double x) {
  switch (activation) {
    case VKATTN_ACTIVATION_RELU: return fmax(x, 0);
    case VKATTN_ACTIVATION_SILU: return x / (1 + exp(-x));
    case VKATTN_ACTIVATION_GELU_TANH:
      return x * (1 + tanh(sqrt(2 / 3.14159265358979323846) * (x + 0.044715 * x * x * x))) / 2;
    case VKATTN_ACTIVATION_GELU_ERF: return x * (1 + erf(x / sqrt(2))) / 2;
    default: return x;
  }
}

/* A request that is right, changed in one way, has to be refused. */
#define BAD(type, function, change)                                                                \
  do {                                                                                             \
    const type kept = request;                                                                     \
    change;                                                                                        \
    REFUSED(VKATTN_INVALID_ARGUMENT, function(device, &request, &plan));                           \
    request = kept;                                                                                \
  } while (0)

static void normalizations(void) {
  enum { N = 3, D = 12, STRIDE = 16 };
  float *x = numbers(N * STRIDE, 251), *residual = numbers(N * STRIDE, 252);
  float *weight = numbers(D, 253), *bias = numbers(D, 254), y[N * D], sum[(N - 1) * STRIDE + D];
  for (int is_layer = 0; is_layer < 2; is_layer++) {
    vkattn_normalize_request request = VKATTN_INIT(vkattn_normalize_request);
    request.rows = N;
    request.channels = D;
    request.norm = is_layer ? VKATTN_NORM_LAYER : VKATTN_NORM_RMS;
    request.epsilon = 0.001f;
    request.input_stride = STRIDE;
    request.flags = is_layer ? VKATTN_NORMALIZE_WEIGHT | VKATTN_NORMALIZE_BIAS
                             : VKATTN_NORMALIZE_WEIGHT | VKATTN_NORMALIZE_RESIDUAL |
                                   VKATTN_NORMALIZE_RETURNS_SUM;
    double expected[N * D], sums[N * D];
    for (int n = 0; n < N; n++) {
      double mean = 0, squares = 0;
      for (int c = 0; c < D; c++) {
        sums[n * D + c] = (double)x[n * STRIDE + c] + (is_layer ? 0 : residual[n * STRIDE + c]);
        mean += is_layer ? sums[n * D + c] / D : 0;
      }
      for (int c = 0; c < D; c++) squares += pow(sums[n * D + c] - mean, 2) / D;
      for (int c = 0; c < D; c++)
        expected[n * D + c] = (sums[n * D + c] - mean) / sqrt(squares + request.epsilon) * weight[c] +
                              (is_layer ? bias[c] : 0);
    }
    vkattn_plan plan = NULL;
    OK(vkattn_normalize_plan_create(device, &request, &plan));
    const size_t bytes = sizeof(sum);
    const tensor layer[] = {READ(INPUT, x, bytes), WRITTEN(OUTPUT, y, sizeof(y)),
                            READ(WEIGHT, weight, 4 * D), READ(BIAS, bias, 4 * D)};
    const tensor rms[] = {READ(INPUT, x, bytes), WRITTEN(OUTPUT, y, sizeof(y)),
                          READ(WEIGHT, weight, 4 * D), READ(RESIDUAL, residual, bytes),
                          WRITTEN(RESIDUAL_SUM, sum, bytes)};
    run_plan("normalize", plan, is_layer ? layer : rms, is_layer ? 4 : 5);
    expect_close(is_layer ? "LayerNorm" : "RMSNorm of a sum", y, expected, N * D, 1e-5);
    for (int n = 0; n < N && !is_layer; n++)
      expect_close("the sum", sum + n * STRIDE, sums + n * D, D, 1e-6);
#define BAD_NORM(change) BAD(vkattn_normalize_request, vkattn_normalize_plan_create, change)
    BAD_NORM(request.rows = 0);
    BAD_NORM(request.channels = INT64_MAX);
    BAD_NORM(request.norm = -1);
    BAD_NORM(request.epsilon = NAN);
    BAD_NORM(request.flags = 16);
    BAD_NORM(request.flags = VKATTN_NORMALIZE_RETURNS_SUM);
    BAD_NORM(request.reserved = 1);
    BAD_NORM((request.residual_type = VKATTN_F16, request.flags = 0));
    BAD_NORM(request.input_stride = D - 1);
    BAD_NORM(request.output_stride = INT64_MIN);
  }
  REFUSED(VKATTN_NULL_POINTER, vkattn_normalize_plan_create(device, NULL, &plan));
  free(x), free(residual), free(weight), free(bias);
}

/* Weights of every format, and every path, with bias, activation and residual. */
static void products(void) {
  enum { N = 3, O = 5, I = 64, BLOCKS = O * I / 32 };
  float *x = numbers(N * I, 261), *w = numbers(O * I, 262), *bias = numbers(O, 263);
  float *residual = numbers(N * O, 264), y[N * O];
  uint16_t *halves = halves_of(w, O * I), bfloats[O * I];
  unsigned char q8[BLOCKS * 34], q4[BLOCKS * 18];
  uint64_t state = 265;
  double weights[5][O * I];
  for (int i = 0; i < O * I; i++) {
    uint32_t bits;
    float rounded;
    memcpy(&bits, &w[i], 4);
    bfloats[i] = (uint16_t)(bits >> 16);
    bits &= 0xFFFF0000u;
    memcpy(&rounded, &bits, 4);
    weights[VKATTN_WEIGHT_F32][i] = w[i];
    weights[VKATTN_WEIGHT_F16][i] = float_of_half(halves[i]);
    weights[VKATTN_WEIGHT_BF16][i] = rounded;
  }
  for (int block = 0; block < BLOCKS; block++) {
    uint16_t scale = half_of(0.01f * (next_number(&state) + 2));
    memcpy(q8 + block * 34, &scale, 2);
    memcpy(q4 + block * 18, &scale, 2);
    for (int i = 0; i < 32; i++) {
      int8_t code = (int8_t)(100 * next_number(&state));
      memcpy(q8 + block * 34 + 2 + i, &code, 1);
      weights[VKATTN_WEIGHT_Q8_0][block * 32 + i] = (double)float_of_half(scale) * code;
    }
    for (int i = 0; i < 16; i++) {
      int low = (int)(8 + 8 * next_number(&state)) & 15, high = (int)(8 + 8 * next_number(&state)) & 15;
      q4[block * 18 + 2 + i] = (unsigned char)(low | high << 4);
      weights[VKATTN_WEIGHT_Q4_0][block * 32 + i] = (double)float_of_half(scale) * (low - 8);
      weights[VKATTN_WEIGHT_Q4_0][block * 32 + i + 16] = (double)float_of_half(scale) * (high - 8);
    }
  }
  const struct {
    const void *bytes;
    size_t byte_count;
  } stored[] = {{w, 4 * O * I}, {halves, 2 * O * I}, {bfloats, 2 * O * I}, {q8, sizeof(q8)}, {q4, sizeof(q4)}};
  vkattn_matrix_product_request request = VKATTN_INIT(vkattn_matrix_product_request);
  request.rows = N;
  request.output_channels = O;
  request.input_channels = I;
  request.flags = VKATTN_PRODUCT_BIAS | VKATTN_PRODUCT_RESIDUAL;
  for (int format = VKATTN_WEIGHT_F32; format <= VKATTN_WEIGHT_Q4_0; format++)
    for (int path = VKATTN_PRODUCT_DEFAULT; path <= VKATTN_PRODUCT_TILE; path++) {
      /* Forced paths with the last format alone: each is a shader to compile. */
      if (path != VKATTN_PRODUCT_DEFAULT && format != VKATTN_WEIGHT_Q4_0) continue;
      request.weight_format = format;
      request.path = path;
      request.activation = (format + path) % 5;
      double expected[N * O];
      for (int n = 0; n < N; n++)
        for (int o = 0; o < O; o++) {
          double sum = bias[o];
          for (int i = 0; i < I; i++) sum += x[n * I + i] * weights[format][o * I + i];
          expected[n * O + o] = activated(request.activation, sum) + residual[n * O + o];
        }
      vkattn_plan plan = NULL;
      OK(vkattn_matrix_product_plan_create(device, &request, &plan));
      const tensor tensors[] = {READ(INPUT, x, 4 * N * I),
                                READ(WEIGHT, stored[format].bytes, stored[format].byte_count),
                                READ(BIAS, bias, 4 * O), READ(RESIDUAL, residual, 4 * N * O),
                                WRITTEN(OUTPUT, y, sizeof(y))};
      run_plan("matrix product", plan, tensors, 5);
      char name[60];
      snprintf(name, sizeof(name), "matrix product, format %d, path %d", format, path);
      expect_close(name, y, expected, N * O, 1e-5);
    }
#define BAD_PRODUCT(change)                                                                        \
  BAD(vkattn_matrix_product_request, vkattn_matrix_product_plan_create, change)
  BAD_PRODUCT(request.rows = -1);
  BAD_PRODUCT(request.output_channels = 0);
  BAD_PRODUCT(request.input_channels = 48); /* no whole blocks */
  BAD_PRODUCT(request.weight_format = 5);
  BAD_PRODUCT(request.activation = 5);
  BAD_PRODUCT(request.path = 4);
  BAD_PRODUCT(request.flags = 4);
  BAD_PRODUCT(request.reserved = 1);
  BAD_PRODUCT((request.flags = 0, request.bias_type = VKATTN_F16));
  BAD_PRODUCT(request.element_type = -1);
  BAD_PRODUCT(request.output_stride = O - 1);
  REFUSED(VKATTN_NULL_POINTER, vkattn_matrix_product_plan_create(device, NULL, &plan));
  free(x), free(w), free(bias), free(residual), free(halves);
}

/* Every activation alone, one as a gate and one with an addition; a is the first halves of longer rows. */
static void elementwise(void) {
  enum { N = 3, C = 10 };
  float *x = numbers(N * 2 * C, 271), *other = numbers(N * C, 272), y[N * C];
  for (int i = 0; i < N * 2 * C; i++) x[i] *= 4;
  vkattn_elementwise_request request = VKATTN_INIT(vkattn_elementwise_request);
  request.rows = N;
  request.channels = C;
  request.first_stride = 2 * C;
  for (int combination = 0; combination < 3; combination++)
    for (int activation = 0; activation < 5; activation++) {
      if (combination != VKATTN_COMBINE_NONE && activation != 1 + combination) continue;
      request.activation = activation;
      request.combination = combination;
      double expected[N * C];
      for (int i = 0; i < N * C; i++) {
        double a = activated(activation, x[i / C * 2 * C + i % C]);
        expected[i] = combination == VKATTN_COMBINE_MULTIPLY ? a * other[i]
                      : combination == VKATTN_COMBINE_ADD    ? a + other[i]
                                                             : a;
      }
      vkattn_plan plan = NULL;
      OK(vkattn_elementwise_plan_create(device, &request, &plan));
      const tensor tensors[] = {READ(INPUT, x, 4 * ((N - 1) * 2 * C + C)), WRITTEN(OUTPUT, y, sizeof(y)),
                                READ(SECOND_INPUT, other, sizeof(y))};
      run_plan("elementwise", plan, tensors, combination == 0 ? 2 : 3);
      char name[40];
      snprintf(name, sizeof(name), "elementwise %d, %d", activation, combination);
      expect_close(name, y, expected, N * C, 1e-5);
    }
#define BAD_ELEMENT(change) BAD(vkattn_elementwise_request, vkattn_elementwise_plan_create, change)
  BAD_ELEMENT(request.rows = 0);
  BAD_ELEMENT(request.channels = -5);
  BAD_ELEMENT(request.activation = -1);
  BAD_ELEMENT(request.combination = 3);
  BAD_ELEMENT(request.element_type = 8);
  BAD_ELEMENT(request.output_stride = 1);
  BAD_ELEMENT((request.combination = 0, request.second_stride = C));
  REFUSED(VKATTN_NULL_POINTER, vkattn_elementwise_plan_create(device, NULL, &plan));
  free(x), free(other);
}

static void softmax(void) {
  enum { N = 4, C = 37 };
  float *x = numbers(N * C, 281), y[N * C];
  double expected[N * C];
  for (int c = 0; c < C; c++) x[2 * C + c] = -INFINITY;
  for (int n = 0; n < N; n++) {
    double sum = 0;
    for (int c = 0; c < C; c++) sum += exp(2.5 * x[n * C + c]);
    for (int c = 0; c < C; c++) expected[n * C + c] = sum > 0 ? exp(2.5 * x[n * C + c]) / sum : 0;
  }
  vkattn_softmax_request request = VKATTN_INIT(vkattn_softmax_request);
  request.rows = N;
  request.channels = C;
  request.flags = VKATTN_SOFTMAX_SCALE;
  request.scale = 2.5f;
  vkattn_plan plan = NULL;
  OK(vkattn_softmax_plan_create(device, &request, &plan));
  const tensor tensors[] = {READ(INPUT, x, sizeof(y)), WRITTEN(OUTPUT, y, sizeof(y))};
  run_plan("softmax", plan, tensors, 2);
  expect_close("softmax", y, expected, N * C, 1e-5);
#define BAD_SOFTMAX(change) BAD(vkattn_softmax_request, vkattn_softmax_plan_create, change)
  BAD_SOFTMAX(request.rows = INT64_MIN);
  BAD_SOFTMAX(request.channels = 0);
  BAD_SOFTMAX(request.flags = 0);
  BAD_SOFTMAX(request.flags = 2);
  BAD_SOFTMAX(request.scale = INFINITY);
  BAD_SOFTMAX(request.input_stride = C - 1);
  BAD_SOFTMAX(request.output_type = 4);
  REFUSED(VKATTN_NULL_POINTER, vkattn_softmax_plan_create(device, NULL, &plan));
  free(x);
}

/* Tokens and positions of two tables; a number outside makes its row NaN. */
static void embeddings(void) {
  enum { N = 4, D = 6, WORDS = 9, PLACES = 5 };
  float *words = numbers(WORDS * D, 291), *places = numbers(PLACES * D, 292), y[N * D];
  const int32_t tokens[N] = {8, 0, WORDS, 3}, positions[N] = {0, 4, 2, 1};
  vkattn_embedding_request request = VKATTN_INIT(vkattn_embedding_request);
  request.rows = N;
  request.channels = D;
  request.table_count = 2;
  request.entries[0] = WORDS;
  request.entries[1] = PLACES;
  request.flags = VKATTN_EMBEDDING_SCALE;
  request.scale = 3;
  double expected[N * D];
  for (int i = 0; i < N * D; i++)
    expected[i] = i / D == 2 ? 0 : 3.0 * ((double)words[tokens[i / D] * D + i % D] +
                                          places[positions[i / D] * D + i % D]);
  vkattn_plan plan = NULL;
  OK(vkattn_embedding_plan_create(device, &request, &plan));
  tensor tensors[] = {READ(TABLE, words, 4 * WORDS * D), READ(TOKENS, tokens, sizeof(tokens)),
                      READ(TABLE, places, 4 * PLACES * D), READ(TOKENS, positions, sizeof(positions)),
                      WRITTEN(OUTPUT, y, sizeof(y))};
  tensors[2].index = tensors[3].index = 1;
  run_plan("embedding", plan, tensors, 5);
  for (int c = 0; c < D; c++) {
    EXPECT(isnan(y[2 * D + c]));
    y[2 * D + c] = 0;
  }
  expect_close("embedding", y, expected, N * D, 1e-6);
#define BAD_EMBEDDING(change) BAD(vkattn_embedding_request, vkattn_embedding_plan_create, change)
  BAD_EMBEDDING(request.rows = 0);
  BAD_EMBEDDING(request.channels = INT64_MAX);
  BAD_EMBEDDING(request.table_count = 4);
  BAD_EMBEDDING(request.table_count = -1);
  BAD_EMBEDDING(request.table_count = 1); /* the second table's entries are set */
  BAD_EMBEDDING(request.entries[1] = 0);
  BAD_EMBEDDING(request.entries[0] = -3);
  BAD_EMBEDDING(request.format = VKATTN_WEIGHT_Q8_0); /* no whole blocks */
  BAD_EMBEDDING(request.format = 17);
  BAD_EMBEDDING(request.flags = 0);
  BAD_EMBEDDING(request.scale = NAN);
  BAD_EMBEDDING(request.output_stride = D - 1);
  REFUSED(VKATTN_NULL_POINTER, vkattn_embedding_plan_create(device, NULL, &plan));
  free(words), free(places);
}

/* Greedy, and draws from the three most probable tokens, then from 0.6 of their mass. */
static void sampling(void) {
  enum { N = 6, V = 20, TOP = 3 };
  float *logits = numbers(N * V, 301);
  const float uniforms[N] = {0, 0.3f, 0.55f, 0.7f, 0.9f, 0.999f};
  int32_t tokens[N], expected[N];
  logits[4] = NAN;
  for (int c = 0; c < V; c++) logits[5 * V + c] = c % 2 ? NAN : -INFINITY;
  vkattn_sampling_request request = VKATTN_INIT(vkattn_sampling_request);
  request.rows = N;
  request.vocabulary = V;
  for (int draws = 0; draws < 2; draws++) {
    for (int n = 0; n < N; n++) {
      double kept[V], total = 0, part = 0, mass = 0;
      expected[n] = -1;
      for (int c = 0; c < V; c++) kept[c] = 0;
      for (int k = 0; k < (draws ? TOP : 1); k++) {
        int best = -1;
        for (int c = 0; c < V; c++)
          if (kept[c] == 0 && logits[n * V + c] > -INFINITY &&
              (best < 0 || logits[n * V + c] > logits[n * V + best])) best = c;
        if (best < 0) break;
        kept[best] = exp(logits[n * V + best] / 0.5);
        total += kept[best];
        expected[n] = best;
      }
      if (!draws || expected[n] < 0) continue;
      /* Of the most probable ones as few as have 0.6 of the mass. */
      for (double left = total, least; mass == 0;) {
        int last = -1;
        for (int c = 0; c < V; c++)
          if (kept[c] > 0 && (last < 0 || kept[c] < kept[last])) last = c;
        least = kept[last];
        if (left - least < 0.6 * total) mass = left;
        else left -= least, kept[last] = 0;
      }
      for (int c = 0; c < V; c++) {
        part += kept[c] / mass;
        if (part > uniforms[n]) {
          expected[n] = c;
          break;
        }
      }
    }
    if (draws) {
      request.method = VKATTN_SAMPLING_DRAW;
      request.temperature = 0.5f;
      request.top_tokens = TOP;
      request.top_mass = 0.6f;
    }
    vkattn_plan plan = NULL;
    OK(vkattn_sampling_plan_create(device, &request, &plan));
    const tensor tensors[] = {READ(INPUT, logits, 4 * N * V), WRITTEN(TOKENS, tokens, sizeof(tokens)),
                              READ(UNIFORMS, uniforms, sizeof(uniforms))};
    run_plan("sampling", plan, tensors, draws ? 3 : 2);
    expect_same(draws ? "drawn tokens" : "greedy tokens", tokens, expected, N);
  }
#define BAD_SAMPLING(change) BAD(vkattn_sampling_request, vkattn_sampling_plan_create, change)
  BAD_SAMPLING(request.rows = 0);
  BAD_SAMPLING(request.vocabulary = -1);
  BAD_SAMPLING(request.method = 2);
  BAD_SAMPLING(request.method = VKATTN_SAMPLING_GREEDY); /* a temperature is set */
  BAD_SAMPLING(request.temperature = -1);
  BAD_SAMPLING(request.top_mass = 1.5f);
  BAD_SAMPLING(request.top_tokens = -2);
  BAD_SAMPLING(request.stride = V - 1);
  BAD_SAMPLING(request.element_type = 4);
  REFUSED(VKATTN_NULL_POINTER, vkattn_sampling_plan_create(device, NULL, &plan));
  free(logits);
}

void test_companions(void) {
  normalizations();
  products();
  elementwise();
  softmax();
  embeddings();
  sampling();
}
