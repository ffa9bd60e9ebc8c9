/* Maximum of 2 x 2 pixels, channels last, channels a multiple of LANES.

   Of each maximum one byte is kept, which says where it was: the first of equals, as in PyTorch; and a pixel that is no
   number is the maximum, too. */

#include <string.h>

#include "stored.h"

typedef uint8_t places __attribute__((vector_size(LANES), aligned(1), may_alias));

/* b where it is larger or no number, and then `place` is where it is from. */
INLINE vec larger(vec a, vec b, mask *where, int place) {
    mask taken = (b > a) | (b != b);
    *where = (taken & place) | (~taken & *where);
    return (vec)((taken & (mask)b) | (~taken & (mask)a));
}

/* y, where (n, h / 2, w / 2, channels) from x (n, h, w, channels); an odd last row or column is left out. */
void NAMED(jcl_pool)(
    const stored *x, stored *y, uint8_t *where, ptrdiff_t n, ptrdiff_t h, ptrdiff_t w, ptrdiff_t channels, int threads
) {
    ptrdiff_t rows = h / 2, columns = w / 2;
#pragma omp parallel for num_threads(threads) schedule(static) collapse(2)
    for (ptrdiff_t image = 0; image < n; image++)
        for (ptrdiff_t row = 0; row < rows; row++)
            for (ptrdiff_t column = 0; column < columns; column++) {
                const stored *from = x + ((image * h + 2 * row) * w + 2 * column) * channels;
                ptrdiff_t to = ((image * rows + row) * columns + column) * channels;
                for (ptrdiff_t c = 0; c < channels; c += LANES) {
                    mask place = {0};
                    vec most = load_stored(from + c);
                    most = larger(most, load_stored(from + channels + c), &place, 1);
                    most = larger(most, load_stored(from + w * channels + c), &place, 2);
                    most = larger(most, load_stored(from + (w + 1) * channels + c), &place, 3);
                    store_stored(y + to + c, most);
                    *(places *)(where + to + c) = __builtin_convertvector(place, places);
                }
            }
}

/* LANES of a gradient where the maximum was at `place`, zero elsewhere. */
INLINE vec gradient_at(vec gradient, mask where, int place) { return (vec)((where == place) & (mask)gradient); }

/* of_x (n, h, w, channels): the gradient goes to where the maximum was; all of it is written. */
void NAMED(jcl_pool_gradient)(
    const stored *gradient, const uint8_t *where, stored *of_x, ptrdiff_t n, ptrdiff_t h, ptrdiff_t w,
    ptrdiff_t channels, int threads
) {
    ptrdiff_t rows = h / 2, columns = w / 2, line = w * channels;
#pragma omp parallel for num_threads(threads) schedule(static) collapse(2)
    for (ptrdiff_t image = 0; image < n; image++)
        for (ptrdiff_t row = 0; row < (h + 1) / 2; row++) {
            stored *to = of_x + (image * h + 2 * row) * line;
            if (row == rows) { /* an odd last one, of which there is no maximum */
                memset(to, 0, line * sizeof *to);
                continue;
            }
            ptrdiff_t from = (image * rows + row) * columns * channels;
            for (ptrdiff_t column = 0; column < columns; column++, from += channels, to += 2 * channels)
                for (ptrdiff_t c = 0; c < channels; c += LANES) {
                    mask place = __builtin_convertvector(*(const places *)(where + from + c), mask);
                    vec value = load_stored(gradient + from + c);
                    store_stored(to + c, gradient_at(value, place, 0));
                    store_stored(to + channels + c, gradient_at(value, place, 1));
                    store_stored(to + line + c, gradient_at(value, place, 2));
                    store_stored(to + line + channels + c, gradient_at(value, place, 3));
                }
            if (w % 2) {
                memset(to, 0, channels * sizeof *to);
                memset(to + line, 0, channels * sizeof *to);
            }
        }
}
