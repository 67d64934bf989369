/* Linear attention: gated delta rule with states, retention, packed sequences. */
#include "support.h"

enum { B = 2, T = 19, H = 3, K = 16, V = 8 };

/* S <- exp(decay) S; x = beta v - beta S^T k with the delta rule; S <- S + k x^T; o = scale S^T q. */
static void reference(const float *q, const float *k, const float *v, const float *decay,
                      const float *beta, int erases, const float *initial, double *o,
                      double *final) {
  for (int b = 0; b < B; b++)
    for (int h = 0; h < H; h++) {
      double state[K][V];
      for (int i = 0; i < K; i++)
        for (int j = 0; j < V; j++)
          state[i][j] = initial != NULL ? initial[((b * H + h) * K + i) * V + j] : 0;
      for (int t = 0; t < T; t++) {
        int row = (b * T + t) * H + h;
        double factor = exp(decay[row]), strength = beta != NULL ? beta[row] : 1;
        for (int j = 0; j < V; j++) {
          double held = 0, read = 0;
          for (int i = 0; i < K; i++) {
            state[i][j] *= factor;
            held += state[i][j] * k[row * K + i];
          }
          double x = strength * (v[row * V + j] - (erases ? held : 0));
          for (int i = 0; i < K; i++) {
            state[i][j] += k[row * K + i] * x;
            read += state[i][j] * q[row * K + i];
          }
          o[row * V + j] = read / sqrt(K);
        }
      }
      for (int i = 0; i < K; i++)
        for (int j = 0; j < V; j++) final[((b * H + h) * K + i) * V + j] = state[i][j];
    }
}

void test_linear(void) {
  float *q = numbers(B * T * H * K, 101), *k = numbers(B * T * H * K, 102);
  float *v = numbers(B * T * H * V, 103), *decay = numbers(B * T * H, 104);
  float *beta = numbers(B * T * H, 105), *initial = numbers(B * H * K * V, 106);
  for (int i = 0; i < B * T * H; i++) {
    decay[i] = 0.1f * (decay[i] - 1);
    beta[i] = 0.5f * (beta[i] + 1);
    double length = 0;
    for (int c = 0; c < K; c++) length += k[i * K + c] * k[i * K + c];
    for (int c = 0; c < K; c++) k[i * K + c] /= (float)sqrt(length);
  }
  vkattn_buffer buffers[] = {buffer_of(q, 4 * B * T * H * K),  buffer_of(k, 4 * B * T * H * K),
                             buffer_of(v, 4 * B * T * H * V),  output_buffer(4 * B * T * H * V),
                             buffer_of(decay, 4 * B * T * H),  buffer_of(beta, 4 * B * T * H),
                             buffer_of(initial, 4 * B * H * K * V), output_buffer(4 * B * H * K * V)};
  const vkattn_operand operands[] = {{VKATTN_TENSOR_DECAY, 0, 0, 0, NULL},
                                     {VKATTN_TENSOR_INITIAL_STATE, 0, 0, 0, NULL},
                                     {VKATTN_TENSOR_FINAL_STATE, 0, 0, 0, NULL},
                                     {VKATTN_TENSOR_BETA, 0, 0, 0, NULL}};
  const vkattn_binding bindings[] = {VKATTN_BIND(VKATTN_TENSOR_QUERY, buffers[0]),
                                     VKATTN_BIND(VKATTN_TENSOR_KEY, buffers[1]),
                                     VKATTN_BIND(VKATTN_TENSOR_VALUE, buffers[2]),
                                     VKATTN_BIND(VKATTN_TENSOR_OUTPUT, buffers[3]),
                                     VKATTN_BIND(VKATTN_TENSOR_DECAY, buffers[4]),
                                     VKATTN_BIND(VKATTN_TENSOR_INITIAL_STATE, buffers[6]),
                                     VKATTN_BIND(VKATTN_TENSOR_FINAL_STATE, buffers[7]),
                                     VKATTN_BIND(VKATTN_TENSOR_BETA, buffers[5])};
  static const vkattn_linear_form forms[] = {VKATTN_LINEAR_RECURRENT, VKATTN_LINEAR_CHUNK};
  for (int erases = 0; erases < 2; erases++) {
    double *o = malloc(sizeof(double) * B * T * H * V), final[B * H * K * V];
    reference(q, k, v, decay, erases ? beta : NULL, erases, initial, o, final);
    for (int form = 0; form < 2; form++) {
      vkattn_linear_request request = VKATTN_INIT(vkattn_linear_request);
      request.batch_size = B;
      request.tokens = T;
      request.value_heads = H;
      request.key_head_size = K;
      request.value_head_size = V;
      request.flags = erases ? VKATTN_LINEAR_ERASES : 0;
      request.operands = operands;
      request.operand_count = erases ? 4 : 3;
      request.form = forms[form];
      vkattn_plan plan = NULL;
      OK(vkattn_linear_plan_create(device, &request, &plan));
      vkattn_plan_info info = VKATTN_INIT(vkattn_plan_info);
      OK(vkattn_plan_get_info(plan, &info));
      EXPECT(info.form == forms[form] && info.path != VKATTN_PATH_DEFAULT);
      vkattn_kernel kernel = kernel_of(plan);
      OK(vkattn_kernel_run(kernel, bindings, erases ? 8 : 7, NULL, NULL));
      float *got = zeros(B * T * H * V), got_state[B * H * K * V];
      get_floats(buffers[3], got, B * T * H * V);
      get_floats(buffers[7], got_state, B * H * K * V);
      expect_close(erases ? "gated delta rule" : "gated linear attention", got, o, B * T * H * V, 1e-5);
      expect_close("its state", got_state, final, B * H * K * V, 1e-5);
      /* A tensor that the request does not name. */
      if (!erases)
        EXPECT_STATUS(VKATTN_INVALID_ARGUMENT, vkattn_kernel_run(kernel, bindings, 8, NULL, NULL));
      OK(vkattn_kernel_free(kernel));
      free(got);
    }
    free(o);
  }
  for (size_t i = 0; i < sizeof(buffers) / sizeof(buffers[0]); i++) OK(vkattn_buffer_free(buffers[i]));
  free(q), free(k), free(v), free(decay), free(beta), free(initial);
}
