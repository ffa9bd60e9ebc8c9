/* What becomes of the outputs of a convolution before they are written. */
#ifndef JCL_EPILOGUE_H
#define JCL_EPILOGUE_H

#include "vectors.h"

/* One of three things.

   A bias is added (or none, NULL), and values below zero are multiplied by the slope.
   moments [block][2][channels]: mean of a block's outputs and sum of squared distances from it, for a normalisation
   behind, and counts [block] of them; the outputs stay as they are.
   sums, of the same shape, where the outputs are the gradient of what a normalisation `of` x made: they become that
   before its activation, and `sums` those of them, and of their products with x - mean. */
typedef struct {
    const float *bias;
    float slope;
    float *moments, *sums, *counts;
    const void *x; /* of the type of the outputs */
    const Affine *of;
} Epilogue;

enum { PLAIN, MOMENTS, SUMS };

INLINE int kind_of(const Epilogue *epilogue) { return epilogue->moments ? MOMENTS : epilogue->sums ? SUMS : PLAIN; }

/* A sum of values and of their squares, from the first of them, to mean and sum of squared distances from it. */
INLINE void to_moments(vec pivot, ptrdiff_t count, vec *first, vec *second) {
    vec mean = *first / (float)count;
    *second -= *first * mean;
    *second = choose(*second, *second, (vec){0});
    *first = pivot + mean;
}

#endif
