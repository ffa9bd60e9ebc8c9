/* Values of bfloat16: the upper half of a float, kept in 16 bits and computed with as a float. */
#ifndef JCL_BFLOAT16_H
#define JCL_BFLOAT16_H

#include <stdint.h>

#include "vectors.h"

typedef uint16_t bfloat;
typedef uint16_t halves __attribute__((vector_size(2 * LANES), aligned(2), may_alias));
typedef uint32_t bits __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

/* The bits of floats, rounded to the nearest (ties to even) in their upper half; what is in the lower means nothing. What
   is no number stays none. */
INLINE bits rounded(vec value) {
    bits all = (bits)value, nearest = all + 0x7fff + (all >> 16 & 1), unordered = (bits)(value != value);
    return (unordered & (all | 0x400000)) | (~unordered & nearest);
}

INLINE vec load_bfloat(const bfloat *from) {
    return (vec)(__builtin_convertvector(*(const halves *)from, bits) << 16);
}

INLINE halves to_bfloat(vec value) {
#if defined(__AVX512BF16__) && LANES == 16
    return (halves)_mm512_cvtneps_pbh((__m512)value);
#else
    return __builtin_convertvector(rounded(value) >> 16, halves);
#endif
}

INLINE void store_bfloat(bfloat *to, vec value) { *(halves *)to = to_bfloat(value); }

/* What a float is once it has been stored. */
INLINE vec as_stored(vec value) { return (vec)(__builtin_convertvector(to_bfloat(value), bits) << 16); }

/* Past the cache, as `stream`: `to` is aligned to the vector. */
INLINE void stream_bfloat(bfloat *to, vec value) {
#if defined(__AVX512F__) && LANES == 16
    _mm256_stream_si256((__m256i *)to, (__m256i)to_bfloat(value));
#elif defined(__AVX__) && LANES == 8
    _mm_stream_si128((__m128i *)to, (__m128i)to_bfloat(value));
#else
    store_bfloat(to, value);
#endif
}

#endif
