/* Maximum of 2 x 2 pixels, float32, channels last, channels a multiple of LANES.

   Of each maximum one byte is kept, which says where it was: the first of equals, as in PyTorch; and a pixel that is no
   number is the maximum, too. */

#include <stdint.h>

#include "vectors.h"

typedef uint8_t places __attribute__((vector_size(LANES), aligned(1), may_alias));

/* b where it is larger or no number, and then `place` is where it is from. */
INLINE vec larger(vec a, vec b, mask *where, int place) {
    mask taken = (b > a) | (b != b);
    *where = (taken & place) | (~taken & *where);
    return (vec)((taken & (mask)b) | (~taken & (mask)a));
}

/* y, where (n, h / 2, w / 2, channels) from x (n, h, w, channels); an odd last row or column is left out. */
void jcl_pool(
    const float *x, float *y, uint8_t *where, ptrdiff_t n, ptrdiff_t h, ptrdiff_t w, ptrdiff_t channels, int threads
) {
    ptrdiff_t rows = h / 2, columns = w / 2;
#pragma omp parallel for num_threads(threads) schedule(static) collapse(2)
    for (ptrdiff_t image = 0; image < n; image++)
        for (ptrdiff_t row = 0; row < rows; row++)
            for (ptrdiff_t column = 0; column < columns; column++) {
                const float *from = x + ((image * h + 2 * row) * w + 2 * column) * channels;
                ptrdiff_t to = ((image * rows + row) * columns + column) * channels;
                for (ptrdiff_t c = 0; c < channels; c += LANES) {
                    mask place = {0};
                    vec most = load(from + c);
                    most = larger(most, load(from + channels + c), &place, 1);
                    most = larger(most, load(from + w * channels + c), &place, 2);
                    most = larger(most, load(from + (w + 1) * channels + c), &place, 3);
                    store(y + to + c, most);
                    *(places *)(where + to + c) = __builtin_convertvector(place, places);
                }
            }
}

/* of_x (n, h, w, channels): the gradient goes to where the maximum was; all of it is written. */
void jcl_pool_gradient(
    const float *gradient, const uint8_t *where, float *of_x, ptrdiff_t n, ptrdiff_t h, ptrdiff_t w,
    ptrdiff_t channels, int threads
) {
    ptrdiff_t rows = h / 2, columns = w / 2;
#pragma omp parallel for num_threads(threads) schedule(static) collapse(2)
    for (ptrdiff_t image = 0; image < n; image++)
        for (ptrdiff_t y = 0; y < h; y++)
            for (ptrdiff_t x = 0; x < w; x++) {
                float *to = of_x + ((image * h + y) * w + x) * channels;
                int inside = y / 2 < rows && x / 2 < columns, place = (int)(y % 2 * 2 + x % 2);
                ptrdiff_t from = ((image * rows + y / 2) * columns + x / 2) * channels;
                for (ptrdiff_t c = 0; c < channels; c += LANES) {
                    vec value = {0};
                    if (inside) {
                        mask here = __builtin_convertvector(*(const places *)(where + from + c), mask) == place;
                        value = (vec)(here & (mask)load(gradient + from + c));
                    }
                    store(to + c, value);
                }
            }
}
