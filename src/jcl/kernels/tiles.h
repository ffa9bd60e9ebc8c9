/* Winograd's transforms for F(4 x 4, 3 x 3) (Lavin and Gray, 2015, arXiv:1509.09308), a vector of channels at a time.

   A tile of 6 x 6 values gives 4 x 4 outputs of a 3 x 3 correlation in 36 products instead of 144. Each function is one
   dimension of a transform; the other dimension is the same on its result. */
#ifndef JCL_TILES_H
#define JCL_TILES_H

#include "vectors.h"

enum { TILE = 4, PATCH = TILE + 2, FREQUENCIES = PATCH * PATCH };

/* The tiles of n images of h x w pixels: rows and columns of them in an image, and how many there are. */
typedef struct {
    ptrdiff_t h, w, rows, columns, count;
} Grid;

INLINE Grid grid_of(ptrdiff_t n, ptrdiff_t h, ptrdiff_t w) {
    Grid grid = {h, w, (h + TILE - 1) / TILE, (w + TILE - 1) / TILE, 0};
    grid.count = n * grid.rows * grid.columns;
    return grid;
}

/* B^T: six pixels to six frequencies. */
INLINE void to_frequencies(vec *out, vec a, vec b, vec c, vec d, vec e, vec f) {
    vec even = e - 4 * c, odd = d - 4 * b, even2 = e - c, odd2 = 2 * (d - b);
    out[0] = 4 * a - 5 * c + e;
    out[1] = even + odd;
    out[2] = even - odd;
    out[3] = even2 + odd2;
    out[4] = even2 - odd2;
    out[5] = 4 * b - 5 * d + f;
}

/* A^T: six frequencies to four outputs. */
INLINE void to_outputs(vec *out, vec a, vec b, vec c, vec d, vec e, vec f) {
    vec sum = b + c, difference = b - c, sum2 = d + e, difference2 = d - e;
    out[0] = a + sum + sum2;
    out[1] = difference + 2 * difference2;
    out[2] = sum + 4 * sum2;
    out[3] = difference + 8 * difference2 + f;
}

/* A: the gradient of four outputs to that of six frequencies. */
INLINE void from_outputs(vec *out, vec a, vec b, vec c, vec d) {
    vec even = a + c, odd = b + d, even2 = a + 4 * c, odd2 = 2 * b + 8 * d;
    out[0] = a;
    out[1] = even + odd;
    out[2] = even - odd;
    out[3] = even2 + odd2;
    out[4] = even2 - odd2;
    out[5] = d;
}

/* G: three weights to six frequencies. */
INLINE void from_weights(vec *out, vec a, vec b, vec c) {
    vec even = (a + c) * (1.0f / 6), odd = b * (1.0f / 6), even2 = a * (1.0f / 24) + c * (1.0f / 6), odd2 = b * (1.0f / 12);
    out[0] = a * 0.25f;
    out[1] = -even - odd;
    out[2] = odd - even;
    out[3] = even2 + odd2;
    out[4] = even2 - odd2;
    out[5] = c;
}

/* G^T: the gradient of six frequencies to that of three weights. */
INLINE void to_weights(vec *out, vec a, vec b, vec c, vec d, vec e, vec f) {
    vec sum = b + c, difference = c - b, sum2 = d + e, difference2 = d - e;
    out[0] = a * 0.25f - sum * (1.0f / 6) + sum2 * (1.0f / 24);
    out[1] = difference * (1.0f / 6) + difference2 * (1.0f / 12);
    out[2] = (sum2 - sum) * (1.0f / 6) + f;
}

#endif
