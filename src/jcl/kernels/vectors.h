/* Vectors of floats as wide as the processor's, by the extension that GCC and Clang share. */
#ifndef JCL_VECTORS_H
#define JCL_VECTORS_H

#include <stddef.h>

#if defined(__AVX512F__)
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

/* yes where `condition` is above zero, else no */
INLINE vec choose(vec condition, vec yes, vec no) {
    mask above = condition > 0;
    return (vec)((above & (mask)yes) | (~above & (mask)no));
}

INLINE ptrdiff_t least(ptrdiff_t a, ptrdiff_t b) { return a < b ? a : b; }

#endif
