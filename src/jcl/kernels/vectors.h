/* Vectors of floats as wide as the processor's, by the extension that GCC and Clang share. */
#ifndef JCL_VECTORS_H
#define JCL_VECTORS_H

#include <stddef.h>

#if defined(__SSE__)
#include <immintrin.h>
#endif

#if defined(LANES) /* given, to try another width */
#elif defined(__AVX512F__)
#define LANES 16
#elif defined(__AVX__)
#define LANES 8
#else
#define LANES 4
#endif

typedef float vec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int mask __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

#define INLINE static inline __attribute__((always_inline))

INLINE vec load(const float *from) { return *(const vec *)from; }

INLINE void store(float *to, vec value) { *(vec *)to = value; }

/* Past the cache, where it can be done: for results that do not fit it, whose lines would be fetched to be overwritten.
   `to` is aligned to a vector; `finish_streams` comes before other threads read it. */
INLINE void stream(float *to, vec value) {
#if defined(__AVX__) && LANES >= 8
    for (int i = 0; i < LANES; i += 8) _mm256_stream_ps(to + i, *(const __m256_u *)((const float *)&value + i));
#elif defined(__SSE__) && LANES == 4
    _mm_stream_ps(to, (__m128)value);
#else
    store(to, value);
#endif
}

INLINE void finish_streams(void) {
#if defined(__SSE__)
    _mm_sfence();
#endif
}

/* Whether an array of so many floats is better streamed: it is larger than the share of a cache that one may hope for. */
INLINE int is_large(ptrdiff_t floats) { return floats >= 1 << 23; }

/* yes where `condition` is above zero, else no */
INLINE vec choose(vec condition, vec yes, vec no) {
    mask above = condition > 0;
    return (vec)((above & (mask)yes) | (~above & (mask)no));
}

INLINE ptrdiff_t least(ptrdiff_t a, ptrdiff_t b) { return a < b ? a : b; }

/* A normalisation by channel and the leaky ReLU behind it: activation((x - mean) * scale + shift). */
typedef struct {
    const float *mean, *scale, *shift;
    float slope; /* of negative values: 0 for ReLU, 1 for no activation */
} Affine;

INLINE vec normalised(const Affine *by, ptrdiff_t c, vec x) {
    vec value = (x - load(by->mean + c)) * load(by->scale + c) + load(by->shift + c);
    return choose(value, value, by->slope * value);
}

#endif
