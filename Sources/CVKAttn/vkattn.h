/*
 * VulkanAttention's C interface: exact attention, decode, caches and linear attention on Vulkan.
 *
 *   vkattn_device device = NULL;
 *   vkattn_device_open(NULL, &device);
 *   vkattn_attention_request request = VKATTN_INIT(vkattn_attention_request);
 *   request.batch_size = 1; request.query_tokens = 1024; request.key_tokens = 1024;
 *   request.query_heads = 32; request.key_heads = 8; request.head_size = 128;
 *   request.element_type = VKATTN_F16;
 *   vkattn_plan plan = NULL;      vkattn_attention_plan_create(device, &request, &plan);
 *   vkattn_kernel kernel = NULL;  vkattn_kernel_create(plan, &kernel);
 *   vkattn_binding bindings[] = {
 *     VKATTN_BIND(VKATTN_TENSOR_QUERY, q), VKATTN_BIND(VKATTN_TENSOR_KEY, k),
 *     VKATTN_BIND(VKATTN_TENSOR_VALUE, v), VKATTN_BIND(VKATTN_TENSOR_OUTPUT, o),
 *   };
 *   vkattn_kernel_run(kernel, bindings, 4, NULL, NULL);
 *
 * Formulas, papers, shapes and units of every option: the articles AttentionOptions, Decode and
 * LinearAttentionModels of the Swift module, whose names are those here. CInterface.md has the whole
 * interface by example.
 *
 * Handles. A handle is a number in the shape of a pointer; it is never followed. A handle that was
 * freed, or never was one, or is of another kind, is refused with VKATTN_INVALID_HANDLE, whoever holds
 * it. What a handle was made from may be freed before it: objects keep what they need. Work that was
 * submitted keeps its buffers until it is done. Freeing NULL does nothing.
 *
 * Errors. Every function that returns a vkattn_status returns VKATTN_OK or says what was wrong:
 * vkattn_last_error() is the message of the calling thread's last failure, with what was asked and what
 * is allowed. Results are written only by calls that succeed. Nothing here ends the process.
 *
 * Threads. Every function may be called on any thread, at any time, except from inside of a callback
 * (VKATTN_IN_CALLBACK). Devices, buffers, plans, kernels, steps and submissions can be shared. A recorder
 * is one thread's at a time: a call that finds another thread inside returns VKATTN_BUSY. The bytes of a
 * buffer are the caller's to order: do not upload, download or touch mapped memory that submitted work
 * uses.
 *
 * Structures. Those with a field struct_size begin with it: set it to sizeof, as VKATTN_INIT does with
 * all else 0, and 0 is every field's default. A later version adds fields at the end only. The library
 * takes shorter structures, and longer ones as long as what it does not know is 0. Structures without the
 * field never change. Reserved fields are 0.
 *
 * Numbers. Extents and strides count elements, byte counts bytes. Element types, layouts and letters:
 * B batch entries, S query tokens, T key tokens, H query heads, G key heads, D channels of a query and a
 * key, E channels of a value. Tensors are [B, S, H, D] and the like, channels contiguous.
 */
#ifndef VKATTN_H
#define VKATTN_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#define VKATTN_INIT(type) ([] { type made{}; made.struct_size = sizeof(made); return made; }())
#else
/* A structure of a type with its size set and all else 0. */
#define VKATTN_INIT(type) {.struct_size = sizeof(type)}
#endif

#if defined(_WIN32)
#define VKATTN_API
#else
#define VKATTN_API __attribute__((visibility("default")))
#endif

/* Raised when something that was there changes; additions leave it as it is. */
#define VKATTN_ABI_VERSION 1

/* ---------------------------------------------------------------- Status */

typedef int32_t vkattn_status;
enum {
  VKATTN_OK = 0,
  /* A number is not allowed, or two of them do not fit. */
  VKATTN_INVALID_ARGUMENT = 1,
  /* The handle was freed, never was one, or is of another kind. */
  VKATTN_INVALID_HANDLE = 2,
  /* A pointer or a handle that is needed is NULL. */
  VKATTN_NULL_POINTER = 3,
  /* struct_size is not that of any version, or a field that this version does not know is set. */
  VKATTN_BAD_STRUCTURE = 4,
  /* Sizes whose product cannot be addressed. */
  VKATTN_TOO_LARGE = 5,
  /* No path, or not the one that was asked for, can run this on this device. */
  VKATTN_NO_PATH = 6,
  VKATTN_BUFFER_TOO_SMALL = 7,
  VKATTN_MISALIGNED = 8,
  /* An output shares memory with another tensor. */
  VKATTN_OVERLAP = 9,
  /* A tensor that the request has is not bound. */
  VKATTN_MISSING_BUFFER = 10,
  /* There is no Vulkan loader, no driver, or no validation layer. */
  VKATTN_NO_DRIVER = 11,
  /* No device matches the selection. */
  VKATTN_NO_DEVICE = 12,
  VKATTN_MISSING_FEATURES = 13,
  /* The device was lost; open it again. */
  VKATTN_DEVICE_LOST = 14,
  VKATTN_OUT_OF_MEMORY = 15,
  VKATTN_LIMIT_EXCEEDED = 16,
  /* A range does not lie inside of its buffer. */
  VKATTN_OUT_OF_BOUNDS = 17,
  /* An object of one device was used with another. */
  VKATTN_WRONG_DEVICE = 18,
  /* A shader is not in this build, or does not fit its caller. */
  VKATTN_SHADER = 19,
  VKATTN_ALREADY_SUBMITTED = 20,
  /* The progress callback asked for an end. */
  VKATTN_CANCELLED = 21,
  /* The time is over; the work goes on. */
  VKATTN_TIMED_OUT = 22,
  /* Another thread is using the recorder. */
  VKATTN_BUSY = 23,
  /* The host cannot reach the buffer's memory. */
  VKATTN_NOT_HOST_VISIBLE = 24,
  /* A callback called a function of this interface. */
  VKATTN_IN_CALLBACK = 25,
  /* A Vulkan call failed. */
  VKATTN_VULKAN = 26,
  /* The folder of compiled pipelines cannot be written. */
  VKATTN_CACHE_NOT_WRITABLE = 27
};

/* VKATTN_ABI_VERSION of the library; refuse to go on where it is not that of the header. */
VKATTN_API uint32_t vkattn_abi_version(void);
/* The library's version, as "0.1.0". */
VKATTN_API const char *vkattn_version(void);
/* The name of a status, as "VKATTN_OVERLAP"; of an unknown number "VKATTN_UNKNOWN". */
VKATTN_API const char *vkattn_status_name(vkattn_status status);
/* The message of this thread's last failure, or ""; valid until this thread's next failure or its end. */
VKATTN_API const char *vkattn_last_error(void);

/* --------------------------------------------------------------- Handles */

typedef struct vkattn_device_handle *vkattn_device;
typedef struct vkattn_buffer_handle *vkattn_buffer;
typedef struct vkattn_plan_handle *vkattn_plan;
typedef struct vkattn_kernel_handle *vkattn_kernel;
typedef struct vkattn_recorder_handle *vkattn_recorder;
typedef struct vkattn_submission_handle *vkattn_submission;
typedef struct vkattn_step_handle *vkattn_step;

/* --------------------------------------------------------------- Devices */

typedef int32_t vkattn_log_level;
enum {
  VKATTN_LOG_TRACE = 0,
  VKATTN_LOG_DEBUG = 1,
  VKATTN_LOG_INFO = 2,
  VKATTN_LOG_NOTICE = 3,
  VKATTN_LOG_WARNING = 4,
  VKATTN_LOG_ERROR = 5,
  VKATTN_LOG_CRITICAL = 6
};

/* Receives a message, on any thread; the text is valid during the call. */
typedef void (*vkattn_log_callback)(void *context, vkattn_log_level level, const char *message);

/* What device options ask for. */
enum {
  /* Turn the validation layers on; see vkattn_device_take_validation_messages. */
  VKATTN_DEVICE_VALIDATION = 1,
  /* Copy through staging buffers even where the host reaches device memory. */
  VKATTN_DEVICE_FORCES_STAGING = 2
};

typedef struct vkattn_device_options {
  size_t struct_size;
  /* "best" (also NULL), a number in the loader's list, a UUID, or a part of a name. */
  const char *selection;
  /* Where compiled pipelines are kept; NULL for the usual folder, "" for memory only. */
  const char *pipeline_cache_directory;
  uint32_t flags;
  uint32_t reserved;
  /* Receives what the library has to tell; NULL for silence. It may be called until the device and all
   * that was made with it are freed and their work is done. */
  vkattn_log_callback log;
  void *log_context;
} vkattn_device_options;

typedef int32_t vkattn_device_kind;
enum {
  VKATTN_DEVICE_DISCRETE = 1,
  VKATTN_DEVICE_INTEGRATED = 2,
  VKATTN_DEVICE_VIRTUAL = 3,
  VKATTN_DEVICE_CPU = 4,
  VKATTN_DEVICE_OTHER = 5
};

/* What a device can do. */
enum {
  VKATTN_FEATURE_FLOAT16 = 1 << 0,
  VKATTN_FEATURE_COOPERATIVE_MATRIX = 1 << 1,
  VKATTN_FEATURE_COOPERATIVE_MATRIX_2 = 1 << 2,
  VKATTN_FEATURE_SUBGROUP_SIZE_CONTROL = 1 << 3,
  VKATTN_FEATURE_SUBGROUP_ARITHMETIC = 1 << 4,
  VKATTN_FEATURE_SUBGROUP_SHUFFLE = 1 << 5,
  /* All that the library cannot do without is there. */
  VKATTN_FEATURE_REQUIRED = 1 << 6,
  /* The host reaches all device memory without a copy. */
  VKATTN_FEATURE_UNIFIED_MEMORY = 1 << 7
};

typedef struct vkattn_device_info {
  size_t struct_size;
  size_t max_allocation_bytes;
  size_t device_local_bytes;
  size_t max_shared_bytes;
  int32_t index;
  vkattn_device_kind kind;
  uint32_t vendor_id;
  uint32_t device_id;
  int32_t subgroup_size;
  /* 0 where the driver does not tell. */
  int32_t compute_units;
  uint32_t features;
  uint32_t reserved;
  char name[256];
  char driver_name[256];
  char driver_info[256];
  char api_version[32];
  char device_uuid[40];
  char driver_uuid[40];
} vkattn_device_info;

/* Asks lavapipe for vectors of 512 bits where the processor has AVX-512, before the first device is
 * opened; changes the environment of the process. *is_wide (may be NULL): whether it will use them. */
VKATTN_API vkattn_status vkattn_prefer_wide_vectors(int32_t *is_wide);
/* The number of devices in the loader's list. */
VKATTN_API vkattn_status vkattn_device_count(int32_t *count);
/* What the device at a place of that list is. */
VKATTN_API vkattn_status vkattn_device_describe(int32_t index, vkattn_device_info *info);
/* Opens a device; options may be NULL. */
VKATTN_API vkattn_status vkattn_device_open(const vkattn_device_options *options,
                                            vkattn_device *device);
VKATTN_API vkattn_status vkattn_device_get_info(vkattn_device device, vkattn_device_info *info);
/* *is_lost becomes 1 where the device was lost and refuses all work, else 0. */
VKATTN_API vkattn_status vkattn_device_is_lost(vkattn_device device, int32_t *is_lost);
/* Writes compiled pipelines to their folder now instead of when the device goes. */
VKATTN_API vkattn_status vkattn_device_save_pipelines(vkattn_device device);
/* Calls back with each message of the validation layers and forgets them; *count (may be NULL): how many
 * there were. Needs VKATTN_DEVICE_VALIDATION. */
VKATTN_API vkattn_status vkattn_device_take_validation_messages(vkattn_device device,
                                                                vkattn_log_callback callback,
                                                                void *context, size_t *count);
VKATTN_API vkattn_status vkattn_device_free(vkattn_device device);

/* --------------------------------------------------------------- Buffers */

typedef int32_t vkattn_memory_purpose;
enum {
  /* Read and written by kernels. */
  VKATTN_MEMORY_DEVICE = 0,
  /* Filled by the host, read by the device. */
  VKATTN_MEMORY_UPLOAD = 1,
  /* Filled by the device, read by the host. */
  VKATTN_MEMORY_READBACK = 2
};

typedef struct vkattn_buffer_info {
  size_t struct_size;
  size_t byte_count;
  uint64_t device_address;
  int32_t is_host_visible;
  int32_t reserved;
} vkattn_buffer_info;

/* Makes a buffer of 0 bytes or more, at a multiple of 256; its contents are undefined. label (may be
 * NULL) names it in errors. */
VKATTN_API vkattn_status vkattn_buffer_create(vkattn_device device, size_t byte_count,
                                              vkattn_memory_purpose purpose, const char *label,
                                              vkattn_buffer *buffer);
/* A part of a buffer, which shares its memory. */
VKATTN_API vkattn_status vkattn_buffer_slice(vkattn_buffer buffer, size_t offset, size_t byte_count,
                                             vkattn_buffer *slice);
VKATTN_API vkattn_status vkattn_buffer_get_info(vkattn_buffer buffer, vkattn_buffer_info *info);
/* Copies bytes to a buffer, from its byte `offset` on, and returns when they are there. */
VKATTN_API vkattn_status vkattn_buffer_upload(vkattn_buffer buffer, size_t offset, const void *bytes,
                                              size_t byte_count);
/* Copies bytes of a buffer to the host. Wait first for the work that writes them. */
VKATTN_API vkattn_status vkattn_buffer_download(vkattn_buffer buffer, size_t offset, void *bytes,
                                                size_t byte_count);
/* Where the host sees the buffer, for as long as the handle, or a slice of it, is not freed. Without host
 * access: VKATTN_NOT_HOST_VISIBLE. */
VKATTN_API vkattn_status vkattn_buffer_map(vkattn_buffer buffer, void **bytes);
VKATTN_API vkattn_status vkattn_buffer_free(vkattn_buffer buffer);

/* --------------------------------------------------- What requests share */

typedef int32_t vkattn_element_type;
enum {
  /* Elsewhere said: the request's element type, in that one f32 (in decode requests f16). */
  VKATTN_DEFAULT_TYPE = 0,
  VKATTN_F32 = 1,
  VKATTN_F16 = 2,
  VKATTN_BF16 = 3
};

typedef int32_t vkattn_path;
enum {
  /* As a request: the best one. As an answer: the kernel has no paths. */
  VKATTN_PATH_DEFAULT = 0,
  VKATTN_PATH_ROW = 1,
  VKATTN_PATH_SUBGROUP = 2,
  VKATTN_PATH_MATRIX = 3
};

/* Strides of [batch, token, head, channel] in elements; where a request takes a pointer to them, NULL is
 * for contiguous. */
typedef struct vkattn_strides {
  int64_t batch;
  int64_t token;
  int64_t head;
} vkattn_strides;

/* Every tensor of every kernel. */
typedef int32_t vkattn_tensor;
enum {
  VKATTN_TENSOR_QUERY = 1,
  /* With VKATTN_ATTENTION_KEY_SOURCES one for each key head, by the binding's index. */
  VKATTN_TENSOR_KEY = 2,
  /* Not bound where values are keys. */
  VKATTN_TENSOR_VALUE = 3,
  VKATTN_TENSOR_OUTPUT = 4,
  VKATTN_TENSOR_LOG_SUM_EXP = 5,
  /* Working memory; its contents do not matter. */
  VKATTN_TENSOR_SCRATCH = 6,

  /* Operands of attention, decode and statistics; shapes in AttentionOptions.md. */
  VKATTN_TENSOR_BIAS = 32,                /* [B, H, S, T] of the operand's type */
  VKATTN_TENSOR_MASK = 33,                /* [B, H, S, T] of bytes */
  VKATTN_TENSOR_MASK_BITS = 34,           /* [B, H, S, T / 8 rounded up] of bytes */
  VKATTN_TENSOR_TREE_BITS = 35,           /* [B, S, W / 8 rounded up] of bytes */
  VKATTN_TENSOR_QUERY_SEGMENTS = 36,      /* [B, S] of int32 */
  VKATTN_TENSOR_KEY_SEGMENTS = 37,        /* [B, T] of int32 */
  VKATTN_TENSOR_KEY_LENGTHS = 38,         /* [B] of int32 */
  VKATTN_TENSOR_LEFT_PADDING = 39,        /* [B] of int32 */
  VKATTN_TENSOR_PREFIX_LENGTHS = 40,      /* [B] of int32 */
  VKATTN_TENSOR_HEAD_WINDOWS = 41,        /* [H, 2] of int32 */
  VKATTN_TENSOR_SINKS = 42,               /* [H] of f32 */
  VKATTN_TENSOR_ALIBI_SLOPES = 43,        /* [B, H] of f32 */
  VKATTN_TENSOR_RELATIVE_BIAS = 44,       /* [H, L + 1 + R] of f32 */
  VKATTN_TENSOR_GRID_BIAS = 45,           /* [(2h - 1)(2w - 1), H] of f32 */
  VKATTN_TENSOR_KEY_BIAS = 46,            /* [B, H, T] of f32 */
  VKATTN_TENSOR_QUERY_SCALES = 47,        /* [B, S, H] of f32 */
  VKATTN_TENSOR_GATES = 48,               /* [B, S, H] of f32 */
  VKATTN_TENSOR_QUERY_BIAS = 49,          /* [H, D] of f32 */
  VKATTN_TENSOR_RELATIVE_QUERY_BIAS = 50, /* [H, D] of f32 */
  VKATTN_TENSOR_RELATIVE_KEYS = 51,       /* [L + 1 + R, H, D] of f32 */
  /* The following are bound, but not named among a request's operands: flags bring them along. */
  VKATTN_TENSOR_QUERY_STARTS = 52,   /* [N + 1] of int32, with VKATTN_ATTENTION_PACKED */
  VKATTN_TENSOR_KEY_STARTS = 53,     /* likewise */
  VKATTN_TENSOR_INITIAL_MAX = 54,    /* [B, S, H] of f32, with VKATTN_ATTENTION_RESUMES */
  VKATTN_TENSOR_INITIAL_SUM = 55,    /* likewise; of linear attention [N, H, K], an operand */
  VKATTN_TENSOR_INITIAL_OUTPUT = 56, /* [B, S, H, E] of f32 */
  VKATTN_TENSOR_FINAL_MAX = 57,      /* with VKATTN_ATTENTION_RETURNS_STATE */
  VKATTN_TENSOR_FINAL_SUM = 58,
  VKATTN_TENSOR_FINAL_OUTPUT = 59,
  /* Named among a request's operands again. */
  VKATTN_TENSOR_BLOCK_MAP = 60, /* [B, H, ceil(S / 128), ceil(T / 128)] of int32: 0 hidden, 1 by the masks, 2 seen */

  /* Statistics. */
  VKATTN_TENSOR_KEY_SUMS = 96,                /* [B, H, T] of f32 */
  VKATTN_TENSOR_ENTROPY = 97,                 /* [B, S, H] of f32 */
  VKATTN_TENSOR_QUERY_ROWS = 98,              /* [R] of int32 */
  VKATTN_TENSOR_PROBABILITIES = 99,           /* [B, R, H, T] of f32 */
  VKATTN_TENSOR_TOP_KEY_INDICES = 100,        /* [B, S, H, K] of int32 */
  VKATTN_TENSOR_TOP_KEY_PROBABILITIES = 101,  /* [B, S, H, K] of f32 */

  /* Merges. Two states in buffers of their own are bound with the indices 0 and 1. */
  VKATTN_TENSOR_PARTIAL_OUTPUTS = 112,
  VKATTN_TENSOR_PARTIAL_LOG_SUM_EXPS = 113,
  VKATTN_TENSOR_PARTIAL_STARTS = 114, /* [rows + 1] of int32, with VKATTN_MERGE_TOTAL */

  /* Caches. */
  VKATTN_TENSOR_KEY_CACHE = 128,
  VKATTN_TENSOR_KEY_SCALES = 129,
  VKATTN_TENSOR_VALUE_CACHE = 130,
  VKATTN_TENSOR_VALUE_SCALES = 131,
  VKATTN_TENSOR_PAGE_INDPTR = 132,  /* [B + 1] of int32 */
  VKATTN_TENSOR_PAGE_INDICES = 133, /* of int32 */
  VKATTN_TENSOR_ROTATIONS = 134,    /* [T, channels / 2, 2] of f32: cosine, sine */
  VKATTN_TENSOR_WORKSPACE = 135,    /* what a decode step's layers share */

  /* Cache operations. */
  VKATTN_TENSOR_SEQUENCES = 160,        /* [N] of int32 */
  VKATTN_TENSOR_POSITIONS = 161,        /* [N] of int32 */
  VKATTN_TENSOR_FREQUENCIES = 162,      /* vkattn_rotary_frequency_table */
  VKATTN_TENSOR_ROTARY_POSITIONS = 163, /* [N] of int32, may be left out */
  VKATTN_TENSOR_LENGTHS = 164,          /* [B] of int32, for a ring, may be left out */
  VKATTN_TENSOR_COMMITTED = 165,        /* [B] of int32 */
  VKATTN_TENSOR_PATHS = 166,            /* [B, P] of int32 */
  VKATTN_TENSOR_PATH_LENGTHS = 167,     /* [B] of int32 */
  VKATTN_TENSOR_COPIES = 168,           /* [N, 2] of int32: from, to */
  VKATTN_TENSOR_INPUT = 169,            /* x of a rotation, [N, H, D] */

  /* Operands of linear attention; shapes in LinearAttentionModels.md. K, V: channels of keys, values. */
  VKATTN_TENSOR_HEAD_DECAY = 192,      /* [H] of f32 */
  VKATTN_TENSOR_DECAY = 193,           /* [B, T, H] of the gates' type */
  VKATTN_TENSOR_KEY_DECAY = 194,       /* [B, T, H, K] of the gates' type */
  VKATTN_TENSOR_VALUE_DECAY = 195,     /* [B, T, H, V] of the gates' type */
  VKATTN_TENSOR_BETA = 196,            /* [B, T U, H] of the gates' type */
  VKATTN_TENSOR_ERASE_KEYS = 197,      /* [B, T U, G, K] of the element type */
  VKATTN_TENSOR_ERASE_GATES = 198,     /* [B, T U, H, K] of the gates' type */
  VKATTN_TENSOR_WRITE_GATES = 199,     /* [B, T U, H, V] of the gates' type */
  VKATTN_TENSOR_LOW_RANK_A = 200,      /* [B, T, H, K] of the element type */
  VKATTN_TENSOR_LOW_RANK_B = 201,      /* [B, T, H, K] of the element type */
  VKATTN_TENSOR_BONUS = 202,           /* [H, K] of f32 */
  VKATTN_TENSOR_INITIAL_STATE = 203,   /* [N, H, K, V] of f32 */
  VKATTN_TENSOR_FINAL_STATE = 204,     /* [N, H, K, V] of f32, may be the initial one's memory */
  VKATTN_TENSOR_SEQUENCE_STARTS = 205, /* [N + 1] of int32, with VKATTN_LINEAR_PACKED, no operand */
  VKATTN_TENSOR_SEQUENCE_IDS = 206,    /* [B, T] of int32 */
  VKATTN_TENSOR_STATE_SLOTS = 207,     /* [N] of int32 */
  VKATTN_TENSOR_TIME_STEP = 208,       /* [B, T, H] of the gates' type */
  VKATTN_TENSOR_RATE = 209,            /* [H] of f32 */
  VKATTN_TENSOR_TIME_STEP_BIAS = 210,  /* [H] of f32 */
  VKATTN_TENSOR_SKIP = 211,            /* [H] of f32 */
  VKATTN_TENSOR_OUTPUT_GATE = 212      /* [B, T, H, V] of the values' type */
};

/* Axes along which an operand has one entry for all. */
enum {
  VKATTN_SHARED_BATCH = 1,
  VKATTN_SHARED_HEADS = 2,
  VKATTN_SHARED_QUERIES = 4
};

/* A tensor that a request takes beside its own. */
typedef struct vkattn_operand {
  vkattn_tensor tensor;
  /* Of VKATTN_TENSOR_BIAS; elsewhere VKATTN_DEFAULT_TYPE. */
  vkattn_element_type element_type;
  /* Of attention. */
  uint32_t shared_axes;
  uint32_t reserved;
  /* Of linear attention, for operands with tokens; NULL for contiguous. */
  const vkattn_strides *strides;
} vkattn_operand;

/* A buffer, or a part of one, for a tensor. */
typedef struct vkattn_binding {
  vkattn_tensor tensor;
  /* 0, but where a tensor is bound several times. */
  int32_t index;
  vkattn_buffer buffer;
  size_t offset;
  /* 0 for up to the buffer's end. */
  size_t byte_count;
} vkattn_binding;

#ifdef __cplusplus
#define VKATTN_BIND(tensor, buffer) vkattn_binding{(tensor), 0, (buffer), 0, 0}
#else
/* A whole buffer for a tensor. */
#define VKATTN_BIND(tensor, buffer) {(tensor), 0, (buffer), 0, 0}
#endif

/* ------------------------------------------------------- Tiled attention */

enum {
  VKATTN_MASK_CAUSAL = 1,
  /* The first query stands at the first key; otherwise the last one at the last. */
  VKATTN_MASK_TOP_LEFT = 2,
  /* window_left counts. */
  VKATTN_MASK_WINDOW_LEFT = 4,
  /* window_right counts. */
  VKATTN_MASK_WINDOW_RIGHT = 8
};

/* Which keys a query may see, by their positions. */
typedef struct vkattn_mask {
  size_t struct_size;
  uint32_t flags;
  uint32_t reserved;
  /* 0 or 1 for none: by blocks of so many, floor(j / b) <= floor(p / b). */
  int64_t causal_block;
  int64_t prefix_tokens;
  int64_t window_left;
  int64_t window_right;
  /* 0 for no chunks. */
  int64_t chunk_size;
  int64_t sink_tokens;
} vkattn_mask;

typedef int32_t vkattn_normalizer;
enum {
  VKATTN_SOFTMAX = 0,
  VKATTN_SOFTMAX_OFF_BY_ONE = 1,
  VKATTN_RELU_MEAN = 2,
  VKATTN_RELU_SUM = 3,
  /* With sigmoid_bias. */
  VKATTN_SIGMOID = 4
};

enum {
  /* Queries see the keys of all segments but their own. */
  VKATTN_SCORES_OTHER_SEGMENTS = 1
};

/* What is done to scores. */
typedef struct vkattn_scores {
  size_t struct_size;
  /* c of c tanh(s / c); 0 for none. */
  float softcap;
  vkattn_normalizer normalizer;
  float sigmoid_bias;
  uint32_t flags;
  int64_t relative_left;
  int64_t relative_right;
  int64_t grid_height;
  int64_t grid_width;
  int64_t tree_tokens;
} vkattn_scores;

enum {
  /* scale counts; otherwise it is 1 / sqrt(D). */
  VKATTN_ATTENTION_SCALE = 1,
  VKATTN_ATTENTION_RETURNS_LOG_SUM_EXP = 2,
  VKATTN_ATTENTION_RESUMES = 4,
  VKATTN_ATTENTION_RETURNS_STATE = 8,
  /* Values are the first E channels of the keys. */
  VKATTN_ATTENTION_VALUES_ARE_KEYS = 16,
  /* Each key head has its keys and values in buffers of its own. */
  VKATTN_ATTENTION_KEY_SOURCES = 32,
  /* Sequences lie one behind the other: batch_size is their number, query_tokens and key_tokens the
   * longest, packed_query_tokens and packed_key_tokens all of them. */
  VKATTN_ATTENTION_PACKED = 64
};

typedef struct vkattn_attention_request {
  size_t struct_size;
  int64_t batch_size;   /* B, 1 or more */
  int64_t query_tokens; /* S, 1 or more */
  int64_t key_tokens;   /* T, 0 or more */
  int64_t query_heads;  /* H */
  int64_t key_heads;    /* G, a divisor of H; 0 for H */
  int64_t head_size;    /* D, 1 to 576 */
  int64_t value_head_size; /* E, 1 to 576; 0 for D */
  vkattn_element_type element_type;
  vkattn_element_type key_type;
  vkattn_element_type value_type;
  vkattn_element_type output_type;
  uint32_t flags;
  float scale;
  vkattn_path path;
  uint32_t reserved;
  const vkattn_mask *mask;     /* NULL: every query sees every key */
  const vkattn_scores *scores; /* NULL: plain softmax */
  const vkattn_operand *operands;
  size_t operand_count;
  int64_t packed_query_tokens;
  int64_t packed_key_tokens;
  const vkattn_strides *query_strides;
  const vkattn_strides *key_strides;
  const vkattn_strides *value_strides;
  const vkattn_strides *output_strides;
} vkattn_attention_request;

/* Tensors: QUERY, KEY, VALUE, OUTPUT, LOG_SUM_EXP, SCRATCH, operands. */
VKATTN_API vkattn_status vkattn_attention_plan_create(vkattn_device device,
                                                      const vkattn_attention_request *request,
                                                      vkattn_plan *plan);

/* T5's table of biases by distance, for VKATTN_TENSOR_RELATIVE_BIAS with relative_left = max_distance and
 * relative_right = is_bidirectional ? max_distance : 0.
 *   weights: [bucket_count, heads]; table: [heads, relative_left + 1 + relative_right], of
 *   table_count numbers, which must be as many. */
VKATTN_API vkattn_status vkattn_relative_bias_table(int64_t bucket_count, int64_t max_distance,
                                                    int32_t is_bidirectional, const float *weights,
                                                    int64_t heads, float *table,
                                                    size_t table_count);

/* ------------------------------------------------------------ Statistics */

enum {
  VKATTN_STATISTIC_KEY_SUMS = 1,
  VKATTN_STATISTIC_ENTROPY = 2,
  VKATTN_STATISTIC_PROBABILITIES = 4,
  VKATTN_STATISTIC_TOP_KEYS = 8
};

typedef struct vkattn_statistics_request {
  size_t struct_size;
  /* Of which attention; its path does not matter. */
  const vkattn_attention_request *attention;
  uint32_t statistics;
  uint32_t reserved;
  int64_t key_sums_last_rows; /* 0 for all rows */
  int64_t probability_rows;   /* R */
  int64_t top_keys;           /* K, 1 to 64 */
} vkattn_statistics_request;

/* Tensors: QUERY, KEY, LOG_SUM_EXP (as the attention left it), SCRATCH, operands without states, and
 * those of the statistics. */
VKATTN_API vkattn_status vkattn_statistics_plan_create(vkattn_device device,
                                                       const vkattn_statistics_request *request,
                                                       vkattn_plan *plan);

/* ---------------------------------------------------------------- Merges */

/* Strides of partial results [partial, row, head, channel] in elements. */
typedef struct vkattn_state_strides {
  int64_t partial;
  int64_t row;
  int64_t head;
} vkattn_state_strides;

enum {
  /* partial_count is that of all rows together; PARTIAL_STARTS says which are whose. */
  VKATTN_MERGE_TOTAL = 1,
  VKATTN_MERGE_RETURNS_LOG_SUM_EXP = 2
};

typedef struct vkattn_merge_request {
  size_t struct_size;
  int64_t row_count;
  int64_t head_count;
  int64_t partial_count; /* of every row */
  int64_t value_head_size;
  vkattn_element_type element_type;
  vkattn_element_type merged_type;
  uint32_t flags;
  uint32_t reserved;
  const vkattn_state_strides *output_strides;
  const vkattn_state_strides *log_sum_exp_strides;
} vkattn_merge_request;

/* Tensors: PARTIAL_OUTPUTS, PARTIAL_LOG_SUM_EXPS, PARTIAL_STARTS, OUTPUT, LOG_SUM_EXP. */
VKATTN_API vkattn_status vkattn_merge_plan_create(vkattn_device device,
                                                  const vkattn_merge_request *request,
                                                  vkattn_plan *plan);

/* ---------------------------------------------------------------- Caches */

typedef int32_t vkattn_cache_format;
enum {
  VKATTN_CACHE_F32 = 1,
  VKATTN_CACHE_F16 = 2,
  VKATTN_CACHE_BF16 = 3,
  VKATTN_CACHE_Q8_0 = 4,
  VKATTN_CACHE_Q4_0 = 5,
  VKATTN_CACHE_Q4_1 = 6,
  /* With scales in a tensor beside, of scale_type, one for scale_group channels. */
  VKATTN_CACHE_INT8 = 7,
  VKATTN_CACHE_INT4 = 8,
  VKATTN_CACHE_E4M3 = 9,
  VKATTN_CACHE_E5M2 = 10
};

typedef int32_t vkattn_cache_arrangement;
enum {
  VKATTN_CACHE_CONTIGUOUS = 1,
  VKATTN_CACHE_RING = 2,
  VKATTN_CACHE_PAGED = 3
};

typedef int32_t vkattn_cache_order;
enum {
  VKATTN_CACHE_NHD = 0,
  VKATTN_CACHE_HND = 1
};

/* The keys, or the values, of a cache: [block, token, head, channel], a block being a sequence or page. */
typedef struct vkattn_cache_tensor {
  size_t struct_size;
  vkattn_cache_format format;
  vkattn_element_type scale_type; /* VKATTN_DEFAULT_TYPE for f32 */
  int64_t scale_group;
  vkattn_cache_arrangement arrangement;
  vkattn_cache_order order;
  int64_t block_count;  /* sequences, or pages */
  int64_t block_tokens; /* the capacity of a sequence, or the size of a page */
  int64_t heads;
  int64_t channels;
  const vkattn_strides *strides;
  const vkattn_strides *scale_strides;
} vkattn_cache_tensor;

/* A cache that kernels write to. */
typedef struct vkattn_cache {
  size_t struct_size;
  const vkattn_cache_tensor *key;
  const vkattn_cache_tensor *value; /* NULL for a cache of keys alone */
  /* Of a paged cache: B, and the numbers that PAGE_INDICES has room for. Otherwise 0. */
  int64_t page_table_sequences;
  int64_t page_table_entries;
} vkattn_cache;

typedef int32_t vkattn_rotary_pairing;
enum {
  /* Channels c and c + channels / 2. */
  VKATTN_ROTARY_HALVES = 0,
  /* Channels 2c and 2c + 1. */
  VKATTN_ROTARY_INTERLEAVED = 1
};

typedef int32_t vkattn_rotary_scaling;
enum {
  VKATTN_ROTARY_PLAIN = 0,
  VKATTN_ROTARY_LINEAR = 1,
  VKATTN_ROTARY_YARN = 2
};

typedef int32_t vkattn_yarn_ramp;
enum {
  VKATTN_YARN_PAIRS = 0,
  VKATTN_YARN_ROTATIONS = 1
};

enum {
  /* attention_factor counts. */
  VKATTN_ROTARY_ATTENTION_FACTOR = 1
};

/* Rotary position embedding. */
typedef struct vkattn_rotary {
  size_t struct_size;
  int64_t channels; /* d, even, 2 to 576 */
  vkattn_rotary_pairing pairing;
  vkattn_rotary_scaling scaling;
  double theta;             /* 0 for 10000 */
  double factor;            /* of linear scaling and YaRN */
  int64_t original_context; /* of YaRN, in tokens */
  double fast_rotations;    /* of YaRN; 0 for 32 */
  double slow_rotations;    /* of YaRN; 0 for 1 */
  vkattn_yarn_ramp ramp;
  uint32_t flags;
  double attention_factor;
  /* [d / 2] in radians per token, in place of theta and scaling; NULL for those. */
  const double *frequencies;
} vkattn_rotary;

/* What VKATTN_TENSOR_FREQUENCIES holds: channels / 2 numbers. table_count must be as many. */
VKATTN_API vkattn_status vkattn_rotary_frequency_table(const vkattn_rotary *rotary, uint64_t *table,
                                                       size_t table_count);

typedef struct vkattn_rotate_request {
  size_t struct_size;
  int64_t tokens;
  int64_t heads;
  int64_t channels;
  const vkattn_rotary *rotary;
  vkattn_element_type element_type;
  vkattn_element_type output_type;
  const vkattn_strides *strides;        /* batch has no meaning */
  const vkattn_strides *output_strides; /* NULL for those of the input */
} vkattn_rotate_request;

/* Tensors: INPUT, OUTPUT (may be the input's memory), POSITIONS, FREQUENCIES. */
VKATTN_API vkattn_status vkattn_rotate_plan_create(vkattn_device device,
                                                   const vkattn_rotate_request *request,
                                                   vkattn_plan *plan);

typedef struct vkattn_append_request {
  size_t struct_size;
  int64_t tokens;
  const vkattn_cache *cache;
  vkattn_element_type key_type; /* VKATTN_DEFAULT_TYPE for f32 */
  vkattn_element_type value_type;
  const vkattn_strides *key_strides;
  const vkattn_strides *value_strides;
  const vkattn_rotary *rotary; /* NULL: keys are not rotated */
} vkattn_append_request;

/* Tensors: KEY, VALUE, SEQUENCES, POSITIONS, FREQUENCIES, ROTARY_POSITIONS, LENGTHS, and the cache's. */
VKATTN_API vkattn_status vkattn_append_plan_create(vkattn_device device,
                                                   const vkattn_append_request *request,
                                                   vkattn_plan *plan);

typedef struct vkattn_compact_request {
  size_t struct_size;
  const vkattn_cache *cache;
  int64_t nodes;
  int64_t path_tokens; /* 0 for nodes */
} vkattn_compact_request;

/* Tensors: COMMITTED, PATHS, PATH_LENGTHS, and the cache's. */
VKATTN_API vkattn_status vkattn_compact_plan_create(vkattn_device device,
                                                    const vkattn_compact_request *request,
                                                    vkattn_plan *plan);

typedef struct vkattn_copy_pages_request {
  size_t struct_size;
  const vkattn_cache *cache;
  int64_t copies;
} vkattn_copy_pages_request;

/* Tensors: COPIES, and the cache's. */
VKATTN_API vkattn_status vkattn_copy_pages_plan_create(vkattn_device device,
                                                       const vkattn_copy_pages_request *request,
                                                       vkattn_plan *plan);

/* ---------------------------------------------------------------- Decode */

typedef int32_t vkattn_key_rotation;
enum {
  /* Keys lie in the cache as they are used. */
  VKATTN_KEY_ROTATION_NONE = 0,
  VKATTN_KEY_ROTATION_HALVES = 1,
  VKATTN_KEY_ROTATION_PAIRS = 2
};

typedef int32_t vkattn_decode_mode;
enum {
  /* Lean, in as many groups as the device runs at once. */
  VKATTN_DECODE_AUTOMATIC = 0,
  /* Lean, in mode_value groups. */
  VKATTN_DECODE_LEAN = 1,
  /* Cut at multiples of mode_value keys: the same bits in every batch. */
  VKATTN_DECODE_FIXED = 2
};

enum {
  VKATTN_DECODE_SCALE = 1,
  VKATTN_DECODE_RETURNS_LOG_SUM_EXP = 2
};

typedef struct vkattn_decode_request {
  size_t struct_size;
  int64_t batch_size;
  int64_t query_tokens; /* 0 for 1 */
  int64_t query_heads;
  int64_t value_head_size; /* where values are keys; otherwise 0 */
  int64_t max_key_tokens;  /* 0 for what the cache has place for */
  const vkattn_cache_tensor *key_cache;
  const vkattn_cache_tensor *value_cache; /* NULL: values are the first channels of keys */
  vkattn_element_type element_type;       /* VKATTN_DEFAULT_TYPE for f16 */
  vkattn_element_type output_type;
  uint32_t flags;
  float scale;
  const vkattn_mask *mask; /* NULL: causal */
  const vkattn_scores *scores;
  const vkattn_operand *operands;
  size_t operand_count;
  const vkattn_strides *query_strides;
  const vkattn_strides *output_strides;
  vkattn_key_rotation key_rotation;
  vkattn_path path;
  int64_t key_rotation_channels;
  vkattn_decode_mode mode;
  uint32_t reserved;
  int64_t mode_value;
} vkattn_decode_request;

/* Tensors of a step: WORKSPACE, operands, ROTATIONS, PAGE_INDPTR and PAGE_INDICES in device memory.
 * Tensors of a layer: QUERY, KEY_CACHE, KEY_SCALES, VALUE_CACHE, VALUE_SCALES, OUTPUT, LOG_SUM_EXP. */
VKATTN_API vkattn_status vkattn_decode_plan_create(vkattn_device device,
                                                   const vkattn_decode_request *request,
                                                   vkattn_plan *plan);

/* What the layers of one decode step share. */
typedef struct vkattn_step_info {
  size_t struct_size;
  /* The keys of each sequence, those of the step's own tokens included. */
  const int32_t *lengths;
  size_t length_count; /* B */
  /* Of a paged cache, on the host: [B + 1], and the pages of all sequences. NULL where they are bound. */
  const int32_t *page_indptr;
  const int32_t *page_indices;
  size_t page_index_count;
  const vkattn_binding *bindings;
  size_t binding_count;
} vkattn_step_info;

/* The bytes of WORKSPACE that a step needs; its bindings are not looked at. */
VKATTN_API vkattn_status vkattn_decode_workspace_byte_count(vkattn_plan plan,
                                                            const vkattn_step_info *step,
                                                            size_t *byte_count);
/* Appends the upload of what a step's layers share. The step is valid until its workspace is prepared
 * anew. */
VKATTN_API vkattn_status vkattn_recorder_prepare_step(vkattn_recorder recorder, vkattn_kernel kernel,
                                                      const vkattn_step_info *info,
                                                      vkattn_step *step);
/* Appends the attention of one layer. */
VKATTN_API vkattn_status vkattn_recorder_record_layer(vkattn_recorder recorder, vkattn_kernel kernel,
                                                      vkattn_step step,
                                                      const vkattn_binding *bindings,
                                                      size_t binding_count);
VKATTN_API vkattn_status vkattn_step_free(vkattn_step step);
/* Prepares a step, computes one layer and waits; a workspace is made where none is bound. */
VKATTN_API vkattn_status vkattn_decode_run(vkattn_kernel kernel, const vkattn_step_info *info,
                                           const vkattn_binding *bindings, size_t binding_count);

/* ------------------------------------------------------ Linear attention */

typedef int32_t vkattn_linear_normalizer;
enum {
  VKATTN_LINEAR_NOT_NORMALIZED = 0,
  /* The sum of weights plus epsilon. */
  VKATTN_LINEAR_SUM = 1,
  /* RetNet's max(|sum|, 1). */
  VKATTN_LINEAR_RETENTION = 2
};

typedef int32_t vkattn_linear_form;
enum {
  VKATTN_LINEAR_AUTOMATIC = 0,
  VKATTN_LINEAR_RECURRENT = 1,
  VKATTN_LINEAR_CHUNK = 2
};

enum {
  VKATTN_LINEAR_SCALE = 1,
  /* The delta rule. */
  VKATTN_LINEAR_ERASES = 2,
  VKATTN_LINEAR_READS_BEFORE_UPDATE = 4,
  VKATTN_LINEAR_NOT_CAUSAL = 8,
  VKATTN_LINEAR_SOFTPLUS = 16,
  /* packed_sequences sequences lie one behind the other. */
  VKATTN_LINEAR_PACKED = 32
};

typedef struct vkattn_linear_request {
  size_t struct_size;
  int64_t batch_size;
  int64_t tokens;
  int64_t key_heads; /* G, a divisor of H; 0 for H */
  int64_t value_heads;
  int64_t key_head_size;
  int64_t value_head_size;   /* 0 for K */
  int64_t updates_per_token; /* 0 for 1 */
  vkattn_element_type element_type;
  vkattn_element_type value_type;
  vkattn_element_type output_type;
  vkattn_element_type gate_type; /* VKATTN_DEFAULT_TYPE for f32 */
  uint32_t flags;
  float scale;
  vkattn_linear_normalizer normalizer;
  float epsilon;
  int64_t packed_sequences;
  int64_t longest_sequence; /* 0 for all tokens */
  int64_t state_count;      /* 0 for the sequences */
  const vkattn_operand *operands;
  size_t operand_count;
  const vkattn_strides *query_strides;
  const vkattn_strides *key_strides;
  const vkattn_strides *value_strides;
  const vkattn_strides *output_strides;
  vkattn_linear_form form;
  vkattn_path path;
} vkattn_linear_request;

/* Tensors: QUERY, KEY, VALUE, OUTPUT, SCRATCH, operands. */
VKATTN_API vkattn_status vkattn_linear_plan_create(vkattn_device device,
                                                   const vkattn_linear_request *request,
                                                   vkattn_plan *plan);

/* ----------------------------------------------------- Plans and kernels */

typedef struct vkattn_plan_info {
  size_t struct_size;
  /* Of SCRATCH; of a decode plan the most of WORKSPACE that any step needs, 0 where there is no bound. */
  size_t scratch_byte_count;
  /* Submissions that vkattn_kernel_run makes. */
  int64_t piece_count;
  vkattn_path path;
  vkattn_linear_form form;
} vkattn_plan_info;

VKATTN_API vkattn_status vkattn_plan_get_info(vkattn_plan plan, vkattn_plan_info *info);
/* The bytes that a tensor's buffer needs; of tensors that the plan has not: VKATTN_INVALID_ARGUMENT. Of
 * two states in buffers of their own, those of both together. */
VKATTN_API vkattn_status vkattn_plan_byte_count(vkattn_plan plan, vkattn_tensor tensor,
                                                size_t *byte_count);
/* Path, tile, pieces and why, in lines. At most capacity bytes with a 0 at the end are written to text,
 * which may be NULL with a capacity of 0; *length (may be NULL): the whole text's bytes without it. */
VKATTN_API vkattn_status vkattn_plan_describe(vkattn_plan plan, char *text, size_t capacity,
                                              size_t *length);
VKATTN_API vkattn_status vkattn_plan_free(vkattn_plan plan);

/* Compiles what a plan needs, on the device that it was made for. */
VKATTN_API vkattn_status vkattn_kernel_create(vkattn_plan plan, vkattn_kernel *kernel);

/* Hears, on any thread, what share of the pieces is done; another result than 0 asks for an end. */
typedef int32_t (*vkattn_progress_callback)(void *context, double share);

/* Runs a kernel piece by piece and returns when its results are there, or, cancelled, when the device is
 * done with what was submitted. SCRATCH may be left out: it is then made for the call. progress may be
 * NULL. Not for decode kernels: vkattn_decode_run. */
VKATTN_API vkattn_status vkattn_kernel_run(vkattn_kernel kernel, const vkattn_binding *bindings,
                                           size_t binding_count, vkattn_progress_callback progress,
                                           void *context);
VKATTN_API vkattn_status vkattn_kernel_free(vkattn_kernel kernel);

/* --------------------------------------------------------------- Recorders */

/* Starts a list of commands. What a command writes is there for those after it: barriers follow from
 * the bindings. */
VKATTN_API vkattn_status vkattn_recorder_create(vkattn_device device, vkattn_recorder *recorder);
/* Appends a kernel; all that is bound is checked before. Nothing is allocated: SCRATCH must be bound. */
VKATTN_API vkattn_status vkattn_recorder_record(vkattn_recorder recorder, vkattn_kernel kernel,
                                                const vkattn_binding *bindings,
                                                size_t binding_count);
/* Appends a copy of byte_count bytes. */
VKATTN_API vkattn_status vkattn_recorder_copy(vkattn_recorder recorder, vkattn_buffer source,
                                              size_t source_offset, vkattn_buffer destination,
                                              size_t destination_offset, size_t byte_count);
/* Appends a fill of byte_count bytes with a word; offset and count are multiples of 4. */
VKATTN_API vkattn_status vkattn_recorder_fill(vkattn_recorder recorder, vkattn_buffer buffer,
                                              size_t offset, size_t byte_count, uint32_t word);
/* Appends a timestamp, at most 64 of them. */
VKATTN_API vkattn_status vkattn_recorder_timestamp(vkattn_recorder recorder);
/* Sends the commands to the device; the recorder is used up and only to be freed. submission may be
 * NULL: the work then runs unwatched. */
VKATTN_API vkattn_status vkattn_recorder_submit(vkattn_recorder recorder,
                                                vkattn_submission *submission);
/* Frees a recorder; what was not submitted is dropped. */
VKATTN_API vkattn_status vkattn_recorder_free(vkattn_recorder recorder);

/* Waits for at most so many seconds; a negative number is for ever. */
VKATTN_API vkattn_status vkattn_submission_wait(vkattn_submission submission, double seconds);
/* *is_complete becomes 1 where the device is done, else 0. */
VKATTN_API vkattn_status vkattn_submission_is_complete(vkattn_submission submission,
                                                       int32_t *is_complete);
/* Waits, then writes at most capacity timestamps in nanoseconds since the first; *count (may be NULL):
 * how many there are. */
VKATTN_API vkattn_status vkattn_submission_timestamps(vkattn_submission submission,
                                                      double *nanoseconds, size_t capacity,
                                                      size_t *count);
/* Frees the handle; the work goes on. */
VKATTN_API vkattn_status vkattn_submission_free(vkattn_submission submission);

/* --------------------------------- Vulkan objects and memory of your own */

/* Gets a queue for the calling thread alone, or gives it back. */
typedef void (*vkattn_queue_callback)(void *context);
/* Hears, on any thread, that the library does not use something any more. */
typedef void (*vkattn_release_callback)(void *context);

/* What a VkDevice was created with; the fields of Vulkan's feature structures behind each are in the
 * documentation of ForeignDevice in the Swift module. */
enum {
  VKATTN_ENABLED_INT64 = 1 << 0,
  VKATTN_ENABLED_STORAGE_16 = 1 << 1,
  VKATTN_ENABLED_BUFFER_DEVICE_ADDRESS = 1 << 2,
  VKATTN_ENABLED_TIMELINE_SEMAPHORE = 1 << 3,
  VKATTN_ENABLED_SCALAR_BLOCK_LAYOUT = 1 << 4,
  /* Those above: what the library cannot do without. */
  VKATTN_ENABLED_REQUIRED = 31,
  VKATTN_ENABLED_FLOAT16 = 1 << 5,
  VKATTN_ENABLED_MEMORY_MODEL = 1 << 6,
  VKATTN_ENABLED_SUBGROUP_SIZE_CONTROL = 1 << 7,
  VKATTN_ENABLED_COOPERATIVE_MATRIX = 1 << 8,
  VKATTN_ENABLED_COOPERATIVE_MATRIX_2 = 1 << 9,
  /* VK_EXT_external_memory_host, which has no feature structure. */
  VKATTN_ENABLED_EXTERNAL_MEMORY_HOST = 1 << 10
};

/* A Vulkan device of your own. Handles are Vulkan's; all live until `released` was called. */
typedef struct vkattn_foreign_device {
  size_t struct_size;
  /* VkInstance, VkPhysicalDevice, VkDevice, VkQueue. */
  void *instance;
  void *physical_device;
  void *device;
  void *queue;
  uint32_t queue_family_index;
  /* That of VkApplicationInfo: VK_API_VERSION_1_2 or newer. */
  uint32_t api_version;
  /* VKATTN_ENABLED_…. */
  uint32_t enabled_features;
  uint32_t enabled_extension_count;
  const char *const *enabled_extensions;
  /* vkGetInstanceProcAddr, as PFN_vkVoidFunction; NULL for that of the system's loader. */
  void (*get_instance_proc_address)(void);
  /* Called around each submission, on the thread that submits; NULL, both of them, where no one but this
   * device uses the queue. */
  vkattn_queue_callback lock_queue;
  vkattn_queue_callback unlock_queue;
  /* Called once, when no device, buffer or work of the library uses the handles any more; may be NULL. */
  vkattn_release_callback released;
  void *context;
} vkattn_foreign_device;

/* Works on a Vulkan device of your own, which is left alone at the end. options may be NULL; they name no
 * device and turn no validation on. Unknown or missing features and extensions are named:
 * VKATTN_MISSING_FEATURES. */
VKATTN_API vkattn_status vkattn_device_adopt(const vkattn_foreign_device *foreign,
                                             const vkattn_device_options *options,
                                             vkattn_device *device);

/* A part of a VkBuffer of your own. */
typedef struct vkattn_foreign_buffer {
  size_t struct_size;
  /* The VkBuffer, bound to memory that was allocated with VK_MEMORY_ALLOCATE_DEVICE_ADDRESS_BIT. */
  void *buffer;
  /* The size that it was created with. */
  size_t buffer_byte_count;
  /* The part; VKATTN_READABLE_TAIL bytes behind it must lie in the buffer as well. */
  size_t byte_offset;
  size_t byte_count;
  /* Where the buffer's first byte is mapped, in host-coherent memory; NULL for copies by staging buffers. */
  void *mapped;
  /* VkBufferUsageFlags: always SHADER_DEVICE_ADDRESS; TRANSFER_SRC for downloads and copies from it,
   * TRANSFER_DST for uploads, fills and copies to it. */
  uint32_t usage;
  uint32_t reserved;
  /* Called once, when no buffer and no work of the library uses the part any more; may be NULL. */
  vkattn_release_callback released;
  void *context;
} vkattn_foreign_buffer;

/* Bytes that kernels may read, and never use, behind what they are given. */
#define VKATTN_READABLE_TAIL 4096

/* Uses a part of a VkBuffer of the device, which is left alone at the end. Several parts of one buffer are
 * like slices of one. label (may be NULL) names it in errors. */
VKATTN_API vkattn_status vkattn_buffer_adopt(vkattn_device device,
                                             const vkattn_foreign_buffer *foreign,
                                             const char *label, vkattn_buffer *buffer);

/* Memory of your own: mapped, not moved and not freed until `released` was called. */
typedef struct vkattn_host_memory {
  size_t struct_size;
  /* At a multiple of the alignment that vkattn_device_import_size tells. */
  void *bytes;
  /* What there is, at least what vkattn_device_import_size tells. */
  size_t available_byte_count;
  /* The size of the buffer. */
  size_t byte_count;
  /* Called once, when the memory is yours alone again; may be NULL. */
  vkattn_release_callback released;
  void *context;
} vkattn_host_memory;

/* How many bytes a buffer of byte_count bytes takes of your memory, with the readable tail, and what its
 * address is a multiple of (both may be NULL). Without VK_EXT_external_memory_host:
 * VKATTN_MISSING_FEATURES. */
VKATTN_API vkattn_status vkattn_device_import_size(vkattn_device device, size_t byte_count,
                                                   size_t *available_byte_count,
                                                   size_t *alignment);
/* Makes a buffer over your memory, without a copy: results are there once their work was waited for. Memory
 * that is imported already is refused; slice it. label (may be NULL) names it in errors. */
VKATTN_API vkattn_status vkattn_buffer_import(vkattn_device device, const vkattn_host_memory *memory,
                                              const char *label, vkattn_buffer *buffer);

#ifdef __cplusplus
}
#endif

#endif
