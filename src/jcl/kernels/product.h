/* The product of small matrices that the convolutions consist of: its rows stay in registers. */
#ifndef JCL_PRODUCT_H
#define JCL_PRODUCT_H

#include "vectors.h"

enum {
    PANEL = 2 * LANES, /* columns of a product */
#if LANES == 16
    ROWS = 12, /* rows of a product: two registers each, of 32 */
#else
    ROWS = 6, /* of 16 */
#endif
    LINE = 16,        /* floats of a line of the cache */
    HALF = LANES / 2, /* rows where they have to divide LANES */
    AHEAD = 4,        /* products that fetch what the next panel needs, a part each */
};

/* out[r][0..PANEL] = sum over i < depth of a[r * row_step + i * depth_step] * b[i], or += with `add`.

   b[i] are PANEL floats: LANES from b + i * b_step, and as many `b_gap` behind those. Rows of out follow each other.
   next: what is to be fetched meanwhile, or NULL. */
INLINE void product_of(
    int rows, ptrdiff_t depth, const float *a, ptrdiff_t row_step, ptrdiff_t depth_step, const float *b,
    ptrdiff_t b_step, ptrdiff_t b_gap, float *out, int add, const float *next
) {
    vec low[ROWS], high[ROWS];
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++) low[r] = high[r] = (vec){0};
    for (ptrdiff_t i = 0; i < depth; i++) {
        vec b_low = load(b + i * b_step), b_high = load(b + i * b_step + b_gap);
        if (next && i % AHEAD == 0) __builtin_prefetch(next + i / AHEAD * PANEL);
#pragma GCC unroll 16
        for (int r = 0; r < rows; r++) {
            float factor = a[r * row_step + i * depth_step];
            low[r] += factor * b_low;
            high[r] += factor * b_high;
        }
    }
#pragma GCC unroll 16
    for (int r = 0; r < rows; r++) {
        float *to = out + r * PANEL;
        if (add) low[r] += load(to), high[r] += load(to + LANES);
        store(to, low[r]);
        store(to + LANES, high[r]);
    }
}

#endif
