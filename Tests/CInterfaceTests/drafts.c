/* Linear attention over drafts: the state after every token, and trees of drafts. */
#include "tensors.h"

enum { B = 2, T = 6, H = 2, K = 8, V = 4, STATE = H * K * V };

/* The token before each one: a tree with three leaves, and a chain. */
static const int32_t parents[B * T] = {-1, 0, 0, 1, 2, 2, -1, 0, 1, 2, 3, 4};

/* One token of the gated recurrence S <- exp(d) S + k v^T, o = S^T q / sqrt(K), for all heads. */
static void step(const double *before, const float *q, const float *k, const float *v,
                 const float *decay, double *after, double *o) {
  for (int h = 0; h < H; h++)
    for (int j = 0; j < V; j++) {
      double read = 0;
      for (int i = 0; i < K; i++) {
        int place = (h * K + i) * V + j;
        after[place] = exp(decay[h]) * before[place] + (double)k[h * K + i] * v[h * V + j];
        read += after[place] * q[h * K + i];
      }
      o[h * V + j] = read / sqrt(K);
    }
}

static vkattn_linear_request request_of(const vkattn_operand *operands, size_t count) {
  vkattn_linear_request request = VKATTN_INIT(vkattn_linear_request);
  request.batch_size = B;
  request.tokens = T;
  request.value_heads = H;
  request.key_head_size = K;
  request.value_head_size = V;
  request.operands = operands;
  request.operand_count = count;
  return request;
}

void test_drafts(void) {
  enum { ROWS = B * T * H, STATES = B * T * STATE };
  float *q = numbers(ROWS * K, 201), *k = numbers(ROWS * K, 202), *v = numbers(ROWS * V, 203);
  float *decay = numbers(ROWS, 204), *initial = numbers(B * STATE, 205);
  for (int i = 0; i < ROWS; i++) decay[i] = 0.2f * (decay[i] - 1);
  const vkattn_operand operands[] = {{VKATTN_TENSOR_DECAY, 0, 0, 0, NULL},
                                     {VKATTN_TENSOR_INITIAL_STATE, 0, 0, 0, NULL},
                                     {VKATTN_TENSOR_SNAPSHOTS, 0, 0, 0, NULL},
                                     {VKATTN_TENSOR_PARENTS, 0, 0, 0, NULL}};
  float *o = nans(ROWS * V), *snapshots = nans(STATES);
  double expected[B * T * H * V], states[B * T * STATE];
  for (int is_tree = 0; is_tree < 2; is_tree++) {
    for (int b = 0; b < B; b++)
      for (int t = 0; t < T; t++) {
        double before[STATE];
        int row = b * T + t, parent = is_tree ? parents[row] : t - 1;
        for (int i = 0; i < STATE; i++)
          before[i] = parent < 0 ? initial[b * STATE + i] : states[(b * T + parent) * STATE + i];
        step(before, q + row * H * K, k + row * H * K, v + row * H * V, decay + row * H,
             states + row * STATE, expected + row * H * V);
      }
    vkattn_linear_request request = request_of(operands, is_tree ? 4 : 3);
    vkattn_plan plan = NULL;
    OK(vkattn_linear_plan_create(device, &request, &plan));
    const tensor tensors[] = {READ(QUERY, q, 4 * ROWS * K),
                              READ(KEY, k, 4 * ROWS * K),
                              READ(VALUE, v, 4 * ROWS * V),
                              READ(DECAY, decay, 4 * ROWS),
                              READ(INITIAL_STATE, initial, 4 * B * STATE),
                              WRITTEN(OUTPUT, o, 4 * ROWS * V),
                              WRITTEN(SNAPSHOTS, snapshots, 4 * STATES),
                              READ(PARENTS, parents, sizeof(parents))};
    run_plan("drafts", plan, tensors, is_tree ? 8 : 7);
    expect_close(is_tree ? "tree of drafts" : "chain of drafts", o, expected, ROWS * V, 1e-5);
    expect_close("its states", snapshots, states, STATES, 1e-5);
  }

  /* The next token goes on from the state after the last accepted draft, without a copy. */
  const vkattn_operand next[] = {{VKATTN_TENSOR_DECAY, 0, 0, 0, NULL},
                                 {VKATTN_TENSOR_INITIAL_STATE, 0, 0, 0, NULL},
                                 {VKATTN_TENSOR_STATE_SLOTS, 0, 0, 0, NULL}};
  vkattn_linear_request request = request_of(next, 3);
  request.tokens = 1;
  request.state_count = B * T;
  const int32_t slots[B] = {4, T + 2};
  double after[STATE];
  for (int b = 0; b < B; b++)
    step(states + slots[b] * STATE, q + b * H * K, k + b * H * K, v + b * H * V, decay + b * H, after,
         expected + b * H * V);
  vkattn_plan plan = NULL;
  OK(vkattn_linear_plan_create(device, &request, &plan));
  const tensor tensors[] = {READ(QUERY, q, 4 * B * H * K),
                            READ(KEY, k, 4 * B * H * K),
                            READ(VALUE, v, 4 * B * H * V),
                            READ(DECAY, decay, 4 * B * H),
                            READ(INITIAL_STATE, snapshots, 4 * STATES),
                            READ(STATE_SLOTS, slots, sizeof(slots)),
                            WRITTEN(OUTPUT, o, 4 * B * H * V)};
  run_plan("accepted draft", plan, tensors, 7);
  expect_close("after an accepted draft", o, expected, B * H * V, 1e-5);

  /* Parents go on from snapshots, which sums have not. */
  const vkattn_operand alone[] = {{VKATTN_TENSOR_PARENTS, 0, 0, 0, NULL}};
  request = request_of(alone, 1);
  REFUSED(VKATTN_INVALID_ARGUMENT, vkattn_linear_plan_create(device, &request, &plan));
  request = request_of(operands + 2, 1);
  request.normalizer = VKATTN_LINEAR_RETENTION;
  REFUSED(VKATTN_INVALID_ARGUMENT, vkattn_linear_plan_create(device, &request, &plan));
  request = request_of(operands + 2, 1);
  request.flags = VKATTN_LINEAR_NOT_CAUSAL;
  REFUSED(VKATTN_INVALID_ARGUMENT, vkattn_linear_plan_create(device, &request, &plan));
  free(q), free(k), free(v), free(decay), free(initial), free(o), free(snapshots);
}
