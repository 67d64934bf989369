/*
 * VulkanAttention's C interface: exact attention, decode, caches, linear attention, what stands around them in a
 * transformer, and scores and masks of one's own, on Vulkan.
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
 * Formulas, papers, shapes and units of every option: the articles AttentionOptions, Decode, LinearAttentionModels
 * and CustomAttention of the Swift module, whose names are those here. CInterface.md has the whole interface by
 * example.
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
 * (VKATTN_IN_CALLBACK). Devices, buffers, plans, kernels, steps, command lists, streams and submissions
 * can be shared. A recorder is one thread's at a time: a call that finds another thread inside returns
 * VKATTN_BUSY. The bytes of a buffer are the caller's to order: do not upload, download or touch mapped
 * memory that submitted work uses.
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
  /* A shader is not in this build, or does not fit its caller, or cannot be compiled and no modification is to
   * blame. */
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
  VKATTN_CACHE_NOT_WRITABLE = 27,
  /* The GLSL compiler's library, which modifications need, is not on this machine or too old. */
  VKATTN_NO_COMPILER = 32,
  /* A modification does not compile; the message has its lines and columns. */
  VKATTN_NOT_COMPILED = 33
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
typedef struct vkattn_command_list_handle *vkattn_command_list;
typedef struct vkattn_stream_handle *vkattn_stream;

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

/* How a device is opened. */
typedef struct vkattn_device_options {
  size_t struct_size;
  /* "best" (also NULL), a number in the loader's list, a UUID, or a part of a name. */
  const char *selection;
  /* Where compiled pipelines are kept; NULL for the usual folder, "" for memory only. */
  const char *pipeline_cache_directory;
  uint32_t flags;
  /* The most queues to ask of the driver, for streams; 0 for 4. */
  uint32_t queue_limit;
  /* Receives what the library has to tell; NULL for silence. It may be called until the device and all
   * that was made with it are freed and their work is done. */
  vkattn_log_callback log;
  void *log_context;
  /* The most bytes of device memory for buffers of its own, staging included; 0 for what the driver gives. Beyond it
   * a buffer is refused with VKATTN_LIMIT_EXCEEDED. */
  uint64_t memory_limit;
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
  VKATTN_FEATURE_UNIFIED_MEMORY = 1 << 7,
  /* What VKATTN_PATH_MATRIX_2 needs beside VKATTN_FEATURE_COOPERATIVE_MATRIX; VKATTN_FEATURE_COOPERATIVE_MATRIX_2
   * stands for matrices of other sizes than those a device lists. */
  VKATTN_FEATURE_COOPERATIVE_MATRIX_2_REDUCTIONS = 1 << 8,
  VKATTN_FEATURE_COOPERATIVE_MATRIX_2_CONVERSIONS = 1 << 9,
  VKATTN_FEATURE_COOPERATIVE_MATRIX_2_PER_ELEMENT = 1 << 10
};

/* What a device is and can do, written by the library; texts end with a 0. */
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
/* What an open device is. */
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
/* Frees the handle; what was made with the device keeps it open. */
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

/* What a buffer is, written by the library. */
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
/* The size and the place of a buffer. */
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
/* Frees the handle; slices and submitted work keep the memory. */
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
  VKATTN_PATH_MATRIX = 3,
  /* Of tiled attention alone. */
  VKATTN_PATH_MATRIX_2 = 4
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
  VKATTN_TENSOR_BLOCK_MAP = 60, /* [B, H, ceil(S / R), ceil(T / C)] of int32: 0 hidden, 1 by the masks, 2 seen */

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
  VKATTN_TENSOR_OUTPUT_GATE = 212,     /* [B, T, H, V] of the values' type; z of an output norm */
  VKATTN_TENSOR_SNAPSHOTS = 213,       /* [N, L, H, K, V] of f32, written: the state after every token */
  VKATTN_TENSOR_PARENTS = 214,         /* [B, T] of int32: the token that each comes after, -1 for none */

  /* What stands around attentions; shapes where the requests are. */
  VKATTN_TENSOR_PROJECTION = 224,   /* [M, D] of f32, of FAVOR+ */
  VKATTN_TENSOR_XPOS_RATES = 225,   /* vkattn_xpos_rate_table */
  VKATTN_TENSOR_WEIGHT = 226,       /* of norms, convolutions and linear layers */
  VKATTN_TENSOR_RESIDUAL = 227,     /* what is added */
  VKATTN_TENSOR_RESIDUAL_SUM = 228, /* the sum with it, written */
  VKATTN_TENSOR_SECOND_INPUT = 229, /* b of an elementwise operation */
  VKATTN_TENSOR_TABLE = 230,        /* of embeddings; the index is the table's number */
  VKATTN_TENSOR_TOKENS = 231,       /* [N] of int32; of embeddings one for each table, likewise */
  VKATTN_TENSOR_UNIFORMS = 232,     /* [N] of f32, from 0 up to but not including 1 */

  /* What modifications read; the index is the buffer's place (vkattn_modifications). */
  VKATTN_TENSOR_CUSTOM_BUFFER = 256
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
  /* The query tokens and the keys of a block of VKATTN_TENSOR_BLOCK_MAP: powers of two from 64 to 4096; 0 for
   * 128. */
  int64_t block_map_rows;
  int64_t block_map_keys;
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

/* One problem of exact attention: q [B, S, H, D], k [B, T, G, D], v [B, T, G, E], o [B, S, H, E]. */
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

/* ------------------------------------------------------------- Block maps */

/* Computes VKATTN_TENSOR_BLOCK_MAP of an attention that names it among its operands, from the masks that are
 * data: of every block of R query tokens and C keys (mask.block_map_rows, block_map_keys) 0 where MASK, MASK_BITS,
 * TREE_BITS, segments and KEY_LENGTHS hide all of it, which attention then skips, 2 where they hide nothing of
 * it, which attention then does not ask, else 1. The map may share an axis (shared_axes) along which no mask
 * differs. It is the same for all layers with the same masks (FlexAttention, https://arxiv.org/abs/2412.05496).
 *
 * Tensors: BLOCK_MAP, written, SCRATCH, and those masks; other operands may be bound and are not read. The
 * plan is compiled as it is made. */
VKATTN_API vkattn_status vkattn_block_map_plan_create(vkattn_device device,
                                                      const vkattn_attention_request *request,
                                                      vkattn_plan *plan);

/* ------------------------------------------------------------ Statistics */

enum {
  VKATTN_STATISTIC_KEY_SUMS = 1,
  VKATTN_STATISTIC_ENTROPY = 2,
  VKATTN_STATISTIC_PROBABILITIES = 4,
  VKATTN_STATISTIC_TOP_KEYS = 8
};

/* What is to be known of an attention whose log-sum-exp is there. */
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

/* One merge of partial results of an attention over disjoint sets of keys. */
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

/* A rotation of vectors [tokens, heads, channels] by their positions. */
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

/* New keys [tokens, G, D] and values [tokens, G, E], to be written into their cache. */
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

/* Accepted paths of trees of drafts, to be moved to the places behind what is committed. */
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

/* Copies of whole pages of a cache. */
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

/* What the decode steps of a batch have in common. */
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
/* Likewise, for layers that are recorded once, into a command list, and run again and again: each run computes the
 * lengths that were uploaded last. Bind a WORKSPACE of vkattn_plan_byte_count(…, VKATTN_TENSOR_WORKSPACE, …) bytes, so
 * that all lengths fit. */
VKATTN_API vkattn_status vkattn_recorder_prepare_replay_step(vkattn_recorder recorder,
                                                             vkattn_kernel kernel,
                                                             const vkattn_step_info *info,
                                                             vkattn_step *step);
/* Appends the upload of other lengths, and pages where the step was prepared with pages on the host (NULL: those
 * again), in the place of such a step's. info has no bindings: the step keeps what it was prepared with. */
VKATTN_API vkattn_status vkattn_recorder_update_step(vkattn_recorder recorder, vkattn_kernel kernel,
                                                     vkattn_step step, const vkattn_step_info *info);
/* Appends the attention of one layer. */
VKATTN_API vkattn_status vkattn_recorder_record_layer(vkattn_recorder recorder, vkattn_kernel kernel,
                                                      vkattn_step step,
                                                      const vkattn_binding *bindings,
                                                      size_t binding_count);
/* Frees the handle; work that was recorded with the step goes on. */
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

/* One problem of linear attention: a state [K, V] for each of H heads. */
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

/* ------------------------------------------------ Around linear attention */

typedef int32_t vkattn_feature_map;
enum {
  /* With u = scale x, D channels of x: */
  VKATTN_MAP_IDENTITY = 0,     /* u */
  VKATTN_MAP_RELU = 1,         /* max(u, 0) */
  VKATTN_MAP_SQUARED_RELU = 2, /* max(u, 0)^2 */
  VKATTN_MAP_ELU_PLUS_ONE = 3, /* u + 1 above 0, else exp(u) (https://arxiv.org/abs/2006.16236) */
  VKATTN_MAP_EXPONENTIAL = 4,  /* exp(u) */
  /* Softmax over the channels of a row, and of each channel over the tokens of its sequence: the queries
   * and the keys of efficient attention (https://arxiv.org/abs/1812.01243). */
  VKATTN_MAP_SOFTMAX = 5,
  VKATTN_MAP_TOKEN_SOFTMAX = 6,
  /* u / sqrt(sum of u^2 + epsilon) */
  VKATTN_MAP_L2_NORM = 7,
  /* 1, u, all u_i u_j / sqrt(2), row after row: 1 + D + D^2 features, D at most 64 (Based,
   * https://arxiv.org/abs/2402.18668). */
  VKATTN_MAP_TAYLOR_2 = 8,
  /* The same inner products: 1, u, then row after row of the upper triangle u_i^2 / sqrt(2) and u_i u_j for
   * i < j: 1 + D + D (D + 1) / 2 features. */
  VKATTN_MAP_TAYLOR_2_SYMMETRIC = 9,
  /* (exp(w u - |u|^2 / 2 - c) + epsilon) / sqrt(M) for the M rows w of PROJECTION: positive random features, D
   * at most 1024, c as `stabilizer` says (Performer, https://arxiv.org/abs/2009.14794). */
  VKATTN_MAP_FAVOR_PLUS = 10,
  /* max(u, 0) cos(a) and max(u, 0) sin(a), a = pi i / (2 max_position) at position i: 2 D features
   * (cosFormer, https://arxiv.org/abs/2202.08791). */
  VKATTN_MAP_COS_FORMER = 11
};

typedef int32_t vkattn_favor_stabilizer;
enum {
  VKATTN_FAVOR_NOT_STABILIZED = 0,
  /* c is the largest exponent of the row: for queries. */
  VKATTN_FAVOR_BY_TOKEN = 1,
  /* c is the largest exponent of all tokens of the sequence and head: for keys. */
  VKATTN_FAVOR_BY_SEQUENCE = 2
};

enum {
  /* scale counts; otherwise it is the paper's: D^(-1/4) for TAYLOR_2 and FAVOR_PLUS, else 1. */
  VKATTN_FEATURE_MAP_SCALE = 1,
  /* packed_sequences sequences lie one behind the other; batch_size is 1. */
  VKATTN_FEATURE_MAP_PACKED = 2,
  /* COS_FORMER takes POSITIONS; otherwise a token's place in its sequence is its position. */
  VKATTN_FEATURE_MAP_POSITIONS = 4
};

/* y[b, t, h] = map(scale x[b, t, h]): queries or keys before a linear attention. */
typedef struct vkattn_feature_map_request {
  size_t struct_size;
  int64_t batch_size; /* B, 1 or more */
  int64_t tokens;     /* T, 1 or more; of packed sequences all together */
  int64_t heads;      /* H */
  int64_t channels;   /* D, 1 to 4096 */
  vkattn_feature_map map;
  uint32_t flags;
  float scale;
  float epsilon;                      /* of L2_NORM and FAVOR_PLUS, from 0 */
  int64_t features;                   /* M of FAVOR_PLUS, 1 to 1024 */
  vkattn_favor_stabilizer stabilizer; /* of FAVOR_PLUS */
  uint32_t reserved;
  int64_t max_position;     /* of COS_FORMER, 1 to 2^30 */
  int64_t output_channels;  /* the features, and zeros behind them; 0 for the features alone */
  int64_t packed_sequences; /* N */
  int64_t longest_sequence; /* of packed ones; 0 for all tokens */
  vkattn_element_type element_type;
  vkattn_element_type output_type;
  const vkattn_strides *strides;        /* of x [B, T, H, D] */
  const vkattn_strides *output_strides; /* of y [B, T, H, output_channels] */
} vkattn_feature_map_request;

/* Tensors: INPUT x, OUTPUT y (x's memory where map, types and strides keep its size), PROJECTION [M, D] of f32,
 * SEQUENCE_STARTS [N + 1], POSITIONS [B, T] of int32, SCRATCH. */
VKATTN_API vkattn_status vkattn_feature_map_plan_create(vkattn_device device,
                                                        const vkattn_feature_map_request *request,
                                                        vkattn_plan *plan);

typedef int32_t vkattn_norm;
enum {
  /* x / sqrt(mean of x^2 + epsilon) (https://arxiv.org/abs/1910.07467) */
  VKATTN_NORM_RMS = 0,
  /* (x - mean) / sqrt(mean of (x - mean)^2 + epsilon) (https://arxiv.org/abs/1607.06450) */
  VKATTN_NORM_LAYER = 1
};

typedef int32_t vkattn_norm_weights;
enum {
  VKATTN_NORM_NO_WEIGHTS = 0,
  /* [D]: all heads have the same. */
  VKATTN_NORM_PER_CHANNEL = 1,
  /* [H, D] */
  VKATTN_NORM_PER_HEAD = 2
};

typedef int32_t vkattn_norm_gate;
enum {
  VKATTN_NORM_NOT_GATED = 0,
  /* 1 / (1 + exp(-z)) */
  VKATTN_NORM_SIGMOID = 1,
  /* z / (1 + exp(-z)) */
  VKATTN_NORM_SILU = 2
};

enum {
  /* The gate multiplies x instead of y. */
  VKATTN_OUTPUT_NORM_GATES_BEFORE = 1
};

/* y = norm(x) weight + bias over each group of heads, then y gate(z); or norm(x gate(z)) weight + bias. */
typedef struct vkattn_output_norm_request {
  size_t struct_size;
  int64_t batch_size;      /* B, 1 or more */
  int64_t tokens;          /* T */
  int64_t heads;           /* H */
  int64_t channels;        /* D, 1 to 4096 */
  int64_t heads_per_group; /* normalised together, a divisor of H; 0 for 1 */
  vkattn_norm norm;
  float epsilon; /* from 0 */
  vkattn_norm_weights weight;
  vkattn_norm_weights bias;
  vkattn_norm_gate gate;
  uint32_t flags;
  vkattn_element_type element_type;
  vkattn_element_type output_type;
  vkattn_element_type gate_type;
  vkattn_element_type weight_type; /* of weight and bias; VKATTN_DEFAULT_TYPE for f32 */
  const vkattn_strides *strides;
  const vkattn_strides *output_strides; /* NULL for those of x */
  const vkattn_strides *gate_strides;
} vkattn_output_norm_request;

/* Tensors: INPUT x [B, T, H, D], OUTPUT y (may be x's memory), OUTPUT_GATE z, WEIGHT, BIAS. */
VKATTN_API vkattn_status vkattn_output_norm_plan_create(vkattn_device device,
                                                        const vkattn_output_norm_request *request,
                                                        vkattn_plan *plan);

enum {
  VKATTN_CONVOLUTION_BIAS = 1,
  /* y is s / (1 + exp(-s)) of the sum s. */
  VKATTN_CONVOLUTION_SILU = 2,
  VKATTN_CONVOLUTION_INITIAL_STATE = 4,
  VKATTN_CONVOLUTION_FINAL_STATE = 8,
  /* Sequences name the slots of their states. */
  VKATTN_CONVOLUTION_STATE_SLOTS = 16,
  VKATTN_CONVOLUTION_PACKED = 32
};

/* y[t, c] = sum over w of weight[c, w] x[t - W + 1 + w, c], + bias[c]: causal, depth-wise. Tokens before a
 * sequence come from its state, or are 0. */
typedef struct vkattn_short_convolution_request {
  size_t struct_size;
  int64_t batch_size; /* B, 1 or more; 1 with packed sequences */
  int64_t tokens;     /* T */
  int64_t channels;   /* C, 1 to 2^20 */
  int64_t width;      /* W, 2 to 8; 0 for 4 */
  uint32_t flags;
  vkattn_element_type element_type;
  vkattn_element_type output_type;
  vkattn_element_type weight_type; /* of weight and bias; VKATTN_DEFAULT_TYPE for f32 */
  int64_t state_count;             /* of STATE_SLOTS; 0 for the sequences */
  int64_t packed_sequences;        /* N */
  int64_t longest_sequence;        /* of packed ones; 0 for all tokens */
  const vkattn_strides *strides;   /* head has no meaning */
  const vkattn_strides *output_strides;
} vkattn_short_convolution_request;

/* Tensors: INPUT x [B, T, C], WEIGHT [C, W], OUTPUT y, BIAS [C], INITIAL_STATE and FINAL_STATE of f32
 * [N, C, W - 1], the oldest token first (may be one memory), STATE_SLOTS [N] (negative: none), SEQUENCE_STARTS
 * [N + 1]. */
VKATTN_API vkattn_status vkattn_short_convolution_plan_create(
    vkattn_device device, const vkattn_short_convolution_request *request, vkattn_plan *plan);

/* Rotary embedding whose pairs grow with a query's position and shrink with a key's (https://arxiv.org/abs/2212.10554):
 * pair i of n at position t is turned, and multiplied by zeta^(+-(t - origin) / scale_base), zeta = (i / n + gamma) /
 * (1 + gamma). RetNet's frequencies are 10000^(-i / (n - 1)), in neighbouring channels. */
typedef struct vkattn_xpos {
  size_t struct_size;
  const vkattn_rotary *rotary; /* without an attention factor */
  double gamma;                /* above 0; 0 for 0.4 */
  double scale_base;           /* in tokens, above 0; 0 for 512 */
  int32_t origin;              /* the position where nothing grows */
  uint32_t reserved;
} vkattn_xpos;

/* What VKATTN_TENSOR_XPOS_RATES holds, of queries or of keys: channels / 2 of the rotary embedding's numbers,
 * log2(zeta) / scale_base, negated for keys. table_count must be as many. */
VKATTN_API vkattn_status vkattn_xpos_rate_table(const vkattn_xpos *xpos, int32_t is_key,
                                                float *table, size_t table_count);

/* The rotation of queries or keys by xPos: one tensor [N, H, D]. */
typedef struct vkattn_xpos_request {
  size_t struct_size;
  int64_t tokens;   /* N */
  int64_t heads;    /* H */
  int64_t channels; /* D, at least those that are turned */
  const vkattn_xpos *xpos;
  vkattn_element_type element_type;
  vkattn_element_type output_type;
  const vkattn_strides *strides;        /* batch has no meaning */
  const vkattn_strides *output_strides; /* NULL for those of the input */
} vkattn_xpos_request;

/* Tensors: INPUT x [N, H, D], OUTPUT (may be the input's memory), POSITIONS [N], FREQUENCIES
 * (vkattn_rotary_frequency_table), XPOS_RATES. */
VKATTN_API vkattn_status vkattn_xpos_plan_create(vkattn_device device,
                                                 const vkattn_xpos_request *request,
                                                 vkattn_plan *plan);

/* -------------------------------------------------------------- Companions */

/* What a transformer has beside attention. Rows are N, with so many elements from one to the next (0 for
 * contiguous); extents are 1 to 2^24. Arithmetic is f32. */

typedef int32_t vkattn_activation;
enum {
  VKATTN_ACTIVATION_NONE = 0,
  VKATTN_ACTIVATION_RELU = 1,
  VKATTN_ACTIVATION_SILU = 2,      /* x / (1 + exp(-x)) */
  VKATTN_ACTIVATION_GELU_TANH = 3, /* x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2 */
  VKATTN_ACTIVATION_GELU_ERF = 4   /* x (1 + erf(x / sqrt(2))) / 2 */
};

typedef int32_t vkattn_weight_format;
enum {
  VKATTN_WEIGHT_F32 = 0,
  VKATTN_WEIGHT_F16 = 1,
  VKATTN_WEIGHT_BF16 = 2,
  /* ggml's blocks of 32 numbers: a binary16 d and 32 signed bytes c, x = d c. */
  VKATTN_WEIGHT_Q8_0 = 3,
  /* A binary16 d and 16 bytes: number i is in the low half of byte i, i + 16 in its high half; x = d (c - 8). */
  VKATTN_WEIGHT_Q4_0 = 4
};

enum {
  VKATTN_NORMALIZE_WEIGHT = 1,
  VKATTN_NORMALIZE_BIAS = 2,
  /* s = x + residual is normalised; otherwise s = x. */
  VKATTN_NORMALIZE_RESIDUAL = 4,
  /* s is written to RESIDUAL_SUM; with a residual alone. */
  VKATTN_NORMALIZE_RETURNS_SUM = 8
};

/* y = norm(s) weight + bias: RMSNorm and LayerNorm, with the residual stream's addition before. */
typedef struct vkattn_normalize_request {
  size_t struct_size;
  int64_t rows;     /* N */
  int64_t channels; /* D */
  vkattn_norm norm;
  float epsilon; /* from 0 */
  uint32_t flags;
  vkattn_element_type element_type;
  vkattn_element_type output_type;
  vkattn_element_type weight_type;   /* of weight and bias; VKATTN_DEFAULT_TYPE for f32 */
  vkattn_element_type residual_type; /* of residual and sum; VKATTN_DEFAULT_TYPE for f32 */
  uint32_t reserved;
  int64_t input_stride; /* of x, residual and sum */
  int64_t output_stride;
} vkattn_normalize_request;

/* Tensors: INPUT x [N, D], OUTPUT y (may be x's memory), RESIDUAL, RESIDUAL_SUM (may be the residual's memory),
 * WEIGHT [D], BIAS [D]. */
VKATTN_API vkattn_status vkattn_normalize_plan_create(vkattn_device device,
                                                      const vkattn_normalize_request *request,
                                                      vkattn_plan *plan);

typedef int32_t vkattn_matrix_product_path;
enum {
  VKATTN_PRODUCT_DEFAULT = 0,
  /* Registers alone: processors. */
  VKATTN_PRODUCT_ROW = 1,
  /* Invocations share a sum: few rows. */
  VKATTN_PRODUCT_VECTOR = 2,
  /* Tiles of 64 x 64 in shared memory. */
  VKATTN_PRODUCT_TILE = 3
};

enum {
  VKATTN_PRODUCT_BIAS = 1,
  VKATTN_PRODUCT_RESIDUAL = 2
};

/* A linear layer: y[n, o] = activation(sum over i of x[n, i] W[o, i] + bias[o]) + residual[n, o]. */
typedef struct vkattn_matrix_product_request {
  size_t struct_size;
  int64_t rows;            /* N */
  int64_t output_channels; /* O */
  int64_t input_channels;  /* I, whole blocks of the format */
  vkattn_weight_format weight_format;
  vkattn_element_type element_type;
  vkattn_element_type output_type; /* of y and the residual */
  vkattn_element_type bias_type;   /* VKATTN_DEFAULT_TYPE for f32 */
  vkattn_activation activation;
  uint32_t flags;
  int64_t input_stride;
  int64_t output_stride; /* of y and the residual */
  vkattn_matrix_product_path path;
  uint32_t reserved;
} vkattn_matrix_product_request;

/* Tensors: INPUT x [N, I], WEIGHT W [O, I] in its format, BIAS [O], RESIDUAL [N, O], OUTPUT y (may be the
 * residual's memory). */
VKATTN_API vkattn_status vkattn_matrix_product_plan_create(
    vkattn_device device, const vkattn_matrix_product_request *request, vkattn_plan *plan);

typedef int32_t vkattn_combination;
enum {
  /* y = activation(a) */
  VKATTN_COMBINE_NONE = 0,
  /* y = activation(a) b: SwiGLU, GeGLU (https://arxiv.org/abs/2002.05202). */
  VKATTN_COMBINE_MULTIPLY = 1,
  /* y = activation(a) + b */
  VKATTN_COMBINE_ADD = 2
};

/* An activation, and what it is combined with, of N rows of C channels. */
typedef struct vkattn_elementwise_request {
  size_t struct_size;
  int64_t rows;     /* N */
  int64_t channels; /* C */
  vkattn_activation activation;
  vkattn_combination combination;
  vkattn_element_type element_type;
  vkattn_element_type output_type;
  int64_t first_stride;  /* of a */
  int64_t second_stride; /* of b; a and b may be the halves of one tensor's rows */
  int64_t output_stride;
} vkattn_elementwise_request;

/* Tensors: INPUT a [N, C], SECOND_INPUT b, OUTPUT y (may be the memory of a or b). */
VKATTN_API vkattn_status vkattn_elementwise_plan_create(vkattn_device device,
                                                        const vkattn_elementwise_request *request,
                                                        vkattn_plan *plan);

enum {
  /* scale counts; otherwise it is 1. */
  VKATTN_SOFTMAX_SCALE = 1
};

/* y[n, c] = exp(scale x[n, c]) / sum over c of the same; 0 for a row of -infinity alone. */
typedef struct vkattn_softmax_request {
  size_t struct_size;
  int64_t rows;     /* N */
  int64_t channels; /* C */
  uint32_t flags;
  float scale;
  vkattn_element_type element_type;
  vkattn_element_type output_type;
  int64_t input_stride;
  int64_t output_stride;
} vkattn_softmax_request;

/* Tensors: INPUT x [N, C], OUTPUT y (may be x's memory). */
VKATTN_API vkattn_status vkattn_softmax_plan_create(vkattn_device device,
                                                    const vkattn_softmax_request *request,
                                                    vkattn_plan *plan);

enum {
  /* scale counts; otherwise it is 1. */
  VKATTN_EMBEDDING_SCALE = 1
};

/* y[n] = scale times the sum over tables t of table_t[tokens_t[n]]; a number outside of its table makes the
 * row NaN. */
typedef struct vkattn_embedding_request {
  size_t struct_size;
  int64_t rows;        /* N */
  int64_t channels;    /* D, whole blocks of the format */
  int64_t table_count; /* 1 to 3; 0 for 1 */
  int64_t entries[3];  /* of each table; 0 behind the last */
  vkattn_weight_format format;
  vkattn_element_type output_type; /* VKATTN_DEFAULT_TYPE for f32 */
  uint32_t flags;
  float scale;
  int64_t output_stride;
} vkattn_embedding_request;

/* Tensors: TABLE [entries, D] and TOKENS [N] of int32 for each table, by the binding's index, OUTPUT y [N, D]. */
VKATTN_API vkattn_status vkattn_embedding_plan_create(vkattn_device device,
                                                      const vkattn_embedding_request *request,
                                                      vkattn_plan *plan);

typedef int32_t vkattn_sampling_method;
enum {
  /* The token of the largest logit, the first of several. */
  VKATTN_SAMPLING_GREEDY = 0,
  /* The first token, by number, whose cumulative probability among those that are kept is above the row's
   * uniform number: of softmax(x / temperature) the top_tokens most probable, and of these the fewest with
   * top_mass of their mass (https://arxiv.org/abs/1904.09751). */
  VKATTN_SAMPLING_DRAW = 1
};

/* The next token of each row of logits; NaN and -infinity are never chosen, a row of nothing else gives -1. */
typedef struct vkattn_sampling_request {
  size_t struct_size;
  int64_t rows;       /* N */
  int64_t vocabulary; /* V */
  vkattn_sampling_method method;
  vkattn_element_type element_type;
  float temperature;  /* above 0; 0 for 1 */
  float top_mass;     /* above 0, at most 1; 0 for 1, all */
  int64_t top_tokens; /* 0 for all */
  int64_t stride;
} vkattn_sampling_request;

/* Tensors: INPUT [N, V], UNIFORMS [N] where it draws, TOKENS [N] of int32, written. */
VKATTN_API vkattn_status vkattn_sampling_plan_create(vkattn_device device,
                                                     const vkattn_sampling_request *request,
                                                     vkattn_plan *plan);

/* ---------------------------------------------------------- Modifications */

/* Scores, masks and outputs of one's own: the bodies of GLSL functions, put into the kernels and compiled when the
 * plan is made (FlexAttention, https://arxiv.org/abs/2412.05496). libshaderc is opened with the first of them, by its
 * name; without it: VKATTN_NO_COMPILER. Compiled ones are kept on disk and in memory. Such code runs on the device
 * with the rights of the process: compile no text of people you do not trust. CustomAttention.md has what can be
 * written. */

typedef int32_t vkattn_custom_type;
enum {
  /* A buffer is read by a function of its name: slopes(head). The first three give a float, the others an int. */
  VKATTN_CUSTOM_F32_BUFFER = 1,
  VKATTN_CUSTOM_F16_BUFFER = 2,
  VKATTN_CUSTOM_BF16_BUFFER = 3,
  VKATTN_CUSTOM_INT32_BUFFER = 4,
  VKATTN_CUSTOM_UINT8_BUFFER = 5,
  /* A scalar is read by its name. Its value is the plan's; another plan for another value compiles nothing anew. */
  VKATTN_CUSTOM_FLOAT = 16,
  VKATTN_CUSTOM_INT = 17
};

/* What a modification reads. Those of several with the same name and type are one. */
typedef struct vkattn_custom_parameter {
  const char *name;
  vkattn_custom_type type;
  float number;    /* the value of VKATTN_CUSTOM_FLOAT */
  int32_t integer; /* the value of VKATTN_CUSTOM_INT */
  uint32_t reserved;
} vkattn_custom_parameter;

/* A modification of scores, masks or outputs: a function's body in GLSL, and what it reads. */
typedef struct vkattn_modification {
  size_t struct_size;
  const char *body;         /* statements that return the result; at most 100000 bytes */
  const char *declarations; /* functions and constants before it; NULL for none */
  const vkattn_custom_parameter *parameters;
  size_t parameter_count;
} vkattn_modification;

enum {
  /* An index outside of a buffer gives NaN, or 0 of integers; otherwise it is undefined behaviour. */
  VKATTN_CUSTOM_CHECKED = 1
};

/* At least one of them; all together read at most 8 buffers and 16 scalars. Buffers are bound as CUSTOM_BUFFER with
 * their places as indices: those of score, then of mask, then of output, each name once, from 0. */
typedef struct vkattn_modifications {
  size_t struct_size;
  /* float score(float score, int batch, int head, int queryIndex, int keyIndex): the score in place of the natural
   * one, which has scale, soft cap, biases and ALiBi, before masks and normaliser; -infinity hides the key. */
  const vkattn_modification *score;
  /* bool mask(int batch, int head, int queryIndex, int keyIndex): whether the key is seen, where all other masks
   * leave it. */
  const vkattn_modification *mask;
  /* float output(float value, int batch, int head, int queryIndex, int channel): each number of the output; not of
   * decode. */
  const vkattn_modification *output;
  uint32_t flags;
  uint32_t reserved;
} vkattn_modifications;

/* Tensors: those of the attention, CUSTOM_BUFFER. The plan is compiled as it is made, with all modifications. */
VKATTN_API vkattn_status vkattn_custom_attention_plan_create(
    vkattn_device device, const vkattn_attention_request *request,
    const vkattn_modifications *modifications, vkattn_plan *plan);

/* Tensors: those of vkattn_block_map_plan_create, CUSTOM_BUFFER. Of a mask alone; the map may share an axis only
 * where the mask says the same along it, which nothing can check. */
VKATTN_API vkattn_status vkattn_custom_block_map_plan_create(
    vkattn_device device, const vkattn_attention_request *request,
    const vkattn_modifications *modifications, vkattn_plan *plan);

/* Tensors: those of decode, CUSTOM_BUFFER among a step's. Of a score and a mask; queryIndex counts the step's own
 * tokens. Steps and layers as of other decode kernels. */
VKATTN_API vkattn_status vkattn_custom_decode_plan_create(vkattn_device device,
                                                          const vkattn_decode_request *request,
                                                          const vkattn_modifications *modifications,
                                                          vkattn_plan *plan);

/* ----------------------------------------------------- Plans and kernels */

/* How a request runs, written by the library. */
typedef struct vkattn_plan_info {
  size_t struct_size;
  /* Of SCRATCH; of a decode plan the most of WORKSPACE that any step needs, 0 where there is no bound. */
  size_t scratch_byte_count;
  /* Submissions that vkattn_kernel_run makes. */
  int64_t piece_count;
  vkattn_path path;
  vkattn_linear_form form;
} vkattn_plan_info;

/* Path, form, pieces and working memory of a plan. */
VKATTN_API vkattn_status vkattn_plan_get_info(vkattn_plan plan, vkattn_plan_info *info);
/* The bytes that a tensor's buffer needs; of tensors that the plan has not: VKATTN_INVALID_ARGUMENT. Of
 * two states in buffers of their own, those of both together; of several tables of embeddings, those of the largest. */
VKATTN_API vkattn_status vkattn_plan_byte_count(vkattn_plan plan, vkattn_tensor tensor,
                                                size_t *byte_count);
/* Path, tile, pieces and why, in lines. At most capacity bytes with a 0 at the end are written to text,
 * which may be NULL with a capacity of 0; *length (may be NULL): the whole text's bytes without it. */
VKATTN_API vkattn_status vkattn_plan_describe(vkattn_plan plan, char *text, size_t capacity,
                                              size_t *length);
/* Frees the handle; kernels of the plan keep what they need. */
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
/* Frees the handle; work that was recorded with the kernel goes on. */
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

/* Starts commands that can become a command list, to be submitted more than once. */
VKATTN_API vkattn_status vkattn_recorder_create_for_replay(vkattn_device device,
                                                           vkattn_recorder *recorder);
/* Closes such a recorder, which is used up and only to be freed. The commands name the same buffers in
 * every run; what changes is what lies in them. */
VKATTN_API vkattn_status vkattn_command_list_create(vkattn_recorder recorder,
                                                    vkattn_command_list *list);
/* Sends the commands to the device once more, also while an earlier run is under way
 * (VKATTN_LIMIT_EXCEEDED then for commands with timestamps). submission may be NULL. */
VKATTN_API vkattn_status vkattn_command_list_submit(vkattn_command_list list,
                                                    vkattn_submission *submission);
/* Frees the handle; runs that were submitted go on. */
VKATTN_API vkattn_status vkattn_command_list_free(vkattn_command_list list);

/* An order of work of its own on a device, beside the device's own order and those of other streams. Work of one
 * stream starts in the order of its submission and sees what the stream's earlier work wrote. Work of two streams
 * may run at the same time, and neither sees what the other writes, unless one waits for the other. Streams use the
 * device's queues in turn; where there are fewer queues than streams, streams share them. */
VKATTN_API vkattn_status vkattn_stream_create(vkattn_device device, vkattn_stream *stream);
/* Frees the handle; the stream's work goes on. With the last handle of a stream and its submissions goes a wait for that
 * work, unless it waits itself for another stream or for a point of yours. */
VKATTN_API vkattn_status vkattn_stream_free(vkattn_stream stream);

/* A value of a timeline semaphore (a VkSemaphore). */
typedef struct vkattn_timeline_point {
  void *semaphore;
  uint64_t value;
} vkattn_timeline_point;

/* Where commands run, and behind what; all 0: in the device's own order. */
typedef struct vkattn_submit_info {
  size_t struct_size;
  /* NULL for the device's own order. */
  vkattn_stream stream;
  /* Work of any stream of the device that must be done before. */
  const vkattn_submission *after;
  size_t after_count;
  /* Points on your own timelines that must be reached before, for devices that were adopted. */
  const vkattn_timeline_point *points;
  size_t point_count;
} vkattn_submit_info;

/* As vkattn_recorder_submit; info may be NULL. */
VKATTN_API vkattn_status vkattn_recorder_submit_to(vkattn_recorder recorder,
                                                   const vkattn_submit_info *info,
                                                   vkattn_submission *submission);
/* As vkattn_command_list_submit; info may be NULL. */
VKATTN_API vkattn_status vkattn_command_list_submit_to(vkattn_command_list list,
                                                       const vkattn_submit_info *info,
                                                       vkattn_submission *submission);
/* Where a submission ends on its stream's timeline, for work of your own on the same VkDevice to wait for. The
 * semaphore lives as long as the submission's handle. */
VKATTN_API vkattn_status vkattn_submission_point(vkattn_submission submission,
                                                 vkattn_timeline_point *point);

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
  VKATTN_ENABLED_EXTERNAL_MEMORY_HOST = 1 << 10,
  VKATTN_ENABLED_COOPERATIVE_MATRIX_2_REDUCTIONS = 1 << 11,
  VKATTN_ENABLED_COOPERATIVE_MATRIX_2_CONVERSIONS = 1 << 12,
  VKATTN_ENABLED_COOPERATIVE_MATRIX_2_PER_ELEMENT = 1 << 13,
  /* shaderInt16: without it decode goes by slower shaders on a software driver. */
  VKATTN_ENABLED_INT16 = 1 << 14,
  /* computeDerivativeGroupLinear: likewise. */
  VKATTN_ENABLED_COMPUTE_DERIVATIVES = 1 << 15
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
   * device uses the queues. */
  vkattn_queue_callback lock_queue;
  vkattn_queue_callback unlock_queue;
  /* Called once, when no device, buffer or work of the library uses the handles any more, and not where the device is
     not made; may be NULL. */
  vkattn_release_callback released;
  void *context;
  /* More queues (VkQueue) of the same family, for streams; lock_queue and unlock_queue are for all of them. */
  void *const *stream_queues;
  size_t stream_queue_count;
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
